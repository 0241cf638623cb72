package truth

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/assay-bench/assay/scenarios/load/arrival"
)

// FrameSize is the size of a request and of a reply over TCP: the id in the
// first 8 bytes, little-endian, and padding. The reply is the request.
const FrameSize = 64

// Endpoints are the addresses of a truth server, all on loopback.
type Endpoints struct {
	TCP     string `json:"tcp"`
	HTTP    string `json:"http"` // GET / of any size
	GRPC    string `json:"grpc"` // any unary method echoes its message
	Control string `json:"control"`
}

// Server answers each request when its rule says so and keeps its own account of
// how well it did.
type Server struct {
	Endpoints Endpoints

	releaser *releaser
	running  sync.WaitGroup
	closers  []func()

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
	ended bool
}

// Serve starts a truth server on loopback ports that the kernel chooses. With
// slower its replies are late by that much, which its account must show.
func Serve(slower time.Duration) (*Server, error) {
	s := &Server{releaser: newReleaser(slower), conns: map[net.Conn]bool{}}
	s.running.Go(s.releaser.run)
	var err error
	listen := func(addr *string) net.Listener {
		l, listenErr := net.Listen("tcp", "127.0.0.1:0")
		if listenErr != nil {
			err = errors.Join(err, listenErr)
			return nil
		}
		*addr = l.Addr().String()
		return l
	}
	tcp, web, rpc, control := listen(&s.Endpoints.TCP), listen(&s.Endpoints.HTTP), listen(&s.Endpoints.GRPC), listen(&s.Endpoints.Control)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("truth server: %w", err)
	}
	s.accept(tcp, s.talkFrames)
	s.accept(web, s.talkHTTP)
	s.accept(rpc, s.talkGRPC)
	s.serveControl(control)
	return s, nil
}

// Close ends the server and waits for its goroutines.
func (s *Server) Close() {
	s.releaser.pacer.Halt()
	for _, end := range s.closers {
		end()
	}
	s.mu.Lock()
	s.ended = true
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// accept serves each connection of l on a goroutine of its own.
func (s *Server) accept(l net.Listener, talk func(net.Conn)) {
	s.closers = append(s.closers, func() { _ = l.Close() })
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			s.mu.Lock()
			if s.ended {
				_ = c.Close()
			}
			s.conns[c] = true
			s.mu.Unlock()
			s.running.Go(func() {
				talk(c)
				_ = c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			})
		}
	})
}

// talkFrames answers frames; requests of one connection overlap.
func (s *Server) talkFrames(c net.Conn) {
	c = arrival.Of(c)
	in, out := bufio.NewReader(c), newOutbox(c)
	for {
		frame := make([]byte, FrameSize)
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		s.releaser.arrive(arrival.Since(c), func() func() { return out.add(frame) })
	}
}

var httpReply = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n")

// talkHTTP answers HTTP/1.1 requests straight from the timer thread: a handler of
// net/http would add the wake-up of a goroutine to the truth.
func (s *Server) talkHTTP(c net.Conn) {
	c = arrival.Of(c)
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, err = io.Copy(io.Discard, http.MaxBytesReader(nil, req.Body, 1<<20))
		if err != nil {
			return
		}
		released := make(chan struct{})
		s.releaser.arrive(arrival.Since(c), func() func() {
			_, _ = c.Write(httpReply)
			close(released)
			return nil
		})
		if req.Close {
			<-released
			return
		}
	}
}

// Stats is the server's own account of one run.
type Stats struct {
	Rule     Rule   `json:"rule"`
	Epoch    int64  `json:"epoch_ns"` // of the monotonic clock: when the first freeze began
	Arrived  int64  `json:"arrived"`
	First    int64  `json:"first_ns"` // when the first request arrived
	Released int64  `json:"released"`
	Asked    string `json:"asked"` // due − arrival, as histogram.Encode writes it
	Given    string `json:"given"` // release − arrival
}

// stats reads the account.
func (r *releaser) stats() (Stats, error) {
	r.mu.Lock()
	st := Stats{Rule: r.rule.rule, Epoch: r.rule.epoch, Arrived: r.count, First: r.first}
	r.mu.Unlock()
	r.logs.Lock()
	defer r.logs.Unlock()
	asked, err := r.asked.Encode()
	if err != nil {
		return st, err
	}
	given, err := r.given.Encode()
	st.Released, st.Asked, st.Given = r.given.Count(), string(asked), string(given)
	return st, err
}

// order asks the server for a new account.
type order struct {
	Rule Rule   `json:"rule"`
	Seed uint64 `json:"seed"`
}

func (s *Server) serveControl(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /begin", func(w http.ResponseWriter, req *http.Request) {
		var o order
		err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<10)).Decode(&o)
		if err == nil {
			err = o.Rule.validate()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer(w, Stats{Rule: o.Rule, Epoch: s.releaser.begin(o.Rule, o.Seed)}, nil)
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		st, err := s.releaser.stats()
		answer(w, st, err)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.closers = append(s.closers, func() { _ = server.Close() })
	s.running.Go(func() { _ = server.Serve(l) })
}

func answer(w http.ResponseWriter, st Stats, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(st) // the peer is gone: nobody to tell
}
