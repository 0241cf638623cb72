package face

import (
	"net/http"
	"strings"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
)

// route is one operation of the API.
type route struct {
	method, path string
	handle       http.HandlerFunc
}

// routes are the operations of the API, as the OpenAPI description lists them.
func (f *Face) routes() []route {
	const r = "/routers/{router}"
	return []route{
		{http.MethodGet, "/routers", f.ask(http.StatusOK, f.listRouters)},
		{http.MethodPut, r, serve(f, http.StatusOK, f.setRouter)},
		{http.MethodGet, r, f.asked(http.StatusOK, routerState)},
		{http.MethodDelete, r, f.ask(http.StatusNoContent, f.removeRouter)},
		{http.MethodGet, r + "/policies", f.asked(http.StatusOK, listPolicies)},
		{http.MethodPost, r + "/policies", served(f, http.StatusOK, setPolicies)},
		{http.MethodPut, r + "/policies/{policy}", served(f, http.StatusOK, setPolicy)},
		{http.MethodGet, r + "/policies/{policy}", f.asked(http.StatusOK, policy)},
		{http.MethodDelete, r + "/policies/{policy}", f.asked(http.StatusNoContent, removePolicy)},
		{http.MethodPost, r + "/embed", served(f, http.StatusOK, embed)},
		{http.MethodPost, r + "/decide", served(f, http.StatusOK, decide)},
		{http.MethodPost, r + "/decide-batch", served(f, http.StatusOK, decideBatch)},
		{http.MethodGet, r + "/decisions/{decision}", f.asked(http.StatusOK, explain)},
		{http.MethodPost, r + "/calibrate", served(f, http.StatusOK, calibrate)},
		{http.MethodPost, r + "/feedback", f.feedbackRoute()},
		{http.MethodPut, r + "/guard", served(f, http.StatusOK, setGuard)},
		{http.MethodGet, r + "/guard", f.asked(http.StatusOK, guard)},
		{http.MethodGet, r + "/log", f.asked(http.StatusOK, log)},
		{http.MethodGet, r + "/versions", f.asked(http.StatusOK, listVersions)},
		{http.MethodGet, r + "/versions/{version}", f.asked(http.StatusOK, version)},
		{http.MethodPost, r + "/rollback", served(f, http.StatusOK, rollback)},
		{http.MethodGet, r + "/weights", f.asked(http.StatusOK, weights)},
		{http.MethodGet, r + "/stats", f.asked(http.StatusOK, stats)},
		{http.MethodGet, r + "/drift", f.asked(http.StatusOK, drift)},
		{http.MethodPost, r + "/measure", served(f, http.StatusOK, measure)},
		{http.MethodGet, r + "/backends", f.asked(http.StatusOK, listBackends)},
		{http.MethodPut, r + "/backends/{backend}", served(f, http.StatusOK, setBackend)},
		{http.MethodDelete, r + "/backends/{backend}", f.asked(http.StatusNoContent, removeBackend)},
		{http.MethodPost, r + "/backends/{backend}/observations", served(f, http.StatusOK, observe)},
		{http.MethodPost, r + "/dispatches", served(f, http.StatusAccepted, dispatch)},
		{http.MethodGet, r + "/dispatches/{dispatch}", f.asked(http.StatusOK, dispatched)},
		{http.MethodPut, r + "/rollout", served(f, http.StatusOK, setRollout)},
		{http.MethodGet, r + "/rollout", f.asked(http.StatusOK, rollout)},
		{http.MethodDelete, r + "/rollout", f.asked(http.StatusNoContent, endRollout)},
		{http.MethodPost, r + "/rollout/promote", f.asked(http.StatusOK, promote)},
		{http.MethodGet, "/models", f.ask(http.StatusOK, f.listModels)},
		{http.MethodPost, "/models", serve(f, http.StatusCreated, f.loadModel)},
		{http.MethodPut, "/models/trust", serve(f, http.StatusOK, f.trust)},
		{http.MethodGet, "/spans", f.ask(http.StatusOK, f.spans)},
		{http.MethodGet, "/v1/models", f.openAIModels},
		{http.MethodPost, "/v1/chat/completions", f.chat},
		{http.MethodPost, "/v1/multimodal/invoke", serve(f, http.StatusOK, f.invoke)},
	}
}

