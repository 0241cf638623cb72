package duet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/assay-bench/assay/scenarios/duet/profiles"
)

// ProfilePaths are where a process serves its profiles, as net/http/pprof does. {seconds} is how long to take one.
type ProfilePaths struct {
	CPU    string `yaml:"cpu"`    // answers after {seconds}
	Allocs string `yaml:"allocs"` // counts since the process began
}

// Check refuses what is no path.
func (p ProfilePaths) Check() error {
	for _, path := range []string{p.CPU, p.Allocs} {
		if path != "" && !strings.HasPrefix(path, "/") {
			return fmt.Errorf("path %q does not begin with /", path)
		}
	}
	return nil
}

// Profiles are those of one side, summed up over its processes.
type Profiles struct {
	Raw   map[profiles.Kind][]byte
	Calls float64
}

// TakeProfiles runs fresh processes of both artefacts in turn, sends each the scenario's requests for as long as a processor
// profile takes, and returns what they showed. Errors: NotReady, a page that does not answer with a profile.
func TakeProfiles(ctx context.Context, programs [2]*Program, scenario string, paths ProfilePaths, rounds int, each time.Duration) (out [2]Profiles, err error) {
	var all [2]map[profiles.Kind][]*profile.Profile
	for range rounds {
		for _, arm := range Arms {
			if all[arm] == nil {
				all[arm] = map[profiles.Kind][]*profile.Profile{}
			}
			calls, err := programs[arm].profile(ctx, scenario, paths, each, all[arm])
			if err != nil {
				return out, fmt.Errorf("%s: %w", arm, err)
			}
			out[arm].Calls += calls
		}
	}
	for _, arm := range Arms {
		out[arm].Raw = map[profiles.Kind][]byte{}
		for _, kind := range slices.Sorted(maps.Keys(all[arm])) {
			if out[arm].Raw[kind], err = profiles.Merge(all[arm][kind]); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

// profile adds the profiles of one fresh process.
func (p *Program) profile(ctx context.Context, scenario string, paths ProfilePaths, each time.Duration, into map[profiles.Kind][]*profile.Profile) (calls float64, err error) {
	proc, err := p.Start(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, proc.Stop(context.WithoutCancel(ctx))) }()
	conn, err := proc.Open(ctx, scenario)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	n := 0
	drive := func(until func() bool) error {
		for ctx.Err() == nil && !until() {
			limited, cancel := context.WithTimeout(ctx, defaultLimit)
			_ = conn.Call(limited, n) // the product's own error: its work shows in the profile all the same
			cancel()
			n++
		}
		return ctx.Err()
	}
	warm := time.Now()
	if err := drive(func() bool { return time.Since(warm) > warmupWindow }); err != nil {
		return 0, err
	}
	var before *profile.Profile
	if paths.Allocs != "" {
		if before, err = p.fetch(ctx, proc.addr, paths.Allocs, each); err != nil {
			return 0, err
		}
	}
	n = 0
	if err := p.during(ctx, proc.addr, paths.CPU, each, into, drive); err != nil {
		return 0, err
	}
	calls = float64(n)
	if paths.Allocs != "" {
		after, err := p.fetch(ctx, proc.addr, paths.Allocs, each)
		if err != nil {
			return 0, err
		}
		diff, err := profiles.Since(before, after)
		if err != nil {
			return 0, err
		}
		into[profiles.Allocs] = append(into[profiles.Allocs], diff)
	}
	return calls, nil
}

// during drives requests for as long as the processor profile takes; without one, for that time.
func (p *Program) during(ctx context.Context, addr, path string, each time.Duration, into map[profiles.Kind][]*profile.Profile, drive func(func() bool) error) error {
	if path == "" {
		begin := time.Now()
		return drive(func() bool { return time.Since(begin) > each })
	}
	type fetched struct {
		p   *profile.Profile
		err error
	}
	done := make(chan fetched, 1)
	go func() {
		got, err := p.fetch(ctx, addr, path, each)
		done <- fetched{got, err}
	}()
	var got fetched
	err := drive(func() bool {
		select {
		case got = <-done:
			return true
		default:
			return false
		}
	})
	if err = errors.Join(err, got.err); err != nil {
		return err
	}
	into[profiles.CPU] = append(into[profiles.CPU], got.p)
	return nil
}

// fetch reads a profile from a process.
func (p *Program) fetch(ctx context.Context, addr, path string, each time.Duration) (*profile.Profile, error) {
	seconds := max(1, int(each.Round(time.Second)/time.Second))
	url := "http://" + addr + strings.ReplaceAll(path, "{seconds}", strconv.Itoa(seconds))
	client := &http.Client{Transport: &http.Transport{DialContext: p.Dial, DisableKeepAlives: true}, Timeout: each + defaultLimit}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, profiles.MaxBytes+1))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	got, err := profiles.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return got, nil
}
