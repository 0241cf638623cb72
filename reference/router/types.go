package router

import (
	"time"

	"github.com/assay-bench/assay/reference/router/table"
)

// The types of this file are the members of the API, as fixtures/idl/router.openapi.yaml describes them.

// Window changes weights for a part of each day, UTC.
type Window struct {
	From    string             `json:"from"`
	To      string             `json:"to"`
	Factors map[string]float64 `json:"factors"`
}

// FeedbackSettings bound what feedback does. A nil field has its default.
type FeedbackSettings struct {
	Eta           *float64 `json:"eta,omitzero"`
	Clip          *float64 `json:"clip,omitzero"`
	CapDegrees    *float64 `json:"capDegrees,omitzero"`
	RatePerMinute *int     `json:"ratePerMinute,omitzero"`
	Share         *float64 `json:"share,omitzero"`
	GuardLoss     *float64 `json:"guardLoss,omitzero"`
}

// Settings are how a router decides and learns. A nil or empty field has its default.
type Settings struct {
	K         *int             `json:"k,omitzero"`
	Threshold *float64         `json:"threshold,omitzero"`
	Margin    *float64         `json:"margin,omitzero"`
	Fallback  string           `json:"fallback,omitzero"`
	Engine    string           `json:"engine,omitzero"`
	Model     string           `json:"model,omitzero"`
	Cache     *int             `json:"cache,omitzero"`
	Adaptive  *bool            `json:"adaptive,omitzero"`
	Windows   []Window         `json:"windows,omitzero"`
	Feedback  FeedbackSettings `json:"feedback,omitzero"`
	Seed      int64            `json:"seed,omitzero"`
}

// Variants of a model in a decision.
const (
	Stable = "stable"
	Canary = "canary"
)

// ModelRef says which model made a vector, and on which engine.
type ModelRef struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	Engine  string `json:"engine"`
	Variant string `json:"variant"`
}

// State is a router now.
type State struct {
	Router    string          `json:"router"`
	Settings  Settings        `json:"settings"`
	Version   int64           `json:"version"`
	Digest    string          `json:"digest"`
	Policies  int             `json:"policies"`
	Rows      int             `json:"rows"`
	Threshold table.Threshold `json:"threshold"`
	Model     ModelRef        `json:"model"`
}

// Policy is what a policy is learned from.
type Policy struct {
	Examples []string     `json:"examples"`
	Vectors  [][]float64  `json:"vectors"`
	Rows     string       `json:"rows"`
	Weight   *float64     `json:"weight"`
	Backends []string     `json:"backends"`
	Split    *table.Split `json:"split"`
	Shadow   string       `json:"shadow"`
}

// PoliciesSet is the version that policies made.
type PoliciesSet struct {
	Version int64  `json:"version"`
	Digest  string `json:"digest"`
	Rows    int    `json:"rows"`
}

// PolicySummary is a policy without its rows.
type PolicySummary struct {
	Policy   string   `json:"policy"`
	Rows     int      `json:"rows"`
	Weight   float64  `json:"weight"`
	Backends []string `json:"backends"`
}

// PolicyState is a policy with its rows.
type PolicyState struct {
	Policy   string     `json:"policy"`
	Weight   float64    `json:"weight"`
	Backends []string   `json:"backends"`
	Rows     []RowState `json:"rows"`
}

// RowState is a row before and after feedback.
type RowState struct {
	Row     string    `json:"row"`
	Vector  []float32 `json:"vector"`
	Trained []float32 `json:"trained"`
	Degrees float64   `json:"degrees"`
}

// Embedding is the vector of a text; empty where the text has no known feature.
type Embedding struct {
	Vector   []float32 `json:"vector"`
	Features int       `json:"features"`
}

// Embedded are vectors and the model that made them.
type Embedded struct {
	Embeddings []Embedding `json:"embeddings"`
	Model      ModelRef    `json:"model"`
}

// RequestFeatures are what is known of a request besides its text.
type RequestFeatures struct {
	URL           string      `json:"url"`
	UserAgent     string      `json:"userAgent"`
	Region        string      `json:"region"`
	ASN           uint32      `json:"asn"`
	LatencyMillis float64     `json:"latencyMillis"`
	ErrorCode     int         `json:"errorCode"`
	AccessTimes   []time.Time `json:"accessTimes"`
}

// DecideRequest asks for a decision about a text, or about a vector.
type DecideRequest struct {
	Text      *string          `json:"text"`
	Vector    []float64        `json:"vector"`
	Request   *RequestFeatures `json:"request"`
	At        time.Time        `json:"at"`
	Objective string           `json:"objective"`
	Key       string           `json:"key"`
	Engine    string           `json:"engine"`
	Explain   bool             `json:"explain"`
}

// Vote is what a policy's neighbours add up to.
type Vote struct {
	Policy string  `json:"policy"`
	Sum    float64 `json:"sum"`
	Weight float64 `json:"weight"`
}

