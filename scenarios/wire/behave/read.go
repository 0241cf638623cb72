package behave

import (
	"errors"
	"fmt"

	"github.com/assay-bench/assay/scenarios/wire/thrift"
)

// fields calls read for each field of an object. An error names the struct and the field.
func fields(v thrift.Value, name string, read func(id int16, v thrift.Value) error) error {
	if v.Type != thrift.Object {
		return fmt.Errorf("behave: %s is %s, want struct", name, v.Type)
	}
	for _, f := range v.Fields {
		if err := read(f.ID, f.Value); err != nil {
			return fmt.Errorf("behave: %s field %d: %w", name, f.ID, err)
		}
	}
	return nil
}

func want(v thrift.Value, t thrift.Type) error {
	if v.Type != t {
		return fmt.Errorf("%s, want %s", v.Type, t)
	}
	return nil
}

func readMsg(v thrift.Value) (Msg, error) {
	var m Msg
	body := false
	err := fields(v, "Msg", func(id int16, v thrift.Value) (err error) {
		switch id {
		case 1:
			m.Tag, err = readText(v)
		case 2:
			body = true
			m.Body, err = v.Text, want(v, thrift.String)
		case 3:
			m.Ops, err = readList(v, thrift.Object, readOp)
		case 4:
			m.Report, err = ref(readReport(v))
		case 5:
			m.Node, err = ref(readNode(v))
		}
		return err
	})
	if err == nil && !body {
		err = errors.New("behave: Msg without its required field 2 (body)")
	}
	return m, err
}

func readOp(v thrift.Value) (Op, error) {
	var o Op
	kind := false
	err := fields(v, "Op", func(id int16, v thrift.Value) (err error) {
		switch id {
		case 1:
			kind = true
			o.Kind, err = Kind(v.Num), want(v, thrift.I32)
		case 2:
			o.Millis, err = readI64(v)
		case 3:
			o.Code, err = readI32(v)
		case 4:
			o.Text, err = readText(v)
		case 5:
			o.Times, err = readI32(v)
		case 6:
			o.Addresses, err = readList(v, thrift.String, func(v thrift.Value) (string, error) { return v.Text, nil })
		case 7:
			o.Then, err = readList(v, thrift.Object, readOp)
		}
		return err
	})
	if err == nil && !kind {
		err = errors.New("behave: Op without its required field 1 (kind)")
	}
	return o, err
}

func readReport(v thrift.Value) (Report, error) {
	var r Report
	err := fields(v, "Report", func(id int16, v thrift.Value) (err error) {
		switch id {
		case 1:
			r.Count, err = readI64(v)
		case 2:
			r.Meta, err = readMeta(v)
		case 3:
			r.Hops, err = readList(v, thrift.Object, readReport)
		case 4:
			r.DeadlineMillis, err = readI64(v)
		case 5:
			r.Cancelled, err = new(v.Num != 0), want(v, thrift.Bool)
		}
		return err
	})
	return r, err
}

func readNode(v thrift.Value) (Node, error) {
	var n Node
	err := fields(v, "Node", func(id int16, v thrift.Value) (err error) {
		switch id {
		case 1:
			n.Next, err = ref(readNode(v))
		case 2:
			n.Numbers, err = readList(v, thrift.I64, func(v thrift.Value) (int64, error) { return v.Num, nil })
		}
		return err
	})
	return n, err
}

func readFault(v thrift.Value) (Fault, error) {
	var f Fault
	err := fields(v, "Fault", func(id int16, v thrift.Value) (err error) {
		switch id {
		case 1:
			f.Code, err = int32(v.Num), want(v, thrift.I32)
		case 2:
			f.Reason, err = v.Text, want(v, thrift.String)
		}
		return err
	})
	return f, err
}

func readText(v thrift.Value) (*string, error) { return new(v.Text), want(v, thrift.String) }
func readI64(v thrift.Value) (*int64, error)   { return new(v.Num), want(v, thrift.I64) }
func readI32(v thrift.Value) (*int32, error)   { return new(int32(v.Num)), want(v, thrift.I32) }

func ref[T any](v T, err error) (*T, error) { return &v, err }

// readList reads a list; an empty one may leave its element type open.
func readList[T any](v thrift.Value, elem thrift.Type, read func(thrift.Value) (T, error)) ([]T, error) {
	if err := want(v, thrift.List); err != nil {
		return nil, err
	}
	if v.Elem != elem && len(v.Items) > 0 {
		return nil, fmt.Errorf("list<%s>, want list<%s>", v.Elem, elem)
	}
	items := make([]T, 0, len(v.Items))
	for _, i := range v.Items {
		item, err := read(i)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func readMeta(v thrift.Value) (map[string]string, error) {
	if err := want(v, thrift.Map); err != nil {
		return nil, err
	}
	if len(v.Items) > 0 && (v.Key != thrift.String || v.Elem != thrift.String) {
		return nil, fmt.Errorf("map<%s,%s>, want map<string,string>", v.Key, v.Elem)
	}
	m := make(map[string]string, len(v.Items)/2)
	for i := 0; i+1 < len(v.Items); i += 2 {
		m[v.Items[i].Text] = v.Items[i+1].Text
	}
	return m, nil
}
