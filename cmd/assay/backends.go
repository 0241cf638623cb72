package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios/backends"
	"github.com/assay-bench/assay/scenarios/router"
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
	needs := file.NeedsBackends()
	if len(needs) == 0 {
		return file.Target(b)
	}
	up, err := backends.Start(context.Background(), backends.Options{Put: record, OpenAI: chatBackends(needs)})
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

// chatBackends is the greatest N of the names openai-N, as far as there may be so many.
func chatBackends(names []string) (most int) {
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, backends.OpenAIPrefix); ok {
			if n, err := strconv.Atoi(rest); err == nil {
				most = max(most, n)
			}
		}
	}
	return min(most, backends.MaxOpenAI)
}

// backendsFlags are the flags of assay backends.
type backendsFlags struct {
	evidence string
	host     string
	ports    map[string]int
	openai   int
}

func (a *app) backendsCommand() *cobra.Command {
	f := backendsFlags{ports: map[string]int{}}
	cmd := &cobra.Command{
		Use: "backends", GroupID: "target", Args: none,
		Short: "start upstreams for a proxy or router under test and print their addresses",
		Long: `backends serves the gRPC interop service and an HTTP/1.1 echo on loopback, with
--openai also upstreams with the OpenAI chat API for a router. It prints one JSON line
with their addresses, and what a router has to be told of them, and ends when
interrupted. With --evidence it writes down what arrives. A run whose target file names
{backend.grpc-interop}, {backend.http-echo} or {backend.openai-1} starts them by itself.`,
		Example: "  assay backends --openai 3 --port openai-1=9001 --port openai-2=9002 --port openai-3=9003",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runBackends(cmd.Context(), f) },
	}
	cmd.Flags().StringToIntVar(&f.ports, "port", nil, "fixed loopback port of a backend: grpc-interop=9001 (repeatable)")
	cmd.Flags().StringVar(&f.host, "host", "127.0.0.1", "address to listen on: another one than loopback only in a network of your own")
	cmd.Flags().StringVar(&f.evidence, "evidence", "", "new file for what arrives, one JSON line each")
	cmd.Flags().IntVar(&f.openai, "openai", 0, "how many upstreams with the OpenAI chat API")
	return cmd
}

func (a *app) runBackends(ctx context.Context, flags backendsFlags) (err error) {
	if most := len(router.Intents()); flags.openai < 0 || flags.openai > most {
		return usagef("--openai %d: there may be 0 to %d", flags.openai, most)
	}
	names := []string{backends.GRPCInterop, backends.HTTPEcho}
	for i := range flags.openai {
		names = append(names, backends.OpenAIPrefix+strconv.Itoa(i+1))
	}
	for name := range flags.ports {
		if !slices.Contains(names, name) {
			return usagef("--port %s: there are %s", name, strings.Join(names, ", "))
		}
	}
	o := backends.Options{Ports: flags.ports, Host: flags.host, OpenAI: flags.openai}
	if flags.evidence != "" {
		f, err := os.OpenFile(flags.evidence, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o644)
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
	line, err := tellBackends(up.Endpoints(), flags.openai)
	if err != nil {
		return errors.Join(err, up.Stop())
	}
	fmt.Fprintf(a.out, "%s\n", line)
	<-ctx.Done()
	return up.Stop()
}

// tellBackends is the line that says where the backends are, and what a router has to be told of them.
func tellBackends(endpoints map[string]string, chats int) ([]byte, error) {
	told := map[string]any{"endpoints": endpoints}
	if chats > 0 {
		var addrs []string
		for i := range chats {
			addrs = append(addrs, endpoints[backends.OpenAIPrefix+strconv.Itoa(i+1)])
		}
		routing, err := router.NewRouting((*target.Router)(nil).Auto(), addrs)
		if err != nil {
			return nil, err
		}
		told["routing"] = routing
	}
	return json.Marshal(told)
}
