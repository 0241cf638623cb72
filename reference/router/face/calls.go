package face

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/backend"
	"github.com/assay-bench/assay/reference/router/span"
)

type routerList struct {
	Routers []string `json:"routers"`
}

func (f *Face) listRouters(_ *http.Request, s *router.Service) (any, error) {
	return routerList{s.Names()}, nil
}

func (f *Face) setRouter(r *http.Request, s *router.Service, q *router.Settings) (any, error) {
	id, err := name("router", r.PathValue("router"))
	if err != nil {
		return nil, err
	}
	if q.Fallback != "" {
		if _, err := name("fallback", q.Fallback); err != nil {
			return nil, err
		}
	}
	return s.Set(id, *q)
}

func (f *Face) removeRouter(r *http.Request, s *router.Service) (any, error) {
	return nil, s.Remove(r.PathValue("router"))
}

func routerState(_ *http.Request, r *router.Router) (any, error) { return r.State(), nil }

type policyList struct {
	Policies []router.PolicySummary `json:"policies"`
}

func listPolicies(_ *http.Request, r *router.Router) (any, error) {
	return policyList{r.Policies()}, nil
}

type policyBatch struct {
	Policies map[string]router.Policy `json:"policies"`
}

func setPolicies(_ *http.Request, r *router.Router, q *policyBatch) (any, error) {
	if len(q.Policies) == 0 {
		return nil, bad("policies: none")
	}
	for id := range q.Policies {
		if _, err := name("policy", id); err != nil {
			return nil, err
		}
	}
	return r.SetPolicies(q.Policies)
}

func setPolicy(h *http.Request, r *router.Router, q *router.Policy) (any, error) {
	id, err := name("policy", h.PathValue("policy"))
	if err != nil {
		return nil, err
	}
	return r.SetPolicies(map[string]router.Policy{id: *q})
}

func policy(h *http.Request, r *router.Router) (any, error) { return r.Policy(h.PathValue("policy")) }

func removePolicy(h *http.Request, r *router.Router) (any, error) {
	_, err := r.RemovePolicy(h.PathValue("policy"))
	return nil, err
}

type embedRequest struct {
	Texts  []string `json:"texts"`
	Engine string   `json:"engine"`
}

func embed(_ *http.Request, r *router.Router, q *embedRequest) (any, error) {
	if len(q.Texts) == 0 || len(q.Texts) > maxTexts {
		return nil, bad("%d texts, want 1 to %d", len(q.Texts), maxTexts)
	}
	return r.Embed(q.Texts, q.Engine)
}

func decide(h *http.Request, r *router.Router, q *router.DecideRequest) (any, error) {
	return r.Decide(incoming(h), *q)
}

type decideBatchRequest struct {
	Requests []router.DecideRequest `json:"requests"`
}

type decisions struct {
	Decisions []router.Decision `json:"decisions"`
}

func decideBatch(h *http.Request, r *router.Router, q *decideBatchRequest) (any, error) {
	if len(q.Requests) == 0 || len(q.Requests) > maxTexts {
		return nil, bad("%d requests, want 1 to %d", len(q.Requests), maxTexts)
	}
	a := decisions{make([]router.Decision, 0, len(q.Requests))}
	for _, one := range q.Requests {
		d, err := r.Decide(incoming(h), one)
		if err != nil {
			return nil, err
		}
		a.Decisions = append(a.Decisions, d)
	}
	return a, nil
}

func explain(h *http.Request, r *router.Router) (any, error) {
	return r.Explain(h.PathValue("decision"))
}

func calibrate(_ *http.Request, r *router.Router, q *router.Calibration) (any, error) {
	if len(q.Examples) == 0 || len(q.Examples) > 65536 {
		return nil, bad("%d examples, want 1 to 65,536", len(q.Examples))
	}
	return r.Calibrate(*q)
}

type feedbackRequest struct {
	Events []router.FeedbackEvent `json:"events"`
}

func (f *Face) feedbackRoute() http.HandlerFunc {
	if f.cfg.Defects.On(defect.RouterFeedbackAbsent) {
		return func(w http.ResponseWriter, _ *http.Request) {
			f.fail(w, &problem{Status: http.StatusNotFound, Detail: "no such resource"})
		}
	}
	return served(f, http.StatusOK, feedback)
}

func feedback(_ *http.Request, r *router.Router, q *feedbackRequest) (any, error) {
	if len(q.Events) == 0 || len(q.Events) > maxTexts {
		return nil, bad("%d events, want 1 to %d", len(q.Events), maxTexts)
	}
	return r.Feedback(q.Events)
}

type guardRequest struct {
	Examples []router.Example `json:"examples"`
}

func setGuard(_ *http.Request, r *router.Router, q *guardRequest) (any, error) {
	if len(q.Examples) > 4096 {
		return nil, bad("%d examples, at most 4,096", len(q.Examples))
	}
	return r.SetGuard(q.Examples)
}

