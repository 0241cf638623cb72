// Package tls is a raw TLS 1.3 prober: a client and a server whose every field can be bent, built on
// crypto primitives. It may not import crypto/tls, share code with the reference peers, or have an
// opinion: what it returns is what was seen on the wire. Certificates are parsed, never trusted.
//
// Tried: crypto/tls with a rewriting connection between. Lost: a changed hello changes the transcript,
// so nothing after the first message could be observed. Tried: zcrypto. Lost: it is a fork of crypto/tls
// and no easier to bend.
package tls

import (
	"crypto"
	"time"
)

// Group is a NamedGroup of TLS 1.3.
type Group uint16

// The groups that the prober can compute with, and the obsolete drafts that must be treated as unknown.
const (
	P256               Group = 0x0017
	P384               Group = 0x0018
	X25519             Group = 0x001D
	MLKEM1024          Group = 0x0202
	SecP256r1MLKEM768  Group = 0x11EB
	X25519MLKEM768     Group = 0x11EC
	SecP384r1MLKEM1024 Group = 0x11ED
	Kyber768Draft      Group = 0x6399
	KyberP256Draft     Group = 0x639A
)

// Suite is a cipher suite.
type Suite uint16

// The cipher suites of TLS 1.3 that the prober speaks.
const (
	AES128SHA256 Suite = 0x1301
	AES256SHA384 Suite = 0x1302
)

// Scheme is a SignatureScheme.
type Scheme uint16

// The signature schemes that the prober verifies and signs with.
const (
	ECDSAP256 Scheme = 0x0403
	ECDSAP384 Scheme = 0x0503
	RSAPSS256 Scheme = 0x0804
	Ed25519   Scheme = 0x0807
	MLDSA44   Scheme = 0x0904
	MLDSA65   Scheme = 0x0905
	MLDSA87   Scheme = 0x0906
)

// AlertCode is an AlertDescription; String gives the name that RFC 9846 section 6 uses.
type AlertCode uint8

// Ending says how a connection ended, or why the prober stopped.
type Ending string

// The endings.
const (
	Completed     Ending = "completed"      // both Finished were valid and the exchange asked for was made
	Answered      Ending = "answered"       // a ServerHello (or ServerKeyExchange of 1.2) came and the prober was told to stop there
	Retried       Ending = "retried"        // a HelloRetryRequest came and the prober was told to stop there
	Alerted       Ending = "alert"          // the peer sent a fatal alert
	EOF           Ending = "eof"            // the peer closed without one
	Reset         Ending = "reset"          // the peer reset the connection
	Silent        Ending = "silent"         // the wait ended without a byte that was waited for
	Garbled       Ending = "garbled"        // what came can not be parsed
	Unreadable    Ending = "unreadable"     // what came does not decrypt under the right secret
	Refused       Ending = "refused"        // the connection was not made
	WrongFinished Ending = "wrong-finished" // the peer's Finished does not verify
	Broken        Ending = "broken"         // the prober could not carry out its own plan (Detail); says nothing of the peer
)

// Alert is an alert that was seen.
type Alert struct {
	Level     uint8     `json:"level"`
	Code      AlertCode `json:"code"`
	Name      string    `json:"name"`
	Encrypted bool      `json:"encrypted"`        // it came in a protected record
	Unread    bool      `json:"unread,omitempty"` // it could not be decrypted: a protected record of an alert's length
}

// KeyShare is one entry of a key_share extension.
type KeyShare struct {
	Group Group  `json:"group"`
	Data  []byte `json:"data"`
}

// Extension is one extension, in wire order.
type Extension struct {
	Type uint16
	Data []byte
}

// Hello is a ClientHello, every field of which can be bent before it is written.
type Hello struct {
	LegacyVersion uint16
	Random        [32]byte
	SessionID     []byte
	Suites        []Suite
	Compression   []byte
	Extensions    []Extension
	Trailing      []byte // after the extensions
}

