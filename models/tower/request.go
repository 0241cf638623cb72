// Package tower encodes a whole request, not its text alone, as 128 numbers: a behaviour tower (Time2Vec over
// access times, latency), a context tower (learned embeddings of region, device, ASN, error code and path) and
// a text tower (the vector of a text encoder), projected together and normalised. It trains and exports; the
// engines execute. It decides nothing and opens no files.
//
// Time2Vec: Kazemi and others, "Time2Vec: Learning a Vector Representation of Time", arXiv 1907.05321.
package tower

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"

	"github.com/assay-bench/assay/models/engine"
)

// MaxAccesses is how many access times count: the newest.
const MaxAccesses = 64

// ErrRequest is wrapped where a request cannot be encoded.
var ErrRequest = errors.New("request")

// Request is what is known of a request before it is routed. The zero value of a field is "unknown".
type Request struct {
	Text      string // for the text encoder; the towers see its vector
	URL       string
	UserAgent string
	Region    string
	ASN       uint32        // autonomous system of the client
	Latency   time.Duration // of the last answer to this client
	ErrorCode int           // of the last answer to this client: an HTTP status, 100 to 599
	At        time.Time     // when the request came
	Accesses  []time.Time   // earlier requests of this client, the newest last
}

// Device is the kind of client that a user agent names.
type Device int64

// The kinds of client.
const (
	UnknownDevice Device = iota
	Desktop
	Mobile
	Tablet
	Bot
	Tool // a library or command-line client
)

// deviceMarks are substrings of lower-case user agents, the first match counts.
var deviceMarks = []struct {
	mark   string
	device Device
}{
	{"bot", Bot}, {"crawler", Bot}, {"spider", Bot},
	{"curl/", Tool}, {"wget/", Tool}, {"python-", Tool}, {"go-http-client", Tool}, {"okhttp", Tool}, {"java/", Tool}, {"node", Tool}, {"postman", Tool}, {"grpc-", Tool},
	{"ipad", Tablet}, {"tablet", Tablet},
	{"mobi", Mobile}, {"iphone", Mobile}, {"android", Mobile},
	{"windows nt", Desktop}, {"macintosh", Desktop}, {"x11", Desktop}, {"cros", Desktop},
}

// DeviceOf returns the kind of client of a user agent. Only its first 512 bytes are looked at.
func DeviceOf(userAgent string) Device {
	ua := strings.ToLower(userAgent[:min(len(userAgent), 512)])
	for _, m := range deviceMarks {
		if strings.Contains(ua, m.mark) {
			return m.device
		}
	}
	return UnknownDevice
}

// The sizes of the context tower's tables. Rows of a field stand one after another in one table; row 0 of each
// is "unknown". Regions, systems and paths are hashed: two may share a row.
const (
	regions = 64
	devices = 6
	systems = 256
	codes   = 64
	paths   = 256
	fields  = 5

	regionAt = 0
	deviceAt = regionAt + regions
	systemAt = deviceAt + devices
	codeAt   = systemAt + systems
	pathAt   = codeAt + codes
	rows     = pathAt + paths
)

// behaviours are the numbers of the behaviour tower beside the times.
const behaviours = 3

// Input is a request as the graph takes it, in memory that is kept from request to request. It serves one
// goroutine.
type Input struct {
	times     [MaxAccesses]float32 // days since Monday 00:00 UTC
	n         int
	behaviour [behaviours]float32 // log1p of latency in ms, of accesses, of the mean gap in s
	context   [fields]int64
	text      [engine.Dimension]float32
}

