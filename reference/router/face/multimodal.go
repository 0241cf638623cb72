package face

import (
	"bytes"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"image"
	_ "image/gif"  // the formats that are told apart
	_ "image/jpeg" //
	_ "image/png"  //
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/router/backend"
)

// Bounds of an invocation.
const (
	maxInputs = 16
	maxImage  = 8 << 20 // bytes
	maxURL    = 8192    // bytes
)

type invocation struct {
	Router string  `json:"router"`
	Inputs []input `json:"inputs"`
}

type input struct {
	Type      string `json:"type"`
	Text      string `json:"text"`
	Data      []byte `json:"data"`
	MediaType string `json:"mediaType"`
	URL       string `json:"url"`
}

type invoked struct {
	Decision router.Decision `json:"decision"`
	Backend  string          `json:"backend"`
	Output   string          `json:"output"`
}

// invoke sends a text with images to a backend that takes them. No URL is fetched.
func (f *Face) invoke(r *http.Request, s *router.Service, q *invocation) (any, error) {
	of, err := s.Router(q.Router)
	if err != nil {
		return nil, err
	}
	if len(q.Inputs) == 0 || len(q.Inputs) > maxInputs {
		return nil, bad("%d inputs, want 1 to %d", len(q.Inputs), maxInputs)
	}
	parts, texts, needed := []any{}, []string{}, []string{}
	for i, in := range q.Inputs {
		part, err := f.part(in)
		if err != nil {
			return nil, bad("input %d: %v", i, err)
		}
		parts = append(parts, part)
		if !slices.Contains(needed, in.Type) {
			needed = append(needed, in.Type)
		}
		if in.Type == router.Text {
			texts = append(texts, in.Text)
		}
	}
	text := strings.Join(texts, "\n")
	ask := router.DecideRequest{Text: &text}
	d, err := of.Decide(incoming(r), ask)
	if err != nil {
		return nil, err
	}
	order, _ := of.Serving(d, ask)
	b, err := f.taking(order, needed, d.Policy)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{
		"model": b.Spec.Model, "messages": []any{map[string]any{"role": "user", "content": parts}},
	})
	if err != nil {
		return nil, err
	}
	_, output, err := of.Chat(incoming(r), b, d, body)
	if err != nil {
		return nil, &problem{Status: http.StatusBadGateway, Reason: "upstream", Detail: err.Error()}
	}
	return invoked{d, b.Name, output}, nil
}

// taking returns the first backend that claims every modality.
func (f *Face) taking(order []*backend.Backend, needed []string, policy string) (*backend.Backend, error) {
	for _, b := range order {
		if f.cfg.Defects.On(defect.RouterModalityIgnored) || !slices.ContainsFunc(needed, func(m string) bool { return !b.Takes(m) }) {
			return b, nil
		}
	}
	return nil, &problem{
		Status: http.StatusUnprocessableEntity, Reason: "modality-unserved",
		Detail: "no backend of policy \"" + policy + "\" takes " + strings.Join(needed, " and "),
	}
}

// part checks an input and makes it a part of a chat message.
func (f *Face) part(in input) (any, error) {
	switch in.Type {
	case router.Text:
		if in.Text == "" || in.Data != nil || in.URL != "" || in.MediaType != "" {
			return nil, errors.New("a text has a text and nothing else")
		}
		return map[string]any{"type": "text", "text": in.Text}, nil
	case router.Image:
		if in.Text != "" || in.URL != "" {
			return nil, errors.New("an image has data and mediaType and nothing else")
		}
		if err := f.checkImage(in); err != nil {
			return nil, err
		}
		return imagePart("data:" + in.MediaType + ";base64," + base64.StdEncoding.EncodeToString(in.Data)), nil
	case router.ImageURL:
		if in.Text != "" || in.Data != nil || in.MediaType != "" {
			return nil, errors.New("an image-url has a url and nothing else")
		}
		if err := checkURL(in.URL); err != nil {
			return nil, err
		}
		if f.cfg.Defects.On(defect.RouterURLFetched) {
			fetch(in.URL)
		}
		return imagePart(in.URL), nil
	}
	return nil, errors.New("type is not text, image or image-url")
}

func imagePart(u string) any {
	return map[string]any{"type": "image_url", "image_url": map[string]string{"url": u}}
}

// checkImage decodes an image as far as its header.
func (f *Face) checkImage(in input) error {
	if len(in.Data) == 0 || len(in.Data) > maxImage {
		return errors.New("data has no bytes or more than 8 MiB")
	}
	if !slices.Contains([]string{"image/png", "image/jpeg", "image/gif"}, in.MediaType) {
		return errors.New("mediaType is not image/png, image/jpeg or image/gif")
	}
	if f.cfg.Defects.On(defect.RouterImageUnchecked) {
		return nil
	}
	_, format, err := image.DecodeConfig(bytes.NewReader(in.Data))
	if err != nil || "image/"+format != in.MediaType {
		return errors.New("data is not of type " + in.MediaType)
	}
	return nil
}

// checkURL says whether a URL may be handed on. Nothing is resolved or fetched.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return errors.New("url is not http or https with a host and without credentials")
	}
	return nil
}

// fetch is a planted defect: a router that does this asks whatever address a client names.
func fetch(u string) {
	response, err := http.Get(u) //nolint:gosec,noctx // the mistake is the point
	if err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxImage))
		_ = response.Body.Close()
	}
}
