package truth

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
)

// maxOutput bounds what is read of a tool's files.
const maxOutput = 256 << 20

// workers returns how many workers, connections or users a tool gets.
func (c Cell) workers() int {
	if c.Workers > 0 {
		return c.Workers
	}
	return ample(c.Rate)
}

func seconds(c Cell) string { return strconv.FormatFloat(c.Duration.Seconds(), 'f', -1, 64) + "s" }

// percentiles names the levels as k6 and fortio do.
func percentiles() (names []string) {
	for _, q := range Levels() {
		names = append(names, strconv.FormatFloat(math.Round(q*1e5)/1e3, 'f', -1, 64))
	}
	return names
}

// fortio paces each connection for itself and times from the send. Its buckets are at most a fifth wide up to 1,000 times its
// resolution, and up to a half above: what serves it best puts the longest wait there, 200 ms.
func fortio() Peer {
	return Peer{
		Name: "fortio", Program: "fortio", Protocols: []Protocol{HTTP},
		args: func(e Endpoints, c Cell, _ string) ([]string, error) {
			return []string{
				"load", "-qps", fmt.Sprint(c.Rate), "-t", seconds(c), "-c", fmt.Sprint(c.workers()), "-quiet",
				"-r", "0.0002", "-p", strings.Join(percentiles(), ","), "-json", "-", "http://" + e.HTTP + "/",
			}, nil
		},
		read: readFortio,
	}
}

func readFortio(out []byte, _ string) (Shape, error) {
	var f struct {
		DurationHistogram struct {
			Count       int64
			Avg         float64
			Percentiles []struct{ Percentile, Value float64 }
		}
	}
	if err := json.Unmarshal(out, &f); err != nil {
		return Shape{}, err
	}
	d := f.DurationHistogram
	s := Shape{Count: d.Count, Mean: d.Avg * 1e9}
	for _, p := range d.Percentiles {
		s.Levels = append(s.Levels, p.Value*1e9)
	}
	return s, s.check()
}

// check refuses a shape without all levels.
func (s Shape) check() error {
	if len(s.Levels) != len(Levels()) || s.Count <= 0 {
		return fmt.Errorf("reports %d requests at %d levels, want %d levels", s.Count, len(s.Levels), len(Levels()))
	}
	return nil
}

// ghz has one pacer, which waits for a free worker.
func ghz() Peer {
	return Peer{
		Name: "ghz", Program: "ghz", Protocols: []Protocol{GRPC},
		args: func(e Endpoints, c Cell, dir string) ([]string, error) {
			protoset := filepath.Join(dir, "behave.protoset")
			if err := writeProtoset(protoset); err != nil {
				return nil, err
			}
			return []string{
				"--insecure", "--protoset", protoset, "--call", "assay.behave.v1.Behave.Echo", "-d", "{}", "--rps", fmt.Sprint(int(c.Rate)),
				"-z", seconds(c), "-c", fmt.Sprint(c.workers()), "--connections", fmt.Sprint(muxConns), "-O", "json", e.GRPC,
			}, nil
		},
		read: readGHZ,
	}
}

// writeProtoset writes the descriptor of the service that is called.
func writeProtoset(path string) error {
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(behavepb.File_behave_proto),
	}}
	raw, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

func readGHZ(out []byte, _ string) (Shape, error) {
	var g struct {
		Details []struct {
			Latency int64  `json:"latency"`
			Error   string `json:"error"`
		} `json:"details"`
	}
	if err := json.Unmarshal(out, &g); err != nil {
		return Shape{}, err
	}
	var samples []int64
	for _, d := range g.Details {
		if d.Error == "" {
			samples = append(samples, d.Latency)
		}
	}
	return shapeOfSome(samples)
}

func shapeOfSome(samples []int64) (Shape, error) {
	if len(samples) == 0 {
		return Shape{}, errors.New("reports no request")
	}
	return shapeOf(samples), nil
}

// wrk has no rate: a closed model, whose figures it back-fills.
func wrk() Peer {
	const script = `done = function(summary, latency, requests)
  io.write(string.format("assay %d %f", summary.requests, latency.mean))
  for _, p in ipairs({LEVELS}) do io.write(string.format(" %f", latency:percentile(p))) end
  io.write("\n")
end
`
	return Peer{
		Name: "wrk", Program: "wrk", Protocols: []Protocol{HTTP},
		args: func(e Endpoints, c Cell, dir string) ([]string, error) {
			path := filepath.Join(dir, "levels.lua")
			text := strings.Replace(script, "LEVELS", strings.Join(percentiles(), ", "), 1)
			return []string{"-t", "1", "-c", fmt.Sprint(c.workers()), "-d", seconds(c), "-s", path, "http://" + e.HTTP + "/"},
				os.WriteFile(path, []byte(text), 0o600)
		},
		read: readWrk,
	}
}

func readWrk(out []byte, _ string) (Shape, error) {
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != len(Levels())+3 || fields[0] != "assay" {
			continue
		}
		var us []float64
		for _, f := range fields[1:] {
			v, err := strconv.ParseFloat(f, 64)
			if err != nil {
				return Shape{}, fmt.Errorf("line %q: %w", line, err)
			}
			us = append(us, v)
		}
		s := Shape{Count: int64(us[0]), Mean: us[1] * 1e3}
		for _, v := range us[2:] {
			s.Levels = append(s.Levels, v*1e3)
		}
		return s, s.check()
	}
	return Shape{}, errors.New("no line of levels in the output")
}

