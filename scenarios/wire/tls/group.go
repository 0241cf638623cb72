package tls

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"errors"
	"fmt"
	"slices"
)

// shape is how the shares of a group are laid out: RFC 9846 section 4.3.8 for the curves,
// draft-ietf-tls-ecdhe-mlkem "Client share" and "Server share" for the hybrids.
type shape struct {
	curve    ecdh.Curve // nil: no ECDH part
	point    int        // bytes of the ECDH part, both ways
	kem      int        // 0, 768 or 1024
	kemFirst bool       // in shares and in the secret
}

func shapeOf(g Group) (shape, bool) {
	switch g {
	case X25519:
		return shape{curve: ecdh.X25519(), point: 32}, true
	case P256:
		return shape{curve: ecdh.P256(), point: 65}, true
	case P384:
		return shape{curve: ecdh.P384(), point: 97}, true
	case X25519MLKEM768:
		return shape{curve: ecdh.X25519(), point: 32, kem: 768, kemFirst: true}, true
	case SecP256r1MLKEM768:
		return shape{curve: ecdh.P256(), point: 65, kem: 768}, true
	case SecP384r1MLKEM1024:
		return shape{curve: ecdh.P384(), point: 97, kem: 1024}, true
	case MLKEM1024:
		return shape{kem: 1024, kemFirst: true}, true
	}
	return shape{}, false
}

func (s shape) key() int {
	switch s.kem {
	case 768:
		return mlkem.EncapsulationKeySize768
	case 1024:
		return mlkem.EncapsulationKeySize1024
	}
	return 0
}

func (s shape) ciphertext() int {
	switch s.kem {
	case 768:
		return mlkem.CiphertextSize768
	case 1024:
		return mlkem.CiphertextSize1024
	}
	return 0
}

// split cuts a share of the right length into its parts; kem is the length of the ML-KEM part.
func (s shape) split(share []byte, kem int) (point, rest []byte) {
	if s.kemFirst {
		return share[kem:], share[:kem]
	}
	return share[:s.point], share[s.point:]
}

func (s shape) join(ecdhPart, kemPart []byte) []byte {
	if s.kemFirst {
		return slices.Concat(kemPart, ecdhPart)
	}
	return slices.Concat(ecdhPart, kemPart)
}

// Groups lists the groups that the prober can compute with, post-quantum ones first.
func Groups() []Group {
	return []Group{X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, MLKEM1024, X25519, P256, P384}
}

// String gives the registered name, or the number of a group that the prober cannot compute with.
func (g Group) String() string {
	switch g {
	case X25519:
		return "X25519"
	case P256:
		return "P-256"
	case P384:
		return "P-384"
	case X25519MLKEM768:
		return "X25519MLKEM768"
	case SecP256r1MLKEM768:
		return "SecP256r1MLKEM768"
	case SecP384r1MLKEM1024:
		return "SecP384r1MLKEM1024"
	case MLKEM1024:
		return "MLKEM1024"
	}
	return fmt.Sprintf("0x%04x", uint16(g))
}

// ClientShare is the length of a client's key_exchange in bytes; 0: unknown group.
func (g Group) ClientShare() int {
	switch g {
	case Kyber768Draft:
		return X25519MLKEM768.ClientShare()
	case KyberP256Draft:
		return SecP256r1MLKEM768.ClientShare()
	}
	s, _ := shapeOf(g)
	return s.point + s.key()
}

// ServerShare is the length of a server's key_exchange in bytes; 0: unknown group.
func (g Group) ServerShare() int {
	switch g {
	case Kyber768Draft:
		return X25519MLKEM768.ServerShare()
	case KyberP256Draft:
		return SecP256r1MLKEM768.ServerShare()
	}
	s, _ := shapeOf(g)
	return s.point + s.ciphertext()
}

// PostQuantum says whether the group has an ML-KEM part. The Kyber drafts do not count: nobody may
// negotiate them.
func (g Group) PostQuantum() bool {
	s, _ := shapeOf(g)
	return s.kem != 0
}

// Parts gives the lengths of the ECDH and ML-KEM parts of a client share, and which comes first.
func (g Group) Parts() (ecdh, kem int, kemFirst bool) {
	s, _ := shapeOf(g)
	return s.point, s.key(), s.kemFirst
}

