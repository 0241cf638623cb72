package nn

import (
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/assay-bench/assay/models/engine"
	"github.com/assay-bench/assay/reference/defect"
)

// Encodings and targets of load.
const (
	encodingAutodetect = 5 // the last one
	targetCPU          = 0
	targetTPU          = 2 // the last one
)

// maxBuilders bounds the pieces that a model comes in; the known formats have one or two.
const maxBuilders = 16

// load is load(builders, builders_len, encoding, target, out_graph). What no guest may pass is refused first,
// then what this guest may not do, and only then is its memory read.
func (m *module) load(_ context.Context, c call) Errno {
	encoding, target, out := c.arg(2), c.arg(3), c.arg(4)
	ignored := m.Defects.On(defect.SandboxNnEncodingIgnored)
	switch {
	case encoding > encodingAutodetect && !ignored:
		return InvalidEncoding
	case target > targetTPU:
		return InvalidArgument
	case !c.policy.LoadBytes && !m.Defects.On(defect.SandboxNnBytesOnFree):
		return UnsupportedOperation
	case target != targetCPU:
		return UnsupportedOperation
	case !c.holds(out, 4):
		return MissingMemory
	case !c.roomForGraph():
		return Busy
	}
	b, errno := c.builders(c.arg(0), c.arg(1))
	if errno != Success {
		return errno
	}
	model, err := m.parse(encoding, b)
	if ignored {
		if first, ok := m.first(); ok {
			model, err = first, nil
		}
	}
	switch {
	case errors.Is(err, engine.ErrFormat):
		return InvalidEncoding
	case err != nil:
		return InvalidArgument
	}
	return c.publish(model, parameterBytes(model), out)
}

// builders joins the pieces of a model, an array of {pointer, length}.
func (c call) builders(p, n uint32) ([]byte, Errno) {
	switch {
	case n == 0:
		return nil, InvalidArgument
	case n > maxBuilders:
		return nil, TooLarge
	}
	pairs, ok := c.words(p, 2*n)
	if !ok {
		return nil, MissingMemory
	}
	var joined []byte
	for i := 0; i < len(pairs); i += 2 {
		b, ok := c.Read(pairs[i], pairs[i+1])
		if !ok {
			return nil, MissingMemory
		}
		if size := int64(len(joined)) + int64(len(b)); size > engine.MaxModelBytes || size > c.policy.MaxBytes-c.bytes {
			return nil, TooLarge
		}
		joined = append(joined, b...)
	}
	return joined, Success
}

// parse gives guest bytes to the engine. It knows its own format only, which has no encoding number, so that
// every encoding but autodetect is a format that it can not read.
func (m *module) parse(encoding uint32, b []byte) (engine.Model, error) {
	m.Counters.ParserCalls.Add(1)
	if encoding != encodingAutodetect {
		return nil, fmt.Errorf("%w: encoding %d", engine.ErrFormat, encoding)
	}
	return engine.Decode(b)
}

func parameterBytes(m engine.Model) int64 {
	if s, ok := m.(engine.Sized); ok {
		return s.ParameterBytes()
	}
	return 0
}

// publish adds a graph and writes its handle to out, which is inside the memory.
func (c call) publish(model engine.Model, parameters int64, out uint32) Errno {
	handle, errno := c.addGraph(model, parameters)
	if errno != Success {
		return errno
	}
	c.WriteUint32Le(out, handle)
	return Success
}

// loadByName is load_by_name(name, name_len, out_graph).
func (m *module) loadByName(_ context.Context, c call) Errno {
	out := c.arg(2)
	name, ok := c.Read(c.arg(0), c.arg(1))
	switch {
	case !ok || !c.holds(out, 4):
		return MissingMemory
	case len(name) > engine.MaxName:
		return NotFound // no model has such a name, so it is not copied
	case !utf8.Valid(name):
		return InvalidArgument
	}
	model, ok := m.find(string(name))
	if !ok {
		return NotFound
	}
	return c.publish(model, 0, out)
}
