package tls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-bench/assay/scenarios/target"
)

// dialByHook runs the client hook, which makes the client under test dial once.
func dialByHook(ctx context.Context, t *target.TLS, req DialRequest) (a DialAnswer, err error) {
	host, port, err := net.SplitHostPort(req.Address)
	if err != nil {
		return a, fmt.Errorf("client hook: address %q: %w", req.Address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return a, fmt.Errorf("client hook: %s is not an address of the loopback", req.Address)
	}
	dir, err := os.MkdirTemp("", "assay-hook-")
	if err != nil {
		return a, fmt.Errorf("client hook: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, []byte(req.Roots), 0o600); err != nil {
		return a, fmt.Errorf("client hook: %w", err)
	}
	within, cancel := req.within(ctx)
	defer cancel()
	ran, err := target.RunHook(within, t.Folder, t.Client, map[string]string{
		"url": "https://" + req.Address + "/", "host": host, "port": port, "sni": req.ServerName, "ca": ca,
	})
	if ctx.Err() != nil {
		return a, fmt.Errorf("client hook: %w", context.Cause(ctx))
	}
	return hookAnswer(ran, err)
}

// within ends with the deadline of the dial, which counts from its first connection where that can be seen.
func (r DialRequest) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.Reached == nil {
		return context.WithTimeout(ctx, r.deadline())
	}
	within, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(hookStart, cancel)
	go func() {
		defer late.Stop()
		select {
		case <-r.Reached:
			late.Reset(r.deadline())
			<-within.Done()
		case <-within.Done():
		}
	}()
	return within, cancel
}

// hookAnswer reads the end of a hook: 0 means that the connection was established.
func hookAnswer(ran target.Ran, err error) (DialAnswer, error) {
	a := DialAnswer{Hook: true, Output: ran.Output}
	switch {
	case errors.Is(err, target.ErrNotReady):
		a.Broken = clipText(err.Error(), maxText)
		return a, nil
	case err != nil:
		return a, err
	case ran.Late:
		a.Error = DialError{"deadline", ran.State}
	case ran.Exit == 0:
		a.Connected = true
	default:
		a.Error = DialError{"hook", ran.State}
	}
	return a, nil
}
