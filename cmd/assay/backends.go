package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
)

// put records evidence on the run as a whole.
type put func(from results.Source, kind results.Kind, data any) error

// observe records what a target does; an error of the recorder is sticky, whoever records next stops.
func (p put) observe(kind results.Kind, data any) { _ = p(results.FromTarget, kind, data) }

// fronted is a target that stands in front of the harness's own upstreams: they end with it.
type fronted struct {
	target.Target
	upstreams *backends.Backends
}

// Stop ends the target first, so that it does not see its upstreams vanish.
func (f *fronted) Stop(ctx context.Context) error {
	return errors.Join(f.Target.Stop(ctx), f.upstreams.Stop())
}

// frontedLocal is a fronted target whose process runs here.
type frontedLocal struct {
	*fronted
	target.Local
}

// front starts the upstreams that a file's placeholders name, and builds the target before them.
func front(file *target.File, b target.Build, record put) (target.Target, error) {
	if len(file.NeedsBackends()) == 0 {
		return file.Target(b)
	}
	up, err := backends.Start(context.Background(), backends.Options{Put: record})
	if err != nil {
		return nil, err
	}
	b.Backends = up.Endpoints()
	inner, err := file.Target(b)
	if err != nil {
		return nil, errors.Join(err, up.Stop())
	}
	f := &fronted{inner, up}
	if local, ok := inner.(target.Local); ok {
		return &frontedLocal{f, local}, nil
	}
	return f, nil
}

func (a *app) backendsCommand() *cobra.Command {
	var evidence string
	ports := map[string]int{}
	cmd := &cobra.Command{
		Use: "backends", GroupID: "target", Args: none,
		Short: "start upstreams for a proxy under test and print their addresses",
		Long: `backends serves the gRPC interop service and an HTTP/1.1 echo on loopback, prints one
JSON line with their addresses, and ends when interrupted. With --evidence it writes
down what arrives. A run whose target file names {backend.grpc-interop} or
{backend.http-echo} starts them by itself.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runBackends(cmd.Context(), evidence, ports) },
	}
	cmd.Flags().StringToIntVar(&ports, "port", nil, "fixed loopback port of a backend: grpc-interop=9001 (repeatable)")
	cmd.Flags().StringVar(&evidence, "evidence", "", "new file for what arrives, one JSON line each")
	return cmd
}

func (a *app) runBackends(ctx context.Context, evidence string, ports map[string]int) (err error) {
	for name := range ports {
		if name != backends.GRPCInterop && name != backends.HTTPEcho {
			return usagef("--port %s: there are %s and %s", name, backends.GRPCInterop, backends.HTTPEcho)
		}
	}
	o := backends.Options{Ports: ports}
	if evidence != "" {
		f, err := os.OpenFile(evidence, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return usage(err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		rec := results.NewRecorder(f, results.ClockSince(time.Now()))
		o.Put = func(from results.Source, kind results.Kind, data any) error {
			_, err := rec.Record(suites.FrameKey, from, kind, data)
			return err
		}
	}
	up, err := backends.Start(ctx, o)
	if err != nil {
		return err
	}
	line, err := json.Marshal(map[string]any{"endpoints": up.Endpoints()})
	if err != nil {
		return errors.Join(err, up.Stop())
	}
	fmt.Fprintf(a.out, "%s\n", line)
	<-ctx.Done()
	return up.Stop()
}
