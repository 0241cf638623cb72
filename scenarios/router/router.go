// Package router drives an AI router: by the OpenAI chat API in front of upstreams that the harness owns and
// that witness what arrives, and by assay's HTTP and gRPC API of policies, decisions, feedback and models.
// Whatever the target does is evidence; an error is the harness's own.
package router

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/assay-bench/assay/results"
)

// The endpoints of a router.
const (
	Endpoint     = "router"      // the HTTP API
	ChatEndpoint = "openai"      // the OpenAI chat API
	GRPCEndpoint = "router-grpc" // the gRPC API
)

// The kinds of evidence of this package.
const (
	Configured results.Kind = "router-configured" // Configuration: the router was told of upstreams
	Chatted    results.Kind = "router-chat"       // Chat: a request of the chat API
	Arrived    results.Kind = "router-arrived"    // Arrivals: what a request led to at the upstreams
	Called     results.Kind = "router"            // Call: a call of the HTTP API
)

const (
	maxText     = 512       // of an error's text
	maxRecorded = 512 << 10 // of a request or an answer, in evidence: judges recompute from vectors
)

// clip bounds a text and keeps what JSON keeps, so that evidence reads back as it was written.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxText)], "\uFFFD") }

// clipped stands for JSON that is too long for evidence.
func clipped(raw []byte) []byte {
	if len(raw) <= maxRecorded {
		return raw
	}
	return fmt.Appendf(nil, `{"clipped":%d,"sha256":%q}`, len(raw), digest(raw))
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
