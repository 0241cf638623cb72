package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
)

// Bounds on what a target can make the device do.
const (
	maxConns    = 32  // connections at once
	maxCommands = 128 // recorded one by one; the rest is only counted
)

// Command is one command of the target, without its payload.
type Command struct {
	N     int           `json:"n"`    // counted from 1
	Name  string        `json:"name"` // Unseal
	Code  string        `json:"code"` // TPM_RC_SUCCESS; empty: no answer was given
	Up    int           `json:"up"`   // bytes
	Down  int           `json:"down"` // bytes as sent back
	Fault string        `json:"fault,omitempty"`
	Took  time.Duration `json:"took"`
	Last  bool          `json:"last,omitempty"` // later commands are only counted
}

// Mark is the state of the device's counters at a moment.
type Mark struct {
	Name   string         `json:"name"`
	Total  int            `json:"total"`
	Counts map[string]int `json:"counts"` // by "Unseal TPM_RC_SUCCESS"
}

// Device is a TPM behind a unix socket. It is safe for concurrent use.
type Device struct {
	env      *scenarios.Env
	dir      string
	listener *net.UnixListener
	ended    chan struct{} // closed by Close
	once     sync.Once
	loops    sync.WaitGroup

	tpm sync.Mutex // one command at a time
	raw backend

	mu      sync.Mutex
	rules   []*rule
	release chan struct{} // closed to end delays
	counts  map[string]int
	total   int
	conns   map[net.Conn]bool
	foreign []tpm2.TPMHandle
	failure error // the first error of the harness itself
}

// Open takes a TPM, waiting for its turn, and opens the socket. Without a TPM the error is a *Missing.
func Open(ctx context.Context, env *scenarios.Env) (*Device, error) {
	dir, err := os.MkdirTemp("", "assay-tpm-")
	if err != nil {
		return nil, fmt.Errorf("TPM device: %w", err)
	}
	d := &Device{
		env: env, dir: dir, ended: make(chan struct{}), release: make(chan struct{}),
		counts: map[string]int{}, conns: map[net.Conn]bool{},
	}
	if d.raw, err = openBackend(ctx, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	d.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: d.Socket(), Net: "unix"})
	if err == nil {
		err = env.Put(results.FromTPM, results.Started, map[string]string{"backend": d.raw.Name()})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TPM device: %w", err), d.Close())
	}
	d.loops.Go(d.accept)
	return d, nil
}

// Socket is the path of the unix socket.
func (d *Device) Socket() string { return filepath.Join(d.dir, "tpm") }

// Backend names what is behind the socket: simulator or swtpm.
func (d *Device) Backend() string { return d.raw.Name() }

// Close ends all connections, records the last counts, and gives the TPM back. It returns the first
// error of the harness itself since Open. A second call does nothing.
func (d *Device) Close() error {
	var err error
	d.once.Do(func() { err = d.close() })
	return err
}

func (d *Device) close() error {
	var errs []error
	close(d.ended)
	d.Clear()
	if d.listener != nil {
		errs = append(errs, d.listener.Close())
	}
	d.mu.Lock()
	for conn := range d.conns {
		_ = conn.Close() // its loop ends, whatever this returns
	}
	d.mu.Unlock()
	d.loops.Wait()
	if d.listener != nil {
		_, err := d.Mark("end")
		errs = append(errs, err)
	}
	d.mu.Lock()
	errs = append(errs, d.failure)
	d.mu.Unlock()
	return errors.Join(append(errs, d.raw.Close(), os.RemoveAll(d.dir))...)
}

func (d *Device) accept() {
	slots := make(chan struct{}, maxConns)
	for {
		select {
		case slots <- struct{}{}:
		case <-d.ended:
			return
		}
		conn, err := d.listener.Accept()
		if err != nil {
			return // closed
		}
		d.loops.Go(func() {
			defer func() { <-slots }()
			d.serve(conn)
		})
	}
}

// serve answers the commands of one connection.
func (d *Device) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // the peer may have closed it already
	if !d.track(conn) {
		return
	}
	defer d.untrack(conn)
	for {
		command, err := readMessage(conn)
		if err != nil {
			return // the peer is done, or sends what is no command
		}
		response, more := d.answer(command)
		if len(response) > 0 {
			if _, err := conn.Write(response); err != nil {
				return
			}
		}
		if !more {
			return
		}
	}
}

func (d *Device) track(conn net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.ended:
		return false
	default:
	}
	d.conns[conn] = true
	return true
}

func (d *Device) untrack(conn net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, conn)
}

// answer runs one command of the target under the rules in force. more is false where the connection
// must end after the response.
func (d *Device) answer(command []byte) (response []byte, more bool) {
	began := d.env.Clock.Now()
	code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	act, did, release := d.pick(code)
	c := Command{Name: CommandName(code), Up: len(command), Fault: did}
	response, cut, err := act(command, release)
	c.Took = d.env.Elapsed(began)
	if err != nil {
		d.fail(err)
		response, cut = nil, true
	}
	c.Down = len(response)
	if len(response) >= headerBytes {
		c.Code = ResponseName(tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])))
	}
	d.note(c)
	return response, !cut
}