// Neighbour is a row near the text.
type Neighbour struct {
	Row    string  `json:"row"`
	Policy string  `json:"policy"`
	Cosine float32 `json:"cosine"`
	Weight float64 `json:"weight"`
}

// Decision is what a router decided and why.
type Decision struct {
	Decision      string          `json:"decision"`
	At            time.Time       `json:"at"`
	Policy        string          `json:"policy"`
	Abstained     bool            `json:"abstained"`
	Reason        table.Reason    `json:"reason"`
	Second        string          `json:"second"`
	Backend       string          `json:"backend"`
	Votes         []Vote          `json:"votes"`
	Neighbours    []Neighbour     `json:"neighbours"`
	TopCosine     float32         `json:"topCosine"`
	Threshold     table.Threshold `json:"threshold"`
	Margin        float64         `json:"margin"`
	MinMargin     float64         `json:"minMargin"`
	Version       int64           `json:"version"`
	VersionDigest string          `json:"versionDigest"`
	Model         ModelRef        `json:"model"`
	Cached        bool            `json:"cached"`
	Trace         string          `json:"trace"`
	Vector        []float32       `json:"vector,omitzero"`
}

// Example is a text with the policy that should be chosen for it.
type Example struct {
	Text   string `json:"text"`
	Policy string `json:"policy"`
}

// Calibration takes the threshold from the texts of a split.
type Calibration struct {
	Split    string    `json:"split"`
	Quantile float64   `json:"quantile"`
	Examples []Example `json:"examples"`
}

// Calibrated is what a calibration made.
type Calibrated struct {
	Threshold table.Threshold `json:"threshold"`
	Version   int64           `json:"version"`
	Unknown   int             `json:"unknown"`
}

// Outcomes of feedback.
const (
	Confirmed = "confirmed"
	Rejected  = "rejected"
)

// FeedbackEvent is what somebody says of a decision.
type FeedbackEvent struct {
	Decision string `json:"decision"`
	Outcome  string `json:"outcome"`
	Policy   string `json:"policy"`
	Source   string `json:"source"`
}

// FeedbackResult is what became of an event.
type FeedbackResult struct {
	Seq          int64   `json:"seq"`
	Applied      bool    `json:"applied"`
	Reason       string  `json:"reason"`
	Row          string  `json:"row"`
	MovedDegrees float64 `json:"movedDegrees"`
	DriftDegrees float64 `json:"driftDegrees"`
}

// FeedbackAnswer is what became of a batch.
type FeedbackAnswer struct {
	Results       []FeedbackResult `json:"results"`
	VersionBefore int64            `json:"versionBefore"`
	Version       int64            `json:"version"`
	RolledBack    bool             `json:"rolledBack"`
	Guard         Guard            `json:"guard"`
}

// Guard is the accuracy of a version on the guard set, in percent.
type Guard struct {
	N        int     `json:"n"`
	Correct  int     `json:"correct"`
	Accuracy float64 `json:"accuracy"`
	Best     float64 `json:"best"`
	Version  int64   `json:"version"`
}

// LogEvent is a line of the audit log.
type LogEvent struct {
	Seq           int64     `json:"seq"`
	At            time.Time `json:"at"`
	Kind          string    `json:"kind"`
	Source        string    `json:"source,omitzero"`
	Decision      string    `json:"decision,omitzero"`
	Policy        string    `json:"policy,omitzero"`
	Row           string    `json:"row,omitzero"`
	Outcome       string    `json:"outcome,omitzero"`
	Vector        []float32 `json:"vector,omitzero"`
	Eta           float64   `json:"eta,omitzero"`
	Clip          float64   `json:"clip,omitzero"`
	Applied       bool      `json:"applied"`
	Reason        string    `json:"reason,omitzero"`
	VersionBefore int64     `json:"versionBefore"`
	Version       int64     `json:"version"`
	Detail        string    `json:"detail,omitzero"`
}

// Log is a page of the audit log.
type Log struct {
	Events []LogEvent `json:"events"`
	Oldest int64      `json:"oldest"`
	Newest int64      `json:"newest"`
}

// VersionSummary is a version without its rows.
type VersionSummary struct {
	Version int64     `json:"version"`
	Parent  int64     `json:"parent"`
	Digest  string    `json:"digest"`
	Cause   string    `json:"cause"`
	At      time.Time `json:"at"`
	Rows    int       `json:"rows"`
	Model   string    `json:"model"`
}

// VersionList are the kept versions.
type VersionList struct {
	Versions []VersionSummary `json:"versions"`
	Live     int64            `json:"live"`
}

// VersionRows is a version with its rows.
type VersionRows struct {
	Version   int64           `json:"version"`
	Digest    string          `json:"digest"`
	Threshold table.Threshold `json:"threshold"`
	Rows      []Row           `json:"rows"`
}

