package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/assay-bench/assay/chaos"
)

// Build is what a run supplies to make a target of a file.
type Build struct {
	// Ports returns n different free ports of the loopback; nil lets the kernel choose. It is called
	// once, so that the target keeps its ports when it is started again.
	Ports    func(n int) ([]int, error)
	Backends map[string]string // addresses of the harness's upstreams, by name
	Dial     DialFunc          // for ready probes; required by ready.tcp, ready.http and ready.grpcHealth
	Observe  Observe
	Own      func(chaos.Process) error
}

// Target makes the target that the file describes. Nothing is started yet.
func (f *File) Target(b Build) (Target, error) {
	if f.Start == nil {
		return &Remote{Addresses: maps.Clone(f.Endpoints), Claimed: f.merge(Claims{}, scope{endpoints: f.Endpoints})}, nil
	}
	folder, err := filepath.Abs(filepath.Dir(f.Path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	s, err := f.scope(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	}
	c := &configured{file: f, folder: folder, scope: s, dial: b.Dial, Command: &Command{
		Timeout:     f.Start.Timeout,
		StopTimeout: f.Start.StopTimeout,
		Observe:     b.Observe,
		Own:         b.Own,
	}}
	if !f.Start.Ready.Line && b.Dial == nil {
		return nil, fmt.Errorf("%s: start.ready needs a way to dial", f.Path)
	}
	return c, nil
}

// scope chooses ports and resolves what stays the same at every start.
func (f *File) scope(b Build) (scope, error) {
	s := scope{ports: map[string]int{}, backends: map[string]string{}, endpoints: Endpoints{}}
	for _, name := range f.NeedsBackends() {
		addr, ok := b.Backends[name]
		if !ok {
			return s, fmt.Errorf("{backend.%s} is not an upstream of the harness%s", name, suggest(name, sortedKeys(b.Backends)))
		}
		s.backends[name] = addr
	}
	choose := b.Ports
	if choose == nil {
		choose = FreePorts
	}
	names := sortedKeys(f.used.ports)
	ports, err := choose(len(names))
	if err != nil {
		return s, fmt.Errorf("choose ports: %w", err)
	}
	if len(ports) != len(names) {
		return s, fmt.Errorf("choose ports: %d for %d names", len(ports), len(names))
	}
	for i, name := range names {
		s.ports[name] = ports[i]
	}
	for name, addr := range f.Endpoints {
		s.endpoints[name] = s.expand(addr)
	}
	return s, nil
}

// merge lays what the file says over what the target says of itself: a name, a version, a list of
// features or a limit in the file replaces the target's. Planted defects can not be disowned.
func (f *File) merge(said Claims, s scope) Claims {
	if f.Name != "" {
		said.Name = f.Name
	}
	if f.Version != "" {
		said.Version = f.Version
	}
	if len(f.Claims) > 0 {
		said.Features = slices.Clone(f.Claims)
	}
	if f.Limits.ReadDeadlineMillis > 0 {
		said.Limits.ReadDeadlineMillis = f.Limits.ReadDeadlineMillis
	}
	if f.Limits.MaxFrameBytes > 0 {
		said.Limits.MaxFrameBytes = f.Limits.MaxFrameBytes
	}
	if f.Limits.AnswerMillis > 0 {
		said.Limits.AnswerMillis = f.Limits.AnswerMillis
	}
	if f.Limits.MaxDepth > 0 {
		said.Limits.MaxDepth = f.Limits.MaxDepth
	}
	said.TLS = f.mergeTLS(said, s)
	said.Sandbox = f.mergeSandbox(said, s)
	said.Router = f.mergeRouter(said, s)
	return said
}

// configured is a command with a folder of its own that lasts from Start to Stop.
type configured struct {
	*Command
	file   *File
	folder string // of the file
	scope  scope
	dial   DialFunc

	dirs sync.Mutex
	dir  string
}

// Start writes the files into a fresh folder and starts the command.
func (c *configured) Start(ctx context.Context) (Endpoints, error) {
	if len(c.Processes()) > 0 {
		return c.Command.Start(ctx) // which refuses, before the folder of the running one is touched
	}
	if err := c.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.file.Path, err), c.removeDir())
	}
	said, err := c.Command.Start(ctx)
	if err != nil {
		return nil, errors.Join(err, c.removeDir())
	}
	if !c.file.Start.Ready.Line {
		return said, nil
	}
	maps.Copy(said, c.scope.endpoints) // where the file names an address, it wins
	return said, nil
}

// Claims merges the ready line with the file.
func (c *configured) Claims(ctx context.Context) (Claims, error) {
	said, err := c.Command.Claims(ctx)
	return c.file.merge(said, c.scope), err
}

// Stop ends the command and removes its folder.
func (c *configured) Stop(ctx context.Context) error {
	return errors.Join(c.Command.Stop(ctx), c.removeDir())
}

func (c *configured) removeDir() error {
	c.dirs.Lock()
	defer c.dirs.Unlock()
	if c.dir == "" {
		return nil
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the target's folder: %w", err)
	}
	c.dir = ""
	return nil
}

// prepare makes the folder and fills in the command.
func (c *configured) prepare() error {
	if err := c.removeDir(); err != nil {
		return err
	}
	l, s := c.file.Start, c.scope
	if c.file.used.dir || len(l.Files) > 0 {
		dir, err := os.MkdirTemp("", "assay-target-")
		if err != nil {
			return err
		}
		c.dirs.Lock()
		c.dir = dir
		c.dirs.Unlock()
		s.dir = dir
	}
	for _, name := range sortedKeys(l.Files) {
		if err := writeFile(filepath.Join(s.dir, name), s.expand(l.Files[name])); err != nil {
			return err
		}
	}
	c.Argv = s.expandAll(l.Command)
	if strings.ContainsRune(c.Argv[0], filepath.Separator) {
		c.Argv[0] = within(c.folder, c.Argv[0])
	}
	c.Dir = within(c.folder, s.expand(l.Dir))
	c.Env = nil
	for _, key := range sortedKeys(l.Env) {
		c.Env = append(c.Env, key+"="+s.expand(l.Env[key]))
	}
	c.Addresses, c.Ready = s.endpoints, c.probe(s)
	return nil
}

// probe makes the ready probe; nil where the ready line tells.
func (c *configured) probe(s scope) ReadyProbe {
	switch r := c.file.Start.Ready; {
	case r.TCP != "":
		return TCPReady(c.dial, s.endpoints[r.TCP])
	case r.HTTP != "":
		return HTTPReady(c.dial, s.expand(r.HTTP))
	case r.GRPCHealth != "":
		return healthReady(c.dial, s.endpoints[r.GRPCHealth])
	default:
		return nil
	}
}

func within(folder, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

// writeFile writes a private file, which can be run if it is a script.
func writeFile(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if strings.HasPrefix(text, "#!") {
		mode = 0o700
	}
	// A child that is forked while the script is open for writing holds it until it runs its own program, and Linux
	// starts no file that is so held ("text file busy").
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, []byte(text), mode)
}