// absent are the paths that a planted defect takes away.
func (f *Face) absent(path string) bool {
	d := f.cfg.Defects
	return d.On(defect.RouterOpenAIAbsent) && (path == "/v1/chat/completions" || path == "/v1/models") ||
		d.On(defect.RouterMultimodalAbsent) && path == "/v1/multimodal/invoke"
}

// handler is the HTTP port's.
func (f *Face) handler() http.Handler {
	if f.cfg.Defects.On(defect.RouterAbsent) {
		return http.NotFoundHandler()
	}
	mux := http.NewServeMux()
	for _, r := range f.routes() {
		if !f.absent(r.path) {
			mux.HandleFunc(r.method+" "+r.path, r.handle)
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern == "" {
			f.answerUnmatched(w, r, mux)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// answerUnmatched says that a path is not there, or that it has other methods, in the form of its neighbours.
func (f *Face) answerUnmatched(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	var allowed []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodPost, http.MethodPut} {
		other := *r
		other.Method = method
		if _, pattern := mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
		}
	}
	status, detail := http.StatusNotFound, "no such resource"
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		status, detail = http.StatusMethodNotAllowed, "the resource has no such method"
	}
	if strings.HasPrefix(r.URL.Path, "/v1/chat/") || r.URL.Path == "/v1/models" {
		f.answerOpenAI(w, status, openAIError{Message: detail, Type: "invalid_request_error"})
		return
	}
	f.fail(w, &problem{Status: status, Detail: detail})
}

// serve makes an operation of a function from a JSON body to an answer.
func serve[Q any](f *Face, status int, handle func(*http.Request, *router.Service, *Q) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := new(Q)
		release, err := f.decode(w, r, q)
		defer release()
		if err != nil {
			f.fail(w, err)
			return
		}
		s, err := f.service()
		if err != nil {
			f.fail(w, err)
			return
		}
		f.reply(w, status, func() (any, error) { return handle(r, s, q) })
	}
}

// served is serve for operations of a router.
func served[Q any](f *Face, status int, handle func(*http.Request, *router.Router, *Q) (any, error)) http.HandlerFunc {
	return serve(f, status, func(r *http.Request, s *router.Service, q *Q) (any, error) {
		of, err := s.Router(r.PathValue("router"))
		if err != nil {
			return nil, err
		}
		return handle(r, of, q)
	})
}

// ask makes an operation of a function that needs no body.
func (f *Face) ask(status int, handle func(*http.Request, *router.Service) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := f.service()
		if err != nil {
			f.fail(w, err)
			return
		}
		f.reply(w, status, func() (any, error) { return handle(r, s) })
	}
}

// asked is ask for operations of a router.
func (f *Face) asked(status int, handle func(*http.Request, *router.Router) (any, error)) http.HandlerFunc {
	return f.ask(status, func(r *http.Request, s *router.Service) (any, error) {
		of, err := s.Router(r.PathValue("router"))
		if err != nil {
			return nil, err
		}
		return handle(r, of)
	})
}

func (f *Face) reply(w http.ResponseWriter, status int, handle func() (any, error)) {
	a, err := handle()
	if err != nil {
		f.fail(w, err)
		return
	}
	answer(w, status, a)
}

// fail answers with a problem.
func (f *Face) fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		f.cfg.Logger.Warn("router API", "error", err)
	}
	if f.cfg.Defects.On(defect.RouterProblemPlain) {
		http.Error(w, p.Detail, p.Status)
		return
	}
	answerProblem(w, p)
}