// Set fills the input. text is the vector of the request's text, of norm 1, or nil where there is none.
// Errors wrap ErrRequest: no time, a negative latency, a code that is none, accesses out of order, a vector
// of another length or that is not finite.
func (in *Input) Set(r *Request, text []float32) error {
	switch {
	case r.At.IsZero():
		return fmt.Errorf("%w: no time of arrival", ErrRequest)
	case r.Latency < 0:
		return fmt.Errorf("%w: a latency of %v", ErrRequest, r.Latency)
	case r.ErrorCode != 0 && (r.ErrorCode < 100 || r.ErrorCode > 599):
		return fmt.Errorf("%w: error code %d, want 0 or 100 to 599", ErrRequest, r.ErrorCode)
	}
	if err := in.setText(text); err != nil {
		return err
	}
	if err := in.setTimes(r); err != nil {
		return err
	}
	in.behaviour[0] = float32(math.Log1p(float64(r.Latency) / float64(time.Millisecond)))
	in.context = [fields]int64{
		regionAt + hashed(strings.TrimSpace(r.Region), regions),
		deviceAt + int64(DeviceOf(r.UserAgent)),
		systemAt + number(uint64(r.ASN), systems),
		codeAt + codeRow(r.ErrorCode),
		pathAt + hashed(firstSegment(r.URL), paths),
	}
	return nil
}

func (in *Input) setText(text []float32) error {
	if text == nil {
		clear(in.text[:])
		return nil
	}
	if len(text) != len(in.text) {
		return fmt.Errorf("%w: a text vector of %d numbers, want %d", ErrRequest, len(text), len(in.text))
	}
	if norm := engine.Norm(text); !(norm <= 1.001) { // NaN compares false
		return fmt.Errorf("%w: a text vector of length %v, want 1", ErrRequest, norm)
	}
	if &text[0] != &in.text[0] { // it is there already
		copy(in.text[:], text)
	}
	return nil
}

// setTimes takes the newest accesses and the request itself, so there is always one.
func (in *Input) setTimes(r *Request) error {
	earlier := r.Accesses[max(0, len(r.Accesses)-(MaxAccesses-1)):]
	in.n = 0
	for i, t := range earlier {
		if t.After(r.At) || (i > 0 && t.Before(earlier[i-1])) {
			return fmt.Errorf("%w: access %d is out of order", ErrRequest, i)
		}
		in.times[in.n] = dayOfWeek(t)
		in.n++
	}
	in.times[in.n] = dayOfWeek(r.At)
	in.n++
	in.behaviour[1], in.behaviour[2] = float32(math.Log1p(float64(in.n))), 0
	if len(earlier) > 0 {
		gap := r.At.Sub(earlier[0]).Seconds() / float64(len(earlier))
		in.behaviour[2] = float32(math.Log1p(gap))
	}
	return nil
}

// dayOfWeek returns days since Monday 00:00 UTC, below 7. The Unix epoch was a Thursday.
func dayOfWeek(t time.Time) float32 {
	const day, week = 24 * 60 * 60, 7 * 24 * 60 * 60
	seconds := (t.Unix() + 3*day) % week
	if seconds < 0 {
		seconds += week
	}
	return float32(float64(seconds) / day)
}

// hashed returns a row of a field: 0 where there is nothing, otherwise one of the others.
func hashed(s string, rows int64) int64 {
	if s == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s[:min(len(s), 1024)])) // a hash never fails
	return 1 + int64(h.Sum64()%uint64(rows-1))
}

// number is hashed of a number: SplitMix64's finaliser.
func number(x uint64, rows int64) int64 {
	if x == 0 {
		return 0
	}
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return 1 + int64((x^x>>31)%uint64(rows-1))
}

// codeRow gives the classes their own rows and the usual codes theirs: 100 to 599 in steps of 100, then by
// the last two digits of 4xx and 5xx.
func codeRow(code int) int64 {
	switch {
	case code == 0:
		return 0
	case code >= 500 && code < 520:
		return int64(6 + code - 500)
	case code >= 400 && code < 430:
		return int64(26 + code - 400)
	}
	return int64(code / 100)
}

// firstSegment returns the first segment of a URL's path.
func firstSegment(url string) string {
	if i := strings.Index(url, "://"); i >= 0 {
		url = url[i+3:]
		j := strings.IndexByte(url, '/')
		if j < 0 {
			return ""
		}
		url = url[j:]
	}
	url = strings.TrimLeft(url, "/")
	if i := strings.IndexAny(url, "/?#"); i >= 0 {
		url = url[:i]
	}
	return url
}
