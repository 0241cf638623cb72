package stack_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/assay-bench/assay/fixtures/features"
	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/router"
	"github.com/assay-bench/assay/reference/stack"
)

const patience = 10 * time.Second

func start(t *testing.T, defects ...defect.Name) *stack.Stack {
	t.Helper()
	s, err := stack.Start(context.Background(), stack.Config{Version: "1.2.3", Defects: defect.Of(defects...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdown(s) })
	return s
}

// shutdown ends a stack whose test may have ended it before.
func shutdown(s *stack.Stack) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = s.Shutdown(ctx) // what a drain must achieve has its own test
}

func dial(t *testing.T, s *stack.Stack) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient(s.Ready().Endpoints.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestReadyLine(t *testing.T) {
	s := start(t, defect.SeqZero)
	line, err := json.Marshal(s.Ready())
	if err != nil {
		t.Fatal(err)
	}
	e := s.Ready().Endpoints
	roots, err := json.Marshal(s.Ready().Claims.TLS.Roots)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runWasm, err := json.Marshal(program + " run-wasm {module} {function} {args}")
	if err != nil {
		t.Fatal(err)
	}
	sealed := "" // claimed where a TPM works in this process
	if tried := s.TPMs(); tried[len(tried)-1].Err == nil {
		sealed = `,"tpm.cache","tpm.quote"`
	}
	onnx := "" // claimed where ONNX Runtime is found
	if _, loaded := router.Engine(""); loaded {
		onnx = `,"router.onnx"`
	}
	want := `{"endpoints":{"rpc":"` + e.RPC + `","grpc":"` + e.RPC + `","admin":"` + e.Admin + `","tls":"` + e.TLS +
		`","tls-classical":"` + e.TLSClassical + `","tls-mldsa":"` + e.TLSMLDSA + `","tls-mutual":"` + e.TLSMutual +
		`","tls-lab":"` + e.TLSLab + `","tpm":"` + e.TPM + `","sandbox":"` + e.Sandbox + `","sandbox-proxy":"` + e.SandboxProxy +
		`","router":"` + e.Router + `","router-grpc":"` + e.RouterGRPC + `","openai":"` + e.OpenAI + `"},` +
		`"claims":{"name":"assay reference stack","version":"1.2.3","features":["rpc.buffered","rpc.framed","rpc.ttheader",` +
		`"rpc.ttheader-framed","rpc.behave","grpc.interop","grpc.behave","grpc.health","admin.http",` +
		`"tls.server","tls.tls12","tls.x25519mlkem768","tls.secp256r1mlkem768","tls.secp384r1mlkem1024","tls.mlkem1024",` +
		`"tls.mldsa","tls.tickets","tls.staple","tls.dual-certificate","tls.mutual","tls.classical","tls.mldsa-only",` +
		`"tls.client","tls.client-hybrid","tls.client-mldsa","tls.lab",` +
		`"sandbox.api","sandbox.interpreter","sandbox.nn","sandbox.proxy",` +
		`"router.openai","router.api","router.grpc","router.multimodal"` + sealed + onnx + `,"sandbox.run"],` +
		`"limits":{"readDeadlineMillis":5000,"maxFrameBytes":16777216,"maxDepth":64},"defects":["rpc.seq-zero"],` +
		`"tls":{"serverName":"server.test","roots":` + string(roots) + `,"app":"echo"},"sandbox":{"runWasm":` + string(runWasm) + `}}}`
	if string(line) != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
}

// TestEveryClaimIsAFeature: a claim that the registry does not know is judged by nobody.
func TestEveryClaimIsAFeature(t *testing.T) {
	line := start(t).Ready()
	seen := 0
	for _, name := range line.Claims.Features {
		seen++
		if _, ok := features.Find(name); !ok {
			t.Errorf("claim %q is not in the registry", name)
		}
	}
	if seen == 0 {
		t.Fatal("no claims")
	}
}

// TestTLSPorts: each port answers a client that trusts the claimed roots, and the ports end with the
// stack.
func TestTLSPorts(t *testing.T) {
	s := start(t)
	line := s.Ready()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(line.Claims.TLS.Roots)) {
		t.Fatalf("roots %q", line.Claims.TLS.Roots)
	}
	seen := 0
	for port, want := range map[string]struct {
		addr string
		echo bool
	}{
		"tls": {line.Endpoints.TLS, true}, "tls-classical": {line.Endpoints.TLSClassical, true},
		"tls-mldsa": {line.Endpoints.TLSMLDSA, true}, "tls-mutual": {line.Endpoints.TLSMutual, false},
	} {
		seen++
		got, err := echo(t, want.addr, &tls.Config{ServerName: line.Claims.TLS.ServerName, RootCAs: roots})
		if (err == nil) != want.echo || want.echo && got != "hello" {
			t.Errorf("%s: %q, %v", port, got, err)
		}
	}
	if seen == 0 {
		t.Fatal("no ports")
	}
	shutdown(s)
	if conn, err := net.Dial("tcp", line.Endpoints.TLS); err == nil {
		_ = conn.Close()
		t.Error("the TLS port outlives the stack")
	}
}

