package proto

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/assay-bench/assay/fixtures/idl/behavepb"
	"github.com/assay-bench/assay/scenarios/load"
)

// serverEnv makes the test's program a server: the CPU time of the client alone is compared.
const serverEnv = "ASSAY_TEST_PROTO_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) == "" {
		os.Exit(m.Run())
	}
	testing.Init()
	testing.Benchmark(func(b *testing.B) {
		w := &witness{}
		serverTLS, _ := certificate(b)
		line, err := json.Marshal(map[string]string{
			"http": serveHTTP(b, w, nil, echoHandler(&witness{})), "grpc": serveGRPC(b, w), "connect": serveConnect(b, w, nil),
			"thrift": serveConns(b, w, thriftEcho(w)), "tcp": serveConns(b, w, echoBytes(w)), "tls": tlsServer(b, serverTLS, w),
			"roots": pemOf(serverTLS),
		})
		if err != nil {
			b.Fatal(err)
		}
		fmt.Printf("%s\n", line)
		_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark ends
		os.Exit(0)
	})
}

func pemOf(cfg *tls.Config) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cfg.Certificates[0].Certificate[0]}))
}

// servers starts the servers in a process of their own and returns their addresses.
func servers(b *testing.B) map[string]string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	cmd.Stderr = os.Stderr
	end, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = end.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		b.Fatal(err)
	}
	var at map[string]string
	if err := json.Unmarshal(line, &at); err != nil {
		b.Fatalf("%v in %q", err, line)
	}
	return at
}

const benchConns = 4

// BenchmarkCPU compares, per protocol, the CPU time of a call that the engine makes with that of a bare loop
// of the same client, which sends when it has its reply, in interleaved rounds: x-bare is the median of the
// rounds' ratios. x-flood compares what is multiplexed with two loops that write and read without waiting,
// where the kernel puts many small writes into one segment; x-library, over HTTP/2 and gRPC, with a bare loop of
// net/http and grpc-go.
func BenchmarkCPU(b *testing.B) {
	at := servers(b)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(at["roots"]))
	message, err := proto.Marshal(&behavepb.Msg{Body: []byte("hello")})
	if err != nil {
		b.Fatal(err)
	}
	behave := behavepb.Behave_Echo_FullMethodName
	for _, tt := range []struct {
		name, url string
		calls     int // many, so that what a run costs once does not count
	}{
		{"tcp", "tcp://" + at["tcp"], 200_000},
		{"thrift", "thrift://" + at["thrift"], 100_000},
		{"http", "http://" + at["http"] + "/", 100_000},
		{"h2c", "h2c://" + at["http"] + "/", 20_000},
		{"grpc", "grpc://" + at["grpc"] + behave, 20_000},
		{"connect", "connect://" + at["connect"] + behave, 60_000},
		{"grpcweb", "grpcweb://" + at["connect"] + behave, 60_000},
		{"tls", "tls://" + at["tls"], 500},
	} {
		b.Run(tt.name, func(b *testing.B) {
			c := config(b, tt.url)
			c.Conns, c.InFlight = benchConns, 16
			c.TLS.Config = &tls.Config{RootCAs: roots}
			if c.URL.Path == behave {
				c.Body = message
			}
			s := open(b, c)
			var ratios, engine, bare, floods, libraries []float64
			for b.Loop() {
				e, l := byEngine(b, s, tt.calls), bareLoop(b, s, tt.calls)
				engine, bare, ratios = append(engine, e), append(bare, l), append(ratios, e/l)
				if callers := libraryCallers(b, tt.name, c); callers != nil {
					libraries = append(libraries, e/loop(b, callers, tt.calls))
				}
				if m, ok := s.Via.(*load.Mux); ok && m.Codec != nil {
					floods = append(floods, e/perCall(b, tt.calls, func() { pipeline(b, m, tt.calls) }))
				}
			}
			if len(floods) > 0 {
				b.ReportMetric(median(floods), "x-flood")
			}
			if len(libraries) > 0 {
				b.ReportMetric(median(libraries), "x-library")
			}
			b.ReportMetric(median(engine), "engine-µs/call")
			b.ReportMetric(median(bare), "bare-µs/call")
			b.ReportMetric(median(ratios), "x-bare")
		})
	}
}

