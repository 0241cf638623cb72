package face

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/client"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// Bounds of the lab.
const (
	maxBody   = 1 << 20
	maxMillis = int64(24 * time.Hour / time.Millisecond) // of a limit
	maxSerial = 2 * 20                                   // hexadecimal digits (RFC 5280 section 4.1.2.2)
)

// problem is an answer that tells of an error. Codes of bad requests are bad_request, too_large,
// not_found and failed; those of a dial are in package client.
type problem struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// refusal is the error of a handler.
type refusal struct {
	status int
	problem
}

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, problem{code, fmt.Sprintf(format, args...)}}
}

// lab is the HTTP API of the client, its pool and the certificates.
func (f *Face) lab() http.Handler {
	if f.cfg.Defects.On(defect.PoolAbsent) {
		return http.NotFoundHandler()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /dial", answer(f.dial))
	mux.HandleFunc("GET /pool", answer(func(*http.Request, *struct{}) (any, *refusal) { return f.client.Counters(), nil }))
	mux.HandleFunc("POST /pool", answer(f.limits))
	mux.HandleFunc("POST /pool/reset", answer(func(*http.Request, *struct{}) (any, *refusal) {
		f.client.Reset()
		return struct{}{}, nil
	}))
	mux.HandleFunc("GET /server", answer(f.stats))
	mux.HandleFunc("POST /issue", answer(f.issue))
	mux.HandleFunc("POST /revoke", answer(f.revoke))
	mux.HandleFunc("POST /ocsp/refresh", answer(f.refresh))
	mux.HandleFunc("GET /ocsp", answer(func(*http.Request, *struct{}) (any, *refusal) {
		return map[string]string{"responder": "http://" + f.addresses.Responder + "/"}, nil
	}))
	mux.HandleFunc("/", answer(func(r *http.Request, _ *json.RawMessage) (any, *refusal) {
		return nil, refuse(http.StatusNotFound, "not_found", "nothing answers %s %.100q", r.Method, r.URL.Path)
	}))
	return mux
}

// answer makes a handler of a function from a body to an answer.
func answer[In any](handle func(*http.Request, *In) (any, *refusal)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in := new(In)
		out, refused := any(nil), decode(w, r, in)
		if refused == nil {
			out, refused = handle(r, in)
		}
		status := http.StatusOK
		if refused != nil {
			status, out = refused.status, map[string]problem{"error": refused.problem}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // a client that went away is no error of ours
	}
}

// decode reads one JSON value. An empty body stands for an empty object.
func decode(w http.ResponseWriter, r *http.Request, into any) *refusal {
	if _, ignored := into.(*json.RawMessage); ignored {
		return nil // the body does not matter
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			err = errors.New("data after the JSON value")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return refuse(http.StatusRequestEntityTooLarge, "too_large", "the body has more than %d bytes", maxBody)
	}
	return refuse(http.StatusBadRequest, "bad_request", "body: %v", err)
}

type limits struct {
	MaxIdle           int   `json:"maxIdle"`
	MaxAgeMillis      int64 `json:"maxAgeMillis"`
	IdleTimeoutMillis int64 `json:"idleTimeoutMillis"`
}

func (f *Face) limits(_ *http.Request, l *limits) (any, *refusal) {
	if max(l.MaxAgeMillis, l.IdleTimeoutMillis) > maxMillis {
		return nil, refuse(http.StatusBadRequest, "bad_request", "a limit of more than a day")
	}
	err := f.client.SetLimits(client.Limits{MaxIdle: l.MaxIdle,
		MaxAge:      time.Duration(max(l.MaxAgeMillis, -1)) * time.Millisecond,
		IdleTimeout: time.Duration(max(l.IdleTimeoutMillis, -1)) * time.Millisecond})
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "bad_request", "%v", err)
	}
	return struct{}{}, nil
}

// stats is the sum of all TLS ports.
type stats struct {
	Handshakes map[string]int64 `json:"handshakes"`
	Retries    int64            `json:"retries"`
	Resumed    map[string]int64 `json:"resumed"`
	Failed     map[string]int64 `json:"failed"`
}

func (f *Face) stats(*http.Request, *struct{}) (any, *refusal) {
	sum := stats{Handshakes: map[string]int64{}, Resumed: map[string]int64{}, Failed: map[string]int64{}}
	for _, server := range f.servers {
		s := server.Stats()
		sum.Retries += s.Retries
		for into, from := range map[*map[string]int64]map[string]int64{
			&sum.Handshakes: s.Handshakes, &sum.Resumed: s.Resumed, &sum.Failed: s.Failed} {
			for name, n := range from {
				(*into)[name] += n
			}
		}
	}
	return sum, nil
}

type issueRequest struct {
	CSR string `json:"csr"`
}

func (f *Face) issue(_ *http.Request, in *issueRequest) (any, *refusal) {
	csr, err := pki.ParseRequestPEM(in.CSR)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "bad_request", "%v", err)
	}
	chain, err := f.house.mldsa.Sign(csr, pki.Request{Use: pki.Client})
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "bad_request", "%v", err)
	}
	return map[string]string{"chain": pki.EncodePEM(chain...)}, nil
}

type revokeRequest struct {
	Serial string `json:"serial"`
}

func (f *Face) revoke(_ *http.Request, in *revokeRequest) (any, *refusal) {
	if in.Serial == "" || len(in.Serial) > maxSerial {
		return nil, refuse(http.StatusBadRequest, "bad_request", "serial: %d digits, want 1 to %d", len(in.Serial), maxSerial)
	}
	serial, ok := new(big.Int).SetString(in.Serial, 16)
	if !ok || serial.Sign() < 0 {
		return nil, refuse(http.StatusBadRequest, "bad_request", "serial %q is not hexadecimal", in.Serial)
	}
	if err := f.house.revoke(serial); err != nil {
		return nil, refuse(http.StatusNotFound, "not_found", "no certificate has the serial number %x", serial)
	}
	return struct{}{}, nil
}

func (f *Face) refresh(r *http.Request, _ *struct{}) (any, *refusal) {
	if err := f.stapler.Refresh(r.Context()); err != nil {
		return nil, refuse(http.StatusInternalServerError, "failed", "%v", err)
	}
	return struct{}{}, nil
}