func echo(t *testing.T, addr string, config *tls.Config) (string, error) {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return "", err
	}
	back := make([]byte, 5)
	_, err = io.ReadFull(conn, back)
	return string(back), err
}

// TestLab makes the stack dial itself, and finds the handshake in the metrics.
func TestLab(t *testing.T) {
	s := start(t)
	line := s.Ready()
	body, err := json.Marshal(map[string]any{"address": line.Endpoints.TLS, "serverName": line.Claims.TLS.ServerName,
		"roots": line.Claims.TLS.Roots, "policy": "require-pq", "send": "hello"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+line.Endpoints.TLSLab+"/dial", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		Connected       bool
		Group, Received string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || !got.Connected || got.Group != "X25519MLKEM768" || got.Received != "hello" {
		t.Errorf("%+v, %v", got, err)
	}
	want := `assay_tls_client_handshakes_total{group="X25519MLKEM768",resumed="false"} 1`
	if _, metrics := get(t, s, "/metrics"); !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s", want)
	}
}

// TestSandbox: the API takes a tenant, the metrics know it, and the ports end with the stack.
func TestSandbox(t *testing.T) {
	s := start(t)
	line := s.Ready()
	req, err := http.NewRequestWithContext(within(t), http.MethodPut, "http://"+line.Endpoints.Sandbox+"/tenants/acme",
		strings.NewReader(`{"tier":"free","keys":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
	if _, metrics := get(t, s, "/metrics"); !strings.Contains(metrics, `assay_sandbox_calls_total{tenant="acme"} 0`) {
		t.Error("the metrics lack the tenant")
	}
	shutdown(s)
	seen := 0
	for _, addr := range []string{line.Endpoints.Sandbox, line.Endpoints.SandboxProxy} {
		seen++
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s outlives the stack", addr)
		}
	}
	if seen == 0 {
		t.Fatal("no ports")
	}
}

func TestAdmin(t *testing.T) {
	s := start(t)
	seen := 0
	for path, want := range map[string]string{
		"/healthz": "ok", "/readyz": "ready", "/metrics": "assay_rpc_connections_open", "/config": `"readDeadlineMillis":5000`,
	} {
		seen++
		code, body := get(t, s, path)
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, code, body)
		}
	}
	if seen == 0 {
		t.Fatal("no paths")
	}
	if _, err := stack.Start(t.Context(), stack.Config{AdminAddr: "0.0.0.0:0"}); err == nil {
		t.Error("an admin port on every interface is accepted")
	}
}

func get(t *testing.T, s *stack.Stack, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Ready().Endpoints.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestInterop runs the cases of the gRPC interop test descriptions that need no cloud: grpc-go's
// client ends the process where one fails.
func TestInterop(t *testing.T) {
	cc, ctx := dial(t, start(t)), within(t)
	tc := testpb.NewTestServiceClient(cc)
	interop.DoEmptyUnaryCall(ctx, tc)
	interop.DoLargeUnaryCall(ctx, tc)
	interop.DoClientStreaming(ctx, tc)
	interop.DoServerStreaming(ctx, tc)
	interop.DoPingPong(ctx, tc)
	interop.DoEmptyStream(ctx, tc)
	interop.DoTimeoutOnSleepingServer(ctx, tc)
	interop.DoCancelAfterBegin(ctx, tc)
	interop.DoCancelAfterFirstResponse(ctx, tc)
	interop.DoCustomMetadata(ctx, tc)
	interop.DoStatusCodeAndMessage(ctx, tc)
	interop.DoSpecialStatusMessage(ctx, tc)
	interop.DoUnimplementedMethod(ctx, cc)
	interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(cc))
}

func TestHalfDuplexAnswersAtTheEnd(t *testing.T) {
	stream, err := testpb.NewTestServiceClient(dial(t, start(t))).HalfDuplexCall(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for size := range int32(3) {
		if err := stream.Send(&testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: size}}}); err != nil {
			t.Fatal(err)
		}
	}
	_ = stream.CloseSend()
	for size := range 3 {
		resp, err := stream.Recv()
		if err != nil || len(resp.GetPayload().GetBody()) != size {
			t.Errorf("response of %d bytes, %v; want %d", len(resp.GetPayload().GetBody()), err, size)
		}
	}
}

func TestBehaveOverGRPC(t *testing.T) {
	client, ctx := behavepb.NewBehaveClient(dial(t, start(t))), within(t)
	ctx = metadata.AppendToOutgoingContext(ctx, "k", "v")
	op := func(kind behavepb.OpKind) *behavepb.Op { return &behavepb.Op{Kind: kind, Text: "marker", Times: 3} }
	cases := map[behavepb.OpKind]codes.Code{
		behavepb.OpKind_OP_KIND_ECHO: codes.OK, behavepb.OpKind_OP_KIND_THROW: codes.FailedPrecondition,
		behavepb.OpKind_OP_KIND_ERROR: codes.Internal, behavepb.OpKind_OP_KIND_PANIC: codes.Internal,
		behavepb.OpKind_OP_KIND_FORWARD: codes.Unimplemented, behavepb.OpKind_OP_KIND_STREAM: codes.Unimplemented,
	}
	seen := 0
	for kind, code := range cases {
		seen++
		_, err := client.Echo(ctx, &behavepb.Msg{Tag: "t", Body: []byte("b"), Ops: []*behavepb.Op{op(kind)}})
		if status.Code(err) != code {
			t.Errorf("%s: %v, want %s", kind, err, code)
		}
		if kind == behavepb.OpKind_OP_KIND_PANIC && strings.Contains(err.Error(), "marker") {
			t.Errorf("the panic leaks: %v", err)
		}
	}
	ask := &behavepb.Msg{Tag: "t", Ops: []*behavepb.Op{op(behavepb.OpKind_OP_KIND_COUNT), op(behavepb.OpKind_OP_KIND_META)}}
	got, err := client.Echo(ctx, ask)
	if err != nil || got.GetReport().GetCount() != int64(seen) || got.GetReport().GetMeta()["k"] != "v" {
		t.Errorf("report %v, %v", got.GetReport(), err)
	}
	stream, err := client.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&behavepb.Msg{Body: []byte("s"), Ops: []*behavepb.Op{op(behavepb.OpKind_OP_KIND_STREAM)}}); err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	for range 3 {
		if m, err := stream.Recv(); err != nil || string(m.GetBody()) != "s" {
			t.Fatalf("stream: %v, %v", m, err)
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("after the last reply: %v", err)
	}
}

func TestGRPCDefects(t *testing.T) {
	unary := func(req *testpb.SimpleRequest) func(context.Context, *grpc.ClientConn) (*testpb.SimpleResponse, error) {
		return func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
			return testpb.NewTestServiceClient(cc).UnaryCall(ctx, req)
		}
	}
	asking := unary(&testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: 9, Message: "é"}})
	unknown := func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
		return nil, cc.Invoke(ctx, "/none.Such/Call", new(testpb.Empty), new(testpb.Empty))
	}
	cases := map[defect.Name]struct {
		call func(context.Context, *grpc.ClientConn) (*testpb.SimpleResponse, error)
		code codes.Code
	}{
		defect.GRPCUnknownAsCancelled: {unknown, codes.Canceled},
		defect.GRPCUnknownAsInternal:  {unknown, codes.Internal},
		defect.GRPCStatusCodeLost:     {asking, codes.Unknown},
		defect.GRPCEmptyUnaryFails: {func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
			_, err := testpb.NewTestServiceClient(cc).EmptyCall(ctx, new(testpb.Empty))
			return nil, err
		}, codes.Internal},
		defect.GRPCUnimplementedServiceAnswers: {func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
			_, err := testpb.NewUnimplementedServiceClient(cc).UnimplementedCall(ctx, new(testpb.Empty))
			return nil, err
		}, codes.OK},
		defect.GRPCUnimplementedCallAnswers: {func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
			_, err := testpb.NewTestServiceClient(cc).UnimplementedCall(ctx, new(testpb.Empty))
			return nil, err
		}, codes.OK},
		defect.GRPCSoakFails: {func(ctx context.Context, cc *grpc.ClientConn) (*testpb.SimpleResponse, error) {
			call := unary(&testpb.SimpleRequest{ResponseSize: 2000})
			for range 6 {
				if _, err := call(ctx, cc); err != nil {
					return nil, err
				}
			}
			return call(ctx, cc)
		}, codes.Unavailable},
	}
	seen := 0
	for name, c := range cases {
		seen++
		_, err := c.call(within(t), dial(t, start(t, name)))
		if status.Code(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
	if seen == 0 {
		t.Fatal("no defects")
	}
	short, err := unary(&testpb.SimpleRequest{ResponseSize: 9})(within(t), dial(t, start(t, defect.GRPCLargeUnaryShort)))
	if err != nil || len(short.GetPayload().GetBody()) != 8 {
		t.Errorf("short: %d bytes, %v", len(short.GetPayload().GetBody()), err)
	}
	_, err = asking(within(t), dial(t, start(t, defect.GRPCStatusMessageMangled)))
	if status.Convert(err).Message() != "??" {
		t.Errorf("mangled: %v", err)
	}
}

func TestCancelBreaksConnection(t *testing.T) {
	client := behavepb.NewBehaveClient(dial(t, start(t, defect.GRPCCancelBreaksConnection)))
	open := func(ctx context.Context) grpc.BidiStreamingClient[behavepb.Msg, behavepb.Msg] {
		stream, err := client.Stream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&behavepb.Msg{}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // the server has it now: it can not move to another connection
			t.Fatal(err)
		}
		return stream
	}
	other := open(within(t))
	ctx, cancel := context.WithCancel(within(t))
	open(ctx)
	cancel()
	if _, err := other.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the other call on the connection: %v", err)
	}
}

// TestDrain: not ready, no new connections, the call in flight is answered, health says so.
func TestDrain(t *testing.T) {
	for _, always := range []bool{false, true} {
		var planted []defect.Name
		if always {
			planted = append(planted, defect.HealthAlwaysServing)
		}
		s := start(t, planted...)
		cc, ctx := dial(t, s), within(t)
		watch, err := healthpb.NewHealthClient(cc).Watch(ctx, new(healthpb.HealthCheckRequest))
		if err != nil {
			t.Fatal(err)
		}
		if first, err := watch.Recv(); err != nil || first.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Fatalf("health %v, %v", first, err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			_ = s.Shutdown(ctx) // the watch above never finishes
		}()
		if !always {
			if next, err := watch.Recv(); err != nil || next.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health during the drain: %v, %v", next, err)
			}
			if code, _ := get(t, s, "/readyz"); code != http.StatusServiceUnavailable {
				t.Errorf("/readyz during the drain: %d", code)
			}
		} else if code, _ := get(t, s, "/readyz"); code != http.StatusOK {
			t.Errorf("/readyz during the drain with the defect: %d", code)
		}
		<-ended
		if conn, err := net.Dial("tcp", s.Ready().Endpoints.RPC); err == nil {
			_ = conn.Close()
			t.Error("a connection was accepted after the drain")
		}
	}
}

func TestThriftBesideGRPC(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", s.Ready().Endpoints.RPC)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frame, _ := hex.DecodeString("80010001000000044563686f000000070c00010b0002000000026869" + "0000")
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, len(frame))
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, reply); err != nil || reply[3] != 2 {
		t.Errorf("reply %x, %v", reply, err)
	}
}
