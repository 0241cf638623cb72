package router

import "encoding/json"

// Dimension is the number of values in a vector.
const Dimension = 128

// How a policy's examples become rows.
const (
	RowsCentroid = "centroid" // one row, their normalised mean
	RowsExamples = "examples" // one row each
)

// The engines.
const (
	EngineAuto = "auto"
	EnginePure = "purego"
	EngineONNX = "onnxruntime"
)

// Outcomes of a decision.
const (
	Confirmed = "confirmed"
	Rejected  = "rejected"
)

// Settings of a router. What is absent has its default.
type Settings struct {
	K         int               `json:"k,omitempty"`
	Threshold *float64          `json:"threshold,omitempty"`
	Margin    float64           `json:"margin,omitempty"`
	Fallback  string            `json:"fallback,omitempty"`
	Engine    string            `json:"engine,omitempty"`
	Model     string            `json:"model,omitempty"`
	Cache     int               `json:"cache,omitempty"`
	Adaptive  *bool             `json:"adaptive,omitempty"`
	Windows   []Window          `json:"windows,omitempty"`
	Feedback  *FeedbackSettings `json:"feedback,omitempty"`
	Seed      int64             `json:"seed,omitempty"`
}

// Window changes the weights of policies at a time of day (UTC).
type Window struct {
	From    string             `json:"from"`
	To      string             `json:"to"`
	Factors map[string]float64 `json:"factors"`
}

// FeedbackSettings bound what feedback does.
type FeedbackSettings struct {
	Eta           float64 `json:"eta,omitempty"`
	Clip          float64 `json:"clip,omitempty"`
	CapDegrees    float64 `json:"capDegrees,omitempty"`
	RatePerMinute int     `json:"ratePerMinute,omitempty"`
	Share         float64 `json:"share,omitempty"`
	GuardLoss     float64 `json:"guardLoss,omitempty"`
}

// Policy is set by examples or by vectors.
type Policy struct {
	Examples []string    `json:"examples,omitempty"`
	Vectors  [][]float64 `json:"vectors,omitempty"`
	Rows     string      `json:"rows,omitempty"`
	Weight   float64     `json:"weight,omitempty"`
	Backends []string    `json:"backends,omitempty"`
	Split    *Split      `json:"split,omitempty"`
	Shadow   string      `json:"shadow,omitempty"`
}

// Split is A/B: the share of keys that another backend serves.
type Split struct {
	Backend string  `json:"backend"`
	Share   float64 `json:"share"`
}

// PolicyBatch sets many policies as one version.
type PolicyBatch struct {
	Policies map[string]Policy `json:"policies"`
}

// PoliciesSet is the answer to setting policies.
type PoliciesSet struct {
	Version int64  `json:"version"`
	Digest  string `json:"digest"`
	Rows    int    `json:"rows"`
}

// Backend is an upstream as the API takes it.
type Backend struct {
	URL           string   `json:"url"`
	Model         string   `json:"model"`
	Cost          float64  `json:"cost,omitempty"`
	Priority      int      `json:"priority,omitempty"`
	Modalities    []string `json:"modalities,omitempty"`
	TimeoutMillis int      `json:"timeoutMillis,omitempty"`
}

// ModelRef names a model and the engine that ran it.
type ModelRef struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	Engine  string `json:"engine"`
	Variant string `json:"variant"`
}

// Threshold of the greatest cosine, with where it came from.
type Threshold struct {
	Value    float64 `json:"value"`
	Split    string  `json:"split"`
	Quantile float64 `json:"quantile"`
	N        int     `json:"n"`
	Digest   string  `json:"digest"`
}

// State of a router.
type State struct {
	Router    string    `json:"router"`
	Version   int64     `json:"version"`
	Digest    string    `json:"digest"`
	Policies  int       `json:"policies"`
	Rows      int       `json:"rows"`
	Threshold Threshold `json:"threshold"`
	Model     ModelRef  `json:"model"`
}

// PolicyState is a policy with its live and its trained rows.
type PolicyState struct {
	Policy   string     `json:"policy"`
	Weight   float64    `json:"weight"`
	Backends []string   `json:"backends"`
	Rows     []RowState `json:"rows"`
}

// RowState is a row before and after feedback.
type RowState struct {
	Row     string    `json:"row"`
	Vector  []float64 `json:"vector"`
	Trained []float64 `json:"trained"`
	Degrees float64   `json:"degrees"`
}

