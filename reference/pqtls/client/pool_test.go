package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/pqtls"
	"github.com/assay-bench/assay/reference/pqtls/client"
)

func TestReuse(t *testing.T) {
	s := serve(t, &tls.Config{NextProtos: []string{"echo"}}, nil)
	r := newRig(t)
	q := request(t, s)
	if got := r.must(t, q); got.Reused || got.ALPN != "echo" || got.Chain != 3 {
		t.Errorf("first: %+v", got)
	}
	if got := r.must(t, q); !got.Reused || got.Group != tls.X25519MLKEM768 || got.ALPN != "echo" {
		t.Errorf("second: %+v", got)
	}
	q.Pool = false
	if got := r.must(t, q); got.Reused || got.Resumed {
		t.Errorf("fresh: %+v", got)
	}
	want := client.Counters{Handshakes: map[string]int{"X25519MLKEM768": 2}, Reused: client.ByClass{PQ: 1},
		Requests: client.ByClass{PQ: 3}, Idle: 1, Open: 1}
	if diff := cmp.Diff(want, r.Counters()); diff != "" {
		t.Errorf("counters (-want +got)\n%s", diff)
	}
	r.Reset()
	if diff := cmp.Diff(client.Counters{Handshakes: map[string]int{}}, r.Counters()); diff != "" {
		t.Errorf("after a reset (-want +got)\n%s", diff)
	}
	q.Pool = true
	if got := r.must(t, q); got.Reused || got.Resumed {
		t.Errorf("after a reset: %+v", got)
	}
}

func TestLargeExchange(t *testing.T) {
	q := request(t, serve(t, &tls.Config{}, nil))
	q.Send = []byte(strings.Repeat("0123456789abcdef", 1<<16)) // more than fits into the sockets
	r := newRig(t)
	r.must(t, q)
	if got := r.must(t, q); !got.Reused {
		t.Errorf("%+v", got.Reused)
	}
}

// TestKeyIsComplete varies one field of the key at a time.
func TestKeyIsComplete(t *testing.T) {
	s, far := serve(t, &tls.Config{}, nil), serve(t, &tls.Config{}, nil)
	vary := map[string]func(*client.Request){
		"address":  func(q *client.Request) { q.Address = far.addr },
		"sni":      func(q *client.Request) { q.ServerName = "other.test" },
		"alpn":     func(q *client.Request) { q.ALPN = []string{"echo", "h2"} },
		"no alpn":  func(q *client.Request) { q.ALPN = nil },
		"policy":   func(q *client.Request) { q.Policy = pqtls.RequirePQ },
		"class":    func(q *client.Request) { q.Groups = []tls.CurveID{tls.X25519} },
		"group":    func(q *client.Request) { q.Groups = []tls.CurveID{tls.SecP256r1MLKEM768} },
		"staple":   func(q *client.Request) { q.Staple = client.StapleCheck },
		"clock":    func(q *client.Request) { q.At = time.Now() },
		"roots":    func(q *client.Request) { q.Roots = []*x509.Certificate{q.Roots[0], pkiOf(t).issuer} },
		"no field": nil,
	}
	shares := map[defect.Name]string{defect.PoolKeyWithoutSni: "sni", defect.PoolKeyWithoutAlpn: "alpn", defect.PoolKeyWithoutPolicy: "policy"}
	seen := 0
	for field, change := range vary {
		for _, planted := range []defect.Name{"", defect.PoolKeyWithoutSni, defect.PoolKeyWithoutAlpn, defect.PoolKeyWithoutPolicy} {
			seen++
			r := newRig(t, planted)
			q := request(t, s)
			r.must(t, q)
			if change != nil {
				change(&q)
			}
			shared := change == nil || strings.HasSuffix(field, shares[planted]) && shares[planted] != ""
			if got := r.must(t, q); got.Reused != shared || !shared && field != "group" && got.Resumed {
				t.Errorf("%s with %q: %+v", field, planted, got)
			}
		}
	}
	if seen == 0 {
		t.Fatal("no fields")
	}
}

