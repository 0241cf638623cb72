package server

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/assay-bench/assay/reference/defect"
	"github.com/assay-bench/assay/reference/rpc/behave"
	"github.com/assay-bench/assay/reference/rpc/obs"
	"github.com/assay-bench/assay/reference/rpc/wire"
)

const (
	serviceName = "Echo"
	methodEcho  = "Echo"
	methodFire  = "Fire"
)

// internalText is all that a caller learns about an error that the interface does not declare.
const internalText = "internal error"

// dispatch runs a well-formed message and appends its reply. It reports whether the connection goes
// on; the caller takes the request off the connection.
func (c *conn) dispatch(req *request) bool {
	if !isCall(req.msg.Type) && !c.on(defect.MessageTypeIgnored) {
		c.srv.metrics.ProtocolError(string(wire.ReasonMessageType))
		c.exception(req, wire.ExceptionMessageType, "invalid message type "+strconv.Itoa(int(req.msg.Type)))
		return true
	}
	if isn, ok := req.header.Str[wire.StrKeyService]; ok && isn != serviceName && !c.on(defect.UnknownServiceServed) {
		return c.unknown(req, wire.ExceptionUnknownService, "unknown service "+shortened(isn))
	}
	switch string(req.msg.Name) {
	case methodEcho, methodFire:
		if !c.on(defect.BehaveAbsent) {
			return c.invoke(req)
		}
	}
	if c.on(defect.UnknownMethodCloses) {
		return false
	}
	id := wire.ExceptionUnknownMethod
	if c.on(defect.UnknownMethodInternal) {
		id = wire.ExceptionInternal
	}
	return c.unknown(req, id, "unknown method "+shortened(string(req.msg.Name)))
}

func isCall(t int32) bool { return t == wire.TypeCall || t == wire.TypeOneway }

// shortened bounds a name that goes into an exception's text.
func shortened(name string) string { return name[:min(len(name), 128)] }

func (c *conn) unknown(req *request, id int32, text string) bool {
	c.srv.metrics.Finish(c.srv.metrics.Begin(), req.form.String(), "unknown", obs.OutcomeUnmatched)
	if !c.silent(&req.msg) {
		c.exception(req, id, text)
	}
	return !c.on(defect.UnknownClosesAfter)
}

// silent reports whether a message gets no answer whatever happens: message type 4, and the oneway
// method however it is called.
func (c *conn) silent(m *wire.Message) bool {
	if string(m.Name) == methodFire {
		return !c.on(defect.OnewayAnswered)
	}
	return m.Type == wire.TypeOneway && !c.on(defect.OnewayTypeAnswered)
}

// invoke decodes the arguments, runs the handler and appends the reply.
func (c *conn) invoke(req *request) bool {
	began := c.srv.metrics.Begin()
	method := methodEcho
	if string(req.msg.Name) == methodFire {
		method = methodFire
	}
	outcome, keep := c.run(req, method)
	c.srv.metrics.Finish(began, req.form.String(), method, outcome)
	return keep
}

func (c *conn) run(req *request, method string) (outcome string, keep bool) {
	msg, err := wire.DecodeArgs(req.msg.Body)
	if err != nil {
		c.srv.metrics.ProtocolError(string(reasonOf(err)))
		if !c.silent(&req.msg) {
			c.exception(req, wire.ExceptionProtocol, "protocol error: "+string(reasonOf(err)))
		}
		return obs.OutcomeRefused, req.intact
	}
	if method == methodFire && c.on(defect.OnewayDropped) {
		return obs.OutcomeOK, true
	}
	if len(msg.Ops) > 0 && c.flush() != nil { // operations may take long: earlier replies go out first
		return obs.OutcomeError, false
	}
	report, err := c.handle(req, &msg)
	if c.silent(&req.msg) {
		return outcomeOf(err), !c.on(defect.OnewayCloses)
	}
	if method == methodEcho && c.losesThis() {
		return obs.OutcomeOK, true
	}
	return outcomeOf(err), c.answer(req, method, &msg, report, err)
}

// losesThis plants the defect that concerns every 50th Echo call.
func (c *conn) losesThis() bool {
	return c.on(defect.LosesCalls) && c.srv.echoCalls.Add(1)%50 == 0
}

// panicked is the error of a handler that panicked.
type panicked struct{ text string }

func (p *panicked) Error() string { return p.text }

