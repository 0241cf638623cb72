package tpm

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strconv"

	"github.com/assay-bench/assay/results"
	scenario "github.com/assay-bench/assay/scenarios/tpm"
)

type sealed = scenario.Sealed

func (b *bench) seal(ctx context.Context, name string, data []byte) (blob []byte, err error) {
	var a sealed
	err = b.call(ctx, name, "/seal", map[string]any{"session": b.opened.Session, "data": data}, &a)
	return a.Blob, err
}

func (b *bench) unseal(ctx context.Context, name string, blob []byte) error {
	var a sealed
	return b.call(ctx, name, "/unseal", map[string]any{"session": b.opened.Session, "blob": blob}, &a)
}

// sealedBy is the data that a call of /seal carried.
func (s *story) sealedBy(name string) []byte {
	var q struct {
		Data []byte `json:"data"`
	}
	if json.Unmarshal(s.calls[name].Request, &q) != nil {
		return nil
	}
	return q.Data
}

func (b *bench) quote(ctx context.Context, name string, nonce []byte, pcrs ...uint) (q scenario.Quoted, err error) {
	err = b.call(ctx, name, "/quote", map[string]any{"session": b.opened.Session, "nonce": nonce, "pcrs": pcrs}, &q)
	return q, err
}

// verify has a quote verified against the present values of PCR 0 and 2.
func (b *bench) verify(ctx context.Context, name string, attest, signature, nonce []byte) error {
	values, err := b.values()
	if err != nil {
		return err
	}
	return b.verifyAgainst(ctx, name, attest, signature, nonce, values)
}

func (b *bench) verifyAgainst(ctx context.Context, name string, attest, signature, nonce []byte, values map[string]string) error {
	var a scenario.Verified
	return b.call(ctx, name, "/verify", map[string]any{
		"session": b.opened.Session, "attest": attest, "signature": signature, "nonce": nonce, "pcrs": values,
	}, &a)
}

// values reads PCR 0 and 2 from the device, in hex.
func (b *bench) values() (map[string]string, error) {
	out := map[string]string{}
	for _, pcr := range []uint{0, 2} {
		v, err := b.device.ReadPCR(pcr)
		if err != nil {
			return nil, err
		}
		out[strconv.FormatUint(uint64(pcr), 10)] = hex.EncodeToString(v)
	}
	return out, nil
}

// verifyAsked is what a call of /verify carried.
type verifyAsked struct {
	Attest    []byte            `json:"attest"`
	Signature []byte            `json:"signature"`
	Nonce     []byte            `json:"nonce"`
	PCRs      map[string]string `json:"pcrs"`
}

func (s *story) asked(name string) (q verifyAsked) {
	if json.Unmarshal(s.calls[name].Request, &q) != nil {
		return verifyAsked{}
	}
	return q
}

// pcrDigest is the digest of a quote over the values of PCR 0 and 2 that a call of /verify carried.
func (q verifyAsked) pcrDigest() []byte {
	var values [][]byte
	for _, pcr := range []string{"0", "2"} {
		v, err := hex.DecodeString(q.PCRs[pcr])
		if err != nil {
			return nil
		}
		values = append(values, v)
	}
	return scenario.PCRDigest(values...)
}

// explain says in a line what a piece of evidence of the device means.
func explain(e results.Evidence) string {
	switch e.Kind {
	case scenario.Commanded:
		var c scenario.Command
		if e.Decode(&c) == nil {
			return strconv.Itoa(c.N) + ". " + c.Name + " " + c.Code + " " + c.Fault
		}
	case scenario.Faulted:
		var f scenario.Fault
		if e.Decode(&f) == nil {
			return f.Name + " " + f.Command + " " + f.Detail + " " + f.Error
		}
	}
	return ""
}
