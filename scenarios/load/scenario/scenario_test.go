package scenario

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/scenarios/load"
	"github.com/assay-bench/assay/scenarios/load/threshold"
)

const whole = `{
  "scenarios": {
    "echo": {
      "executor": "assay-open-loop", "target": "tcp://127.0.0.1:7", "rate": 600, "timeUnit": "1m",
      "duration": "90s", "arrivals": "poisson", "seed": 7, "connections": 2, "timeout": 1500, "tags": {"a": "b"}
    }
  },
  "thresholds": {"http_req_duration": ["p(95)<200", {"threshold": "avg<50", "abortOnFail": true}], "http_req_failed": ["rate<0.01"]}
}`

func TestRead(t *testing.T) {
	f, err := Read(strings.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	name, s, err := f.Only()
	if err != nil || name != "echo" {
		t.Fatalf("%q, %v", name, err)
	}
	want := load.Schedule{Kind: load.Poisson, Rate: 10, Duration: 90 * time.Second, Seed: 7}
	if got, err := s.Schedule(); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("schedule: %v %s", err, cmp.Diff(want, got))
	}
	c, err := s.Config(nil)
	if err != nil || c.URL.Host != "127.0.0.1:7" || c.Conns != 2 || c.InFlight != 16 || s.RequestTimeout() != 1500*time.Millisecond {
		t.Errorf("config %+v, %v", c, err)
	}
	if len(f.Thresholds["http_req_duration"]) != 2 {
		t.Errorf("thresholds %v", f.Thresholds)
	}
	again, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(strings.NewReader(string(again))); err != nil {
		t.Errorf("what is written is refused: %v in %s", err, again)
	}
}

func TestStages(t *testing.T) {
	f, err := Read(strings.NewReader(`{"scenarios":{"a":{"executor":"ramping-arrival-rate","startRate":60,"timeUnit":"1m",
		"stages":[{"target":120,"duration":"2s"}],"data":"x.csv","target":"http://127.0.0.1:1/{{a}}","headers":{"B":"1","A":"2"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	_, s, _ := f.Only()
	want := load.Schedule{Kind: load.Stages, Rate: 1, Stages: []load.Stage{{Rate: 2, Duration: 2 * time.Second}}}
	if got, err := s.Schedule(); err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("schedule: %v %s", err, cmp.Diff(want, got))
	}
	c, err := s.Config(func(string) ([]byte, error) { return []byte("a\n1\n2\n"), nil })
	if err != nil || c.Rows.Len() != 2 || len(c.Header) != 2 || c.Header[0].Name != "A" || c.InFlight != 21 {
		t.Errorf("config %+v, %v", c, err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":           `scenarios:`,
		"twice":             `{} {}`,
		"unknown field":     `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1,"duration":"1s","rat":1}}}`,
		"unknown executor":  `{"scenarios":{"a":{"executor":"shared-iterations","rate":1,"duration":"1s"}}}`,
		"no rate":           `{"scenarios":{"a":{"executor":"assay-open-loop","duration":"1s"}}}`,
		"no duration":       `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1}}}`,
		"negative rate":     `{"scenarios":{"a":{"executor":"assay-open-loop","rate":-1,"duration":"1s"}}}`,
		"both":              `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1,"duration":"1s","stages":[{"target":1,"duration":"1s"}]}}}`,
		"stage":             `{"scenarios":{"a":{"executor":"ramping-arrival-rate","stages":[{"target":1}]}}}`,
		"duration":          `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1,"duration":"soon"}}}`,
		"huge duration":     `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1,"duration":1e300}}}`,
		"arrivals":          `{"scenarios":{"a":{"executor":"assay-open-loop","rate":1,"duration":"1s","arrivals":"bursty"}}}`,
		"vus":               `{"scenarios":{"a":{"executor":"constant-vus","duration":"1s"}}}`,
		"threshold":         `{"thresholds":{"http_req_duration":["p95<3"]}}`,
		"metric":            `{"thresholds":{"http_req_blocked":["avg<3"]}}`,
		"more than a megab": strings.Repeat(" ", MaxFile+1),
	} {
		_, err := Read(strings.NewReader(text))
		if !errors.Is(err, ErrFile) && !errors.Is(err, threshold.ErrSyntax) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyOne(t *testing.T) {
	f := File{Scenarios: map[string]Scenario{"b": {}, "a": {}}}
	if _, _, err := f.Only(); !errors.Is(err, ErrFile) {
		t.Errorf("two scenarios: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(whole)
	f.Add(`{"scenarios":{"a":{"executor":"constant-vus","vus":3,"duration":1e3}}}`)
	f.Add(`{"thresholds":{"x{a:b}":["p(9)<1"]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Read(strings.NewReader(string(again))); err != nil {
			t.Errorf("what is written is refused: %v in %s", err, again)
		}
	})
}