// handle runs the operations and turns a panic into an error.
func (c *conn) handle(req *request, msg *wire.Msg) (report *wire.Report, err error) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.metrics.Panicked()
			if c.on(defect.PanicKills) {
				c.srv.cfg.Exit(2)
			}
			report, err = nil, &panicked{fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	ctx, cancel := c.callContext(req)
	defer cancel()
	call := behave.Call{Tag: msg.Tag, Ops: msg.Ops, Meta: func() map[string]string { return metadataOf(&req.header) }}
	return c.srv.cfg.Behave.Run(ctx, call)
}

// metadataOf lists what came with a call: string keys as they are, int keys as "#9", the ACL token as
// "#acl".
func metadataOf(h *wire.Header) map[string]string {
	meta := make(map[string]string, len(h.Int)+len(h.Str))
	for k, v := range h.Str {
		if k == wire.StrKeyACLToken {
			k = "#acl"
		}
		meta[k] = v
	}
	for k, v := range h.Int {
		meta["#"+strconv.Itoa(int(k))] = v
	}
	return meta
}

// propagatedTimeout returns the caller's time budget, 0 if there is none that makes sense.
func propagatedTimeout(ints map[uint16]string) time.Duration {
	text, ok := ints[wire.IntKeyRPCTimeout]
	if !ok {
		return 0
	}
	millis, err := strconv.ParseInt(text, 10, 32)
	if err != nil || millis <= 0 {
		return 0
	}
	return time.Duration(millis) * time.Millisecond
}

func outcomeOf(err error) string {
	var thrown *behave.Thrown
	var panicked *panicked
	switch {
	case err == nil:
		return obs.OutcomeOK
	case errors.As(err, &thrown):
		return obs.OutcomeDeclared
	case errors.As(err, &panicked):
		return obs.OutcomePanic
	}
	return obs.OutcomeError
}

// answer appends the reply of a call that ran.
func (c *conn) answer(req *request, method string, msg *wire.Msg, report *wire.Report, err error) bool {
	if err != nil {
		return c.answerError(req, err)
	}
	if method == methodFire { // only with OnewayAnswered: Fire has no result to send
		c.reply(req, wire.TypeReply, func(b []byte) []byte { return append(b, 0) })
		return true
	}
	result := wire.Msg{Tag: msg.Tag, Body: msg.Body, Report: report}
	if c.on(defect.EchoBodyAltered) && len(result.Body) > 0 {
		result.Body = append([]byte{result.Body[0] ^ 1}, result.Body[1:]...)
	}
	c.reply(req, wire.TypeReply, func(b []byte) []byte { return wire.AppendSuccess(b, &result) })
	return true
}

func (c *conn) answerError(req *request, err error) bool {
	var thrown *behave.Thrown
	if errors.As(err, &thrown) {
		if c.on(defect.DeclaredAsException) {
			c.exception(req, wire.ExceptionInternal, thrown.Reason)
			return true
		}
		c.reply(req, wire.TypeReply, func(b []byte) []byte { return wire.AppendThrown(b, &thrown.Fault) })
		return true
	}
	id := wire.ExceptionInternal
	if c.on(defect.UndeclaredTypeZero) {
		id = wire.ExceptionUnknown
	}
	c.exception(req, id, c.textOf(err))
	return !c.on(defect.ErrorCloses)
}

// textOf is fixed, so that nothing of the handler leaks; only the refusal of an operation is part of
// the contract.
func (c *conn) textOf(err error) string {
	var notServed *behave.NotServed
	var panicked *panicked
	switch {
	case errors.As(err, &notServed):
		return notServed.Error()
	case errors.As(err, &panicked) && c.on(defect.PanicLeaks):
		return panicked.text
	}
	return internalText
}

func (c *conn) exception(req *request, id int32, text string) {
	c.reply(req, wire.TypeException, func(b []byte) []byte { return wire.AppendException(b, id, text) })
}

// reply appends a message in the form of the request, with the sequence id of its payload.
func (c *conn) reply(req *request, messageType int32, body func([]byte) []byte) {
	r := wire.Reply{Form: req.form, Type: messageType, Name: req.msg.Name, Seq: req.msg.Seq}
	if c.on(defect.ReplyAlwaysFramed) {
		r.Form = r.Form.WithFrame()
	}
	if c.on(defect.SeqFromHeader) && r.Form.HasHeader() {
		r.Seq = req.header.Seq
	}
	if c.on(defect.SeqZero) {
		r.Seq = 0
	}
	if c.on(defect.NameNotEchoed) && messageType == wire.TypeException {
		r.Name = nil
	}
	start := len(c.out)
	c.out = r.Append(c.out, body)
	if c.on(defect.HeaderSeqZero) && r.Form.HasHeader() {
		clear(c.out[start+8 : start+12])
	}
}
