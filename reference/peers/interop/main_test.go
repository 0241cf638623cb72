package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/assay-bench/assay/reference/ready"
)

func TestServesUntilStdinEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stdin, parent := io.Pipe()
	stdout, child := io.Pipe()
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"-watch-stdin"}, stdin, child, io.Discard) }()
	text, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var line ready.Line
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	cc, err := grpc.NewClient(line.Endpoints.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testpb.NewTestServiceClient(cc).EmptyCall(ctx, new(testpb.Empty)); err != nil {
		t.Error(err)
	}
	_ = cc.Close()
	_ = parent.Close()
	if got := <-code; got != 0 {
		t.Errorf("exit %d", got)
	}
}

func TestRefusesOtherInterfaces(t *testing.T) {
	if code := run(t.Context(), []string{"-addr", "0.0.0.0:0"}, nil, io.Discard, io.Discard); code != 4 {
		t.Errorf("exit %d", code)
	}
	if code := run(t.Context(), []string{"-nonsense"}, nil, io.Discard, io.Discard); code != 2 {
		t.Errorf("exit %d", code)
	}
}
