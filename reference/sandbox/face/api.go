package face

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/sandbox"
	"github.com/assay-bench/assay/reference/sandbox/proxywasm"
)

// route is one operation of the API.
type route struct {
	method, path string
	handle       http.HandlerFunc
}

// routes are the operations of the API, as the OpenAPI description lists them.
func (f *Face) routes() []route {
	return []route{
		{http.MethodPut, "/tenants/{tenant}", serve(f, http.StatusOK, f.setTenant)},
		{http.MethodDelete, "/tenants/{tenant}", ask(f, http.StatusNoContent, f.removeTenant)},
		{http.MethodPut, "/tenants/{tenant}/modules/{module}", serveHeld(f, http.StatusCreated, f.publish)},
		{http.MethodDelete, "/tenants/{tenant}/modules/{module}", ask(f, http.StatusNoContent, f.remove)},
		{http.MethodPost, "/tenants/{tenant}/modules/{module}/invoke", serve(f, http.StatusOK, f.invoke)},
		{http.MethodPost, "/tenants/{tenant}/modules/{module}/stream", f.stream},
		{http.MethodGet, "/stats", ask(f, http.StatusOK, f.stats)},
		{http.MethodGet, "/audit", ask(f, http.StatusOK, f.audit)},
		{http.MethodPost, "/coldstart", serve(f, http.StatusOK, f.coldstart)},
		{http.MethodPost, "/gc", ask(f, http.StatusOK, f.collect)},
		{http.MethodPut, "/proxy/filter", serveHeld(f, http.StatusCreated, f.loadFilter)},
		{http.MethodGet, "/proxy", ask(f, http.StatusOK, f.filterState)},
	}
}

// api is the handler of the API's port.
func (f *Face) api() http.Handler {
	if f.cfg.Defects.On(defect.SandboxAbsent) {
		return http.NotFoundHandler()
	}
	mux := http.NewServeMux()
	for _, r := range f.routes() {
		mux.HandleFunc(r.method+" "+r.path, r.handle)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			answerUnmatched(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// answerUnmatched says in this API's form that a path is not there, or that it has other methods.
func answerUnmatched(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	var allowed []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPost, http.MethodPut} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		answerProblem(w, problem{Status: http.StatusNotFound, Detail: "no such resource"})
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	answerProblem(w, problem{Status: http.StatusMethodNotAllowed, Detail: "the resource has no such method"})
}

// serve makes an operation of a function from a JSON body to an answer.
func serve[Q any](f *Face, status int, handle func(*http.Request, *Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := new(Q)
		release, err := f.decode(w, r, q)
		release()
		if err != nil {
			f.answerError(w, err)
			return
		}
		f.reply(w, status, func() (any, error) { return handle(r, q) })
	}
}

// serveHeld is serve for bodies that stay in memory with much else besides: their place is held until
// the answer is known.
func serveHeld[Q any](f *Face, status int, handle func(*http.Request, *Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := new(Q)
		release, err := f.decode(w, r, q)
		defer release()
		if err != nil {
			f.answerError(w, err)
			return
		}
		f.reply(w, status, func() (any, error) { return handle(r, q) })
	}
}

// ask makes an operation of a function that needs no body.
func ask(f *Face, status int, handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.reply(w, status, func() (any, error) { return handle(r) })
	}
}

func (f *Face) reply(w http.ResponseWriter, status int, handle func() (any, error)) {
	a, err := handle()
	if err != nil {
		f.answerError(w, err)
		return
	}
	answer(w, status, a)
}

// answerError says what an error of the engine means to a client.
func (f *Face) answerError(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.Status == http.StatusForbidden && f.cfg.Defects.On(defect.SandboxRefusedAs500) {
		p.Status = http.StatusInternalServerError
	}
	if p.Status == http.StatusInternalServerError {
		f.cfg.Logger.Warn("sandbox API", "error", err)
	}
	answerProblem(w, p)
}

func problemOf(err error) problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return *p
	}
	if r, ok := errors.AsType[*sandbox.Refusal](err); ok {
		return problem{Status: http.StatusForbidden, Detail: r.Error(), Step: r.Step, Reason: r.Reason}
	}
	if r, ok := errors.AsType[*proxywasm.Refusal](err); ok {
		return problem{Status: http.StatusForbidden, Detail: r.Error(), Step: stepProxy, Reason: r.Reason}
	}
	if t, ok := errors.AsType[*sandbox.Trap](err); ok {
		return problem{Status: http.StatusUnprocessableEntity, Detail: t.Error(), Class: t.Class, Instance: t.Instance}
	}
	if b, ok := errors.AsType[*sandbox.Busy](err); ok {
		return problem{Status: http.StatusTooManyRequests, Detail: b.Error(), Class: "instances"}
	}
	p := problem{Status: http.StatusInternalServerError, Detail: err.Error()}
	switch {
	case errors.Is(err, sandbox.ErrUnknown):
		p.Status = http.StatusNotFound
	case errors.Is(err, sandbox.ErrArguments):
		p.Status = http.StatusBadRequest
	case errors.Is(err, sandbox.ErrTenant): // one too many: what else is wrong was refused before
		p.Status = http.StatusConflict
	case errors.Is(err, sandbox.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		p.Status = http.StatusServiceUnavailable
	}
	return p
}
