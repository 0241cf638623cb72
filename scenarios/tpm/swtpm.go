package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// findSwtpm returns the path of swtpm.
func findSwtpm() (string, error) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return "", fmt.Errorf("no swtpm: %w", err)
	}
	return path, nil
}

const (
	swtpmStart = 5 * time.Second // until it takes connections
	swtpmTime  = 5 * time.Second // for one command
	swtpmPoll  = 2 * time.Millisecond
)

// swtpm is a child process with a state folder of its own.
type swtpm struct {
	program, dir string
	life         context.Context
	kill         context.CancelFunc
	cmd          *exec.Cmd
	generation   int // of the state folder
}

func openSwtpm(ctx context.Context, program, dir string) (backend, error) {
	s := &swtpm{program: program, dir: dir}
	s.life, s.kill = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.start(); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

func (s *swtpm) Name() string    { return "swtpm" }
func (s *swtpm) state() string   { return filepath.Join(s.dir, fmt.Sprintf("state%d", s.generation)) }
func (s *swtpm) socket() string  { return filepath.Join(s.dir, "swtpm") }
func (s *swtpm) control() string { return filepath.Join(s.dir, "control") }

// start runs swtpm on the present state folder until it takes connections.
func (s *swtpm) start() error {
	if err := os.MkdirAll(s.state(), 0o700); err != nil {
		return fmt.Errorf("swtpm: %w", err)
	}
	cmd := exec.CommandContext(s.life, s.program, "socket", "--tpm2", "--tpmstate", "dir="+s.state(),
		"--server", "type=unixio,path="+s.socket(), "--ctrl", "type=unixio,path="+s.control(),
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("swtpm: %w", err)
	}
	s.cmd = cmd
	for end := time.Now().Add(swtpmStart); ; {
		conn, err := net.Dial("unix", s.socket())
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("swtpm does not take connections: %w", err), s.stop())
		}
		pause := time.NewTimer(swtpmPoll) // it tells nobody that it is ready
		<-pause.C
	}
}

// stop ends the process and waits for its end.
func (s *swtpm) stop() error {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("swtpm: %w", err)
	}
	_ = s.cmd.Wait() // says that it was killed
	for _, path := range []string{s.socket(), s.control()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("swtpm: %w", err)
		}
	}
	return nil
}

// Send runs one command on a connection of its own.
func (s *swtpm) Send(command []byte) (response []byte, err error) {
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	defer func() { _ = conn.Close() }() // the answer is here, or the error that matters
	if err := conn.SetDeadline(time.Now().Add(swtpmTime)); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	if _, err := conn.Write(command); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	return readMessage(conn)
}

// shutdown is TPM2_Shutdown(CLEAR): without it the TPM counts an attempt against dictionary attacks.
var shutdown = [...]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}

func (s *swtpm) Reset() error {
	if _, err := s.Send(shutdown[:]); err != nil {
		return err
	}
	if err := s.stop(); err != nil {
		return err
	}
	return s.start()
}

func (s *swtpm) Wipe() error {
	if err := s.stop(); err != nil {
		return err
	}
	s.generation++
	return s.start()
}

func (s *swtpm) Close() error {
	defer s.kill()
	return s.stop()
}

// readMessage reads one command or response by the size in its header, which it refuses beyond bounds.
func readMessage(r io.Reader) ([]byte, error) {
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < headerBytes || size > maxMessage {
		return nil, fmt.Errorf("a TPM message of %d bytes: want %d to %d", size, headerBytes, maxMessage)
	}
	message := append(header, make([]byte, size-headerBytes)...)
	if _, err := io.ReadFull(r, message[headerBytes:]); err != nil {
		return nil, fmt.Errorf("a TPM message of %d bytes: %w", size, err)
	}
	return message, nil
}
