package truth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

// startLimit is how long a truth server may take to come up.
const startLimit = 10 * time.Second

// Main is the life of a truth server in a process of its own: it prints its
// endpoints as one JSON line and serves until in ends.
func Main(in io.Reader, out io.Writer, slower time.Duration) error {
	s, err := Serve(slower)
	if err != nil {
		return err
	}
	defer s.Close()
	line, err := json.Marshal(s.Endpoints)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
		return err
	}
	// Whatever ends the input, an error too, means that the parent is gone.
	_, _ = io.Copy(io.Discard, in)
	return nil
}

// Child is a truth server that runs in a process of its own, so that the load
// generator and the server do not share a scheduler.
type Child struct {
	Endpoints Endpoints
	cmd       *exec.Cmd
	stdin     io.Closer
}

// Start runs argv, a program that calls Main, and waits for its endpoints.
func Start(ctx context.Context, argv []string, env ...string) (*Child, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("truth server: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("truth server: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("truth server: %w", err)
	}
	c := &Child{cmd: cmd, stdin: stdin}
	ready := make(chan error, 1)
	go func() {
		ready <- json.NewDecoder(io.LimitReader(stdout, 4<<10)).Decode(&c.Endpoints)
	}()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case err = <-ready:
	case <-limit.C:
		err = fmt.Errorf("not ready after %v", startLimit)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("truth server: %w", err), c.Stop())
	}
	return c, nil
}

// Stop ends the process and waits for it.
func (c *Child) Stop() error {
	_ = c.stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		_ = c.cmd.Process.Kill()
		return fmt.Errorf("truth server: killed, it ran on for %v", startLimit)
	}
}

// begin makes the server start a new account and returns the epoch of its rule.
func (c *Child) begin(ctx context.Context, rule Rule, seed uint64) (epoch int64, err error) {
	body, err := json.Marshal(order{rule, seed})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.Endpoints.Control+"/begin", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	st, err := c.ask(req)
	return st.Epoch, err
}

// stats returns the server's account.
func (c *Child) stats(ctx context.Context) (Stats, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Endpoints.Control+"/stats", nil)
	if err != nil {
		return Stats{}, err
	}
	return c.ask(req)
}

func (c *Child) ask(req *http.Request) (st Stats, err error) {
	resp, err := (&http.Client{Timeout: startLimit}).Do(req)
	if err != nil {
		return st, fmt.Errorf("truth server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return st, fmt.Errorf("truth server: %s: %s", req.URL.Path, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<20)).Decode(&st); err != nil {
		return st, fmt.Errorf("truth server: %s: %w", req.URL.Path, err)
	}
	return st, nil
}
