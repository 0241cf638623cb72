package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/peers/hollow"
	"github.com/assay-bench/assay/reference/stack"
	"github.com/assay-bench/assay/reference/tpm"
)

// upFlags are the flags of assay up.
type upFlags struct {
	watchStdin   bool
	hollow       string
	defects      []string
	readDeadline time.Duration
	routerModel  string
}

func (a *app) upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use: "up", GroupID: "target", Args: none,
		Short: "start the reference stack on loopback and print its endpoints",
		Long: `up starts the reference stack on loopback ports that the kernel chooses and prints
one JSON line with its endpoints and claims. It drains and ends on SIGTERM.

--router-model starts the router with another text encoder than the embedded one: the teacher
that "assay models pull" fetches, which ONNX Runtime executes. A file that the built-in manifest
does not list is refused, and so is one that nothing here executes.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runUp(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.watchStdin, "watch-stdin", false, "end when standard input ends")
	fl.StringVar(&f.hollow, "hollow", "", "serve a target that implements nothing")
	fl.StringArrayVar(&f.defects, "defect", nil, "plant a defect (repeatable)")
	fl.StringVar(&f.routerModel, "router-model", "", "file of the router's text encoder (default: the embedded table)")
	fl.DurationVar(&f.readDeadline, "read-deadline", 5*time.Second, "for the first byte and each whole frame")
	return cmd
}

func (a *app) runUp(ctx context.Context, f upFlags) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.watchStdin {
		go func() {
			// whatever ends standard input, an error too, means that the parent is gone
			_, _ = io.Copy(io.Discard, a.in)
			cancel()
		}()
	}
	if f.hollow != "" {
		return a.upHollow(ctx, f.hollow)
	}
	set, err := defect.Parse(f.defects)
	if err != nil {
		return usage(err)
	}
	if err := a.misstart(ctx, set); err != nil {
		return err
	}
	s, err := stack.Start(context.WithoutCancel(ctx), stack.Config{
		Version: version, Defects: set, ReadDeadline: f.readDeadline, RouterModel: f.routerModel,
		Logger: slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return err
	}
	a.sayTPMs(s.TPMs())
	line, err := json.Marshal(s.Ready())
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s\n", line)
	<-ctx.Done()
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer done()
	return s.Shutdown(drain)
}

// sayTPMs says loudly why the TPM features are not claimed, where no TPM can be used.
func (a *app) sayTPMs(tried []tpm.Finding) {
	if n := len(tried); n == 0 || tried[n-1].Err == nil {
		return
	}
	for _, f := range tried {
		fmt.Fprintf(a.err, "tpm.cache and tpm.quote are not claimed: no %s: %v\n", f.Backend, f.Err)
	}
}

// misstart plays the planted defects of a stack that does not come up.
func (a *app) misstart(ctx context.Context, set defect.Set) error {
	switch {
	case set.On(defect.StackExitsAtStart):
		return fmt.Errorf("planted defect: ends at start")
	case set.On(defect.StackGarbageReadyLine):
		fmt.Fprintln(a.out, "listening on port nine")
		fallthrough
	case set.On(defect.StackNeverReady):
		<-ctx.Done()
	}
	return nil
}

// upHollow serves a target that claims everything and implements nothing.
func (a *app) upHollow(ctx context.Context, kind string) error {
	addr, stop, err := hollow.Serve(ctx, hollow.Kind(kind))
	if err != nil {
		return usage(err)
	}
	defer stop()
	endpoints := map[string]string{}
	var claimed []string
	for _, e := range features.All() {
		endpoints[e.Endpoint] = addr
		claimed = append(claimed, string(e.Feature))
	}
	line, err := json.Marshal(map[string]any{
		"endpoints": endpoints,
		"claims":    map[string]any{"name": "hollow target " + kind, "features": claimed, "limits": map[string]any{"readDeadlineMillis": 800}},
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s\n", line)
	<-ctx.Done()
	return nil
}
