package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-bench/assay/chaos/catalogue"
	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/scenarios"
	"github.com/assay-bench/assay/scenarios/target"
	"github.com/assay-bench/assay/suites"
	"github.com/assay-bench/assay/suites/runner"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema target", GroupID: "target", Args: exactly(1, "the name of a schema: target"),
		ValidArgs: []string{"target"},
		Short:     "print the JSON Schema of a file that assay reads",
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] != "target" {
				return usagef("no schema %q: there is target", args[0])
			}
			_, err := a.out.Write(target.Schema())
			return err
		},
	}
}

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", GroupID: "about", Args: none,
		Short: "say what this host can do, by doing it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := table{head: []string{"fault", "driver", "works", "took", "detail"}}
			for _, f := range catalogue.All() {
				for _, d := range f.Drivers() {
					c := d.Probe(cmd.Context())
					works := "no"
					if c.Available {
						works = "yes"
					}
					t.rows = append(t.rows, []string{f.Name(), d.Name(), works, c.Took.String(), c.Detail})
				}
			}
			if asJSON {
				return t.writeJSON(a.out)
			}
			return t.write(a.out)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) targetCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "target", Short: "look at a target before any run", GroupID: "target", Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use: "check FILE|URL", Args: exactly(1, "a target file or an address"),
		Short: "say what is reachable, what is claimed, and which checks would run",
		RunE:  func(cmd *cobra.Command, args []string) error { return a.checkTarget(cmd.Context(), args[0]) },
	})
	return cmd
}

// checkTarget starts the target where the file says how, probes what it claims, prints the plan, and
// stops it. Nothing is judged; exit 1 says that the target is not ready or a claim is absent.
func (a *app) checkTarget(ctx context.Context, name string) (err error) {
	suite, err := newSuite()
	if err != nil {
		return err
	}
	f := runFlags{target: name, basis: "standard", profile: "full"}
	chosen, err := chooseTarget(ctx, suite, f)
	if err != nil {
		return usage(err)
	}
	dir, err := os.MkdirTemp("", "assay-check-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	journal, closeJournal, err := openJournal(dir)
	if err != nil {
		return err
	}
	children := runner.Children{Journal: journal}
	tgt, err := chosen.build(children.Own, func(results.Source, results.Kind, any) error { return nil })
	if err != nil {
		return errors.Join(usage(err), closeJournal())
	}
	absent, err := a.inspect(ctx, suite, chosen, tgt)
	err = errors.Join(err, tgt.Stop(context.WithoutCancel(ctx)))
	if err := errors.Join(err, children.Release(), closeJournal()); err != nil {
		return err
	}
	if err := a.wouldRun(ctx, suite, chosen, f); err != nil {
		return err
	}
	if absent > 0 {
		return finish(results.ExitFail)
	}
	return nil
}

// inspect prints how the target is reached and what of its claims is there.
func (a *app) inspect(ctx context.Context, suite *suites.Suite, chosen *chosenTarget, tgt target.Target) (absent int, err error) {
	fmt.Fprintf(a.out, "target %s (%s, role %s)\n", oneLine(chosen.meta.Name), chosen.meta.Kind, chosen.meta.Role)
	addrs, err := tgt.Start(ctx)
	if errors.Is(err, target.ErrNotReady) {
		fmt.Fprintf(a.out, "not ready: %s\n", oneLine(err.Error()))
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	claims, err := tgt.Claims(ctx)
	if err != nil {
		return 0, err
	}
	dialer := scenarios.NewDialer(chosen.hosts, chosen.rate)
	for _, name := range sortedKeys(addrs) {
		fmt.Fprintf(a.out, "endpoint %-6s %s %s\n", oneLine(name), oneLine(addrs[name]), reachable(ctx, dialer, addrs[name]))
	}
	found, err := runner.Discover(ctx, suite, addrs, claims, dialer.DialContext)
	for _, d := range found {
		word := "there"
		if !d.Present {
			word, absent = "ABSENT: "+oneLine(d.Detail), absent+1
		}
		fmt.Fprintf(a.out, "claim %-20s %s\n", oneLine(d.Feature), word)
	}
	chosen.claims = claims
	return absent, err
}

func reachable(ctx context.Context, dialer *scenarios.Dialer, addr string) string {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "not reachable: " + oneLine(err.Error())
	}
	conn.Close()
	return "reachable"
}

// wouldRun prints which cases a full run would drive, which the target does not claim and which this
// host can not run.
func (a *app) wouldRun(ctx context.Context, suite *suites.Suite, chosen *chosenTarget, f runFlags) error {
	plan, err := suite.Plan(suites.Selection{
		Profile: f.profile, Probing: true, Barred: barred(ctx, chosen), Reproduce: func(results.Key) string { return "" },
	})
	if err != nil {
		return usage(err)
	}
	counts, order := map[string]int{}, []string{}
	unclaimed := 0
	for _, p := range plan.Planned {
		if !claimsAll(chosen.claims, p.Needs) {
			unclaimed++
			continue
		}
		if counts[p.Check] == 0 {
			order = append(order, p.Check)
		}
		counts[p.Check]++
	}
	for _, check := range order {
		fmt.Fprintf(a.out, "would run %s (%s)\n", check, plural(counts[check], "case"))
	}
	for _, n := range plan.NotRun {
		key := results.Key{Check: n.Check, Case: n.Case, Under: n.Under}
		fmt.Fprintf(a.out, "can not run %s: %s\n", suites.Pattern(key), printable(n.Probe))
	}
	fmt.Fprintf(a.out, "%s would run, %d not claimed, %d not possible here\n", plural(len(order), "check"), unclaimed, len(plan.NotRun))
	return nil
}

func claimsAll(c target.Claims, needs []string) bool {
	for _, n := range needs {
		if !c.Has(n) {
			return false
		}
	}
	return true
}
