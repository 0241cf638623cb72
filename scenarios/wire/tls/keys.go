package tls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
)

// String gives the registered name, or the number of a suite that the prober does not speak.
func (s Suite) String() string {
	switch s {
	case AES128SHA256:
		return "TLS_AES_128_GCM_SHA256"
	case AES256SHA384:
		return "TLS_AES_256_GCM_SHA384"
	}
	return fmt.Sprintf("0x%04x", uint16(s))
}

// algorithms are the hash and the key length of a suite.
type algorithms struct {
	hash func() hash.Hash
	size int // of a digest and of every secret
	key  int
}

func algorithmsOf(s Suite) (algorithms, bool) {
	switch s {
	case AES128SHA256:
		return algorithms{sha256.New, sha256.Size, 16}, true
	case AES256SHA384:
		return algorithms{sha512.New384, sha512.Size384, 32}, true
	}
	return algorithms{}, false
}

func (a algorithms) digest(parts ...[]byte) []byte {
	h := a.hash()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func (a algorithms) mac(key, data []byte) []byte {
	m := hmac.New(a.hash, key)
	m.Write(data)
	return m.Sum(nil)
}

// extract and expand cannot fail on the lengths that TLS uses; an error is a fault of this package.
func (a algorithms) extract(secret, salt []byte) []byte {
	out, err := hkdf.Extract(a.hash, secret, salt)
	if err != nil {
		panic("tls: hkdf extract: " + err.Error())
	}
	return out
}

// expand is HKDF-Expand-Label of RFC 9846 section 7.1.
func (a algorithms) expand(secret []byte, label string, context []byte, n int) []byte {
	info := appendVec8(append16(nil, uint16(n)), []byte("tls13 "+label))
	out, err := hkdf.Expand(a.hash, secret, string(appendVec8(info, context)), n)
	if err != nil {
		panic("tls: hkdf expand: " + err.Error())
	}
	return out
}

// schedule is the key schedule of RFC 9846 section 7.1; secret is that of the stage reached.
type schedule struct {
	algorithms
	secret []byte
}

// newSchedule is at the early secret; a nil psk stands for none.
func newSchedule(a algorithms, psk []byte) *schedule {
	if psk == nil {
		psk = make([]byte, a.size)
	}
	return &schedule{a, a.extract(psk, make([]byte, a.size))}
}

// next goes on to the following stage; nil input stands for zeros.
func (s *schedule) next(input []byte) {
	if input == nil {
		input = make([]byte, s.size)
	}
	s.secret = s.extract(input, s.derive("derived", nil))
}

// derive is Derive-Secret over the given transcript.
func (s *schedule) derive(label string, transcript []byte) []byte {
	return s.expand(s.secret, label, s.digest(transcript), s.size)
}

// finished is the verify_data under a traffic or binder secret.
func (a algorithms) finished(secret, transcript []byte) []byte {
	return a.mac(a.expand(secret, "finished", nil, a.size), a.digest(transcript))
}

// binder is the PSK binder over a hello that is cut off before its binders, RFC 9846 section 4.3.11.2.
func (a algorithms) binder(psk, transcript []byte) []byte {
	return a.finished(newSchedule(a, psk).derive("res binder", nil), transcript)
}

// transcript is the list of handshake messages so far.
type transcript struct{ b []byte }

func (t *transcript) add(messages ...[]byte) {
	for _, m := range messages {
		t.b = append(t.b, m...)
	}
}

// retry replaces the first hello by its hash, RFC 9846 section 4.5 (message_hash).
func (t *transcript) retry(a algorithms) { t.b = message(msgHash, a.digest(t.b)) }

// half is the protection of one direction.
type half struct {
	algorithms
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newHalf makes record keys of a traffic secret, RFC 9846 section 7.3.
func newHalf(a algorithms, secret []byte) (*half, error) {
	block, err := aes.NewCipher(a.expand(secret, "key", nil, a.key))
	if err != nil {
		return nil, fmt.Errorf("record key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("record key: %w", err)
	}
	return &half{algorithms: a, secret: secret, aead: aead, iv: a.expand(secret, "iv", nil, aead.NonceSize())}, nil
}

// updated is the half after a KeyUpdate, RFC 9846 section 7.2.
func (h *half) updated() (*half, error) {
	return newHalf(h.algorithms, h.expand(h.secret, "traffic upd", nil, h.size))
}

func (h *half) nonce() []byte {
	n := append([]byte(nil), h.iv...)
	for i := range 8 {
		n[len(n)-1-i] ^= byte(h.seq >> (8 * i))
	}
	return n
}

// seal protects one record with the version given in its header.
func (h *half) seal(version uint16, kind uint8, payload []byte) []byte {
	inner := append(append([]byte(nil), payload...), kind)
	header := append16(append16([]byte{recordApplication}, version), uint16(len(inner)+h.aead.Overhead()))
	out := h.aead.Seal(header, h.nonce(), inner, header)
	h.seq++
	return out
}

var errUndecryptable = errors.New("does not decrypt")

// open undoes seal; padding is the number of zero bytes after the content type. The sequence number
// moves on only when the record was authentic.
func (h *half) open(r record) (kind uint8, payload []byte, padding int, err error) {
	inner, err := h.aead.Open(nil, h.nonce(), r.payload, r.header[:])
	if err != nil {
		return 0, nil, 0, errUndecryptable
	}
	h.seq++
	end := len(inner)
	for end > 0 && inner[end-1] == 0 {
		end--
	}
	if end == 0 {
		return 0, nil, 0, errors.New("protected record: no content type")
	}
	return inner[end-1], inner[:end-1], len(inner) - end, nil
}

// seeded derives everything of a connection from its seed.
func seeded(seed [32]byte) source {
	return func(purpose string, n int) []byte {
		var out []byte
		for i := 0; len(out) < n; i++ {
			chunk := min(n-len(out), 8160)
			b, err := hkdf.Expand(sha256.New, seed[:], fmt.Sprintf("prober %s %d", purpose, i), chunk)
			if err != nil {
				panic("tls: seed: " + err.Error())
			}
			out = append(out, b...)
		}
		return out
	}
}

// keyLogLine is a line of the NSS key log format.
func keyLogLine(label string, random [32]byte, secret []byte) string {
	return fmt.Sprintf("%s %x %x", label, random, secret)
}

// Labels of the key log, the four that describe a TLS 1.3 connection.
const (
	logClientHandshake = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
	logServerHandshake = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
	logClientTraffic   = "CLIENT_TRAFFIC_SECRET_0"
	logServerTraffic   = "SERVER_TRAFFIC_SECRET_0"
)

// resumption is the PSK of a ticket, RFC 9846 section 4.7.1.
func (a algorithms) resumption(master, nonce []byte) []byte {
	return a.expand(master, "resumption", nonce, a.size)
}