// Identity is a certificate chain with the key of its leaf.
type Identity struct {
	Chain  [][]byte // DER, leaf first
	Signer crypto.Signer
	Scheme Scheme // of CertificateVerify
	Staple []byte // OCSP response for the leaf; nil: none
}

// Session is what a ticket gives to resume with.
type Session struct {
	Ticket   []byte
	Secret   []byte // resumption PSK
	AgeAdd   uint32
	Lifetime time.Duration
	Received time.Time
	Suite    Suite
	Group    Group // of the connection that issued it
}

// Offer is what a well-formed ClientHello offers.
type Offer struct {
	ServerName string
	ALPN       []string
	Versions   []uint16  // of supported_versions; nil: 0x0304 alone
	Groups     []Group   // of supported_groups
	Shares     []Group   // fresh valid shares; nil: one of the first group; empty: an empty list
	Suites     []Suite   // nil: both
	Schemes    []Scheme  // nil: all
	Status     bool      // status_request
	Session    *Session  // resume with psk_dhe_ke
	Identity   *Identity // client certificate, sent when it is asked for
	Size       int       // pad the hello to this many bytes; 0: no padding
	SameECDH   bool      // a hybrid's ECDH part is the classical share's key too
}

// Delivery says how the first hello goes out.
type Delivery struct {
	RecordVersion uint16        // of its record(s); 0: 0x0301
	Records       []int         // payload bytes of each record but the last; nil: one record
	EmptyFirst    bool          // an empty handshake record goes first
	Segments      int           // bytes of each write; 0: one write
	Pause         time.Duration // between writes
}

// Client is one connection of the prober in the client's role.
type Client struct {
	Offer             Offer
	Deliver           Delivery
	Bend              func(*Hello)                            // changes the first hello before it is written
	Second            func(*Hello)                            // changes the hello after a HelloRetryRequest
	CertificateVerify func(scheme *Scheme, signature *[]byte) // changes the client's own
	StopAtHello       bool                                    // stop at the first ServerHello or HelloRetryRequest (Answered, Retried)
	StopAtRetry       bool
	Send              []byte        // application data after the handshake
	Want              int           // bytes of application data to wait for; 0: none
	Tickets           int           // wait for this many tickets, as far as the wait allows
	Wait              time.Duration // for each answer; 0: 4 s
	Seed              [32]byte      // of randoms and keys
	Now               time.Time
}

// Outcome is all that a Client saw. It holds facts and no opinion.
type Outcome struct {
	Ending   Ending          `json:"ending"`
	Alert    *Alert          `json:"alert,omitempty"`
	Detail   string          `json:"detail,omitempty"` // of Garbled and Unreadable: what and where
	Stage    string          `json:"stage"`            // where it ended: hello, retry, server-hello, flight, finished, application
	Retry    *RetrySeen      `json:"retry,omitempty"`
	Server   *ServerSeen     `json:"server,omitempty"`
	Flight   *FlightSeen     `json:"flight,omitempty"`
	Legacy   *LegacySeen     `json:"legacy,omitempty"` // of TLS 1.2
	Others   map[string]bool `json:"others,omitempty"` // of a hybrid: would the flight have decrypted under another secret: swapped, kem-only, ecdh-only, share-swapped
	Resumed  bool            `json:"resumed,omitempty"`
	Tickets  []TicketSeen    `json:"tickets,omitempty"`
	App      []byte          `json:"app,omitempty"`     // application data received, at most 64 KiB
	Records  []uint16        `json:"records,omitempty"` // versions in the peer's record headers, without repetition
	Up       int             `json:"up"`                // bytes written
	Down     int             `json:"down"`              // bytes read
	Flights  int             `json:"flights"`           // changes of direction
	Took     time.Duration   `json:"took"`              // to the end of the handshake
	KeyLog   []string        `json:"keyLog,omitempty"`  // NSS key log lines of this connection
	Sessions []*Session      `json:"-"`
}

