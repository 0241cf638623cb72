package stack

import (
	"testing"

	"github.com/assay-bench/assay/reference/defect"
)

func TestRunWasm(t *testing.T) {
	const rest = " run-wasm {module} {function} {args}"
	cases := []struct {
		path    string
		defects []defect.Name
		want    string
	}{
		{"/bin/assay", nil, "/bin/assay" + rest},
		{"/my bin/assay", nil, `"/my bin/assay"` + rest},
		{"/it's/assay", nil, `"/it's/assay"` + rest},
		{`/a "b"/assay`, nil, `'/a "b"/assay'` + rest},
		{`/a"b'c/assay`, nil, ""},
		{"/{args}/assay", nil, ""},
		{"", nil, ""},
		{"/bin/assay", []defect.Name{defect.SandboxRunAbsent, defect.SeqZero, defect.SandboxEngineDiffers},
			"/bin/assay run-wasm --defect sandbox.engine-differs --defect sandbox.run-absent {module} {function} {args}"},
	}
	seen := 0
	for _, c := range cases {
		seen++
		if got := runWasm(c.path, defect.Of(c.defects...)); got != c.want {
			t.Errorf("%q %v: %s, want %s", c.path, c.defects, got, c.want)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}