// EmbedRequest asks for vectors.
type EmbedRequest struct {
	Texts  []string `json:"texts"`
	Engine string   `json:"engine,omitempty"`
}

// Embedded is the answer to it.
type Embedded struct {
	Embeddings []Embedding `json:"embeddings"`
	Model      ModelRef    `json:"model"`
}

// Embedding is the vector of a text; none where it has no known feature.
type Embedding struct {
	Vector    []float64 `json:"vector"`
	Features  int       `json:"features"`
	Truncated bool      `json:"truncated"`
}

// DecideRequest has a text or a vector.
type DecideRequest struct {
	Text      *string   `json:"text,omitempty"`
	Vector    []float64 `json:"vector,omitempty"`
	At        string    `json:"at,omitempty"`
	Objective string    `json:"objective,omitempty"`
	Key       string    `json:"key,omitempty"`
	Engine    string    `json:"engine,omitempty"`
	Explain   bool      `json:"explain,omitempty"`
}

// OfText asks for a decision on a text, with its vector.
func OfText(text string) DecideRequest { return DecideRequest{Text: &text, Explain: true} }

// OfVector asks for a decision on a vector.
func OfVector(v []float64) DecideRequest { return DecideRequest{Vector: v, Explain: true} }

// DecideBatch asks for several decisions.
type DecideBatch struct {
	Requests []DecideRequest `json:"requests"`
}

// Decisions are the answer to it.
type Decisions struct {
	Decisions []Decision `json:"decisions"`
}

// Decision is what a router decided, and why.
type Decision struct {
	Decision      string      `json:"decision"`
	Policy        string      `json:"policy"`
	Abstained     bool        `json:"abstained"`
	Reason        string      `json:"reason"`
	Second        string      `json:"second"`
	Backend       string      `json:"backend"`
	Votes         []Vote      `json:"votes"`
	Neighbours    []Neighbour `json:"neighbours"`
	TopCosine     float64     `json:"topCosine"`
	Threshold     Threshold   `json:"threshold"`
	Margin        float64     `json:"margin"`
	MinMargin     float64     `json:"minMargin"`
	Version       int64       `json:"version"`
	VersionDigest string      `json:"versionDigest"`
	Model         ModelRef    `json:"model"`
	Cached        bool        `json:"cached"`
	Truncated     bool        `json:"truncated"`
	Trace         string      `json:"trace"`
	Vector        []float64   `json:"vector"`
}

// Vote is the sum of a policy.
type Vote struct {
	Policy string  `json:"policy"`
	Sum    float64 `json:"sum"`
	Weight float64 `json:"weight"`
}

// Neighbour is one of the k nearest rows.
type Neighbour struct {
	Row    string  `json:"row"`
	Policy string  `json:"policy"`
	Cosine float64 `json:"cosine"`
	Weight float64 `json:"weight"`
}

// Example is a text and the policy that should be chosen.
type Example struct {
	Text   string `json:"text"`
	Policy string `json:"policy,omitempty"`
}

// Calibration takes the threshold from a quantile of a split.
type Calibration struct {
	Split    string    `json:"split"`
	Quantile float64   `json:"quantile"`
	Examples []Example `json:"examples"`
}

// Calibrated is the answer to it.
type Calibrated struct {
	Threshold Threshold `json:"threshold"`
	Version   int64     `json:"version"`
	Unknown   int       `json:"unknown"`
}

// FeedbackBatch is one batch of outcomes.
type FeedbackBatch struct {
	Events []FeedbackEvent `json:"events"`
}

// FeedbackEvent says how a decision turned out.
type FeedbackEvent struct {
	Decision string `json:"decision"`
	Outcome  string `json:"outcome"`
	Policy   string `json:"policy,omitempty"`
	Source   string `json:"source,omitempty"`
}

// FeedbackAnswer says what came of a batch.
type FeedbackAnswer struct {
	Results       []FeedbackResult `json:"results"`
	VersionBefore int64            `json:"versionBefore"`
	Version       int64            `json:"version"`
	RolledBack    bool             `json:"rolledBack"`
	Guard         Guard            `json:"guard"`
}

// FeedbackResult says what came of an event.
type FeedbackResult struct {
	Seq          int64   `json:"seq"`
	Applied      bool    `json:"applied"`
	Reason       string  `json:"reason"`
	Row          string  `json:"row"`
	MovedDegrees float64 `json:"movedDegrees"`
	DriftDegrees float64 `json:"driftDegrees"`
}

// GuardSet is what every batch of feedback is measured with.
type GuardSet struct {
	Examples []Example `json:"examples"`
}

