package pqtls

import (
	"crypto/mlkem"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls/pki"
)

// CertificateSource yields the leaf and chain in use. *pki.Source is one. An error ends the handshake
// that asked.
type CertificateSource interface {
	Kind() pki.Kind
	Certificate() (*tls.Certificate, error)
}

// Stapler yields the OCSP response for a leaf, or nil. It must not wait. *ocsp.Stapler is one.
type Stapler interface {
	Staple(leaf *x509.Certificate) []byte
}

// Config configures a Server. Zero fields get the defaults named beside them.
type Config struct {
	Name              string              // of the port, in logs and metrics; "tls"
	Groups            []tls.CurveID       // AllGroups(); membership counts, order does not
	Certificates      []CertificateSource // the first that fits the client is sent: ML-DSA goes first
	ClientCAs         *x509.CertPool      // roots of client certificates
	RequireClientCert bool
	MinVersion        uint16   // tls.VersionTLS12
	ALPN              []string // none
	Stapler           Stapler  // none
	TicketsDisabled   bool
	Defects           defect.Set
	Logger            *slog.Logger          // discards
	Registerer        prometheus.Registerer // a registry of its own
	Now               func() time.Time      // time.Now; the clock of certificates and tickets

	MaxConnections    int           // more are closed at accept; 1024
	HandshakeDeadline time.Duration // from accept to the end of the handshake; 10 s
	IdleDeadline      time.Duration // between two reads; 5 min
	WriteDeadline     time.Duration // for one write of echo; 10 s
	MaxBytes          int64         // echoed on one connection; 64 MiB
}

