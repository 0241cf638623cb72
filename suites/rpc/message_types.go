package rpc

import (
	"fmt"

	"github.com/assay-bench/assay/scenarios/wire/behave"
	"github.com/assay-bench/assay/scenarios/wire/rpcframe"
	"github.com/assay-bench/assay/scenarios/wire/thrift"
	"github.com/assay-bench/assay/suites"
)

var messageTypes = refusal{codes: []int32{2}, closing: true, variants: typesOf(0, 2, 3, 5, 6, 200)}

// typesOf builds calls of unusual types; type 0 can not be asked of Call, whose zero means 1.
func typesOf(types ...byte) (out []variant) {
	for _, n := range types {
		out = append(out, variant{fmt.Sprintf("type-%d", n), fmt.Sprintf("message type %d", n), rpcframe.Framed,
			func(token string) ([]byte, error) {
				b, err := rpcframe.Call{
					Form: rpcframe.Framed, Method: behave.MethodEcho, Type: thrift.Call, Seq: 7, Args: behave.Args(tagged(token)),
				}.Encode()
				if err != nil {
					return nil, err
				}
				b[4+3] = n // the low byte of version and type, behind the frame length
				return b, nil
			}})
	}
	return out
}

var _ = add(messageTypes.check(suites.Check{
	ID:     "rpc/wire/client-message-types",
	Title:  "message types that no client sends are refused",
	Covers: []string{"rpc/wire/client-message-types"},
	Kills:  killsIn("rpc.message-type-ignored", reasonServed, "type-0", "type-2", "type-3", "type-5", "type-6", "type-200"),
}))
