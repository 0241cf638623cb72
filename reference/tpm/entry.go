package tpm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// The layout of an entry's file, integers big-endian:
//
//	"ASSAYTPM" | version 1 | generation 8 | nextUpdate 8, Unix milliseconds |
//	length 2, public part | length 2, private part | nonce 12 | ciphertext | tag 16
//
// The blob holds the AES-256-GCM key. The authenticated data is not stored whole: the entry's id
// comes from who asks, so that a file under another entry's name does not open.
const (
	entryMagic   = "ASSAYTPM"
	entryVersion = 1
	fixedSize    = len(entryMagic) + 1 + 8 + 8
	keySize      = 32
	nonceSize    = 12
	tagSize      = 16
	overhead     = nonceSize + tagSize

	// MaxResponse bounds a stored response in bytes. An OCSP response with an ML-DSA-87 signature and
	// its certificate stays below 17 KB.
	MaxResponse = 64 << 10
	maxFile     = fixedSize + 2 + maxPublic + 2 + maxPrivate + overhead + MaxResponse
)

// entry is a file's content.
type entry struct {
	generation uint64
	nextUpdate time.Time
	blob       Blob
	sealed     []byte // nonce, ciphertext, tag
}

func (e *entry) marshal() []byte {
	out := append([]byte(entryMagic), entryVersion)
	out = binary.BigEndian.AppendUint64(out, e.generation)
	out = binary.BigEndian.AppendUint64(out, uint64(e.nextUpdate.UnixMilli()))
	out = append(out, e.blob.Marshal()...)
	return append(out, e.sealed...)
}

// parseEntry decodes a file. The result shares data's memory.
func parseEntry(data []byte) (*entry, error) {
	if len(data) < fixedSize || len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes", len(data))
	}
	if !bytes.HasPrefix(data, []byte(entryMagic)) || data[len(entryMagic)] != entryVersion {
		return nil, errors.New("not an entry of this version")
	}
	fields := data[len(entryMagic)+1:]
	e := &entry{
		generation: binary.BigEndian.Uint64(fields),
		nextUpdate: time.UnixMilli(int64(binary.BigEndian.Uint64(fields[8:]))),
	}
	var err error
	rest := fields[16:]
	if e.blob.Public, rest, err = cut16(rest, maxPublic); err != nil {
		return nil, fmt.Errorf("public part: %w", err)
	}
	if e.blob.Private, rest, err = cut16(rest, maxPrivate); err != nil {
		return nil, fmt.Errorf("private part: %w", err)
	}
	if len(rest) < overhead || len(rest) > overhead+MaxResponse {
		return nil, fmt.Errorf("%d bytes of ciphertext", len(rest))
	}
	e.sealed = rest
	return e, nil
}

// seal encrypts a response into e, whose generation and nextUpdate are set.
func (e *entry) seal(key []byte, id string, response []byte, defects defect.Set) error {
	aead, err := newGCM(key)
	if err != nil {
		return err
	}
	nonce := make([]byte, nonceSize, overhead+len(response))
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	e.sealed = aead.Seal(nonce, nonce, response, e.authenticated(id, defects))
	return nil
}

// open decrypts the response of an entry that was stored under id.
func (e *entry) open(key []byte, id string, defects defect.Set) ([]byte, error) {
	aead, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, e.sealed[:nonceSize], e.sealed[nonceSize:], e.authenticated(id, defects))
}

// authenticated is the entry's additional data: id, generation, nextUpdate.
func (e *entry) authenticated(id string, defects defect.Set) []byte {
	out := []byte(entryMagic)
	if !defects.On(defect.TPMAadUnbound) {
		out = binary.BigEndian.AppendUint16(out, uint16(len(id)))
		out = append(out, id...)
		out = binary.BigEndian.AppendUint64(out, e.generation)
	}
	return binary.BigEndian.AppendUint64(out, uint64(e.nextUpdate.UnixMilli()))
}

func newGCM(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("key of %d bytes", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
