package ready_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/ready"
)

func TestAnnounceIsOneLine(t *testing.T) {
	var out bytes.Buffer
	line := ready.Line{
		Endpoints: ready.Endpoints{GRPC: "127.0.0.1:1"},
		Claims:    ready.Claims{Name: "n", Version: "v", Features: []string{"grpc.interop"}, Defects: defect.Set{}.Names()},
	}
	if err := ready.Announce(&out, line); err != nil {
		t.Fatal(err)
	}
	want := `{"endpoints":{"grpc":"127.0.0.1:1"},"claims":{"name":"n","version":"v","features":["grpc.interop"],"defects":[]}}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestEndedFollowsTheReader(t *testing.T) {
	r, w := io.Pipe()
	ended := ready.Ended(r)
	_, _ = w.Write([]byte("ignored"))
	select {
	case <-ended:
		t.Error("ended while the writer lives")
	default:
	}
	_ = w.CloseWithError(errors.New("gone"))
	<-ended
}