// RetrySeen is a HelloRetryRequest.
type RetrySeen struct {
	Group     Group `json:"group"`
	Suite     Suite `json:"suite"`
	Cookie    int   `json:"cookie"`    // bytes
	SessionID bool  `json:"sessionId"` // echoed
}

// ServerSeen is a ServerHello.
type ServerSeen struct {
	Version    uint16   `json:"version"` // negotiated
	Suite      Suite    `json:"suite"`
	Group      Group    `json:"group,omitempty"`
	Share      int      `json:"share"` // bytes of key_exchange
	PSK        bool     `json:"psk,omitempty"`
	SessionID  bool     `json:"sessionId"`          // echoed
	Sentinel   string   `json:"sentinel,omitempty"` // "1.2" or "1.1" where random ends in a downgrade sentinel
	Extensions []uint16 `json:"extensions,omitempty"`
}

// FlightSeen is the decrypted flight of a server.
type FlightSeen struct {
	ALPN            string   `json:"alpn,omitempty"`
	Certificates    [][]byte `json:"certificates,omitempty"`    // DER, as sent
	Staple          []byte   `json:"staple,omitempty"`          // of the leaf's entry
	StapleElsewhere bool     `json:"stapleElsewhere,omitempty"` // a staple in another entry
	Requested       bool     `json:"requested,omitempty"`       // CertificateRequest
	Scheme          Scheme   `json:"scheme,omitempty"`
	Signature       int      `json:"signature,omitempty"` // bytes
	SignatureValid  bool     `json:"signatureValid,omitempty"`
	FinishedValid   bool     `json:"finishedValid"`
	Parameters      int      `json:"parameters,omitempty"` // bytes of the extensions in EncryptedExtensions
	Padding         int      `json:"padding,omitempty"`    // bytes of record padding
	Messages        []uint8  `json:"messages"`             // handshake types in order
}

// LegacySeen is what a TLS 1.2 server sent after its hello.
type LegacySeen struct {
	Certificates [][]byte `json:"certificates,omitempty"`
	Group        Group    `json:"group,omitempty"`  // of ServerKeyExchange
	Scheme       Scheme   `json:"scheme,omitempty"` // of its signature
	Messages     []uint8  `json:"messages"`
}

// TicketSeen is a NewSessionTicket.
type TicketSeen struct {
	Lifetime time.Duration `json:"lifetime"`
	Bytes    int           `json:"bytes"`
	Early    uint32        `json:"early,omitempty"` // max_early_data_size
	SHA256   string        `json:"sha256"`
}

// Server is one connection of the prober in the server's role. What it offers is well formed until a
// field of Bend says otherwise.
type Server struct {
	Identity Identity
	Groups   []Group  // in order of preference; nil: all
	Suite    Suite    // 0: 0x1301
	ALPN     []string // chooses the first that the client offers too
	Retry    *RetryPlan
	Request  bool         // asks for a client certificate
	Tickets  int          // NewSessionTickets after the handshake
	Sessions *SessionBook // tickets that it knows; nil: resumes nothing
	Echo     bool         // application data is sent back until the client closes
	Answer   []byte       // sent after the first application data where Echo is false
	Bend     ServerBend
	Legacy   *LegacyPlan   // answer as TLS 1.2
	Wait     time.Duration // for each message; 0: 4 s
	Seed     [32]byte
}

// RetryPlan makes the server ask for another hello.
type RetryPlan struct {
	Group  Group // asked for
	Twice  bool  // a second HelloRetryRequest follows the second hello
	Suite  Suite // 0: as ServerHello
	Cookie []byte
}

