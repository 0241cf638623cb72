package bent

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// ticketKey seals the tickets of this process. It is made once and never changes.
var ticketKey = sync.OnceValue(func() cipher.AEAD {
	block, err := aes.NewCipher(random(32))
	if err != nil {
		panic(fmt.Sprintf("ticket key: %v", err)) // the length is constant
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(fmt.Sprintf("ticket key: %v", err))
	}
	return aead
})

// ticketState is what a ticket holds.
type ticketState struct {
	suite  uint16
	pq     bool // the class of the group that it was issued under
	issued time.Time
	psk    []byte
}

// place binds tickets to the server that issued them: its certificates and its demand for a client's.
func (cfg *ServerConfig) place() []byte {
	h := sha256.New()
	for _, cert := range cfg.Certificates {
		if len(cert.Certificate) > 0 {
			h.Write(cert.Certificate[0])
		}
	}
	if cfg.RequireClientCert {
		h.Write([]byte("client certificate"))
	}
	return h.Sum(nil)
}

func (t ticketState) seal(place []byte) []byte {
	var b cryptobyte.Builder
	b.AddUint16(t.suite)
	b.AddUint8(map[bool]uint8{true: 1}[t.pq])
	b.AddUint64(uint64(t.issued.Unix()))
	b.AddUint8LengthPrefixed(addBytes(t.psk))
	nonce := random(ticketKey().NonceSize())
	return ticketKey().Seal(nonce, nonce, b.BytesOrPanic(), place)
}

// openTicket returns the state of a ticket of this place that is not too old.
func openTicket(ticket, place []byte, now time.Time) (ticketState, bool) {
	n := ticketKey().NonceSize()
	if len(ticket) < n {
		return ticketState{}, false
	}
	plain, err := ticketKey().Open(nil, ticket[:n], ticket[n:], place)
	if err != nil || len(plain) < 12 {
		return ticketState{}, false
	}
	t := ticketState{
		suite: binary.BigEndian.Uint16(plain), pq: plain[2] == 1,
		issued: time.Unix(int64(binary.BigEndian.Uint64(plain[3:])), 0),
	}
	s := cryptobyte.String(plain[11:])
	ok := s.ReadUint8LengthPrefixed((*cryptobyte.String)(&t.psk))
	return t, ok && now.Sub(t.issued) < ticketLifetime
}

// session is what a client keeps of a ticket.
type session struct {
	suite    suite
	psk      []byte
	ticket   []byte
	ageAdd   uint32
	received time.Time
	lifetime time.Duration
	name     string
	peer     certificates
}

func (s *session) usable(name string, now time.Time) bool {
	age := now.Sub(s.received)
	return s.name == name && age >= 0 && age < s.lifetime
}
