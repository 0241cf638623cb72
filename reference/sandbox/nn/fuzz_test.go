package nn

import (
	"testing"

	"github.com/tetratelabs/wazero"
)

// numbers reads arguments out of fuzz data: small numbers, addresses near the end of the memory, numbers near
// the largest, the addresses that the tests use, and anything.
type numbers struct{ rest []byte }

func (n *numbers) byte() byte {
	if len(n.rest) == 0 {
		return 0
	}
	b := n.rest[0]
	n.rest = n.rest[1:]
	return b
}

func (n *numbers) next() uint32 {
	kind, v := n.byte(), uint32(n.byte())
	switch kind % 5 {
	case 0:
		return v
	case 1:
		return page - v
	case 2:
		return 0xffff_ffff - v
	case 3:
		return []uint32{atName, atGraph, atCtx, atTensor, atDims, atData, atOut, atModel}[v%8]
	}
	return v<<24 | uint32(n.byte())<<16 | uint32(n.byte())<<8 | uint32(n.byte())
}

// FuzzCalls makes any sequence of calls with any arguments. The module may refuse them, but may not trap, may
// not answer what is no error number, and may not hold more than the policy allows.
func FuzzCalls(f *testing.F) {
	f.Add([]byte{1, 3, 0, 0, 10, 3, 1, 2, 0, 1, 3, 2, 3, 0, 1, 0, 0, 3, 3, 4, 0, 1, 5, 0, 1, 0, 0, 3, 6, 0, 12, 3, 1})
	f.Add([]byte{0, 3, 7, 0, 1, 0, 5, 0, 0, 3, 1})
	f.Add([]byte{3, 0, 1, 2, 0, 1, 12, 5, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0})
	s := serve(f, wazero.NewRuntimeConfigInterpreter())
	policy := Policy{LoadBytes: true, MaxGraphs: 3, MaxContexts: 3, MaxBytes: 4096}
	g := s.guest(f, policy)
	pristine := memoryImage(g)
	functions := (&module{}).functions()
	f.Fuzz(func(t *testing.T, data []byte) {
		g.t = t
		policy.ViewInputs = len(data)%2 == 0
		g.state = NewState(policy)
		g.put(0, pristine)
		n := &numbers{rest: data}
		for len(n.rest) > 0 {
			fn := functions[int(n.byte())%len(functions)]
			args := make([]uint32, fn.params)
			for i := range args {
				args[i] = n.next()
			}
			if e := g.call(fn.name, args...); e > NotFound {
				t.Fatalf("%s%v = %v", fn.name, args, e)
			}
			u := g.state.Usage()
			if u.Graphs > policy.MaxGraphs || u.Contexts > policy.MaxContexts || u.Bytes < 0 || u.Bytes > policy.MaxBytes {
				t.Fatalf("%s%v: %+v", fn.name, args, u)
			}
		}
	})
}

// memoryImage prepares a memory in which well-chosen arguments succeed, and returns it.
func memoryImage(g *guest) []byte {
	g.put(atName, []byte(theName))
	g.tensor(atData, []uint32{1, 4}, 1, 2, 3, 4)
	model := []byte(`{"name":"m","layers":[{"weights":[[2],[3]]}]}`)
	g.put(atModel+16, model)
	g.words(atModel, atModel+16, uint32(len(model)))
	b, _ := g.mod.Memory().Read(0, page)
	return append([]byte(nil), b...)
}
