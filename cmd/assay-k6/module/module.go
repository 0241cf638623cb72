// Package module is the JavaScript module k6/x/assay: calls over TTHeader and Thrift with the house's own
// codecs, TLS handshakes that say which key exchange they used, and TCP echoes. What a server does wrong is
// in the answer's error; only a script's own mistake throws.
package module

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/grafana/sobek"

	"go.k6.io/k6/js/common"
	"go.k6.io/k6/js/modules"
	"go.k6.io/k6/lib"
	"go.k6.io/k6/metrics"
)

// Name is how scripts import the module.
const Name = "k6/x/assay"

// DefaultTimeout ends a call whose options name none, and MaxTimeout is the longest that they may name.
const (
	DefaultTimeout = 10 * time.Second
	MaxTimeout     = time.Hour
)

// Root makes an instance for each VU.
type Root struct{}

var _ modules.Module = (*Root)(nil)

// New returns the module.
func New() *Root { return &Root{} }

// Instance is the module of one VU, with its connections. k6 runs a VU on one goroutine at a time.
type Instance struct {
	vu      modules.VU
	metrics *Metrics
	conns   map[connKey]*conn
}

// NewModuleInstance registers the metrics and returns the module of a VU.
func (*Root) NewModuleInstance(vu modules.VU) modules.Instance {
	m, err := Register(vu.InitEnv().Registry)
	if err != nil {
		common.Throw(vu.Runtime(), err)
	}
	return &Instance{vu: vu, metrics: m, conns: map[connKey]*conn{}}
}

// Exports are the functions of the module, as named and as default export.
func (i *Instance) Exports() modules.Exports {
	named := map[string]any{"rpc": i.rpc, "pqtls": i.pqtls, "echo": i.echo}
	return modules.Exports{Default: named, Named: named}
}

// begin checks that a call is made where calls can be made, and reads its arguments. It throws.
func (i *Instance) begin(name string, address sobek.Value, options sobek.Value, into any) (string, *lib.State) {
	rt := i.vu.Runtime()
	state := i.vu.State()
	if state == nil {
		common.Throw(rt, fmt.Errorf("%s: called in the init context: call it from a function that VUs run", name))
	}
	text, ok := "", false
	if !common.IsNullish(address) {
		text, ok = address.Export().(string)
	}
	if !ok || text == "" {
		common.Throw(rt, fmt.Errorf("%s: first argument: want an address such as \"127.0.0.1:9000\"", name))
	}
	if err := readOptions(options, into); err != nil {
		common.Throw(rt, fmt.Errorf("%s: options: %w", name, err))
	}
	return text, state
}

// readOptions reads an object strictly: an unknown name is an error, so that a misspelt option does not
// silently do nothing.
func readOptions(options sobek.Value, into any) error {
	if common.IsNullish(options) {
		return nil
	}
	if _, isObject := options.(*sobek.Object); !isObject {
		return fmt.Errorf("want an object, have %s", options)
	}
	raw, err := json.Marshal(options.Export())
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// common options of every call.
type callOptions struct {
	Timeout string            `json:"timeout"` // as Go and k6 write it: 500ms
	Tags    map[string]string `json:"tags"`    // of the call's samples
}

func (o callOptions) limit() (time.Duration, error) {
	if o.Timeout == "" {
		return DefaultTimeout, nil
	}
	d, err := time.ParseDuration(o.Timeout)
	if err != nil {
		return 0, fmt.Errorf("timeout: %w", err)
	}
	if d <= 0 || d > MaxTimeout {
		return 0, fmt.Errorf("timeout: %s is outside 0 to %s", d, MaxTimeout)
	}
	return d, nil
}

// Metrics are what the module measures.
type Metrics struct {
	RPCReqs, RPCFailed, RPCDuration                *metrics.Metric
	Handshakes, HandshakeFailed, HandshakeDuration *metrics.Metric
	EchoReqs, EchoFailed, EchoDuration             *metrics.Metric
	Response, Service, Lateness                    *metrics.Metric // of the executor assay-open-loop
	Failed                                         *metrics.Metric
}

// Register registers the metrics of module and executor; twice is as good as once. Thresholds can name
// them only when that happened while the script was loaded, that is, when it imports the module.
func Register(registry *metrics.Registry) (*Metrics, error) {
	m := &Metrics{}
	var errs []error
	add := func(to **metrics.Metric, name string, t metrics.MetricType, v ...metrics.ValueType) {
		made, err := registry.NewMetric(name, t, v...)
		*to, errs = made, append(errs, err)
	}
	add(&m.RPCReqs, "rpc_reqs", metrics.Counter)
	add(&m.RPCFailed, "rpc_req_failed", metrics.Rate)
	add(&m.RPCDuration, "rpc_req_duration", metrics.Trend, metrics.Time)
	add(&m.Handshakes, "pqtls_handshakes", metrics.Counter)
	add(&m.HandshakeFailed, "pqtls_handshake_failed", metrics.Rate)
	add(&m.HandshakeDuration, "pqtls_handshake_duration", metrics.Trend, metrics.Time)
	add(&m.EchoReqs, "echo_reqs", metrics.Counter)
	add(&m.EchoFailed, "echo_req_failed", metrics.Rate)
	add(&m.EchoDuration, "echo_req_duration", metrics.Trend, metrics.Time)
	add(&m.Response, "assay_response", metrics.Trend, metrics.Time)
	add(&m.Service, "assay_service", metrics.Trend, metrics.Time)
	add(&m.Lateness, "assay_lateness", metrics.Trend, metrics.Time)
	add(&m.Failed, "assay_failed", metrics.Rate)
	return m, errors.Join(errs...)
}

// emit sends one call's samples: count, failure and duration.
func (i *Instance) emit(state *lib.State, tags map[string]string, took time.Duration, failed bool, reqs, fails, durations *metrics.Metric, sent, received int) {
	now := time.Now()
	at := state.Tags.GetCurrentValues()
	set := at.Tags.WithTagsFromMap(tags)
	bad := 0.0
	if failed {
		bad = 1
	}
	one := func(m *metrics.Metric, v float64) metrics.Sample {
		return metrics.Sample{TimeSeries: metrics.TimeSeries{Metric: m, Tags: set}, Time: now, Value: v, Metadata: at.Metadata}
	}
	metrics.PushIfNotDone(i.vu.Context(), state.Samples, metrics.ConnectedSamples{
		Tags: set, Time: now,
		Samples: []metrics.Sample{
			one(reqs, 1), one(fails, bad), one(durations, metrics.D(took)),
			one(state.BuiltinMetrics.DataSent, float64(sent)), one(state.BuiltinMetrics.DataReceived, float64(received)),
		},
	})
}

// millis is a duration as k6 shows it.
func millis(d time.Duration) float64 { return metrics.D(d) }
