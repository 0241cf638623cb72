// Package pqtls is the server of the TLS reference: crypto/tls with the post-quantum groups, ML-DSA
// chains before classical ones, tickets that are bound to the class of their key exchange, OCSP
// staples and a first look at each hello. On a connection it echoes what it receives. It verifies
// nothing about the conformance of its peers and keeps no files.
package pqtls

import (
	"crypto/tls"
	"fmt"
	"slices"
)

// Class tells groups that a quantum computer does not break from those that it does.
type Class uint8

// The classes of group.
const (
	Classical Class = iota // finite field and elliptic curve groups, and whatever is not known
	PQ                     // hybrid and pure ML-KEM groups
)

// String returns "pq" or "classical".
func (c Class) String() string {
	if c == PQ {
		return "pq"
	}
	return "classical"
}

// ClassOf returns the class of a group.
func ClassOf(group tls.CurveID) Class {
	if slices.Contains(pqGroups(), group) {
		return PQ
	}
	return Classical
}

func pqGroups() []tls.CurveID {
	return []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, tls.MLKEM1024}
}

// PQGroups returns the post-quantum groups. The caller owns the slice.
func PQGroups() []tls.CurveID { return pqGroups() }

// ClassicalGroups returns the classical groups. The caller owns the slice.
func ClassicalGroups() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
}

// AllGroups returns every group of the reference, post-quantum ones first.
func AllGroups() []tls.CurveID { return append(pqGroups(), ClassicalGroups()...) }

// hybrid reports whether a group joins an elliptic curve with ML-KEM.
func hybrid(group tls.CurveID) bool { return ClassOf(group) == PQ && group != tls.MLKEM1024 }

// GroupName returns the name of a group, and the number in hexadecimal for one that the reference does
// not have: "X25519MLKEM768", "P-256", "0x6399".
func GroupName(group tls.CurveID) string {
	switch group {
	case tls.X25519MLKEM768:
		return "X25519MLKEM768"
	case tls.SecP256r1MLKEM768:
		return "SecP256r1MLKEM768"
	case tls.SecP384r1MLKEM1024:
		return "SecP384r1MLKEM1024"
	case tls.MLKEM1024:
		return "MLKEM1024"
	case tls.X25519:
		return "X25519"
	case tls.CurveP256:
		return "P-256"
	case tls.CurveP384:
		return "P-384"
	}
	return fmt.Sprintf("0x%04X", uint16(group))
}

// ParseGroup returns the group of a name that GroupName gives to a group of the reference.
func ParseGroup(name string) (tls.CurveID, error) {
	for _, g := range AllGroups() {
		if GroupName(g) == name {
			return g, nil
		}
	}
	return 0, fmt.Errorf("pqtls: unknown group %q", name)
}

// Policy says which classes of group a client takes.
type Policy string

// The policies.
const (
	RequirePQ Policy = "require-pq" // only post-quantum groups are offered; fails closed
	PreferPQ  Policy = "prefer-pq"  // both are offered; reaching a classical one is a fallback
	AnyClass  Policy = "any"        // both are offered and neither is remarkable
)

// ParsePolicy returns the policy of a name.
func ParsePolicy(name string) (Policy, error) {
	switch p := Policy(name); p {
	case RequirePQ, PreferPQ, AnyClass:
		return p, nil
	}
	return "", fmt.Errorf("pqtls: unknown policy %q, want %s, %s or %s", name, RequirePQ, PreferPQ, AnyClass)
}

// Groups returns what a client with this policy sets as CurvePreferences. crypto/tls ignores the order:
// membership alone expresses the policy.
func (p Policy) Groups() []tls.CurveID {
	if p == RequirePQ {
		return pqGroups()
	}
	return AllGroups()
}

// Accepts reports whether a connection of class c may be used under the policy.
func (p Policy) Accepts(c Class) bool { return c == PQ || p != RequirePQ }
