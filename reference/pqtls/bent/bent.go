// Package bent is a small TLS 1.3 client and server (RFC 9846) on the primitives of the standard
// library, with the first flight of TLS 1.2 (RFC 5246). The reference uses it in place of crypto/tls
// when a planted defect needs behaviour that crypto/tls does not have. In every other respect it is
// a correct peer: only the planted defect shows. It does not finish a handshake of TLS 1.2, and imports
// no codec of the harness.
package bent

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// Bounds of this package.
const (
	defaultDeadline = 10 * time.Second
	echoIdle        = 2 * time.Minute        // how long an established connection may be silent
	hangLimit       = 30 * time.Second       // how long a planted hang lasts if the peer stays
	lingerLimit     = 300 * time.Millisecond // how long a refused peer may take to read the alert
	ticketLifetime  = 7 * 24 * time.Hour
)

var serverDefects = []defect.Name{
	defect.TLSHybridFlightCorrupt, defect.TLSServerShareSwapped, defect.TLSServerSharePadded,
	defect.TLSSecretSwapped, defect.TLSSecretKemOnly, defect.TLSKemKeyUnchecked,
	defect.TLSShareLengthUnchecked, defect.TLSShareWrongAlert, defect.TLSShareCloses,
	defect.TLSShareHangs, defect.TLSPointUnchecked, defect.TLSZeroSecretAccepted,
	defect.TLSClassicalShareLengthUnchecked, defect.TLSUnknownGroupFatal,
	defect.TLSKyberDraftSelected, defect.TLSFallbackUnoffered, defect.TLSClassicalPreferred,
	defect.TLSSharedEcdhHangs, defect.TLSTls12Hybrid, defect.TLSPaddedFlight,
	defect.TLSNoKeyShareRetried, defect.TLSNoGroupsAccepted, defect.TLSNoSigalgsAccepted,
	defect.TLSEmptySharesFatal, defect.TLSSecondShareUnchecked, defect.TLSEmptyShareWrongAlert,
	defect.TLSTrailingDataIgnored, defect.TLSDuplicateExtensionIgnored, defect.TLSShareListHangs,
	defect.TLSNoDowngradeSentinel, defect.TLSRecordVersionStrict, defect.TLSRecordVersionOdd,
	defect.TLSFragmentsRefused, defect.TLSLongHelloRefused, defect.TLSEmptyRecordHangs,
	defect.TLSMutualSignatureUnchecked, defect.TLSCertificateAlwaysMldsa,
	defect.TLSNoCertificateHangs, defect.TLSMldsaInTLS12, defect.TLSPskWithoutDhe,
	defect.TLSStapleUnasked,
}

var clientDefects = []defect.Name{
	defect.TLSClientShareSwapped, defect.TLSClientSharePadded, defect.TLSClientShareCoefficient,
	defect.TLSClientCiphertextLengthUnchecked, defect.TLSClientZeroSecretAccepted,
	defect.TLSClientImplicitRejectionIgnored, defect.TLSClientShareGroupUnchecked,
	defect.TLSClientRetryGroupUnchecked, defect.TLSClientSecondRetryFollowed,
	defect.TLSClientServerGroupUnchecked, defect.TLSClientSessionIDUnchecked,
	defect.TLSClientSuiteUnchecked, defect.TLSClientSentinelIgnored,
	defect.TLSClientRecordVersionOdd, defect.TLSClientAlertsDropped, defect.TLSClientWrongAlert,
	defect.TLSClientSignatureUnchecked, defect.TLSClientSchemeUnchecked,
	defect.TLSClientContextIgnored, defect.TLSClientTLS12MldsaAccepted,
	defect.TLSClientPskKeOffered, defect.TLSClientEarlyDataOffered,
}

// Needs reports whether a planted defect of the server lives in this package, so that Serve must
// stand in for crypto/tls.
func Needs(set defect.Set) bool { return slices.ContainsFunc(serverDefects, set.On) }

// NeedsClient reports whether a planted defect of the client lives in this package, so that Dial
// must stand in for crypto/tls.
func NeedsClient(set defect.Set) bool { return slices.ContainsFunc(clientDefects, set.On) }

// ServerConfig says what Serve offers. It is only read and may be shared.
type ServerConfig struct {
	// Groups are the groups taken. As with crypto/tls membership counts and order does not: post-quantum
	// groups come first, even at the price of a HelloRetryRequest. Nil means every group of the package.
	Groups []tls.CurveID
	// Certificates in order of preference: the first that the client can verify is sent. Keys are
	// ML-DSA, ECDSA P-256 or P-384, or RSA.
	Certificates      []tls.Certificate
	ALPN              []string      // in order of preference; empty: the extension is ignored
	Staple            func() []byte // DER of the OCSP response, nil or empty: none
	RequireClientCert bool
	ClientRoots       *x509.CertPool // nil refuses every client certificate
	TLS12             bool           // a hello of TLS 1.2 gets a first flight, else protocol_version
	Tickets           bool           // send a ticket and take those of this process
	Defects           defect.Set
	Deadline          time.Duration // for the whole handshake, 10 s if zero
	Established       func(State)   // called after each handshake; may be nil
}

// ClientConfig says what Dial offers and trusts.
type ClientConfig struct {
	ServerName string
	// Groups are the groups offered; membership counts, order does not. The preferred one is shared,
	// and X25519 beside it when that is a hybrid or ML-KEM. Nil means the hybrids and the classical groups.
	Groups      []tls.CurveID
	Roots       *x509.CertPool // nil refuses every chain
	ALPN        []string
	Certificate *tls.Certificate // sent when the server asks and takes its kind of signature
	Session     any              // from an earlier Conn.Session: offered for resumption
	AskStaple   bool
	TLS12       bool // offers TLS 1.2 too; such a handshake is read up to its first flight, then refused
	Defects     defect.Set
	Deadline    time.Duration // for the whole handshake, 10 s if zero
	Now         time.Time     // the clock of certificates and tickets, time.Now if zero
}

// State is what a handshake agreed on.
type State struct {
	Group          tls.CurveID
	Version        uint16
	Retry, Resumed bool
	ALPN           string
	// Chain is what the peer sent, leaf first; for a resumed connection of a client it is that of the
	// first one. It is empty when a planted defect let the client go on without the server's flight.
	Chain  []*x509.Certificate
	Staple []byte // the leaf's OCSP response as sent, nil if none
}

func orDefault(d time.Duration) time.Duration {
	if d <= 0 {
		return defaultDeadline
	}
	return d
}