func (c Config) withDefaults() Config {
	c.MaxConnections = orDefault(c.MaxConnections, 1024)
	c.HandshakeDeadline = orDefault(c.HandshakeDeadline, 10*time.Second)
	c.IdleDeadline = orDefault(c.IdleDeadline, 5*time.Minute)
	c.WriteDeadline = orDefault(c.WriteDeadline, 10*time.Second)
	c.MaxBytes = orDefault(c.MaxBytes, 64<<20)
	c.MinVersion = orDefault(c.MinVersion, tls.VersionTLS12)
	c.Name = orDefault(c.Name, "tls")
	if len(c.Groups) == 0 {
		c.Groups = AllGroups()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func orDefault[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

func (c Config) check() error {
	switch {
	case len(c.Certificates) == 0:
		return errors.New("pqtls: a server needs a certificate")
	case c.MaxConnections < 0 || c.HandshakeDeadline < 0 || c.IdleDeadline < 0 || c.WriteDeadline < 0 || c.MaxBytes < 0:
		return errors.New("pqtls: negative limit")
	case c.MinVersion != tls.VersionTLS12 && c.MinVersion != tls.VersionTLS13:
		return fmt.Errorf("pqtls: lowest version %#x, want TLS 1.2 or 1.3", c.MinVersion)
	case c.RequireClientCert && c.ClientCAs == nil:
		return errors.New("pqtls: client certificates are required and no roots are known")
	}
	return nil
}

// planted applies the defects that are a matter of configuration.
func (c Config) planted() Config {
	without := map[defect.Name]tls.CurveID{
		defect.TLSWithoutX25519mlkem768:     tls.X25519MLKEM768,
		defect.TLSWithoutSecp256r1mlkem768:  tls.SecP256r1MLKEM768,
		defect.TLSWithoutSecp384r1mlkem1024: tls.SecP384r1MLKEM1024,
		defect.TLSWithoutMlkem1024:          tls.MLKEM1024,
	}
	for name, group := range without {
		if !c.Defects.On(name) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(c.Groups), func(g tls.CurveID) bool { return g == group })
		if len(rest) > 0 { // none would mean the defaults of crypto/tls
			c.Groups = rest
		}
	}
	if c.Defects.On(defect.TLSWithoutMldsa) {
		rest := slices.DeleteFunc(slices.Clone(c.Certificates), isMLDSA)
		if len(rest) > 0 { // a port that has nothing else keeps it
			c.Certificates = rest
		}
	}
	if c.Defects.On(defect.TLSWithoutTLS12) {
		c.MinVersion = tls.VersionTLS13
	}
	if c.Defects.On(defect.TLSWithoutTickets) {
		c.TicketsDisabled = true
	}
	if c.Defects.On(defect.TLSStapleMissing) {
		c.Stapler = nil
	}
	if c.Stapler != nil && c.Defects.On(defect.TLSStapleNotRefreshed) {
		c.Stapler = &frozenStapler{Stapler: c.Stapler, kept: make(map[string][]byte)}
	}
	return c
}

func isMLDSA(s CertificateSource) bool { return s.Kind() == pki.MLDSA }

// frozenStapler is the planted defect of never replacing a response.
type frozenStapler struct {
	Stapler
	mu   sync.Mutex
	kept map[string][]byte
}

// Staple returns the first response that there was for leaf.
func (f *frozenStapler) Staple(leaf *x509.Certificate) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(leaf.Raw)
	if f.kept[key] == nil {
		f.kept[key] = f.Stapler.Staple(leaf)
	}
	return f.kept[key]
}

// mldsaOnly reports whether TLS 1.2 is allowed and there is no certificate for it.
func (c Config) mldsaOnly() bool {
	return c.MinVersion <= tls.VersionTLS12 && !slices.ContainsFunc(c.Certificates, func(s CertificateSource) bool { return !isMLDSA(s) })
}

// tlsConfig returns the configuration of crypto/tls.
func (c Config) tlsConfig() *tls.Config {
	t := &tls.Config{
		Time:                   c.Now,
		MinVersion:             c.MinVersion,
		CurvePreferences:       c.Groups,
		NextProtos:             c.ALPN,
		SessionTicketsDisabled: c.TicketsDisabled,
		GetCertificate:         c.certificateFor,
		ClientCAs:              c.ClientCAs,
	}
	if c.RequireClientCert {
		t.ClientAuth = tls.RequireAndVerifyClientCert
		switch {
		case c.Defects.On(defect.TLSMutualCertUnverified):
			t.ClientAuth, t.ClientCAs = tls.RequireAnyClientCert, nil // no root is asked for either
		case c.Defects.On(defect.TLSMutualCertNotAsked):
			t.ClientAuth = tls.NoClientCert
		}
	}
	if !c.Defects.On(defect.TLSTicketClassUnbound) {
		bindTickets(t)
	}
	if c.Defects.On(defect.TLSHybridSlow) || c.Defects.On(defect.TLSPskHybridSlow) {
		t.VerifyConnection = c.burn
	}
	return t
}

// certificateFor picks the first certificate that the client can verify. A name that no certificate has
// is set aside: the client shall see a chain and refuse it. When nothing fits it returns a classical
// certificate where there is one, since crypto/tls answers an ML-DSA certificate under TLS 1.2 with
// internal_error and everything else with handshake_failure.
func (c Config) certificateFor(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
	nameless := *info
	nameless.ServerName = ""
	for _, h := range []*tls.ClientHelloInfo{info, &nameless} {
		for _, source := range c.Certificates {
			if source.Kind() == pki.RSA && !offersRSA(h) {
				continue // spares the making of RSA keys
			}
			cert, err := source.Certificate()
			if err != nil {
				return nil, fmt.Errorf("pqtls: %v certificate: %w", source.Kind(), err)
			}
			if h.SupportsCertificate(cert) == nil {
				return c.stapled(source.Kind(), cert), nil
			}
		}
	}
	source := c.Certificates[0]
	if i := slices.IndexFunc(c.Certificates, func(s CertificateSource) bool { return !isMLDSA(s) }); i >= 0 {
		source = c.Certificates[i]
	}
	return source.Certificate()
}

// offersRSA reports whether the client takes RSA signatures of TLS 1.2 or 1.3.
func offersRSA(info *tls.ClientHelloInfo) bool {
	return slices.ContainsFunc(info.SignatureSchemes, func(s tls.SignatureScheme) bool {
		switch s {
		case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512:
			return true
		}
		return false
	})
}

// stapled returns a copy of cert with the OCSP response of the moment, which crypto/tls sends to those
// who ask.
func (c Config) stapled(kind pki.Kind, cert *tls.Certificate) *tls.Certificate {
	sent := *cert
	if c.Stapler != nil {
		sent.OCSPStaple = c.Stapler.Staple(cert.Leaf)
	}
	if kind == pki.MLDSA && c.Defects.On(defect.TLSMldsaChainIncomplete) {
		sent.Certificate = sent.Certificate[:1]
	}
	return &sent
}

// burnRounds makes a planted slowness of some milliseconds: about three times what a whole handshake
// with a hybrid key exchange and an ECDSA chain costs.
const burnRounds = 12

// burn is the planted slowness of hybrid key exchanges.
func (c Config) burn(state tls.ConnectionState) error {
	slow := c.Defects.On(defect.TLSHybridSlow) || c.Defects.On(defect.TLSPskHybridSlow) && state.DidResume
	if !slow || !hybrid(state.CurveID) {
		return nil
	}
	for range burnRounds {
		key, err := mlkem.GenerateKey768()
		if err != nil {
			return err
		}
		_, ciphertext := key.EncapsulationKey().Encapsulate()
		if _, err := key.Decapsulate(ciphertext); err != nil {
			return err
		}
	}
	return nil
}
