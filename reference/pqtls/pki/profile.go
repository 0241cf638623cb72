package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// Extensions that the profile names.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNoCheck          = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} // id-pkix-ocsp-nocheck
)

// CheckProfile reports the first way in which a leaf departs from the profile in the package comment.
func CheckProfile(cert *x509.Certificate, use Use) error {
	usage, err := use.extKeyUsage()
	if err != nil {
		return err
	}
	switch {
	case cert.Version != 3:
		return fmt.Errorf("pki: version %d, want 3", cert.Version)
	case cert.SerialNumber.Sign() <= 0 || len(cert.SerialNumber.Bytes()) != 16:
		return fmt.Errorf("pki: serial number %x, want 16 positive octets", cert.SerialNumber)
	case cert.KeyUsage != x509.KeyUsageDigitalSignature || !critical(cert, oidKeyUsage):
		return fmt.Errorf("pki: key usage %#x, want digitalSignature alone, critical", int(cert.KeyUsage))
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{usage}) || len(cert.UnknownExtKeyUsage) > 0:
		return fmt.Errorf("pki: extended key usage %v, want %v alone", cert.ExtKeyUsage, usage)
	case !cert.BasicConstraintsValid || cert.IsCA || !critical(cert, oidBasicConstraints):
		return errors.New("pki: basic constraints, want a critical extension that says no CA")
	case len(cert.SubjectKeyId) != 20 || len(cert.AuthorityKeyId) != 20:
		return errors.New("pki: key identifiers, want 20 octets each")
	case use == Server && len(cert.DNSNames)+len(cert.IPAddresses) == 0:
		return errors.New("pki: no subject alternative name")
	case use == Responder && !has(cert, oidNoCheck):
		return errors.New("pki: no id-pkix-ocsp-nocheck")
	case !cert.NotBefore.Before(cert.NotAfter):
		return errors.New("pki: empty validity")
	}
	return nil
}

func critical(cert *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(id) {
			return e.Critical
		}
	}
	return false
}

func has(cert *x509.Certificate, id asn1.ObjectIdentifier) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(id) {
			return true
		}
	}
	return false
}
