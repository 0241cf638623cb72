package module

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grafana/sobek"

	"go.k6.io/k6/js/common"
)

// echoOptions are the second argument of echo().
type echoOptions struct {
	callOptions
	Size int `json:"size"` // bytes; default 64
}

// EchoAnswer is what echo() returns.
type EchoAnswer struct {
	OK       bool    `js:"ok"`
	Error    string  `js:"error"`
	Duration float64 `js:"duration"` // ms
}

const (
	defaultEcho = 64
	maxEcho     = 1 << 20
)

// echo sends bytes over a kept TCP connection and reads as many back: echo(address, {size, timeout, tags}).
func (i *Instance) echo(address, options sobek.Value) *EchoAnswer {
	o := echoOptions{Size: defaultEcho}
	addr, state := i.begin("echo", address, options, &o)
	limit, err := o.limit()
	if err == nil && (o.Size < 1 || o.Size > maxEcho) {
		err = fmt.Errorf("size: %d is outside 1 to %d", o.Size, maxEcho)
	}
	if err != nil {
		common.Throw(i.vu.Runtime(), fmt.Errorf("echo: options: %w", err))
	}
	began := time.Now()
	var sent, received int
	c, giveBack, err := i.borrow(state, connKey{addr, "echo"}, limit)
	if err == nil {
		err = echoed(c, o.Size)
		sent, received = c.sent, c.read
		giveBack(err)
	}
	took := time.Since(began)
	answer := &EchoAnswer{OK: err == nil, Duration: millis(took)}
	if err != nil {
		answer.Error = err.Error()
	}
	i.emit(state, o.Tags, took, err != nil, i.metrics.EchoReqs, i.metrics.EchoFailed, i.metrics.EchoDuration, sent, received)
	return answer
}

var echoBytes = []byte(strings.Repeat("assay 0123456789", maxEcho/16))

func echoed(c *conn, size int) error {
	want := echoBytes[:size]
	if err := c.send(want); err != nil {
		return err
	}
	got, err := c.frame(func(b []byte) (int, error) {
		if len(b) < size {
			return 0, nil
		}
		return size, nil
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}