// h2load paces each connection for itself.
func h2load() Peer {
	return Peer{
		Name: "h2load", Program: "h2load", Protocols: []Protocol{HTTP},
		args: func(e Endpoints, c Cell, dir string) ([]string, error) {
			n := c.workers()
			return []string{
				"--h1", "-t", "1", "-c", fmt.Sprint(n), "-n", fmt.Sprint(int(c.samples())),
				"--rps", fmt.Sprint(c.Rate / float64(n)), "--log-file", filepath.Join(dir, "log"), "http://" + e.HTTP + "/",
			}, nil
		},
		read: readH2load,
	}
}

// readH2load reads its log: start in µs, status, duration in µs.
func readH2load(_ []byte, dir string) (Shape, error) {
	f, err := os.Open(filepath.Join(dir, "log"))
	if err != nil {
		return Shape{}, err
	}
	defer f.Close()
	var samples []int64
	lines := bufio.NewScanner(io.LimitReader(f, maxOutput))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return Shape{}, fmt.Errorf("log line %q has not three fields", lines.Text())
		}
		us, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return Shape{}, fmt.Errorf("log line %q: %w", lines.Text(), err)
		}
		if fields[1] == "200" {
			samples = append(samples, us*1e3)
		}
	}
	if err := lines.Err(); err != nil {
		return Shape{}, err
	}
	return shapeOfSome(samples)
}

// vegeta has one pacer, which adds workers up to a bound and then waits for a free one, who takes the time.
func vegeta() Peer {
	return Peer{
		Name: "vegeta", Program: "vegeta", Protocols: []Protocol{HTTP}, Ample: true,
		args: func(e Endpoints, c Cell, dir string) ([]string, error) {
			targets := filepath.Join(dir, "targets")
			n := fmt.Sprint(c.workers())
			return []string{
				"attack", "-rate", fmt.Sprint(int(c.Rate)), "-duration", seconds(c), "-workers", n, "-max-workers", n,
				"-targets", targets, "-output", filepath.Join(dir, "results"),
			}, os.WriteFile(targets, []byte("GET http://"+e.HTTP+"/\n"), 0o600)
		},
		read: readVegeta,
	}
}

// readVegeta reads its results, values of Go's gob encoding.
func readVegeta(_ []byte, dir string) (Shape, error) {
	f, err := os.Open(filepath.Join(dir, "results"))
	if err != nil {
		return Shape{}, err
	}
	defer f.Close()
	return hits(io.LimitReader(f, maxOutput))
}

func hits(from io.Reader) (Shape, error) {
	var samples []int64
	for results := gob.NewDecoder(from); ; {
		var hit struct {
			Code    uint16
			Latency time.Duration
		}
		switch err := results.Decode(&hit); {
		case err == io.EOF:
			return shapeOfSome(samples)
		case err != nil:
			return Shape{}, fmt.Errorf("result %d: %w", len(samples), err)
		case hit.Code == http.StatusOK:
			samples = append(samples, int64(hit.Latency))
		}
	}
}

// k6 drops an arrival when no user is free, and times from the send.
func k6() Peer {
	const script = `import http from 'k6/http';
export const options = {
  discardResponseBodies: true,
  summaryTrendStats: ['avg', 'count', LEVELS],
  scenarios: { truth: { executor: 'constant-arrival-rate', rate: RATE, timeUnit: '1s', duration: 'DURATION', preAllocatedVUs: USERS, maxVUs: USERS } },
};
export default function () { http.get('URL'); }
`
	return Peer{
		Name: "k6", Program: "assay-k6", Protocols: []Protocol{HTTP}, Ample: true,
		args: func(e Endpoints, c Cell, dir string) ([]string, error) {
			var levels []string
			for _, p := range percentiles() {
				levels = append(levels, "'p("+p+")'")
			}
			text := strings.NewReplacer(
				"LEVELS", strings.Join(levels, ", "), "RATE", fmt.Sprint(int(c.Rate)), "DURATION", seconds(c),
				"USERS", fmt.Sprint(c.workers()), "URL", "http://"+e.HTTP+"/",
			).Replace(script)
			path := filepath.Join(dir, "truth.js")
			return []string{"run", "--quiet", "--address", "", "--summary-export", filepath.Join(dir, "summary.json"), path},
				os.WriteFile(path, []byte(text), 0o600)
		},
		read: readK6,
	}
}

func readK6(_ []byte, dir string) (Shape, error) {
	f, err := os.Open(filepath.Join(dir, "summary.json"))
	if err != nil {
		return Shape{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxOutput))
	if err != nil {
		return Shape{}, err
	}
	var k struct {
		Metrics map[string]map[string]any `json:"metrics"`
	}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&k); err != nil {
		return Shape{}, err
	}
	ms := func(name string) float64 {
		v, ok := k.Metrics["http_req_duration"][name].(float64)
		if !ok {
			return math.NaN()
		}
		return v
	}
	s := Shape{Count: int64(ms("count")), Mean: ms("avg") * 1e6}
	for _, p := range percentiles() {
		if v := ms("p(" + p + ")"); !math.IsNaN(v) {
			s.Levels = append(s.Levels, v*1e6)
		}
	}
	return s, s.check()
}