// Row is a row of a version.
type Row struct {
	Row    string    `json:"row"`
	Policy string    `json:"policy"`
	Weight float64   `json:"weight"`
	Vector []float32 `json:"vector"`
}

// Weights are the shares of the policies at a time.
type Weights struct {
	At      time.Time          `json:"at"`
	Weights map[string]float64 `json:"weights"`
}

// CacheStats count the cache of vectors.
type CacheStats struct {
	Entries  int   `json:"entries"`
	Capacity int   `json:"capacity"`
	Hits     int64 `json:"hits"`
	Misses   int64 `json:"misses"`
}

// ShadowStats count what ran beside the answers.
type ShadowStats struct {
	Compared int64 `json:"compared"`
	Agreed   int64 `json:"agreed"`
	Requests int64 `json:"requests"`
}

// EngineState says which engine was asked for and which one runs.
type EngineState struct {
	Asked  string `json:"asked"`
	Used   string `json:"used"`
	Detail string `json:"detail"`
}

// RouterStats are the counters of a router.
type RouterStats struct {
	Decisions   int64            `json:"decisions"`
	EngineCalls int64            `json:"engineCalls"`
	Abstained   map[string]int64 `json:"abstained"`
	Fallbacks   int64            `json:"fallbacks"`
	Cache       CacheStats       `json:"cache"`
	Feedback    map[string]int64 `json:"feedback"`
	Rollbacks   int64            `json:"rollbacks"`
	Canary      int64            `json:"canary"`
	Shadow      ShadowStats      `json:"shadow"`
	Engine      EngineState      `json:"engine"`
}

// MeasureOrder asks for times of decisions in the process.
type MeasureOrder struct {
	Samples int      `json:"samples"`
	Texts   []string `json:"texts"`
}

// Measured are times of decisions in the process.
type Measured struct {
	N            int     `json:"n"`
	Engine       string  `json:"engine"`
	Model        string  `json:"model"`
	Version      int64   `json:"version"`
	Rows         int     `json:"rows"`
	P50Nanos     int64   `json:"p50Nanos"`
	P90Nanos     int64   `json:"p90Nanos"`
	P99Nanos     int64   `json:"p99Nanos"`
	P99LowNanos  int64   `json:"p99LowNanos"`
	P99HighNanos int64   `json:"p99HighNanos"`
	MaxNanos     int64   `json:"maxNanos"`
	AllocsPerOp  float64 `json:"allocsPerOp"`
	BytesPerOp   float64 `json:"bytesPerOp"`
	CacheHits    int64   `json:"cacheHits"`
}

// Rollout asks for a trial of another model.
type Rollout struct {
	Model string   `json:"model"`
	Mode  string   `json:"mode"`
	Share *float64 `json:"share"`
}

// RolloutState is how a trial goes, or how the last one ended.
type RolloutState struct {
	State  string   `json:"state"`
	Reason string   `json:"reason"`
	Model  string   `json:"model"`
	Mode   string   `json:"mode"`
	Share  float64  `json:"share"`
	Guard  Guard    `json:"guard"`
	Stable ArmStats `json:"stable"`
	Trial  ArmStats `json:"trial"`
}

// ArmStats count one side of a trial.
type ArmStats struct {
	Decisions int64 `json:"decisions"`
	Abstained int64 `json:"abstained"`
	Feedback  int64 `json:"feedback"`
	Rejected  int64 `json:"rejected"`
}

// ModelInfo describes a loaded model.
type ModelInfo struct {
	Name      string `json:"name"`
	Digest    string `json:"digest"`
	Format    string `json:"format"`
	Dimension int    `json:"dimension"`
	Bytes     int64  `json:"bytes"`
	Builtin   bool   `json:"builtin"`
}

// ModelList are the loaded models.
type ModelList struct {
	Models     []ModelInfo `json:"models"`
	Engine     EngineState `json:"engine"`
	Publishers []string    `json:"publishers"`
}

// Drift is how far the last texts are from the examples.
type Drift struct {
	Tokens    float64 `json:"tokens"`
	Features  float64 `json:"features"`
	Threshold float64 `json:"threshold"`
	Alert     bool    `json:"alert"`
	N         int     `json:"n"`
	Minimum   int     `json:"minimum"`
	Reference int     `json:"reference"`
}

// Dispatch is a decision whose text was sent to the backends of its two best policies.
type Dispatch struct {
	Dispatch string          `json:"dispatch"`
	Decision Decision        `json:"decision"`
	Answers  []BackendAnswer `json:"answers"`
}

// BackendAnswer is what a backend said to a dispatch.
type BackendAnswer struct {
	Policy  string `json:"policy"`
	Backend string `json:"backend"`
	State   string `json:"state"`
	Status  int    `json:"status"`
	Output  string `json:"output"`
	Millis  int64  `json:"millis"`
	Error   string `json:"error"`
}