func median(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }

// cpu is the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perCall is the CPU time of one of n calls, in microseconds.
func perCall(b *testing.B, n int, do func()) float64 {
	before := cpu(b)
	do()
	return float64(cpu(b)-before) / float64(n) / 1e3
}

// byEngine plays n arrivals that are all due at once.
func byEngine(b *testing.B, s *Session, n int) float64 {
	return perCall(b, n, func() {
		r, err := load.Run(b.Context(), load.Schedule{Kind: load.Const, Rate: 1e9, Duration: time.Duration(n)}, s.Via, load.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if r.Counts.OK != int64(n) {
			b.Fatalf("counts %+v, errors %v", r.Counts, r.Errors)
		}
	})
}

// bareLoop makes n calls with the same client and without the engine.
func bareLoop(b *testing.B, s *Session, n int) float64 {
	callers := s.Users(benchConns)
	if p, ok := s.Via.(*load.Pool); ok {
		callers = p.Callers
	}
	return loop(b, callers, n)
}

// loop makes n calls, each caller the next when its last has ended.
func loop(b *testing.B, callers []load.Caller, n int) float64 {
	return perCall(b, n, func() {
		var next atomic.Int64
		var running sync.WaitGroup
		for _, c := range callers {
			running.Go(func() {
				for id := next.Add(1); id <= int64(n); id = next.Add(1) {
					if err := c.Call(context.Background(), uint64(id)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	})
}

// callFunc makes a caller of a function.
type callFunc func(ctx context.Context) error

func (f callFunc) Call(ctx context.Context, _ uint64) error { return f(ctx) }

// libraryCallers call with the library that most programs have; nil: this protocol has none.
func libraryCallers(b *testing.B, name string, c Config) (out []load.Caller) {
	for range benchConns {
		switch name {
		case "h2c":
			t := &http.Transport{Protocols: new(http.Protocols)}
			t.Protocols.SetUnencryptedHTTP2(true)
			b.Cleanup(t.CloseIdleConnections)
			out = append(out, callFunc(func(ctx context.Context) error {
				request, err := http.NewRequestWithContext(ctx, "GET", "http://"+c.URL.Host+"/", nil)
				if err != nil {
					return err
				}
				answer, err := t.RoundTrip(request)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, answer.Body)
				return errors.Join(err, answer.Body.Close())
			}))
		case "grpc":
			conn, err := grpc.NewClient("passthrough:///"+c.URL.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = conn.Close() }) // fails only when closed
			client, msg := behavepb.NewBehaveClient(conn), &behavepb.Msg{Body: []byte("hello")}
			out = append(out, callFunc(func(ctx context.Context) error {
				_, err := client.Echo(ctx, msg)
				return err
			}))
		}
	}
	return out
}

// pipeline writes n requests over the connections of a mux, each by two bare loops.
func pipeline(b *testing.B, m *load.Mux, n int) {
	var running sync.WaitGroup
	for range m.Conns {
		conn, err := m.Dial(b.Context(), m.Addr)
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() { bareWrite(b, m.Codec, conn, n/m.Conns) })
		running.Go(func() { bareRead(b, m.Codec, conn, n/m.Conns) })
	}
	running.Wait()
}

func bareWrite(b *testing.B, codec load.Codec, conn net.Conn, n int) {
	var buf []byte
	for id := range n {
		buf = codec.Request(buf[:0], uint64(id))
		if _, err := conn.Write(buf); err != nil {
			b.Error(err)
			return
		}
	}
}

func bareRead(b *testing.B, codec load.Codec, conn net.Conn, n int) {
	defer conn.Close()
	buf, have := make([]byte, 16<<10), 0
	for seen := 0; seen < n; {
		got, err := conn.Read(buf[have:])
		if err != nil {
			b.Error(err)
			return
		}
		have += got
		used := 0
		for {
			k, _, ok, err := codec.Reply(buf[used:have])
			if err != nil || (k > 0 && !ok) {
				b.Errorf("reply: %v", err)
				return
			}
			if k == 0 {
				break
			}
			used, seen = used+k, seen+1
		}
		have = copy(buf, buf[used:have])
	}
}
