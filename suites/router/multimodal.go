package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net"
	"net/http"
	"strings"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/scenarios"
	scenario "github.com/assay-bench/assay/scenarios/router"
	"github.com/assay-bench/assay/suites"
)

// Input is a part of a multimodal request.
type Input struct {
	Type      string `json:"type"` // text, image or image-url
	Text      string `json:"text,omitempty"`
	Data      []byte `json:"data,omitempty"`
	MediaType string `json:"mediaType,omitempty"`
	URL       string `json:"url,omitempty"`
}

// Invocation is a multimodal request.
type Invocation struct {
	Router string  `json:"router"`
	Inputs []Input `json:"inputs"`
}

// Answer is what came of it.
type Answer struct {
	Backend string `json:"backend"`
	Output  string `json:"output"`
}

const (
	reasonUnserved = "unserved"     // what a backend takes was refused
	reasonWrongOne = "wrong-reason" // refused for another reason
	invokePath     = "/v1/multimodal/invoke"
)

// picture is a PNG of one pixel.
func picture() []byte {
	var out bytes.Buffer
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 1, 1))); err != nil {
		panic(err) // writing to memory: can not happen
	}
	return out.Bytes()
}

func words() Input { return Input{Type: "text", Text: example(1, 0)} }

// invoke makes a fleet of one backend with modalities, and sends inputs.
func invoke(modalities []string, inputs ...Input) func(context.Context, *fleet) error {
	return func(ctx context.Context, f *fleet) error {
		if err := f.served(ctx, scenario.Policy{Backends: []string{"openai-1"}}, scenario.Backend{Modalities: modalities}); err != nil {
			return err
		}
		if _, err := f.whole(ctx, "invoke", http.MethodPost, invokePath, Invocation{f.Router(), inputs}, nil); err != nil {
			return err
		}
		return f.up.Look(ctx, "invoke")
	}
}

// reached judges a request that the backend has to get.
func reached(s *story) (string, string) {
	a, ok := read[Answer](s, "invoke")
	observed := s.describe("invoke") + "; " + arrived(s.arrivals["invoke"])
	switch {
	case !ok || len(s.chatsAt("invoke")) != 1:
		return reasonUnserved, observed
	case a.Backend != "openai-1" || !strings.HasPrefix(a.Output, "openai-1 "):
		return reasonOtherAnswer, observed + fmt.Sprintf("; output %.80q of %q", a.Output, a.Backend)
	}
	return "", observed
}

// turned judges a request that must be refused with a status and a reason, and reach nobody.
func turned(status int, why string) func(*story) (string, string) {
	return func(s *story) (string, string) {
		p, ok := s.calls["invoke"].Problem()
		observed := s.describe("invoke") + "; " + arrived(s.arrivals["invoke"])
		switch {
		case len(s.chatsAt("invoke")) > 0 || s.calls["invoke"].Good():
			return reasonTaken, observed
		case !ok || p.Status != status || why != "" && p.Reason != why:
			return reasonWrongOne, observed
		}
		return "", observed
	}
}

// fleetCases makes a check whose cases each drive a fleet of one upstream.
func fleetCases(c suites.Check, want string, own []string, cases map[string]fleetCase) suites.Check {
	for _, id := range sortedKeys(cases) {
		c.Cases = append(c.Cases, suites.Case{ID: id, Title: cases[id].title})
	}
	drive := func(ctx context.Context, f *fleet) error { return cases[f.env.Key.Case].drive(ctx, f) }
	c = fleetRow(c, 1, want, own, drive, nil)
	c.Judge = judging(want, func(t suites.Trace, s *story) suites.Finding {
		reason, observed := cases[t.Key.Case].wrong(s)
		return s.verdict(reason, observed)
	})
	return c
}

type fleetCase struct {
	title string
	drive func(context.Context, *fleet) error
	wrong func(*story) (string, string)
}

