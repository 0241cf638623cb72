package proxywasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/assay-bench/assay/reference/defect"
)

// maxBody bounds the body of a request and of a response, in bytes.
const maxBody = 1 << 20

var (
	errLocal    = errors.New("answered by the filter")
	errTooLarge = errors.New("body is larger than 1 MiB")
	errBadPath  = errors.New("the filter left no valid request target")
)

// clientError is a failure to read the request, upstreamError one of the upstream.
type clientError struct{ error }
type upstreamError struct{ error }

func (e clientError) Unwrap() error   { return e.error }
func (e upstreamError) Unwrap() error { return e.error }

// exchange is one request on its way through the filter.
type exchange struct {
	proxy    *Proxy
	filter   *Filter
	upstream string
	request  *http.Request
	writer   http.ResponseWriter
	stream   *stream // nil when the filter never saw the request
	body     []byte  // of the response
}

// run takes the request to the upstream and returns the answer. It writes nothing.
func (x *exchange) run() answer {
	headers := requestFields(x.request)
	if !headers.fits() {
		return failed(http.StatusRequestHeaderFieldsTooLarge, "refused", "too many header fields")
	}
	s := newStream(headers, x.request.Proto)
	if err := x.filter.open(s); err != nil {
		return x.failure(err)
	}
	x.stream = s
	err := x.takeRequest()
	if err == nil {
		err = x.forward()
	}
	if err == nil {
		err = x.takeResponse()
	}
	return x.answer(err)
}

// answer is what the client gets after the stream came to an end with err.
func (x *exchange) answer(err error) answer {
	x.filter.sent(x.stream)
	if local := x.filter.localOf(x.stream); local != nil && (err == nil || errors.Is(err, errLocal)) {
		return answer{status: local.status, headers: local.headers, body: local.body, outcome: "local"}
	}
	if err != nil {
		return x.failure(err)
	}
	headers, trailers := x.filter.snapshot(x.stream, response)
	status, err := strconv.Atoi(headers.first(keyStatus, "200"))
	if err != nil {
		return x.failure(upstreamError{err})
	}
	return answer{status: status, headers: headers, trailers: trailers, body: x.body, outcome: "forwarded"}
}

// failure is the answer to an error.
func (x *exchange) failure(err error) answer {
	var trap *Trap
	var client clientError
	var upstream upstreamError
	switch {
	case errors.Is(err, errStreamReset):
		return answer{reset: true, outcome: "reset"}
	case x.request.Context().Err() != nil:
		return answer{reset: true, outcome: "client-gone"}
	case errors.As(err, &client) && errors.Is(err, errTooLarge):
		return failed(http.StatusRequestEntityTooLarge, "refused", err.Error())
	case errors.As(err, &client) && errors.Is(err, os.ErrDeadlineExceeded):
		return failed(http.StatusRequestTimeout, "refused", "the body did not come in time")
	case errors.As(err, &client):
		return failed(http.StatusBadRequest, "refused", err.Error())
	case errors.Is(err, errPaused):
		return failed(http.StatusGatewayTimeout, "paused", err.Error())
	case errors.Is(err, errOverload):
		return failed(http.StatusServiceUnavailable, "overload", err.Error())
	case errors.As(err, &upstream) && (errors.Is(err, context.DeadlineExceeded) || timedOut(err)):
		return failed(http.StatusGatewayTimeout, "upstream-timeout", err.Error())
	case errors.As(err, &upstream):
		return failed(http.StatusBadGateway, "upstream", err.Error())
	case errors.As(err, &trap):
		return failed(http.StatusInternalServerError, "trap", err.Error())
	}
	return failed(http.StatusInternalServerError, "filter", err.Error())
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// takeRequest runs the callbacks of the request until it may be sent upstream.
func (x *exchange) takeRequest() error {
	eos := x.request.Body == nil || x.request.Body == http.NoBody || x.request.ContentLength == 0
	if err := x.filter.headers(x.stream, request, eos); err != nil {
		return err
	}
	if x.answeredLocally() {
		return errLocal
	}
	if !eos {
		body, err := x.readRequest()
		if err != nil {
			return err
		}
		if err := x.filter.bodyAndTrailers(x.stream, request, body, endToEnd(x.request.Trailer)); err != nil {
			return err
		}
	}
	return x.proceed(request, phaseUpstream)
}

// proceed waits while the direction is paused and enters the next phase.
func (x *exchange) proceed(d direction, next phase) error {
	if err := x.filter.await(x.request.Context(), x.stream, d); err != nil {
		return err
	}
	if x.filter.enterPhase(x.stream, next) != nil && !x.filter.on(defect.SandboxProxyLocalForwarded) {
		return errLocal
	}
	return nil
}

func (x *exchange) answeredLocally() bool {
	return x.filter.localOf(x.stream) != nil && !x.filter.on(defect.SandboxProxyLocalForwarded)
}

func (x *exchange) readRequest() ([]byte, error) {
	control := http.NewResponseController(x.writer)
	// A writer without deadlines belongs to a test; a server's has them.
	_ = control.SetReadDeadline(time.Now().Add(readLimit))
	defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	body, err := readAll(x.request.Body)
	if err != nil {
		return nil, clientError{fmt.Errorf("request body: %w", err)}
	}
	return body, nil
}

// readAll reads a body that is no larger than maxBody.
func readAll(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = errTooLarge
	}
	return body, err
}

