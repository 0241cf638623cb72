package router

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/assay-bench/assay/models/encode"
	"github.com/assay-bench/assay/models/engine/ort"
	"github.com/assay-bench/assay/models/manifest"
	"github.com/assay-bench/assay/models/shipped"
	"github.com/assay-bench/assay/models/static"
	"github.com/assay-bench/assay/models/tower"
)

// Towers is the name of the built-in model that reads the request besides its text. It is loaded when it is
// first asked for, and no router's default: it was trained on a synthetic task.
const Towers = "towers"

// noTime stands for the arrival of a text without a request, so that a text alone has one vector.
var noTime = time.Unix(0, 0).UTC()

// loadTowers takes in the towers over the static table.
func (s *Service) loadTowers() (*Model, error) {
	sum := sha256.Sum256(tower.File())
	digest := hex.EncodeToString(sum[:])
	listed, err := shipped.Manifest()
	if err != nil {
		return nil, err
	}
	if _, ok := listed.Find(digest); !ok {
		return nil, fmt.Errorf("%w: %s", manifest.ErrNotListed, digest)
	}
	e, err := static.Load()
	if err != nil {
		return nil, err
	}
	return s.adopt(ModelInfo{
		Name: Towers, Digest: digest, Format: "towers", Dimension: encode.Dimensions, Bytes: int64(len(tower.File())), Builtin: true,
	}, e)
}

// newTower opens the towers for one embedder. They are bound to the text model that they were trained over.
func newTower(e encode.Encoder, library *ort.Library) (*tower.Encoder, error) {
	graph, err := tower.Shipped()
	if err != nil {
		return nil, err
	}
	return tower.NewEncoder(graph, library, map[string]string{"text": e.Identity().Digest})
}

// towerRequest is what the towers read. Without features it is a text at no time.
func towerRequest(f *RequestFeatures, at time.Time) *tower.Request {
	if f == nil {
		return &tower.Request{At: noTime}
	}
	return &tower.Request{
		URL: f.URL, UserAgent: f.UserAgent, Region: f.Region, ASN: f.ASN, ErrorCode: f.ErrorCode, At: at,
		Latency: time.Duration(f.LatencyMillis * float64(time.Millisecond)), Accesses: f.AccessTimes,
	}
}