var _ = add(fleetCases(suites.Check{
	ID: "router/multimodal/served", Title: "an image goes only to a backend that takes images",
	Needs: []features.Feature{features.RouterMultimodal},
	Kills: kills(killIn("image-to-text", reasonTaken, "router.modality-ignored"), killIn("broken", reasonTaken, "router.image-unchecked"),
		killIn("other", reasonTaken, "router.image-unchecked")),
}, "what a backend takes is answered by it; the rest is refused with 422 or 400 and reaches nobody", []string{reasonUnserved, reasonOtherAnswer, reasonTaken, reasonWrongOne},
	map[string]fleetCase{
		"text":          {"a text", invoke([]string{"text"}, words()), reached},
		"image":         {"a text and a PNG, and a backend that takes both", invoke([]string{"text", "image"}, words(), Input{Type: "image", Data: picture(), MediaType: "image/png"}), reached},
		"image-to-text": {"a PNG, and a backend that takes text alone", invoke([]string{"text"}, words(), Input{Type: "image", Data: picture(), MediaType: "image/png"}), turned(422, "modality-unserved")},
		"url-to-text":   {"the URL of an image, and a backend that takes text alone", invoke([]string{"text"}, words(), Input{Type: "image-url", URL: "http://127.0.0.1:9/x.png"}), turned(422, "modality-unserved")},
		"broken":        {"bytes that are no PNG", invoke([]string{"text", "image"}, words(), Input{Type: "image", Data: []byte("\x89PNG not"), MediaType: "image/png"}), turned(400, "")},
		"other":         {"a PNG that is called a JPEG", invoke([]string{"text", "image"}, words(), Input{Type: "image", Data: picture(), MediaType: "image/jpeg"}), turned(400, "")},
	}))

const reasonFetched = "fetched" // the router fetched a URL that a client gave

var _ = add(fleetCases(suites.Check{
	ID: "router/multimodal/no-fetch", Title: "the router never fetches the URL of an image",
	Needs: []features.Feature{features.RouterMultimodal},
	Kills: kill(reasonFetched, "router.url-fetched"),
}, "the URL's server sees no connection, whether the request is handed on or refused", []string{reasonUnserved, reasonTaken, reasonFetched, reasonMissing},
	map[string]fleetCase{
		"taken":   {"a backend that takes URLs", driveURL([]string{"text", "image-url"}), judgeURL},
		"refused": {"a backend that takes text alone", driveURL([]string{"text"}), judgeURL},
	}))

// driveURL gives the URL of a listener of its own, and counts its connections.
func driveURL(modalities []string) func(context.Context, *fleet) error {
	return func(ctx context.Context, f *fleet) (err error) {
		trap, err := newBait()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, trap.listen.Close()) }()
		if err := invoke(modalities, words(), Input{Type: "image-url", URL: "http://" + trap.addr() + "/x.png"})(ctx, f); err != nil {
			return err
		}
		n, err := trap.count(ctx, f.env)
		if err != nil {
			return err
		}
		return f.record(touched, Touched{Connections: n, Decisions: 1})
	}
}

// bait is a listener on loopback that nobody should connect to.
type bait struct {
	listen net.Listener
	peers  chan string // addresses of those who did
}

// maxPeers bounds the connections that are told apart.
const maxPeers = 1024

func newBait() (*bait, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bait: %w", err)
	}
	b := &bait{l, make(chan string, maxPeers)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case b.peers <- conn.RemoteAddr().String():
			default:
			}
			_ = conn.Close()
		}
	}()
	return b, nil
}

func (b *bait) addr() string { return b.listen.Addr().String() }

// count is how many connections came since the last count. It makes one itself and waits for that: the kernel
// hands them out in their order.
func (b *bait) count(ctx context.Context, env *scenarios.Env) (n int64, err error) {
	conn, err := env.Dial(ctx, "tcp", b.addr())
	if err != nil {
		return 0, fmt.Errorf("bait: %w", err)
	}
	defer func() { _ = conn.Close() }() // it has served
	for {
		select {
		case peer := <-b.peers:
			if peer == conn.LocalAddr().String() {
				return n, nil
			}
			n++
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
}

func judgeURL(s *story) (string, string) {
	x, ok := the[Touched](s, touched)
	c := s.calls["invoke"]
	observed := fmt.Sprintf("%s; %d connections to the URL; %s", s.describe("invoke"), x.Connections, arrived(s.arrivals["invoke"]))
	switch {
	case !ok:
		return reasonMissing, observed
	case x.Connections > 0:
		return reasonFetched, observed
	case c.Good() && len(s.chatsAt("invoke")) != 1:
		return reasonUnserved, observed
	case c.Status >= 500:
		return reasonMissing, observed
	}
	return "", observed
}
