package module

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grafana/sobek"

	"go.k6.io/k6/js/common"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/scenarios/wire/ttheader"
)

// rpcOptions are the second argument of rpc().
type rpcOptions struct {
	callOptions
	Form    string            `json:"form"`    // rpcframe.Form; default ttheader-framed
	Method  string            `json:"method"`  // default Echo
	Body    string            `json:"body"`    // of a call of the behave service
	Args    []fieldOption     `json:"args"`    // in place of body: the argument struct of any service
	Headers map[string]string `json:"headers"` // string keys of the TTHeader
	Oneway  bool              `json:"oneway"`  // wait for no reply
}

// RPCAnswer is what rpc() returns.
type RPCAnswer struct {
	OK       bool           `js:"ok"`       // a reply without an exception came
	Error    string         `js:"error"`    // why not, or empty
	Code     int32          `js:"code"`     // of a Thrift exception
	Body     string         `js:"body"`     // of a reply of the behave service
	Result   map[string]any `js:"result"`   // the result struct by field id
	Duration float64        `js:"duration"` // ms, from the first byte written (or the dial) to the reply read
}

// rpc makes one call: rpc(address, {form, method, body | args, headers, oneway, timeout, tags}).
func (i *Instance) rpc(address, options sobek.Value) *RPCAnswer {
	o := rpcOptions{Form: string(rpcframe.TTHeaderFramed), Method: behave.MethodEcho}
	addr, state := i.begin("rpc", address, options, &o)
	call, limit, err := o.call()
	if err != nil {
		common.Throw(i.vu.Runtime(), fmt.Errorf("rpc: options: %w", err))
	}
	began := time.Now()
	answer := &RPCAnswer{}
	var sent, received int
	c, giveBack, err := i.borrow(state, connKey{addr, o.Form}, limit)
	if err == nil {
		err = exchange(c, call, o, answer)
		sent, received = c.sent, c.read
		giveBack(err)
	}
	took := time.Since(began)
	if err != nil {
		answer.Error = err.Error()
	}
	answer.OK, answer.Duration = answer.Error == "", millis(took)
	i.emit(state, o.Tags, took, !answer.OK, i.metrics.RPCReqs, i.metrics.RPCFailed, i.metrics.RPCDuration, sent, received)
	return answer
}

// call checks the options and builds the call.
func (o rpcOptions) call() (rpcframe.Call, time.Duration, error) {
	call := rpcframe.Call{Form: rpcframe.Form(o.Form), Method: o.Method, Header: ttheader.Header{StrKeys: o.Headers}}
	if !slices.Contains(rpcframe.Forms(), call.Form) {
		return call, 0, fmt.Errorf("form: %q is none of %v", o.Form, rpcframe.Forms())
	}
	if o.Method == "" {
		return call, 0, errors.New("method: is empty")
	}
	if len(o.Headers) > 0 && call.Form != rpcframe.TTHeader && call.Form != rpcframe.TTHeaderFramed {
		return call, 0, fmt.Errorf("headers: form %s carries none", o.Form)
	}
	if o.Oneway {
		call.Type = thrift.Oneway
	}
	if o.Args == nil {
		call.Args = behave.Args(behave.Msg{Body: o.Body})
	} else {
		if o.Body != "" {
			return call, 0, errors.New("body: give it or args, not both")
		}
		args, err := structOf(o.Args, 0)
		if err != nil {
			return call, 0, err
		}
		var w thrift.Writer
		w.Struct(args)
		call.Args = w.Bytes
	}
	limit, err := o.limit()
	return call, limit, err
}

// exchange sends the call and reads its reply into answer. An error means that the connection is lost; an
// exception of the server is in the answer, and the connection stays.
func exchange(c *conn, call rpcframe.Call, o rpcOptions, answer *RPCAnswer) error {
	c.seq++
	call.Seq = c.seq
	b, err := call.Encode()
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if err := c.send(b); err != nil || o.Oneway {
		return err
	}
	raw, err := c.frame(func(b []byte) (int, error) { return rpcframe.Split(call.Form, b) })
	if err != nil {
		return err
	}
	reply, err := rpcframe.Unwrap(call.Form, raw)
	if err != nil {
		return err
	}
	if reply.Message.Seq != call.Seq {
		return fmt.Errorf("the reply has sequence id %d, the call %d", reply.Message.Seq, call.Seq)
	}
	return answer.take(reply, o)
}

// take reads a reply.
func (a *RPCAnswer) take(reply rpcframe.Reply, o rpcOptions) error {
	switch reply.Message.Type {
	case thrift.Exception:
		f, err := reply.Fault()
		if err != nil {
			return err
		}
		a.Code, a.Error = f.Code, fmt.Sprintf("exception %d: %s", f.Code, f.Text)
		return nil
	case thrift.Reply:
	default:
		return fmt.Errorf("a message of type %s is no reply", reply.Message.Type)
	}
	a.Result = exported(reply.Message.Body)
	if o.Args != nil {
		return nil
	}
	r, err := behave.ReadResult(reply.Message.Body)
	switch {
	case err != nil:
		return err
	case r.Fault != nil:
		a.Code, a.Error = r.Fault.Code, fmt.Sprintf("fault %d: %s", r.Fault.Code, r.Fault.Reason)
	default:
		a.Body = r.Success.Body
	}
	return nil
}
