package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/assay-bench/assay/reference/defect"
)

// Finding says whether a kind of backend works here.
type Finding struct {
	Backend string
	Err     error // why it does not; nil if it does
}

// probeTime bounds the probe of one backend.
const probeTime = 5 * time.Second

// Probe tries every kind of backend: each that works has answered a command.
func Probe(ctx context.Context) []Finding { return probe(ctx, false) }

// First tries one kind after another until one works: the last finding is it, where its Err is nil.
func First(ctx context.Context) []Finding { return probe(ctx, true) }

func probe(ctx context.Context, first bool) []Finding {
	var out []Finding
	for _, p := range []struct {
		label string
		try   func(context.Context) error
	}{{LabelSimulator, probeSimulator}, {LabelSwtpm, probeSwtpm}, {LabelHardware, probeHardware}} {
		err := p.try(ctx)
		if out = append(out, Finding{p.label, err}); first && err == nil {
			break
		}
	}
	return out
}

// Usable lists the labels of the backends that work in this process on this host. Probe tells why the
// others do not.
func Usable(ctx context.Context) []string {
	var usable []string
	for _, f := range Probe(ctx) {
		if f.Err == nil {
			usable = append(usable, f.Backend)
		}
	}
	return usable
}

func probeSimulator(ctx context.Context) error {
	sim, err := OpenSimulator()
	if errors.Is(err, ErrSimulatorBusy) {
		return nil // whoever has it shows that it works
	}
	if err != nil {
		return err
	}
	return alive(ctx, sim)
}

func probeHardware(ctx context.Context) error {
	hardware, err := OpenHardware()
	if err != nil {
		return err
	}
	return alive(ctx, hardware)
}

func probeSwtpm(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "assay-swtpm-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sw, err := StartSwtpm(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sw.Close()) }()
	backend, err := sw.Backend()
	if err != nil {
		return err
	}
	return alive(ctx, backend)
}

// alive sends one harmless command and closes the backend.
func alive(ctx context.Context, backend Backend) error {
	o := newOwner(backend, defect.Set{})
	s, err := o.begin(ctx, probeTime)
	if err == nil {
		_, err = tpm2.GetRandom{BytesRequested: 8}.Execute(s)
		s.end()
	}
	return errors.Join(coded("probe "+backend.Backend(), err), o.close())
}

// Swtpm is a software TPM in a process of its own.
type Swtpm struct {
	cmd  *exec.Cmd
	path string
	once sync.Once
	done chan struct{} // closed when the process has ended
}

// StartSwtpm starts swtpm with its state and sockets in dir and waits until it accepts connections.
func StartSwtpm(ctx context.Context, dir string) (*Swtpm, error) {
	program, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, &Error{Code: CodeUnavailable, Op: "start swtpm", Err: err}
	}
	path := filepath.Join(dir, "s")
	cmd := exec.Command(program, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+path, "--ctrl", "type=unixio,path="+filepath.Join(dir, "c"),
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		return nil, &Error{Code: CodeUnavailable, Op: "start swtpm", Err: err}
	}
	sw := &Swtpm{cmd: cmd, path: path, done: make(chan struct{})}
	go func() {
		defer close(sw.done)
		_ = cmd.Wait() // the end matters, not its status
	}()
	if err := sw.await(ctx); err != nil {
		return nil, errors.Join(&Error{Code: CodeUnavailable, Op: "start swtpm", Err: err}, sw.Close())
	}
	return sw, nil
}

// await polls for the socket, because swtpm has no way to say that it is ready.
func (sw *Swtpm) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(sw.path); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-sw.done:
			return fmt.Errorf("it ended: %s", sw.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("no socket: %w", ctx.Err())
		}
	}
}

// Socket is the path of the unix socket.
func (sw *Swtpm) Socket() string { return sw.path }

// Backend returns the TPM, labelled swtpm.
func (sw *Swtpm) Backend() (Backend, error) { return OpenSocket(sw.path, LabelSwtpm) }

// Close ends the process.
func (sw *Swtpm) Close() error {
	var err error
	sw.once.Do(func() {
		if err = sw.cmd.Process.Kill(); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		<-sw.done
	})
	return err
}
