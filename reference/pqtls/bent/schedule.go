package bent

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
)

// suite is a cipher suite of TLS 1.3.
type suite struct {
	id     uint16
	hash   crypto.Hash
	digest func() hash.Hash
	key    int // bytes of the AES key
}

var suites = []suite{
	{0x1301, crypto.SHA256, sha256.New, 16},
	{0x1302, crypto.SHA384, sha512.New384, 32},
}

func (s suite) sum(data []byte) []byte {
	h := s.digest()
	h.Write(data)
	return h.Sum(nil)
}

func (s suite) mac(key, data []byte) []byte {
	h := hmac.New(s.digest, key)
	h.Write(data)
	return h.Sum(nil)
}

// extract is HKDF-Extract. A nil argument stands for a string of zero bytes of the hash's length.
func (s suite) extract(salt, secret []byte) []byte {
	if secret == nil {
		secret = make([]byte, s.hash.Size())
	}
	out, err := hkdf.Extract(s.digest, secret, salt)
	if err != nil { // only a FIPS mode that forbids these hashes
		panic(fmt.Sprintf("hkdf extract: %v", err))
	}
	return out
}

// expand is HKDF-Expand-Label of RFC 9846 section 7.1.
func (s suite) expand(secret []byte, label string, context []byte, n int) []byte {
	var b cryptobyte.Builder
	b.AddUint16(uint16(n))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(context) })
	out, err := hkdf.Expand(s.digest, secret, string(b.BytesOrPanic()), n)
	if err != nil { // only lengths that are constants of this package
		panic(fmt.Sprintf("hkdf expand %s: %v", label, err))
	}
	return out
}

// derive is Derive-Secret over a transcript.
func (s suite) derive(secret []byte, label string, transcript []byte) []byte {
	return s.expand(secret, label, s.sum(transcript), s.hash.Size())
}

// finished is the verify_data under a traffic secret, RFC 9846 section 4.5.3.
func (s suite) finished(secret, transcript []byte) []byte {
	return s.mac(s.expand(secret, "finished", nil, s.hash.Size()), s.sum(transcript))
}

// schedule holds the secrets of one handshake.
type schedule struct {
	suite
	early, handshake, master         []byte
	clientHandshake, serverHandshake []byte
	clientApp, serverApp             []byte
}

// newSchedule starts from a pre-shared key, nil if there is none.
func newSchedule(s suite, psk []byte) *schedule {
	return &schedule{suite: s, early: s.extract(nil, psk)}
}

// binder is the verify_data of a pre-shared key over the hello cut before its binders.
func (k *schedule) binder(transcript []byte) []byte {
	return k.finished(k.derive(k.early, "res binder", nil), transcript)
}

// share enters the shared secret (nil: none) with the transcript up to ServerHello.
func (k *schedule) share(secret, transcript []byte) {
	k.handshake = k.extract(k.derive(k.early, "derived", nil), secret)
	k.clientHandshake = k.derive(k.handshake, "c hs traffic", transcript)
	k.serverHandshake = k.derive(k.handshake, "s hs traffic", transcript)
}

// finish derives the application secrets with the transcript up to the server's Finished.
func (k *schedule) finish(transcript []byte) {
	k.master = k.extract(k.derive(k.handshake, "derived", nil), nil)
	k.clientApp = k.derive(k.master, "c ap traffic", transcript)
	k.serverApp = k.derive(k.master, "s ap traffic", transcript)
}

// resumption is the pre-shared key of a ticket, with the transcript up to the client's Finished.
func (k *schedule) resumption(transcript, nonce []byte) []byte {
	master := k.derive(k.master, "res master", transcript)
	return k.expand(master, "resumption", nonce, k.hash.Size())
}

// half is the protection of one direction under one traffic secret.
type half struct {
	suite  suite
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func newHalf(s suite, secret []byte) *half {
	block, err := aes.NewCipher(s.expand(secret, "key", nil, s.key))
	if err != nil {
		panic(fmt.Sprintf("aes: %v", err)) // the key lengths are constants
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(fmt.Sprintf("gcm: %v", err))
	}
	return &half{suite: s, secret: secret, aead: aead, iv: s.expand(secret, "iv", nil, 12)}
}

// next is the half after a KeyUpdate, RFC 9846 section 7.2.
func (h *half) next() *half {
	return newHalf(h.suite, h.suite.expand(h.secret, "traffic upd", nil, h.suite.hash.Size()))
}

// nonce returns the nonce of the next record and counts it.
func (h *half) nonce() []byte {
	n := append([]byte(nil), h.iv...)
	for i := range 8 {
		n[11-i] ^= byte(h.seq >> (8 * i))
	}
	h.seq++
	return n
}
