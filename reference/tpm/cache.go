package tpm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// MaxLifetime is how far away the nextUpdate of an entry may be.
const MaxLifetime = 4 * time.Hour

const (
	maxID      = 64  // bytes of an entry's id
	maxEntries = 256 // files in a cache's folder
	suffix     = ".entry"
)

// Mode says how long the key of the cache is in memory.
type Mode string

const (
	// EntryMode opens the key in the TPM for each use.
	EntryMode Mode = "entry"
	// KEKMode keeps the key and reads the PCRs again before each use; a change drops the key.
	KEKMode Mode = "kek"
)

// CacheConfig configures a Cache. Dir is required; zero fields get the defaults named beside them.
type CacheConfig struct {
	Dir   string
	Mode  Mode             // EntryMode
	Index tpm2.TPMHandle   // of the NV counter; one in the owner's range that follows from Dir
	Now   func() time.Time // time.Now
}

// Cache keeps OCSP responses in files that only this TPM, with these PCR values, can open.
//
// Each Put begins a generation: it adds one to an NV counter, makes a key and writes every live entry
// anew under both. A file of another generation is refused, so that no older state of the folder, nor
// of one file in it, passes for the present one. A crash between counter and files costs the entries,
// which are then obtained again.
type Cache struct {
	cfg     CacheConfig
	device  *Device
	defects defect.Set

	// What follows belongs to whoever has the device's turn.
	kek    *kek
	memory map[string][]byte // only with TPMRaceServed
	gaveUp bool              // only with TPMWipedGivesUp

	mu     sync.Mutex
	errors map[Code]int
}

// kek is a key in memory with the blob that it came from and the PCR values at that time.
type kek struct {
	key    []byte
	blob   Blob
	values map[uint][]byte
}

// OpenCache opens the cache in a folder, which it makes if it is not there. Nothing is sent to the TPM.
func OpenCache(d *Device, cfg CacheConfig) (*Cache, error) {
	if cfg.Mode == "" {
		cfg.Mode = EntryMode
	}
	if cfg.Mode != EntryMode && cfg.Mode != KEKMode {
		return nil, &Error{Code: CodeStorage, Op: "open cache", Err: fmt.Errorf("unknown mode %q", cfg.Mode)}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	dir, err := realFolder(cfg.Dir)
	if err != nil {
		return nil, &Error{Code: CodeStorage, Op: "open cache", Err: err}
	}
	cfg.Dir = dir
	if cfg.Index == 0 {
		cfg.Index = indexOf(dir)
	}
	return &Cache{
		cfg: cfg, device: d, defects: d.cfg.Defects,
		memory: make(map[string][]byte), errors: make(map[Code]int),
	}, nil
}

// realFolder makes the folder and returns its path without symbolic links.
func realFolder(dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("%q is no absolute path", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

// indexOf returns the NV index of a folder's counter: one of the 2^22 indices that the TCG's registry
// of reserved handles leaves to the TPM's owner.
func indexOf(dir string) tpm2.TPMHandle {
	digest := sha256.Sum256([]byte(dir))
	return tpm2.TPMHandle(0x01800000 | binary.BigEndian.Uint32(digest[:])&0x003fffff)
}

// Mode is the mode in use.
func (c *Cache) Mode() Mode { return c.cfg.Mode }

// Close forgets the key, once no operation uses it any more. It sends nothing.
func (c *Cache) Close() {
	c.device.owner.turn <- struct{}{} // an operation ends by its deadline
	c.dropKEK()
	<-c.device.owner.turn
}

func (c *Cache) dropKEK() {
	if c.kek != nil {
		clear(c.kek.key)
		c.kek = nil
	}
}

// Errors counts failed calls by code. The caller owns the map.
func (c *Cache) Errors() map[Code]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.errors)
}

func (c *Cache) counted(err error) error {
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errors[CodeOf(err)]++
	}
	return err
}