func guard(_ *http.Request, r *router.Router) (any, error) { return r.Guard(), nil }

func log(h *http.Request, r *router.Router) (any, error) {
	since := int64(0)
	if text := h.FormValue("since"); text != "" {
		var err error
		if since, err = strconv.ParseInt(text, 10, 64); err != nil || since < 0 {
			return nil, bad("since is %.32q, want the number of an event", text)
		}
	}
	return r.Log(since), nil
}

func listVersions(_ *http.Request, r *router.Router) (any, error) { return r.Versions(), nil }

func version(h *http.Request, r *router.Router) (any, error) {
	id, err := strconv.ParseInt(h.PathValue("version"), 10, 64)
	if err != nil {
		return nil, bad("version is %.32q, want a number", h.PathValue("version"))
	}
	return r.Version(id)
}

type rollbackRequest struct {
	Version int64 `json:"version"`
}

func rollback(_ *http.Request, r *router.Router, q *rollbackRequest) (any, error) {
	return r.Rollback(q.Version)
}

func weights(h *http.Request, r *router.Router) (any, error) {
	var at time.Time
	if text := h.FormValue("at"); text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, bad("at is %.64q, want a time such as 2026-01-31T12:00:00Z", text)
		}
	}
	return r.Weights(at), nil
}

func stats(_ *http.Request, r *router.Router) (any, error) { return r.Stats(), nil }

func drift(_ *http.Request, r *router.Router) (any, error) { return r.Drift(), nil }

func measure(_ *http.Request, r *router.Router, q *router.MeasureOrder) (any, error) {
	if len(q.Texts) > 4096 {
		return nil, bad("%d texts, at most 4,096", len(q.Texts))
	}
	return r.Measure(*q)
}

type backendList struct {
	Backends []backend.State `json:"backends"`
}

func listBackends(_ *http.Request, r *router.Router) (any, error) {
	return backendList{r.Backends()}, nil
}

func setBackend(h *http.Request, r *router.Router, q *backend.Spec) (any, error) {
	id, err := name("backend", h.PathValue("backend"))
	if err != nil {
		return nil, err
	}
	return r.SetBackend(id, *q)
}

func removeBackend(h *http.Request, r *router.Router) (any, error) {
	return nil, r.RemoveBackend(h.PathValue("backend"))
}

type observation struct {
	LatencyMillis float64 `json:"latencyMillis"`
	Error         bool    `json:"error"`
}

func observe(h *http.Request, r *router.Router, q *observation) (any, error) {
	if !(q.LatencyMillis >= 0 && q.LatencyMillis <= 3600000) {
		return nil, bad("latencyMillis is %v, want 0 to 3,600,000", q.LatencyMillis)
	}
	latency := time.Duration(math.Round(q.LatencyMillis * float64(time.Millisecond)))
	return r.Observe(h.PathValue("backend"), latency, q.Error)
}

func dispatch(h *http.Request, r *router.Router, q *router.DecideRequest) (any, error) {
	return r.Dispatch(incoming(h), *q)
}

func dispatched(h *http.Request, r *router.Router) (any, error) {
	return r.Dispatched(h.PathValue("dispatch"))
}

func setRollout(_ *http.Request, r *router.Router, q *router.Rollout) (any, error) {
	return r.SetRollout(*q)
}

func rollout(_ *http.Request, r *router.Router) (any, error) { return r.Rollout(), nil }

func endRollout(_ *http.Request, r *router.Router) (any, error) { return nil, r.EndRollout() }

func promote(_ *http.Request, r *router.Router) (any, error) { return r.Promote() }

func (f *Face) listModels(_ *http.Request, s *router.Service) (any, error) { return s.Models(), nil }

type modelUpload struct {
	Name     string `json:"name"`
	Data     []byte `json:"data"`
	Manifest []byte `json:"manifest"`
}

func (f *Face) loadModel(_ *http.Request, s *router.Service, q *modelUpload) (any, error) {
	id, err := name("name", q.Name)
	if err != nil {
		return nil, err
	}
	return s.Load(id, q.Data, q.Manifest)
}

type trustRequest struct {
	Ed25519 [][]byte `json:"ed25519"`
}

func (f *Face) trust(_ *http.Request, s *router.Service, q *trustRequest) (any, error) {
	return *q, s.Trust(q.Ed25519)
}

type spanList struct {
	Spans []span.Finished `json:"spans"`
}

var traceID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (f *Face) spans(r *http.Request, s *router.Service) (any, error) {
	id := r.FormValue("trace")
	if id != "" && !traceID.MatchString(id) {
		return nil, bad("trace is %.64q, want 32 hexadecimal digits", id)
	}
	return spanList{s.Spans(id)}, nil
}
