// Package ready is the protocol between a server process and the harness that started it: one JSON
// line on stdout when the server accepts connections, and the end of stdin as the signal to stop. It
// opens no sockets.
package ready

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/assay-bench/assay/reference/defect"
)

// Line is the announcement. Every field is in the JSON, so that a reader need not know defaults.
type Line struct {
	Endpoints Endpoints `json:"endpoints"`
	Claims    Claims    `json:"claims"`
}

// Endpoints are host:port addresses; what a process does not serve is left out.
type Endpoints struct {
	RPC          string `json:"rpc,omitempty"`
	GRPC         string `json:"grpc,omitempty"`
	Admin        string `json:"admin,omitempty"`
	TLS          string `json:"tls,omitempty"`           // every group, every chain
	TLSClassical string `json:"tls-classical,omitempty"` // no post-quantum group, no ML-DSA
	TLSMLDSA     string `json:"tls-mldsa,omitempty"`     // an ML-DSA chain alone
	TLSMutual    string `json:"tls-mutual,omitempty"`    // demands a client certificate
	TLSLab       string `json:"tls-lab,omitempty"`       // HTTP API: dials, pool, certificates
	TPM          string `json:"tpm,omitempty"`           // HTTP API: sealed cache and quotes
	Sandbox      string `json:"sandbox,omitempty"`       // HTTP API: tenants, modules, calls
	SandboxProxy string `json:"sandbox-proxy,omitempty"` // HTTP proxy with Proxy-Wasm filters
	Router       string `json:"router,omitempty"`        // HTTP API: routers, policies, decisions, feedback
	RouterGRPC   string `json:"router-grpc,omitempty"`   // the same over gRPC
	OpenAI       string `json:"openai,omitempty"`        // OpenAI-compatible chat completions
}

// Claims say what the process is and which features it wants to be judged by.
type Claims struct {
	Name     string        `json:"name"`
	Version  string        `json:"version"`
	Features []string      `json:"features"`
	Limits   *Limits       `json:"limits,omitempty"`
	Defects  []defect.Name `json:"defects"`
	TLS      *TLS          `json:"tls,omitempty"`
	Sandbox  *Sandbox      `json:"sandbox,omitempty"`
}

// Sandbox says how modules are run without the HTTP API.
type Sandbox struct {
	RunWasm string `json:"runWasm"` // command line with {module}, {function} and {args}
}

// TLS is what a client needs to know of the TLS endpoints.
type TLS struct {
	ServerName string `json:"serverName"`
	Roots      string `json:"roots"` // PEM
	App        string `json:"app"`   // echo: what is sent comes back
}

// Limits are the bounds that the process applies.
type Limits struct {
	ReadDeadlineMillis int64 `json:"readDeadlineMillis"`
	MaxFrameBytes      int   `json:"maxFrameBytes"`
	MaxDepth           int   `json:"maxDepth"` // struct and container levels of a Thrift message
}

// Announce writes the line in one Write.
func Announce(w io.Writer, line Line) error {
	encoded, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("announce readiness: %w", err)
	}
	if _, err := w.Write(append(encoded, '\n')); err != nil {
		return fmt.Errorf("announce readiness: %w", err)
	}
	return nil
}

// Ended returns a channel that is closed when r ends or fails: the parent that held the other end is
// gone. The goroutine behind it lives as long as r.
func Ended(r io.Reader) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, r) // an error is an end as well
	}()
	return ended
}
