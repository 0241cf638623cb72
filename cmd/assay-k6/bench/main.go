// Command bench measures what one call costs the generator: k6's JavaScript against assay's engine, in
// interleaved rounds against the same servers. The figure is CPU time of the child process (user and
// system, getrusage) for each call. Every measurement is a pair of runs with few and with many calls, and
// the difference of their CPU over the difference of their calls, so that start-up does not count.
//
//	go build -o assay-k6 . && go run ./bench -k6 ./assay-k6 -out ../../results/published/load/k6.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	var c config
	child := flag.String("child", "", "of the program itself: TARGET,MODEL,CALLS")
	flag.StringVar(&c.k6, "k6", "./assay-k6", "program assay-k6")
	flag.IntVar(&c.rounds, "rounds", 5, "interleaved rounds")
	flag.Float64Var(&c.scale, "scale", 1, "multiplies the number of calls")
	flag.IntVar(&c.users, "users", 10, "virtual users, and users of the closed model")
	flag.StringVar(&c.only, "only", "", "workloads, separated by commas: "+strings.Join(names(), ", "))
	flag.StringVar(&c.out, "out", "", "file that gets the report in Markdown")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, c, *child)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

type config struct {
	k6, only, out string
	rounds, users int
	scale         float64
}

func run(ctx context.Context, c config, child string) error {
	if child != "" {
		return play(ctx, child, c.users)
	}
	if flag.NArg() > 0 || c.rounds < 1 || c.users < 1 || c.scale <= 0 {
		return fmt.Errorf("want no arguments, and rounds, users and scale above 0; see -help")
	}
	var err error
	if c.k6, err = exec.LookPath(c.k6); err == nil {
		c.k6, err = filepath.Abs(c.k6)
	}
	if err != nil {
		return fmt.Errorf("%w: build it with go build -o assay-k6", err)
	}
	s, err := serve()
	if err != nil {
		return err
	}
	defer s.close()
	var rows []row
	for _, w := range workloads {
		if c.only != "" && !strings.Contains(","+c.only+",", ","+w.name+",") {
			continue
		}
		r, err := c.measure(ctx, w, s)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Println(r.line())
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return fmt.Errorf("-only %s: there are %s", c.only, strings.Join(names(), ", "))
	}
	if c.out == "" {
		return nil
	}
	return os.WriteFile(c.out, []byte(c.report(rows)), 0o644)
}
