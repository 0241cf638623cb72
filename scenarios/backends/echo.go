package backends

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxEcho is the largest body in bytes that the echo takes; a larger one is answered 413.
const maxEcho = 1 << 20

// serveEcho answers every HTTP/1.1 request with its own body.
func (b *Backends) serveEcho(l net.Listener) (stop func() error) {
	return serveHTTP(l, http.HandlerFunc(b.echo))
}

func (b *Backends) echo(w http.ResponseWriter, r *http.Request) {
	a := Arrival{Backend: HTTPEcho, Method: r.Method, Path: r.URL.Path, Headers: names(r.Header, strings.ToLower), Peer: r.RemoteAddr}
	defer func() { b.witness(a) }()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEcho))
	a.Received = int64(len(body))
	if err != nil {
		a.Status = http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			a.Status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the body can not be echoed", a.Status)
		return
	}
	a.Status = http.StatusOK
	w.Header().Set("Content-Type", "application/octet-stream")
	n, _ := w.Write(body) // that the peer went away shows in the count
	a.Sent = int64(n)
}

// serveHTTP serves HTTP/1.1 with the bounds that all upstreams have.
func serveHTTP(l net.Listener, h http.Handler) (stop func() error) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
		Protocols:         new(http.Protocols),
	}
	srv.Protocols.SetHTTP1(true)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err != nil {
			err = srv.Close()
		}
		if serr := <-served; err == nil && !errors.Is(serr, http.ErrServerClosed) {
			err = serr
		}
		return err
	}
}
