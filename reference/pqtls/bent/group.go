package bent

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
)

// Groups of the registry that are named here and not in crypto/tls.
const groupKyberDraft tls.CurveID = 0x6399 // X25519Kyber768Draft00, obsolete

// Bytes of a share of the Kyber draft, client and server.
const (
	kyberClientShare = 32 + 1184
	kyberServerShare = 32 + 1088
)

// kem is a parameter set of ML-KEM.
type kem struct {
	key, ciphertext int // bytes
	generate        func() (decapsulator, []byte, error)
	encapsulate     func(key []byte) (secret, ciphertext []byte, err error)
}

type decapsulator interface {
	Decapsulate(ciphertext []byte) ([]byte, error)
}

var mlkem768 = &kem{
	key: mlkem.EncapsulationKeySize768, ciphertext: mlkem.CiphertextSize768,
	generate: func() (decapsulator, []byte, error) {
		k, err := mlkem.GenerateKey768()
		if err != nil {
			return nil, nil, err
		}
		return k, k.EncapsulationKey().Bytes(), nil
	},
	encapsulate: func(key []byte) ([]byte, []byte, error) {
		k, err := mlkem.NewEncapsulationKey768(key)
		if err != nil {
			return nil, nil, err
		}
		secret, ciphertext := k.Encapsulate()
		return secret, ciphertext, nil
	},
}

var mlkem1024 = &kem{
	key: mlkem.EncapsulationKeySize1024, ciphertext: mlkem.CiphertextSize1024,
	generate: func() (decapsulator, []byte, error) {
		k, err := mlkem.GenerateKey1024()
		if err != nil {
			return nil, nil, err
		}
		return k, k.EncapsulationKey().Bytes(), nil
	},
	encapsulate: func(key []byte) ([]byte, []byte, error) {
		k, err := mlkem.NewEncapsulationKey1024(key)
		if err != nil {
			return nil, nil, err
		}
		secret, ciphertext := k.Encapsulate()
		return secret, ciphertext, nil
	},
}

// group is a named group: elliptic curve, ML-KEM or both.
type group struct {
	id       tls.CurveID
	curve    ecdh.Curve // nil: none
	point    int        // bytes of a share of the curve
	kem      *kem       // nil: none
	kemFirst bool       // the ML-KEM part leads in shares and secret
}

// groups in the order of preference.
var groups = []group{
	{tls.X25519MLKEM768, ecdh.X25519(), 32, mlkem768, true},
	{tls.SecP256r1MLKEM768, ecdh.P256(), 65, mlkem768, false},
	{tls.SecP384r1MLKEM1024, ecdh.P384(), 97, mlkem1024, false},
	{tls.MLKEM1024, nil, 0, mlkem1024, false},
	{tls.X25519, ecdh.X25519(), 32, nil, false},
	{tls.CurveP256, ecdh.P256(), 65, nil, false},
	{tls.CurveP384, ecdh.P384(), 97, nil, false},
}

func groupOf(id tls.CurveID) (group, bool) {
	i := slices.IndexFunc(groups, func(g group) bool { return g.id == id })
	if i < 0 {
		return group{}, false
	}
	return groups[i], true
}

// inPreference returns the groups of the package that the list names; every one for a nil list but
// those that are off by default.
func inPreference(ids []tls.CurveID, off ...tls.CurveID) []group {
	var out []group
	for _, g := range groups {
		if ids == nil && !slices.Contains(off, g.id) || slices.Contains(ids, g.id) {
			out = append(out, g)
		}
	}
	return out
}

func (g group) postQuantum() bool { return g.kem != nil }
func (g group) hybrid() bool      { return g.kem != nil && g.curve != nil }

func (g group) clientShare() int {
	if g.kem == nil {
		return g.point
	}
	return g.point + g.kem.key
}

func (g group) serverShare() int {
	if g.kem == nil {
		return g.point
	}
	return g.point + g.kem.ciphertext
}

// join puts the parts of a share or secret in the order of the group.
func (g group) join(curve, kem []byte) []byte {
	if g.kemFirst {
		return slices.Concat(kem, curve)
	}
	return slices.Concat(curve, kem)
}

// split undoes join for a share of exact length.
func (g group) split(share []byte) (curve, kem []byte) {
	if g.kemFirst {
		return share[len(share)-g.point:], share[:len(share)-g.point]
	}
	return share[:g.point], share[g.point:]
}

// ephemeral is the client's private half of a share.
type ephemeral struct {
	group group
	curve *ecdh.PrivateKey
	kem   decapsulator
	parts [2][]byte // of the share: curve, ML-KEM
}

func (g group) generate() (*ephemeral, error) {
	e := &ephemeral{group: g}
	var err error
	if g.curve != nil {
		if e.curve, err = g.curve.GenerateKey(rand.Reader); err != nil {
			return nil, fmt.Errorf("key of %v: %w", g.id, err)
		}
		e.parts[0] = e.curve.PublicKey().Bytes()
	}
	if g.kem != nil {
		if e.kem, e.parts[1], err = g.kem.generate(); err != nil {
			return nil, fmt.Errorf("key of %v: %w", g.id, err)
		}
	}
	return e, nil
}

// errZero is an X25519 result of zero bytes, RFC 9846 section 7.4.2.
var errZero = errors.New("all-zero shared secret")

// errPoint is a curve share that encodes no usable point.
var errPoint = errors.New("curve share is no point")

// agree computes the elliptic-curve secret with a share of the peer.
func agree(own *ecdh.PrivateKey, share []byte) ([]byte, error) {
	peer, err := own.Curve().NewPublicKey(share)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPoint, err)
	}
	secret, err := own.ECDH(peer)
	if err != nil { // X25519 alone fails here
		return nil, fmt.Errorf("%w: %w", errZero, err)
	}
	return secret, nil
}

// secret computes the shared secret with a server share of exact length. A zero X25519 result is
// taken when zeroTaken says so.
func (e *ephemeral) secret(share []byte, zeroTaken bool) ([]byte, error) {
	if len(share) != e.group.serverShare() {
		return nil, fmt.Errorf("server share of %v has %d bytes, not %d", e.group.id, len(share), e.group.serverShare())
	}
	curve, ciphertext := e.group.split(share)
	var parts [2][]byte
	var err error
	if e.curve != nil {
		parts[0], err = agree(e.curve, curve)
		if errors.Is(err, errZero) && zeroTaken {
			parts[0], err = make([]byte, 32), nil
		}
		if err != nil {
			return nil, fmt.Errorf("server share of %v: %w", e.group.id, err)
		}
	}
	if e.kem != nil {
		if parts[1], err = e.kem.Decapsulate(ciphertext); err != nil {
			return nil, fmt.Errorf("server share of %v: %w", e.group.id, err)
		}
	}
	return e.group.join(parts[0], parts[1]), nil
}

// random returns n bytes that stand for what can not be computed.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return b
}

// fit cuts a share or fills it with zero bytes to n.
func fit(share []byte, n int) []byte {
	out := make([]byte, n)
	copy(out, share)
	return out
}

// reduced returns an encapsulation key with each coefficient taken modulo 3,329.
func reduced(key []byte) []byte {
	const q, seed = 3329, 32
	out := slices.Clone(key)
	for i := 0; i+3 <= len(out)-seed; i += 3 {
		a := (uint16(out[i]) | uint16(out[i+1]&15)<<8) % q
		b := (uint16(out[i+1])>>4 | uint16(out[i+2])<<4) % q
		out[i], out[i+1], out[i+2] = byte(a), byte(a>>8)|byte(b<<4), byte(b>>4)
	}
	return out
}
