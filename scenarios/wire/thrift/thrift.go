// Package thrift is the harness's own codec for the Thrift binary protocol. It writes single values and
// messages, well formed or deliberately not, and reads any struct into a tree of values without knowing
// its IDL. It judges nothing, opens no sockets, and shares no code with a target: a bug common to both
// would be invisible.
//
// Integers are big-endian. Layouts follow the Apache Thrift binary protocol specification.
package thrift

import "fmt"

// Type is the wire type of a field or an element.
type Type byte

// The wire types of the binary protocol. A Stop byte ends a struct.
const (
	Stop   Type = 0
	Bool   Type = 2
	Byte   Type = 3
	Double Type = 4
	I16    Type = 6
	I32    Type = 8
	I64    Type = 10
	String Type = 11 // also binary
	Object Type = 12 // a struct or an exception
	Map    Type = 13
	Set    Type = 14
	List   Type = 15
)

var typeNames = map[Type]string{
	Stop: "stop", Bool: "bool", Byte: "byte", Double: "double", I16: "i16", I32: "i32", I64: "i64",
	String: "string", Object: "struct", Map: "map", Set: "set", List: "list",
}

// String names the type as the IDL does; an unknown one is shown by number.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("type(%d)", byte(t))
}

// minSize is the smallest number of bytes that a value of the type can take; 0 means that the type is unknown.
func (t Type) minSize() int {
	switch t {
	case Bool, Byte, Object:
		return 1
	case I16:
		return 2
	case I32, String:
		return 4
	case List, Set:
		return 5
	case Map:
		return 6
	case I64, Double:
		return 8
	}
	return 0
}

// fixed reports whether every value of the type takes exactly minSize bytes.
func (t Type) fixed() bool {
	switch t {
	case Bool, Byte, I16, I32, I64, Double:
		return true
	}
	return false
}

// MessageType is the kind of a message.
type MessageType uint8

// The message types a peer may use. Any other number can be written and read, and is shown by number.
const (
	Call      MessageType = 1
	Reply     MessageType = 2
	Exception MessageType = 3
	Oneway    MessageType = 4
)

// String names the message type.
func (t MessageType) String() string {
	switch t {
	case Call:
		return "call"
	case Reply:
		return "reply"
	case Exception:
		return "exception"
	case Oneway:
		return "oneway"
	}
	return fmt.Sprintf("message-type(%d)", uint8(t))
}

// Value is one decoded value. Which members are set depends on Type: Num for Bool (0 or 1), Byte, I16, I32
// and I64; Float for Double; Text for String; Fields for Object; Elem and Items for List and Set; Key,
// Elem and Items (key, value, key, value, …) for Map.
type Value struct {
	Type   Type
	Key    Type
	Elem   Type
	Num    int64
	Float  float64
	Text   string
	Fields Struct
	Items  []Value
}

// Field is one field of a struct.
type Field struct {
	ID    int16
	Value Value
}

// Struct holds the fields in the order of the wire, repeated ids included.
type Struct []Field

// Get returns the value of the last field with the id, because that is the one a generated reader keeps.
func (s Struct) Get(id int16) (Value, bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].ID == id {
			return s[i].Value, true
		}
	}
	return Value{}, false
}

// Message is a decoded strict message.
type Message struct {
	Name string
	Type MessageType
	Seq  int32
	Body Struct
}

// Fault is the body of a message of type 3 (TApplicationException). Code 1 is an unknown method, 2 an
// invalid message type, 6 an internal error, 7 a protocol error, 20 an unknown service.
type Fault struct {
	Text string // field 1
	Code int32  // field 2
}

// Fault reads the body of an exception message. It fails on other messages, on fields of another type and
// on a body without the code; a body without a text is accepted, as the IDL leaves both optional.
func (m Message) Fault() (Fault, error) {
	if m.Type != Exception {
		return Fault{}, fmt.Errorf("thrift: %s %q is not an exception", m.Type, m.Name)
	}
	var f Fault
	if v, ok := m.Body.Get(1); ok {
		if v.Type != String {
			return Fault{}, fmt.Errorf("thrift: exception field 1 is %s, want string", v.Type)
		}
		f.Text = v.Text
	}
	v, ok := m.Body.Get(2)
	if !ok {
		return Fault{}, fmt.Errorf("thrift: exception %q has no field 2", f.Text)
	}
	if v.Type != I32 {
		return Fault{}, fmt.Errorf("thrift: exception field 2 is %s, want i32", v.Type)
	}
	f.Code = int32(v.Num)
	return f, nil
}
