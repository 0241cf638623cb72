package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// servers answer all workloads, from this process: their CPU is not counted.
type servers struct {
	addr map[string]string // by workload
	ends []func()
}

func (s *servers) close() {
	for _, end := range s.ends {
		end()
	}
}

func serve() (*servers, error) {
	s := &servers{addr: map[string]string{}}
	for name, start := range map[string]func(net.Listener) func(){"tcp": echoTCP, "http": answerHTTP, "grpc": answerGRPC} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			s.close()
			return nil, err
		}
		s.addr[name] = l.Addr().String()
		s.ends = append(s.ends, start(l))
	}
	return s, nil
}

func echoTCP(l net.Listener) (end func()) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // the client ends it
			}()
		}
	}()
	return func() { _ = l.Close() }
}

func answerHTTP(l net.Listener) (end func()) {
	body := []byte(strings.Repeat("x", 64))
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body) // the client sees what is missing
	})}
	go func() { _ = srv.Serve(l) }()
	return func() { _ = srv.Close() }
}

type empty struct {
	testpb.UnimplementedTestServiceServer
}

func (empty) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

func answerGRPC(l net.Listener) (end func()) {
	srv := grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, empty{})
	go func() { _ = srv.Serve(l) }()
	return srv.Stop
}