// decapsulator is a private key of ML-KEM of either size.
type decapsulator interface {
	Decapsulate(ciphertext []byte) ([]byte, error)
}

// keyPair is what a client keeps for a share that it sent.
type keyPair struct {
	group Group
	ecdh  *ecdh.PrivateKey
	kem   decapsulator
	share []byte // as generated
}

// secrets are the parts of a shared secret; nil where the group has no such part.
type secrets struct{ ecdh, kem []byte }

// source derives n bytes for a purpose from a seed.
type source func(purpose string, n int) []byte

// ecdhKey derives a private key; about one candidate in 2^32 is refused on the NIST curves.
func ecdhKey(c ecdh.Curve, size int, from source, purpose string) (*ecdh.PrivateKey, error) {
	for try := range 8 {
		if key, err := c.NewPrivateKey(from(fmt.Sprintf("ecdh %s %d", purpose, try), size)); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("ecdh: the seed gives no private key for " + purpose)
}

func (s shape) scalar() int {
	if s.point == 97 {
		return 48
	}
	return 32
}

// newKeyPair derives a client's key pair. purpose names the ECDH key: two groups with the same purpose
// and curve get the same one.
func newKeyPair(g Group, from source, purpose string) (keyPair, error) {
	s, ok := shapeOf(g)
	if !ok {
		return keyPair{}, fmt.Errorf("group %v: not known", g)
	}
	pair := keyPair{group: g}
	var point, key []byte
	if s.curve != nil {
		private, err := ecdhKey(s.curve, s.scalar(), from, purpose)
		if err != nil {
			return keyPair{}, err
		}
		pair.ecdh, point = private, private.PublicKey().Bytes()
	}
	if s.kem != 0 {
		var err error
		if pair.kem, key, err = kemKey(s.kem, from("mlkem "+g.String(), mlkem.SeedSize)); err != nil {
			return keyPair{}, err
		}
	}
	pair.share = s.join(point, key)
	return pair, nil
}

func kemKey(size int, seed []byte) (decapsulator, []byte, error) {
	if size == 768 {
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	}
	key, err := mlkem.NewDecapsulationKey1024(seed)
	if err != nil {
		return nil, nil, err
	}
	return key, key.EncapsulationKey().Bytes(), nil
}

// agree computes the parts of the shared secret from a server's share.
func (k keyPair) agree(share []byte) (secrets, error) {
	s, _ := shapeOf(k.group)
	if want := k.group.ServerShare(); len(share) != want {
		return secrets{}, fmt.Errorf("server share of %v: %d bytes, want %d", k.group, len(share), want)
	}
	point, ciphertext := s.split(share, s.ciphertext())
	return k.agreeParts(s, point, ciphertext)
}

// agreeSwapped takes the parts of the server's share in the wrong order.
func (k keyPair) agreeSwapped(share []byte) (secrets, error) {
	s, _ := shapeOf(k.group)
	if len(share) != k.group.ServerShare() {
		return secrets{}, errors.New("server share: wrong length")
	}
	s.kemFirst = !s.kemFirst
	point, ciphertext := s.split(share, s.ciphertext())
	return k.agreeParts(s, point, ciphertext)
}

func (k keyPair) agreeParts(s shape, point, ciphertext []byte) (secrets, error) {
	var both secrets
	if s.curve != nil {
		public, err := s.curve.NewPublicKey(point)
		if err != nil {
			return secrets{}, fmt.Errorf("server share of %v: ECDH part: %w", k.group, err)
		}
		if both.ecdh, err = k.ecdh.ECDH(public); err != nil {
			return secrets{}, fmt.Errorf("server share of %v: ECDH part: %w", k.group, err)
		}
	}
	if s.kem != 0 {
		var err error
		if both.kem, err = k.kem.Decapsulate(ciphertext); err != nil {
			return secrets{}, fmt.Errorf("server share of %v: ML-KEM part: %w", k.group, err)
		}
	}
	return both, nil
}

// combine puts the parts of a secret together in the order of the group's shares.
func combine(g Group, parts secrets) []byte {
	s, _ := shapeOf(g)
	return s.join(parts.ecdh, parts.kem)
}

// answerShare is the server's half: its share and the secret for a client's share.
func answerShare(g Group, client []byte, from source) ([]byte, secrets, error) {
	s, ok := shapeOf(g)
	if !ok {
		return nil, secrets{}, fmt.Errorf("group %v: not known", g)
	}
	if len(client) != g.ClientShare() {
		return nil, secrets{}, fmt.Errorf("client share of %v: %d bytes, want %d", g, len(client), g.ClientShare())
	}
	point, key := s.split(client, s.key())
	var (
		both         secrets
		mine, sealed []byte
		err          error
	)
	if s.curve != nil {
		if mine, both.ecdh, err = answerPoint(g, s, point, from); err != nil {
			return nil, secrets{}, fmt.Errorf("client share of %v: ECDH part: %w", g, err)
		}
	}
	if s.kem != 0 {
		if both.kem, sealed, err = encapsulate(s.kem, key); err != nil {
			return nil, secrets{}, fmt.Errorf("client share of %v: ML-KEM part: %w", g, err)
		}
	}
	return s.join(mine, sealed), both, nil
}

func answerPoint(g Group, s shape, point []byte, from source) (mine, secret []byte, err error) {
	private, err := ecdhKey(s.curve, s.scalar(), from, "server "+g.String())
	if err != nil {
		return nil, nil, err
	}
	public, err := s.curve.NewPublicKey(point)
	if err != nil {
		return nil, nil, err
	}
	secret, err = private.ECDH(public)
	return private.PublicKey().Bytes(), secret, err
}

// encapsulate draws its randomness from the system: crypto/mlkem takes no seed here.
func encapsulate(size int, key []byte) (secret, ciphertext []byte, err error) {
	if size == 768 {
		k, err := mlkem.NewEncapsulationKey768(key)
		if err != nil {
			return nil, nil, err
		}
		secret, ciphertext = k.Encapsulate()
		return secret, ciphertext, nil
	}
	k, err := mlkem.NewEncapsulationKey1024(key)
	if err != nil {
		return nil, nil, err
	}
	secret, ciphertext = k.Encapsulate()
	return secret, ciphertext, nil
}

// looseShare is a server share for a group that the client sent no share of: a valid point, and random
// bytes in place of a ciphertext.
func looseShare(g Group, from source) []byte {
	s, ok := shapeOf(g)
	if !ok {
		return from("share "+g.String(), max(g.ServerShare(), 32))
	}
	var point []byte
	if s.curve != nil {
		if private, err := ecdhKey(s.curve, s.scalar(), from, "server "+g.String()); err == nil {
			point = private.PublicKey().Bytes()
		}
	}
	return s.join(point, from("ciphertext "+g.String(), s.ciphertext()))
}

// shareFault says what is wrong with a client's share: length, coefficient, point or zero; empty: nothing,
// or the group is unknown.
func shareFault(g Group, share []byte) string {
	s, ok := shapeOf(g)
	if !ok {
		return ""
	}
	if len(share) != g.ClientShare() {
		return "length"
	}
	point, key := s.split(share, s.key())
	if s.kem != 0 && !coefficientsValid(key, s.kem) {
		return "coefficient"
	}
	switch {
	case s.curve == nil:
		return ""
	case s.point == 32:
		return xFault(point)
	}
	if _, err := s.curve.NewPublicKey(point); err != nil {
		return "point"
	}
	return ""
}

// xFault finds the X25519 values whose result is all zero: zero itself and the points of low order.
func xFault(point []byte) string {
	private, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte{0x40}, 32))
	if err != nil {
		return ""
	}
	public, err := ecdh.X25519().NewPublicKey(point)
	if err != nil {
		return "length"
	}
	if _, err := private.ECDH(public); err != nil {
		return "zero"
	}
	return ""
}

// coefficientsValid is the modulus check of FIPS 203 section 7.2. Two coefficients of 12 bits take three
// bytes, little-endian; the last 32 bytes of the key are its seed.
func coefficientsValid(key []byte, size int) bool {
	for i := 0; i+2 < size/2*3; i += 3 {
		low := uint16(key[i]) | uint16(key[i+1]&0x0f)<<8
		high := uint16(key[i+1]>>4) | uint16(key[i+2])<<4
		if low >= 3329 || high >= 3329 {
			return false
		}
	}
	return true
}