// Len counts the entries in the folder, whether or not they open.
func (c *Cache) Len() (int, error) {
	ids, err := c.ids()
	return len(ids), err
}

// Response is what the cache holds under an id.
type Response struct {
	DER        []byte
	NextUpdate time.Time
}

// Get opens an entry. Any failure means that there is no response to use.
func (c *Cache) Get(ctx context.Context, id string) (Response, error) {
	var found Response
	err := c.device.do(ctx, "get entry", c.device.cfg.Deadline, func(s *session) error {
		var err error
		found, err = c.get(s, id)
		return err
	})
	if err != nil {
		return Response{}, c.counted(err)
	}
	return found, nil
}

func (c *Cache) get(s *session, id string) (Response, error) {
	e, err := c.read(id)
	if err != nil {
		return Response{}, err
	}
	response, err := c.open(s, id, e)
	if err != nil {
		return c.fromMemory(id, e, err)
	}
	if err := c.current(s, e); err != nil {
		return Response{}, err
	}
	if !c.cfg.Now().Before(e.nextUpdate) && !c.defects.On(defect.TPMExpiredServed) {
		return Response{}, &Error{Code: CodeExpired, Op: "get entry", Err: fmt.Errorf("nextUpdate was %s", e.nextUpdate.UTC().Format(time.RFC3339))}
	}
	if c.defects.On(defect.TPMRaceServed) {
		c.memory[id] = bytes.Clone(response)
	}
	return Response{response, e.nextUpdate}, nil
}

// fromMemory exists for two planted defects; without them it passes the error on.
func (c *Cache) fromMemory(id string, e *entry, err error) (Response, error) {
	if c.defects.On(defect.TPMWipedGivesUp) && isRC(err, tpm2.TPMRCIntegrity) {
		c.gaveUp = true
	}
	if kept := c.memory[id]; kept != nil && c.defects.On(defect.TPMRaceServed) {
		return Response{kept, e.nextUpdate}, nil
	}
	return Response{}, err
}

// open decrypts an entry. A TPM that refuses comes before a file that does not fit: the key is opened
// first.
func (c *Cache) open(s *session, id string, e *entry) ([]byte, error) {
	key, err := c.key(s, e.blob)
	if s.padded { // only with TPMShortResponseServed: what is there is taken as it is
		return bytes.Clone(e.sealed[nonceSize : len(e.sealed)-tagSize]), nil
	}
	if err != nil {
		return nil, err
	}
	if c.cfg.Mode == EntryMode {
		defer clear(key)
	}
	return c.decrypt(key, id, e)
}

func (c *Cache) decrypt(key []byte, id string, e *entry) ([]byte, error) {
	response, err := e.open(key, id, c.defects)
	if err != nil {
		return nil, &Error{Code: CodeTampered, Op: "open entry", Err: err}
	}
	return response, nil
}

// key returns the key in a blob; in KEK mode it stays the cache's.
func (c *Cache) key(s *session, blob Blob) ([]byte, error) {
	if c.cfg.Mode == EntryMode {
		return c.device.unseal(s, blob)
	}
	if c.kek != nil && bytes.Equal(c.kek.blob.Private, blob.Private) && bytes.Equal(c.kek.blob.Public, blob.Public) {
		if err := c.recheck(s); err != nil {
			return nil, err
		}
		return c.kek.key, nil
	}
	return c.newKEK(s, blob)
}

// recheck compares the PCRs with those under which the key was opened.
func (c *Cache) recheck(s *session) error {
	if c.defects.On(defect.TPMKekKept) {
		return nil
	}
	values, err := readPCRs(s)
	if err != nil {
		return err
	}
	if !sameValues(values, c.kek.values) {
		c.dropKEK()
		return &Error{Code: CodePCRChanged, Op: "use key"}
	}
	return nil
}