// forward sends the request upstream and takes its response in full.
func (x *exchange) forward() error {
	ctx, cancel := context.WithTimeout(x.request.Context(), upstreamLimit)
	defer cancel()
	out, err := x.outgoing(ctx)
	if err != nil {
		return err
	}
	resp, err := x.proxy.transport.RoundTrip(out)
	if err != nil {
		return upstreamError{fmt.Errorf("upstream %s: %w", x.upstream, err)}
	}
	defer func() { _ = resp.Body.Close() }() // read in full or given up
	if !finalStatus(resp.StatusCode) {       // an upgrade that nobody asked for, or no status of HTTP
		return upstreamError{fmt.Errorf("upstream %s: status %d", x.upstream, resp.StatusCode)}
	}
	if x.body, err = readAll(resp.Body); err != nil {
		return upstreamError{fmt.Errorf("response body of upstream %s: %w", x.upstream, err)}
	}
	x.filter.receive(x.stream, responseFields(resp))
	return x.callResponse(endToEnd(resp.Trailer))
}

// outgoing is the request as the filter left it.
func (x *exchange) outgoing(ctx context.Context) (*http.Request, error) {
	headers, trailers := x.filter.snapshot(x.stream, request)
	if x.filter.on(defect.SandboxProxyRequestUnedited) {
		headers = requestFields(x.request)
	}
	target, err := url.ParseRequestURI(headers.first(keyPath, x.request.URL.RequestURI()))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadPath, err)
	}
	target.Scheme, target.Host = "http", x.upstream
	out := &http.Request{Method: headers.first(keyMethod, x.request.Method), URL: target,
		Host: headers.first(keyAuthority, x.request.Host), Header: headers.header(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	if out.Header["User-Agent"] == nil {
		out.Header["User-Agent"] = []string{""} // or the client of net/http adds its own
	}
	out.Header.Add("Via", "1.1 assay") // RFC 9110 section 7.6.3
	if body := x.stream.body[request]; len(body) > 0 {
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, _ = out.GetBody() // has no error to return
		out.ContentLength = int64(len(body))
		if len(trailers) > 0 {
			out.Trailer, out.ContentLength = trailers.header(), -1
		}
	}
	return out.WithContext(ctx), nil
}

// callResponse runs the callbacks of the response, as far as no local response takes its place.
func (x *exchange) callResponse(trailers fields) error {
	eos := len(x.body) == 0 && len(trailers) == 0
	if err := x.filter.headers(x.stream, response, eos); err != nil || eos || x.filter.localOf(x.stream) != nil {
		return err
	}
	return x.filter.bodyAndTrailers(x.stream, response, x.body, trailers)
}

// takeResponse waits until the filter lets the response go.
func (x *exchange) takeResponse() error { return x.proceed(response, phaseDone) }