func TestBounded(t *testing.T) {
	for _, planted := range []defect.Name{"", defect.PoolUnbounded} {
		s := serve(t, &tls.Config{}, meeting(12))
		r := newRig(t, planted)
		q := request(t, s)
		r.together(t, 12, q)
		want := 8
		if planted != "" {
			want = 12
		}
		if n := r.Counters(); n.Idle != want || n.Open != want || n.IdleClosed != 12-want {
			t.Errorf("%q: %+v", planted, n)
		}
		eventually(t, "the close of the surplus", func() bool { return s.open.Load() == int64(want) })
		if err := r.SetLimits(client.Limits{MaxIdle: 3}); err != nil {
			t.Fatal(err)
		}
		if n := r.Counters(); planted == "" && (n.Idle != 3 || n.IdleClosed != 9) {
			t.Errorf("after a lower limit: %+v", n)
		}
	}
	if err := newRig(t).SetLimits(client.Limits{MaxAge: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
}

func TestIdleAndAge(t *testing.T) {
	s := serve(t, &tls.Config{}, nil)
	r, unbounded := newRig(t), newRig(t, defect.PoolUnbounded)
	q := request(t, s)
	r.must(t, q)
	unbounded.must(t, q)
	r.clock.advance(89 * time.Second)
	if got := r.must(t, q); !got.Reused {
		t.Errorf("after 89 s: %+v", got)
	}
	r.clock.advance(89 * time.Second)
	r.clock.advance(time.Second)
	if n := r.Counters(); n.Idle != 0 || n.Open != 0 || n.IdleClosed != 1 {
		t.Errorf("after 90 s of idleness: %+v", n)
	}
	r.must(t, q)
	for range 9 { // used every minute, but too old in the end
		r.clock.advance(time.Minute)
		r.must(t, q)
	}
	if n := r.Counters(); n.AgeClosed != 0 || n.Idle != 1 {
		t.Errorf("after 9 min: %+v", n)
	}
	r.clock.advance(time.Minute)
	if n := r.Counters(); n.AgeClosed != 1 || n.Idle != 0 {
		t.Errorf("after 10 min: %+v", n)
	}
	if err := r.SetLimits(client.Limits{MaxAge: time.Millisecond, IdleTimeout: time.Hour}); err != nil {
		t.Fatal(err)
	}
	r.must(t, q)
	r.clock.advance(time.Millisecond)
	if n := r.Counters(); n.AgeClosed != 2 {
		t.Errorf("after 1 ms: %+v", n)
	}
	unbounded.clock.advance(time.Hour)
	if got := unbounded.must(t, q); !got.Reused {
		t.Errorf("without limits: %+v", got)
	}
}

// TestBrokenIsNotReused lets a server misbehave after its answer, in the same record or later.
func TestBrokenIsNotReused(t *testing.T) {
	answer := func(c *tls.Conn, extra string) bool {
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if err != nil {
			return false
		}
		_, err = c.Write(append(buf[:n], extra...))
		return err == nil
	}
	cases := map[string]func(*tls.Conn, *server){
		"unread data in the record": func(c *tls.Conn, s *server) {
			if answer(c, "!") {
				echo(c, s)
			}
		},
		"unread data in the next record": func(c *tls.Conn, s *server) {
			if answer(c, "") {
				_, _ = c.Write([]byte("!"))
				echo(c, s)
			}
		},
		"end of the stream": func(c *tls.Conn, _ *server) { answer(c, "") },
		"end of the connection": func(c *tls.Conn, _ *server) {
			answer(c, "")
			_ = c.NetConn().Close()
		},
		"a record that is none": func(c *tls.Conn, s *server) {
			if answer(c, "") {
				_, _ = c.NetConn().Write([]byte{23, 3, 3, 0, 1, 0})
				_, _ = c.Read(make([]byte, 1))
			}
		},
	}
	seen := 0
	for name, misbehave := range cases {
		seen++
		s := serve(t, &tls.Config{}, misbehave)
		r := newRig(t)
		q := request(t, s)
		r.must(t, q)
		eventually(t, name+": the close", func() bool { return r.Counters().ErrorClosed == 1 })
		if got := r.must(t, q); got.Reused || s.accepted.Load() != 2 {
			t.Errorf("%s: %+v, %d connections", name, got, s.accepted.Load())
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
	s := serve(t, &tls.Config{}, cases["unread data in the record"])
	r := newRig(t, defect.PoolReusesBroken)
	q := request(t, s)
	r.must(t, q)
	if got, err := r.Do(t.Context(), q); err != nil || !got.Reused || string(got.Received) != "!hell" {
		t.Errorf("planted: %+v %q, %v", got, got.Received, err)
	}
}

func TestClassesAreSeparate(t *testing.T) {
	for _, planted := range []defect.Name{"", defect.PoolClassShared} {
		s := serve(t, &tls.Config{}, nil) // does not bind its tickets
		r := newRig(t, planted)
		hybrid, classical := request(t, s), request(t, s)
		hybrid.Groups, classical.Groups = []tls.CurveID{tls.X25519MLKEM768}, []tls.CurveID{tls.X25519}
		r.must(t, hybrid)
		if got := r.must(t, classical); got.Resumed != (planted != "") {
			t.Errorf("%q: classical after hybrid: %+v", planted, got)
		}
		r.clock.advance(time.Hour) // closes both, keeps their sessions
		if got := r.must(t, classical); !got.Resumed || got.Reused || got.Class != pqtls.Classical {
			t.Errorf("%q: classical after classical: %+v", planted, got)
		}
		if got := r.must(t, hybrid); !got.Resumed || got.Class != pqtls.PQ {
			t.Errorf("%q: hybrid after hybrid: %+v", planted, got)
		}
		if n := r.Counters().Resumed; planted == "" && n != (client.ByClass{PQ: 1, Classical: 1}) {
			t.Errorf("%q: resumed %+v", planted, n)
		}
	}
}

// TestServerChangesClass: under prefer-pq the class of a session is known and that of the handshake is
// not. A server that resumes it under the other class is not followed.
func TestServerChangesClass(t *testing.T) {
	var mu sync.Mutex
	groups := pqtls.AllGroups()
	base := &tls.Config{Certificates: []tls.Certificate{*pkiOf(t).leaf}}
	base.SetSessionTicketKeys([][32]byte{{1}})
	s := serve(t, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		own := base.Clone()
		own.CurvePreferences = groups
		return own, nil
	}}, nil)
	r := newRig(t)
	q := request(t, s)
	for i, next := range [][]tls.CurveID{pqtls.AllGroups(), pqtls.ClassicalGroups(), pqtls.AllGroups()} {
		mu.Lock()
		groups = next
		mu.Unlock()
		if got := r.must(t, q); got.Resumed || got.Reused {
			t.Errorf("dial %d: %+v", i, got)
		}
		r.clock.advance(time.Hour)
	}
	if n := r.Counters(); n.Fallbacks != 1 || n.Resumed != (client.ByClass{}) {
		t.Errorf("%+v", n)
	}
	if !strings.Contains(r.log.String(), "handshake from scratch") {
		t.Errorf("log %s", r.log)
	}
}

func TestParallelResumptions(t *testing.T) {
	for _, planted := range []defect.Name{"", defect.PoolTicketReused} {
		var mu sync.Mutex
		identities := map[string]int{}
		config := &tls.Config{}
		config.UnwrapSession = func(identity []byte, st tls.ConnectionState) (*tls.SessionState, error) {
			mu.Lock()
			defer mu.Unlock()
			identities[string(identity)]++
			return config.DecryptTicket(identity, st)
		}
		s := serve(t, config, meeting(4))
		r := newRig(t, planted)
		q := request(t, s)
		resumed := 0 // how many depends on who is first: a ticket comes before the answer
		for range 4 {
			for _, got := range r.together(t, 4, q) {
				if got.Resumed {
					resumed++
				}
			}
			r.clock.advance(time.Hour)
		}
		if resumed < 8 {
			t.Errorf("%q: %d of 16 resumed", planted, resumed)
		}
		mu.Lock()
		if most := slices.Max(slices.Collect(maps.Values(identities))); (most > 1) != (planted != "") {
			t.Errorf("%q: an identity was offered %d times", planted, most)
		}
		mu.Unlock()
	}
}

// TestPlantedHandshake runs the pool over the implementation that has planted defects of the client.
func TestPlantedHandshake(t *testing.T) {
	s := serve(t, &tls.Config{NextProtos: []string{"echo"}}, nil)
	r := newRig(t, defect.TLSClientPskKeOffered)
	q := request(t, s)
	if got := r.must(t, q); got.Group != tls.X25519MLKEM768 || got.Chain != 3 || got.ALPN != "echo" {
		t.Errorf("first: %+v", got)
	}
	if got := r.must(t, q); !got.Reused {
		t.Errorf("second: %+v", got)
	}
	r.clock.advance(time.Hour)
	if got := r.must(t, q); !got.Resumed {
		t.Errorf("third: %+v", got)
	}
	q.Roots = nil
	r.fails(t, q, client.Verify)
	q.Policy = pqtls.RequirePQ
	q.Address = serve(t, &tls.Config{CurvePreferences: pqtls.ClassicalGroups()}, nil).addr
	r.fails(t, q, client.PolicyRefused)
}

func TestManyBuckets(t *testing.T) {
	s := serve(t, &tls.Config{}, nil)
	r := newRig(t)
	q := request(t, s)
	q.Groups = []tls.CurveID{tls.X25519}
	for i := range 300 {
		q.ALPN = []string{fmt.Sprint(i)}
		r.must(t, q)
	}
	if n := r.Counters(); n.Idle != 256 || n.Open != 256 {
		t.Errorf("%d idle, %d open", n.Idle, n.Open)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s := serve(t, &tls.Config{}, nil)
	hung := raw(t, hang(t))
	r := newRig(t)
	q := request(t, s)
	r.must(t, q)
	waiting := request(t, hung)
	ended := make(chan error, 1)
	go func() {
		_, err := r.Do(t.Context(), waiting)
		ended <- err
	}()
	eventually(t, "the dial", func() bool { return strings.Contains(stacks(), "(*Client).dial(") })
	r.Close()
	if code := codeOf(<-ended); code != client.Deadline {
		t.Errorf("a dial in progress ends with %q", code)
	}
	if s := stacks(); strings.Contains(s, "pqtls/client.(*") {
		t.Errorf("goroutines are left:\n%s", s)
	}
	if n := r.Counters(); n.Open != 0 || n.Idle != 0 {
		t.Errorf("%+v", n)
	}
	r.fails(t, q, client.DialFailed)
	r.Close()
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