// newKEK opens a key between two looks at the PCRs, so that the values are those that it opened under.
func (c *Cache) newKEK(s *session, blob Blob) ([]byte, error) {
	before, err := readPCRs(s)
	if err != nil {
		return nil, err
	}
	key, err := c.device.unseal(s, blob)
	if err != nil {
		return nil, err
	}
	after, err := readPCRs(s)
	if err != nil {
		return nil, err
	}
	if !sameValues(before, after) {
		clear(key)
		return nil, &Error{Code: CodePCRChanged, Op: "open key"}
	}
	c.dropKEK()
	c.kek = &kek{key, Blob{bytes.Clone(blob.Public), bytes.Clone(blob.Private)}, after}
	return key, nil
}

func sameValues(a, b map[uint][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }

// current compares the generation of an entry with the NV counter.
func (c *Cache) current(s *session, e *entry) error {
	if c.defects.On(defect.TPMRollbackUnchecked) {
		return nil
	}
	counter, err := c.device.readCounter(s, c.cfg.Index)
	if err != nil {
		return err
	}
	if e.generation != counter || counter == 0 {
		return &Error{Code: CodeRolledBack, Op: "get entry", Err: fmt.Errorf("generation %d, counter %d", e.generation, counter)}
	}
	return nil
}

// Put stores a response until nextUpdate, which must be no more than MaxLifetime away. One that has
// passed already is stored and will not be served: Get is the one place that decides.
func (c *Cache) Put(ctx context.Context, id string, response []byte, nextUpdate time.Time) error {
	return c.counted(c.put(ctx, id, response, nextUpdate))
}

func (c *Cache) put(ctx context.Context, id string, response []byte, nextUpdate time.Time) error {
	switch {
	case len(id) == 0 || len(id) > maxID:
		return &Error{Code: CodeLimit, Op: "put entry", Err: fmt.Errorf("id of %d bytes", len(id))}
	case len(response) == 0 || len(response) > MaxResponse:
		return &Error{Code: CodeLimit, Op: "put entry", Err: fmt.Errorf("response of %d bytes", len(response))}
	case nextUpdate.After(c.cfg.Now().Add(MaxLifetime)):
		return &Error{Code: CodeTooLong, Op: "put entry", Err: fmt.Errorf("nextUpdate is %s", nextUpdate.UTC().Format(time.RFC3339))}
	}
	return c.device.do(ctx, "put entry", c.device.cfg.Deadline, func(s *session) error {
		if c.gaveUp {
			return nil
		}
		if c.defects.On(defect.TPMEnvelopeAbsent) {
			if _, err := c.device.seal(s, response); err != nil {
				return err
			}
		}
		return c.generation(s, id, Response{response, nextUpdate})
	})
}

// generation writes the new entry and every live one under a new key and a new value of the counter.
func (c *Cache) generation(s *session, id string, response Response) error {
	live, err := c.live(s, id)
	if err != nil {
		return err
	}
	live[id] = response
	key := make([]byte, keySize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	blob, err := c.device.seal(s, key)
	if err != nil {
		return err
	}
	counter, err := c.device.increment(s, c.cfg.Index)
	if err != nil {
		return err
	}
	for id, r := range live {
		e := &entry{generation: counter, nextUpdate: r.NextUpdate, blob: blob}
		if err := e.seal(key, id, r.DER, c.defects); err != nil {
			return err
		}
		if err := c.write(c.path(id), e.marshal()); err != nil {
			return err
		}
		if c.defects.On(defect.TPMPlaintextCopy) {
			if err := c.write(strings.TrimSuffix(c.path(id), suffix)+".der", r.DER); err != nil {
				return err
			}
		}
	}
	return syncFolder(c.cfg.Dir)
}

// live opens the entries that are worth keeping, without the one that is about to be replaced. What is
// expired, of another generation or does not open stays behind. An error means that the TPM could not
// be asked.
func (c *Cache) live(s *session, replaced string) (map[string]Response, error) {
	ids, err := c.ids()
	if err != nil {
		return nil, err
	}
	if len(ids) >= maxEntries {
		return nil, &Error{Code: CodeLimit, Op: "put entry", Err: fmt.Errorf("%d entries", len(ids))}
	}
	live := make(map[string]Response)
	if len(ids) == 0 {
		return live, nil
	}
	counter, err := c.device.readCounter(s, c.cfg.Index)
	if err != nil {
		return nil, err
	}
	keys := make(map[string][]byte) // by private part: entries of one generation share one
	defer c.clearKeys(keys)
	for _, id := range ids {
		e, err := c.read(id)
		if err != nil || id == replaced || e.generation != counter || !c.cfg.Now().Before(e.nextUpdate) {
			continue
		}
		response, err := c.reopen(s, id, e, keys)
		if err != nil && !lasting(err) {
			return nil, err
		}
		if err == nil {
			live[id] = Response{response, e.nextUpdate}
		}
	}
	return live, nil
}

// reopen opens an entry with a key that was opened already, if there is one for it. A blob whose public
// part alone was changed gets the key too: the entry's own authentication decides.
func (c *Cache) reopen(s *session, id string, e *entry, keys map[string][]byte) ([]byte, error) {
	key, known := keys[string(e.blob.Private)]
	if !known {
		var err error
		if key, err = c.key(s, e.blob); err != nil {
			return nil, err
		}
		keys[string(e.blob.Private)] = key
	}
	return c.decrypt(key, id, e)
}

// clearKeys wipes keys that are not the cache's own.
func (c *Cache) clearKeys(keys map[string][]byte) {
	if c.cfg.Mode == EntryMode {
		for _, key := range keys {
			clear(key)
		}
	}
}

// lasting tells whether an entry that failed so will fail again.
func lasting(err error) bool {
	switch CodeOf(err) {
	case CodeTampered, CodeRolledBack, CodePCRChanged:
		return true
	}
	return isRC(err, tpm2.TPMRCPolicyFail, tpm2.TPMRCIntegrity)
}

func (c *Cache) path(id string) string {
	return filepath.Join(c.cfg.Dir, hex.EncodeToString([]byte(id))+suffix)
}

// ids lists what has a file, at most maxEntries.
func (c *Cache) ids() ([]string, error) {
	folder, err := os.Open(c.cfg.Dir)
	if err != nil {
		return nil, storage("list entries", err)
	}
	defer func() { _ = folder.Close() }()
	var ids []string
	for len(ids) < maxEntries {
		names, err := folder.Readdirnames(64)
		for _, name := range names {
			if encoded, ok := strings.CutSuffix(name, suffix); ok {
				if id, err := hex.DecodeString(encoded); err == nil && len(id) > 0 && len(id) <= maxID {
					ids = append(ids, string(id))
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, storage("list entries", err)
		}
	}
	return ids, nil
}

func storage(op string, err error) error { return &Error{Code: CodeStorage, Op: op, Err: err} }

func (c *Cache) read(id string) (*entry, error) {
	if len(id) == 0 || len(id) > maxID {
		return nil, &Error{Code: CodeLimit, Op: "read entry", Err: fmt.Errorf("id of %d bytes", len(id))}
	}
	file, err := os.Open(c.path(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Error{Code: CodeAbsent, Op: "read entry"}
	}
	if err != nil {
		return nil, storage("read entry", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, int64(maxFile)+1))
	if err != nil {
		return nil, storage("read entry", err)
	}
	e, err := parseEntry(data)
	if err != nil {
		return nil, &Error{Code: CodeTampered, Op: "read entry", Err: err}
	}
	return e, nil
}

// write replaces a file in one step: after a crash there is the old content or the new one.
func (c *Cache) write(path string, data []byte) (err error) {
	file, err := os.CreateTemp(c.cfg.Dir, "new-*")
	if err != nil {
		return storage("write entry", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the error in hand matters more
		}
	}()
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return storage("write entry", err)
	}
	return nil
}

func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return storage("sync folder", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return storage("sync folder", err)
	}
	return nil
}