// Guard is how the live version does on the guard set.
type Guard struct {
	N        int     `json:"n"`
	Correct  int     `json:"correct"`
	Accuracy float64 `json:"accuracy"`
	Best     float64 `json:"best"`
	Version  int64   `json:"version"`
}

// Log is what changed a router or was refused.
type Log struct {
	Events []LogEvent `json:"events"`
	Oldest int64      `json:"oldest"`
	Newest int64      `json:"newest"`
}

// LogEvent is an entry of it.
type LogEvent struct {
	Seq           int64     `json:"seq"`
	Kind          string    `json:"kind"`
	Source        string    `json:"source"`
	Decision      string    `json:"decision"`
	Policy        string    `json:"policy"`
	Row           string    `json:"row"`
	Outcome       string    `json:"outcome"`
	Vector        []float64 `json:"vector"`
	Eta           float64   `json:"eta"`
	Clip          float64   `json:"clip"`
	Applied       bool      `json:"applied"`
	Reason        string    `json:"reason"`
	VersionBefore int64     `json:"versionBefore"`
	Version       int64     `json:"version"`
}

// Version is a version with all its rows.
type Version struct {
	Version   int64     `json:"version"`
	Digest    string    `json:"digest"`
	Threshold Threshold `json:"threshold"`
	Rows      []Row     `json:"rows"`
}

// Row is a prototype.
type Row struct {
	Row    string    `json:"row"`
	Policy string    `json:"policy"`
	Weight float64   `json:"weight"`
	Vector []float64 `json:"vector"`
}

// Weights of the policies at a time.
type Weights struct {
	At      string             `json:"at"`
	Weights map[string]float64 `json:"weights"`
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
	Engine      EngineState      `json:"engine"`
}

// CacheStats are the counters of the cache of vectors.
type CacheStats struct {
	Entries  int   `json:"entries"`
	Capacity int   `json:"capacity"`
	Hits     int64 `json:"hits"`
	Misses   int64 `json:"misses"`
}

// EngineState says which engine was asked for, which one runs, and why.
type EngineState struct {
	Asked  string `json:"asked"`
	Used   string `json:"used"`
	Detail string `json:"detail"`
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

// MeasureOrder asks for decisions to be timed within the process.
type MeasureOrder struct {
	Samples int      `json:"samples"`
	Texts   []string `json:"texts,omitempty"`
}

// Measured is the answer to it.
type Measured struct {
	N           int     `json:"n"`
	Engine      string  `json:"engine"`
	Model       string  `json:"model"`
	Version     int64   `json:"version"`
	Rows        int     `json:"rows"`
	P50Nanos    int64   `json:"p50Nanos"`
	P90Nanos    int64   `json:"p90Nanos"`
	P99Nanos    int64   `json:"p99Nanos"`
	P99Low      int64   `json:"p99LowNanos"`
	P99High     int64   `json:"p99HighNanos"`
	MaxNanos    int64   `json:"maxNanos"`
	AllocsPerOp float64 `json:"allocsPerOp"`
	BytesPerOp  float64 `json:"bytesPerOp"`
	CacheHits   int64   `json:"cacheHits"`
}

// Rollout tries another model on a share of the decisions, or beside all of them.
type Rollout struct {
	Model string  `json:"model"`
	Mode  string  `json:"mode"`
	Share float64 `json:"share,omitempty"`
}

// RolloutState is how a rollout goes, or how the last one ended.
type RolloutState struct {
	State  string          `json:"state"`
	Reason string          `json:"reason"`
	Model  string          `json:"model"`
	Mode   string          `json:"mode"`
	Share  float64         `json:"share"`
	Stable json.RawMessage `json:"stable"`
	Trial  json.RawMessage `json:"trial"`
}

// ModelList are the loaded models.
type ModelList struct {
	Models     []Model     `json:"models"`
	Engine     EngineState `json:"engine"`
	Publishers []string    `json:"publishers"`
}

// Model is a loaded model.
type Model struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"`
	Format  string `json:"format"`
	Bytes   int64  `json:"bytes"`
	Builtin bool   `json:"builtin"`
}

// ModelUpload is a model file with the manifest of its publisher.
type ModelUpload struct {
	Name     string `json:"name"`
	Data     []byte `json:"data"`
	Manifest []byte `json:"manifest,omitempty"`
}

// Trust are the keys of the publishers that are trusted.
type Trust struct {
	Ed25519 [][]byte `json:"ed25519"`
}
