package grpc

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Bounds of the walk over a message, which may come from a hostile peer.
const (
	maxDepth  = 8
	maxFields = 32
)

// bytesFields lists the lengths of a message's bytes fields by path, in the names of the .proto file.
func bytesFields(m proto.Message) map[string]int {
	out := map[string]int{}
	walk(m.ProtoReflect(), "", 0, out)
	return out
}

func walk(m protoreflect.Message, prefix string, depth int, out map[string]int) {
	if depth == maxDepth {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if len(out) >= maxFields {
			return false
		}
		name := prefix + string(fd.Name())
		switch {
		case fd.IsList() || fd.IsMap():
		case fd.Kind() == protoreflect.BytesKind:
			out[name] = len(v.Bytes())
		case fd.Message() != nil:
			walk(v.Message(), name+".", depth+1, out)
		}
		return true
	})
}

// String renders the call for a person, a few lines.
func (c Call) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s on connection %d): status %d %s", c.Method, c.Label, c.Connection, c.Code, c.CodeName)
	if c.Message != "" {
		fmt.Fprintf(&b, " %q", clip(c.Message, 256))
	}
	fmt.Fprintf(&b, " after %s", c.Took)
	if c.Cancelled {
		b.WriteString(", cancelled by the client")
	}
	list(&b, "sent", c.Sent)
	list(&b, "received", c.Received)
	if c.More {
		b.WriteString("\n  more was to come")
	}
	return b.String()
}

// maxListed bounds the messages that String lists of each direction.
const maxListed = 8

func list(b *strings.Builder, what string, ms []Message) {
	for i, m := range ms {
		if i == maxListed {
			fmt.Fprintf(b, "\n  %s %d further messages", what, len(ms)-i)
			return
		}
		fmt.Fprintf(b, "\n  %s %d bytes", what, m.Size)
		if len(m.JSON) > 0 {
			fmt.Fprintf(b, " %s", clip(string(m.JSON), 200))
		}
	}
}
