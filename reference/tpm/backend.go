package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
)

// Backend is a way to a TPM. Send is called by one goroutine at a time; Close may be called during a
// Send and should end it.
type Backend interface {
	transport.TPMCloser
	// Backend is the label that goes with every figure taken from this TPM.
	Backend() string
}

// Labels of the backends. A fault wrapper's label is fault(inner).
const (
	LabelSimulator = "simulator"
	LabelSwtpm     = "swtpm"
	LabelSocket    = "socket"
	LabelHardware  = "hardware"
)

// maxMessage bounds a command or response in bytes. It is the size of the kernel's buffer
// (TPM_BUFSIZE) and go-tpm's own bound.
const maxMessage = 4096

// headerSize is the size of a command's or response's header: tag, size, code.
const headerSize = 10

// errShort marks an answer that is cut off or empty.
var errShort = errors.New("answer is cut off")

// restDelay is how long the rest of an answer may take once its first bytes are here. A TPM writes an
// answer in one piece, so what is missing after this time will not come.
const restDelay = 100 * time.Millisecond

// socketTPM talks to a TPM over a unix socket, raw commands one way and raw responses the other.
//
// Each command has a connection of its own. swtpm goes on after a client leaves, unless it was
// started with --terminate, but serves one connection at a time: a client that kept its connection
// would lock every other one out. transport/linuxudstpm connects per command too. It is not used,
// because its tpmutil.RunCommandRaw repeats a command up to 12 times in 4 s when the TPM answers
// TPM_RC_RETRY, which a bound of ours could not see.
type socketTPM struct {
	path, label string
	mu          sync.Mutex
	conn        net.Conn // of the command under way
	closed      bool
}

// OpenSocket returns the TPM behind a unix socket. The path must be absolute. Nothing is sent yet.
func OpenSocket(path, label string) (Backend, error) {
	if !filepath.IsAbs(path) {
		return nil, &Error{Code: CodeUnavailable, Op: "open socket", Err: fmt.Errorf("%q is no absolute path", path)}
	}
	return &socketTPM{path: path, label: label}, nil
}

func (s *socketTPM) Backend() string { return s.label }

func (s *socketTPM) Send(command []byte) ([]byte, error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer s.release(conn)
	if _, err := conn.Write(command); err != nil {
		return nil, fmt.Errorf("write command: %w", err)
	}
	return readResponse(conn)
}

func (s *socketTPM) dial() (net.Conn, error) {
	conn, err := net.Dial("unix", s.path)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	s.conn = conn
	return conn, nil
}

func (s *socketTPM) release(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = nil
	_ = conn.Close() // the answer is here, or the error that matters
}

// Close ends the command under way.
func (s *socketTPM) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// readResponse reads one response by the size in its header.
func readResponse(conn net.Conn) ([]byte, error) {
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read response: %w", err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(restDelay)); err != nil {
		return nil, err
	}
	for n < headerSize || n < int(binary.BigEndian.Uint32(buf[2:6])) {
		if n == len(buf) {
			return buf, nil // the owner compares the sizes
		}
		more, err := conn.Read(buf[n:])
		n += more
		if err != nil {
			return buf[:n], nil // likewise
		}
	}
	return buf[:n], nil
}

// hardwareTPM is the kernel's resource-managed device.
type hardwareTPM struct{ transport.TPMCloser }

// HardwarePath is the device that OpenHardware uses: the one with the kernel's resource manager.
const HardwarePath = "/dev/tpmrm0"

// OpenHardware opens the machine's TPM. The kernel and go-tpm repeat commands that a hardware TPM
// answers with TPM_RC_RETRY on their own; the owner's deadline bounds them.
func OpenHardware() (Backend, error) {
	tpm, err := linuxtpm.Open(HardwarePath)
	if err != nil {
		return nil, &Error{Code: CodeUnavailable, Op: "open " + HardwarePath, Err: err}
	}
	return hardwareTPM{tpm}, nil
}

func (hardwareTPM) Backend() string { return LabelHardware }