// ServerBend is what a misbehaving server changes. Nil and zero fields change nothing.
type ServerBend struct {
	Group         Group                              // named in ServerHello whatever was offered; 0: the negotiated one
	Share         func(g Group, share []byte) []byte // the key_exchange as sent
	SessionID     func(echo []byte) []byte
	Suite         Suite                                                      // named in ServerHello
	Secret        func(g Group, ecdh, kem []byte) []byte                     // the shared secret in place of the right one
	Scheme        Scheme                                                     // named in CertificateVerify in place of the identity's
	Sign          func(signer crypto.Signer, content []byte) ([]byte, error) // makes the signature; nil: as the RFC says
	Signature     func([]byte) []byte                                        // the signature as sent
	NoCertificate bool
	Finished      func([]byte) []byte
	RecordVersion uint16
}

// LegacyPlan is a first flight of TLS 1.2.
type LegacyPlan struct {
	Suite     uint16 // 0: ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	Sentinel  bool   // random ends in the TLS 1.2 downgrade sentinel
	Group     Group  // of ServerKeyExchange; 0: X25519
	Scheme    Scheme // of its signature, made with Identity.Signer; 0: the identity's
	HelloOnly bool   // stop after ServerHello
}

// Heard is all that a Server saw of the client. It holds facts and no opinion.
type Heard struct {
	Ending         Ending        `json:"ending"`
	Alert          *Alert        `json:"alert,omitempty"`
	Detail         string        `json:"detail,omitempty"`
	Stage          string        `json:"stage"` // hello, retry, server-hello, flight, finished, application
	Hello          *HelloSeen    `json:"hello,omitempty"`
	Second         *HelloSeen    `json:"second,omitempty"`
	Group          Group         `json:"group,omitempty"` // negotiated
	Resumed        bool          `json:"resumed,omitempty"`
	Ticket         string        `json:"ticket,omitempty"`      // SHA-256 of the identity offered first
	TicketGroup    Group         `json:"ticketGroup,omitempty"` // of the connection that issued the first ticket that the book knows
	Messages       []uint8       `json:"messages,omitempty"`    // handshake types of the client after its hello
	FinishedValid  bool          `json:"finishedValid"`
	Certificates   [][]byte      `json:"certificates,omitempty"` // of the client
	Scheme         Scheme        `json:"scheme,omitempty"`
	SignatureValid bool          `json:"signatureValid,omitempty"`
	App            []byte        `json:"app,omitempty"`     // application data of the client, at most 64 KiB
	Protected      int           `json:"protected"`         // protected records that came after ServerHello, readable or not, alerts apart
	Records        []uint16      `json:"records,omitempty"` // versions in record headers after the first hello
	First          uint16        `json:"first,omitempty"`   // version in the record header of the first hello
	Up             int           `json:"up"`                // bytes of the client
	Down           int           `json:"down"`
	Took           time.Duration `json:"took"`
	KeyLog         []string      `json:"keyLog,omitempty"`
}

// HelloSeen is a ClientHello as it was read.
type HelloSeen struct {
	Bytes      int         `json:"bytes"`
	ServerName string      `json:"serverName,omitempty"`
	ALPN       []string    `json:"alpn,omitempty"`
	Versions   []uint16    `json:"versions,omitempty"`
	Suites     []Suite     `json:"suites"`
	Groups     []Group     `json:"groups,omitempty"`
	Shares     []ShareSeen `json:"shares,omitempty"`
	Schemes    []Scheme    `json:"schemes,omitempty"`
	Modes      []uint8     `json:"modes,omitempty"`   // psk_key_exchange_modes
	Tickets    int         `json:"tickets,omitempty"` // identities in pre_shared_key
	Status     bool        `json:"status,omitempty"`
	Early      bool        `json:"early,omitempty"` // early_data
	Extensions []uint16    `json:"extensions"`
}

// ShareSeen is a share with what can be said of its layout.
type ShareSeen struct {
	Group Group  `json:"group"`
	Bytes int    `json:"bytes"`
	Fault string `json:"fault,omitempty"` // length, coefficient, point, zero: what is wrong with it; empty: well formed
}