// send runs a command on the TPM.
func (d *Device) send(command []byte) ([]byte, error) {
	d.tpm.Lock()
	defer d.tpm.Unlock()
	return d.raw.Send(command)
}

// note counts a command and records the first ones.
func (d *Device) note(c Command) {
	d.mu.Lock()
	d.total++
	d.counts[c.Name+" "+c.Code]++
	c.N = d.total
	d.mu.Unlock()
	if c.N > maxCommands {
		return
	}
	c.Last = c.N == maxCommands
	if err := d.env.Put(results.FromTPM, Commanded, c); err != nil {
		d.fail(err)
	}
}

// fail keeps the first error of the harness itself.
func (d *Device) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failure == nil {
		d.failure = err
	}
}

// Mark records the counters under a name.
func (d *Device) Mark(name string) (Mark, error) {
	d.mu.Lock()
	m := Mark{name, d.total, maps.Clone(d.counts)}
	d.mu.Unlock()
	return m, d.env.Put(results.FromTPM, Marked, m)
}

// Since returns the commands between an earlier mark and this one, by name and response code.
func (m Mark) Since(earlier Mark) map[string]int {
	out := map[string]int{}
	for key, n := range m.Counts {
		if n -= earlier.Counts[key]; n > 0 {
			out[key] = n
		}
	}
	return out
}

// CommandName is the name of a command without its prefix, as in Unseal, or its code in hex where it is
// none that a cache or a quote needs.
func CommandName(code tpm2.TPMCC) string {
	if name, known := commandNames()[code]; known {
		return name
	}
	return fmt.Sprintf("%#x", uint32(code))
}

func commandNames() map[tpm2.TPMCC]string {
	return map[tpm2.TPMCC]string{
		tpm2.TPMCCNVUndefineSpace: "NV_UndefineSpace", tpm2.TPMCCEvictControl: "EvictControl", tpm2.TPMCCClear: "Clear",
		tpm2.TPMCCNVDefineSpace: "NV_DefineSpace", tpm2.TPMCCCreatePrimary: "CreatePrimary", tpm2.TPMCCNVIncrement: "NV_Increment",
		tpm2.TPMCCNVWrite: "NV_Write", tpm2.TPMCCNVRead: "NV_Read", tpm2.TPMCCNVReadPublic: "NV_ReadPublic",
		tpm2.TPMCCDictionaryAttackLockReset: "DictionaryAttackLockReset", tpm2.TPMCCSelfTest: "SelfTest",
		tpm2.TPMCCStartup: "Startup", tpm2.TPMCCShutdown: "Shutdown", tpm2.TPMCCCertify: "Certify", tpm2.TPMCCGetTime: "GetTime",
		tpm2.TPMCCCreate: "Create", tpm2.TPMCCLoad: "Load", tpm2.TPMCCQuote: "Quote", tpm2.TPMCCSign: "Sign",
		tpm2.TPMCCUnseal: "Unseal", tpm2.TPMCCContextLoad: "ContextLoad", tpm2.TPMCCContextSave: "ContextSave",
		tpm2.TPMCCFlushContext: "FlushContext", tpm2.TPMCCLoadExternal: "LoadExternal", tpm2.TPMCCReadPublic: "ReadPublic",
		tpm2.TPMCCPolicyAuthValue: "PolicyAuthValue", tpm2.TPMCCStartAuthSession: "StartAuthSession",
		tpm2.TPMCCGetCapability: "GetCapability", tpm2.TPMCCGetRandom: "GetRandom", tpm2.TPMCCHash: "Hash",
		tpm2.TPMCCPCRRead: "PCR_Read", tpm2.TPMCCPCRExtend: "PCR_Extend", tpm2.TPMCCPolicyPCR: "PolicyPCR",
		tpm2.TPMCCPolicyGetDigest: "PolicyGetDigest", tpm2.TPMCCReadClock: "ReadClock", tpm2.TPMCCCreateLoaded: "CreateLoaded",
	}
}

// ResponseName is the name of a response code as TPM 2.0 Library part 2 has it, without the number of the
// handle, session or parameter that it speaks of.
func ResponseName(code tpm2.TPMRC) string {
	if code == tpm2.TPMRCSuccess {
		return "TPM_RC_SUCCESS"
	}
	name := code.Error()
	if end := strings.IndexAny(name, " :("); end > 0 {
		name = name[:end]
	}
	if strings.HasPrefix(name, "TPM_RC_") {
		return name
	}
	return fmt.Sprintf("TPM_RC_%#x", uint32(code))
}
