package face

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/tpm"
)

// empty is an answer that says only that it worked.
type empty struct{}

type sessionRequest struct {
	Session string `json:"session"`
}

type storeRequest struct {
	Session    string    `json:"session"`
	ID         string    `json:"id"`
	Response   []byte    `json:"response"`
	NextUpdate time.Time `json:"nextUpdate"`
}

func (f *Face) store(ctx context.Context, q storeRequest) (empty, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return empty{}, err
	}
	return empty{}, s.cache.Put(ctx, q.ID, q.Response, q.NextUpdate)
}

type getRequest struct {
	Session string `json:"session"`
	ID      string `json:"id"`
}

type getAnswer struct {
	Source   string   `json:"source"`
	Response []byte   `json:"response"`
	Error    *failure `json:"error,omitempty"` // why the cache did not serve
}

func (f *Face) get(ctx context.Context, q getRequest) (getAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return getAnswer{}, err
	}
	o := s.fetch(ctx, q.ID)
	f.metrics.observe(o)
	return getAnswer{o.Origin, o.Response, failed(o.CacheErr)}, nil
}

type sealRequest struct {
	Session string `json:"session"`
	Data    []byte `json:"data"`
}

type sealAnswer struct {
	Blob []byte `json:"blob"`
}

func (f *Face) seal(ctx context.Context, q sealRequest) (sealAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return sealAnswer{}, err
	}
	blob, err := s.device.Seal(ctx, q.Data)
	if err != nil {
		return sealAnswer{}, err
	}
	return sealAnswer{blob.Marshal()}, nil
}

type unsealRequest struct {
	Session string `json:"session"`
	Blob    []byte `json:"blob"`
}

type unsealAnswer struct {
	Data []byte `json:"data"`
}

func (f *Face) unseal(ctx context.Context, q unsealRequest) (unsealAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return unsealAnswer{}, err
	}
	blob, err := tpm.ParseBlob(q.Blob)
	if err != nil {
		return unsealAnswer{}, &tpm.Error{Code: tpm.CodeTampered, Op: "unseal", Err: err}
	}
	data, err := s.device.Unseal(ctx, blob)
	if err != nil {
		return unsealAnswer{}, err
	}
	return unsealAnswer{data}, nil
}

type quoteRequest struct {
	Session string `json:"session"`
	Nonce   []byte `json:"nonce"`
	PCRs    []uint `json:"pcrs"`
}

type quoteAnswer struct {
	Attest    []byte `json:"attest"`
	Signature []byte `json:"signature"`
	Key       []byte `json:"key"`
}

func (f *Face) quote(ctx context.Context, q quoteRequest) (quoteAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return quoteAnswer{}, err
	}
	quoted, err := s.device.Quote(ctx, q.Nonce, q.PCRs)
	if err != nil {
		return quoteAnswer{}, err
	}
	return quoteAnswer{quoted.Attest, quoted.Signature, quoted.Key}, nil
}

type verifyRequest struct {
	Session   string            `json:"session"`
	Attest    []byte            `json:"attest"`
	Signature []byte            `json:"signature"`
	Nonce     []byte            `json:"nonce"`
	PCRs      map[string]string `json:"pcrs"`
}

type verifyAnswer struct {
	OK           bool     `json:"ok"`
	ResetCount   uint32   `json:"resetCount"`
	RestartCount uint32   `json:"restartCount"`
	Changed      bool     `json:"changed"` // since the session's previous verified quote
	Error        *failure `json:"error,omitempty"`
}

func (f *Face) verify(_ context.Context, q verifyRequest) (verifyAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return verifyAnswer{}, err
	}
	values, err := pcrValues(q.PCRs)
	if err != nil {
		return verifyAnswer{}, refuse(http.StatusBadRequest, "bad_request", "pcrs: %v", err)
	}
	counts, err := tpm.Verify(tpm.Quote{Attest: q.Attest, Signature: q.Signature},
		tpm.Challenge{Key: s.enrolled, Nonce: q.Nonce, Values: values}, s.defects)
	if err != nil {
		f.count(err)
		return verifyAnswer{Error: failed(err)}, nil
	}
	counts, changed := s.observe(counts)
	return verifyAnswer{OK: true, ResetCount: counts.Reset, RestartCount: counts.Restart, Changed: changed}, nil
}

// observe compares the counters with those of the previous verified quote.
func (s *session) observe(counts tpm.Counts) (tpm.Counts, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.counts, s.verified
	if known && s.defects.On(defect.TPMResetHidden) {
		return before, false
	}
	s.counts, s.verified = counts, true
	return counts, known && counts != before
}

func pcrValues(texts map[string]string) (map[uint][]byte, error) {
	values := make(map[uint][]byte)
	for index, text := range texts {
		pcr, err := strconv.ParseUint(index, 10, 8)
		if err != nil {
			return nil, fmt.Errorf("index %q", index)
		}
		if values[uint(pcr)], err = hex.DecodeString(text); err != nil {
			return nil, fmt.Errorf("value of %d: %w", pcr, err)
		}
	}
	return values, nil
}

type statusAnswer struct {
	Backend   string           `json:"backend,omitempty"`
	Entries   int              `json:"entries"`
	Mode      tpm.Mode         `json:"mode"`
	Errors    map[tpm.Code]int `json:"errors"`
	Responder int64            `json:"responder"` // how often it was asked
	Handles   int              `json:"handles"`   // transient objects in the TPM; -1 if it cannot be asked
}

func (f *Face) status(ctx context.Context, q sessionRequest) (statusAnswer, error) {
	s, err := f.session(q.Session)
	if err != nil {
		return statusAnswer{}, err
	}
	entries, err := s.cache.Len()
	if err != nil {
		return statusAnswer{}, err
	}
	handles, err := s.device.Handles(ctx)
	if err != nil {
		handles = -1
	}
	return statusAnswer{s.backend(), entries, s.cache.Mode(), s.cache.Errors(), s.source.Asked(), handles}, nil
}

func (f *Face) closeSession(_ context.Context, q sessionRequest) (empty, error) {
	s := f.remove(q.Session)
	if s == nil {
		return empty{}, refuse(http.StatusNotFound, "unknown_session", "no session %q", q.Session)
	}
	f.end(s)
	return empty{}, nil
}
