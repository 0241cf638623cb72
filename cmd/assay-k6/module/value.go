package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/assay-bench/assay/scenarios/wire/thrift"
)

// maxDepth bounds the nesting of arguments.
const maxDepth = 32

// fieldOption is a field of a Thrift struct as a script writes it: {id: 1, type: "i32", value: 7}. The value
// of a struct is a list of such fields, the value of a list is a list of values of type elem.
type fieldOption struct {
	ID    int16           `json:"id"`
	Type  string          `json:"type"`
	Elem  string          `json:"elem"`
	Value json.RawMessage `json:"value"`
}

var typesByName = map[string]thrift.Type{
	"bool": thrift.Bool, "byte": thrift.Byte, "double": thrift.Double, "i16": thrift.I16, "i32": thrift.I32,
	"i64": thrift.I64, "string": thrift.String, "struct": thrift.Object, "list": thrift.List,
}

// bitsOf are the sizes of the integers.
var bitsOf = map[thrift.Type]int{thrift.Byte: 8, thrift.I16: 16, thrift.I32: 32, thrift.I64: 64}

func structOf(fields []fieldOption, depth int) (thrift.Struct, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("args: nested deeper than %d", maxDepth)
	}
	out := thrift.Struct{}
	for _, f := range fields {
		v, err := valueOf(f.Type, f.Elem, f.Value, depth)
		if err != nil {
			return nil, fmt.Errorf("args: field %d: %w", f.ID, err)
		}
		out = append(out, thrift.Field{ID: f.ID, Value: v})
	}
	return out, nil
}

func valueOf(name, elem string, raw json.RawMessage, depth int) (thrift.Value, error) {
	t, known := typesByName[name]
	if !known {
		return thrift.Value{}, fmt.Errorf("type %q is none of bool, byte, i16, i32, i64, double, string, struct, list", name)
	}
	v := thrift.Value{Type: t}
	var err error
	switch t {
	case thrift.Bool:
		var b bool
		if err = json.Unmarshal(raw, &b); b {
			v.Num = 1
		}
	case thrift.Double:
		err = json.Unmarshal(raw, &v.Float)
	case thrift.String:
		err = json.Unmarshal(raw, &v.Text)
	case thrift.Object:
		var fields []fieldOption
		if err = json.Unmarshal(raw, &fields); err == nil {
			v.Fields, err = structOf(fields, depth+1)
		}
	case thrift.List:
		err = listOf(&v, elem, raw, depth)
	default:
		v.Num, err = integer(raw, bitsOf[t])
	}
	if err != nil {
		return v, fmt.Errorf("value of type %s: %w", name, err)
	}
	return v, nil
}

func listOf(v *thrift.Value, elem string, raw json.RawMessage, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil {
		return err
	}
	v.Elem = typesByName[elem]
	if v.Elem == 0 || v.Elem == thrift.List {
		return fmt.Errorf("elem %q: want the name of a type other than list", elem)
	}
	for _, item := range items {
		e, err := valueOf(elem, "", item, depth+1)
		if err != nil {
			return err
		}
		v.Items = append(v.Items, e)
	}
	return nil
}

// integer reads a number or a string of digits: JavaScript numbers lose i64 beyond 2^53.
func integer(raw json.RawMessage, size int) (int64, error) {
	text := string(raw)
	if len(text) > 1 && text[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, err
		}
	}
	n, err := strconv.ParseInt(text, 10, size)
	var num *strconv.NumError
	if errors.As(err, &num) {
		return 0, fmt.Errorf("%q: %w", num.Num, num.Err)
	}
	return n, err
}

// exported turns a struct into what JavaScript can read, by field id.
func exported(s thrift.Struct) map[string]any {
	out := map[string]any{}
	for _, f := range s {
		out[strconv.Itoa(int(f.ID))] = exportedValue(f.Value)
	}
	return out
}

func exportedValue(v thrift.Value) any {
	switch v.Type {
	case thrift.Bool:
		return v.Num != 0
	case thrift.Double:
		return v.Float
	case thrift.String:
		return v.Text
	case thrift.Object:
		return exported(v.Fields)
	case thrift.List, thrift.Set:
		items := make([]any, len(v.Items))
		for i, x := range v.Items {
			items[i] = exportedValue(x)
		}
		return items
	case thrift.Map:
		out := map[string]any{}
		for i := 0; i+1 < len(v.Items); i += 2 {
			out[fmt.Sprint(exportedValue(v.Items[i]))] = exportedValue(v.Items[i+1])
		}
		return out
	case thrift.I64:
		if v.Num > 1<<53 || v.Num < -(1<<53) {
			return strconv.FormatInt(v.Num, 10) // a number would lose digits
		}
	}
	if v.Num > math.MaxInt32 || v.Num < math.MinInt32 {
		return float64(v.Num)
	}
	return v.Num
}
