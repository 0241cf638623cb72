package target_test

import (
	"strings"
	"testing"

	"github.com/assay-bench/assay/fixtures/schematest"
	"github.com/assay-bench/assay/scenarios/target"
)

// Whatever the bytes, Parse returns a file or errors of one line each that name the file; and what it
// accepts, the schema accepts.
func FuzzParse(f *testing.F) {
	for _, c := range fileCases() {
		f.Add([]byte(c.text))
	}
	schema := schematest.Compile(f, target.Schema())
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := target.Parse("f.yaml", raw)
		if err != nil {
			if file != nil {
				t.Error("a file beside an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "f.yaml:") || len(line) > 1<<12 {
					t.Errorf("error line %q", line)
				}
			}
			return
		}
		if file.Name == "" || file.Role == "" || len(file.Digest) != 64 {
			t.Errorf("accepted an incomplete file: %+v", file)
		}
		if err := schematest.Validate(schema, string(raw)); err != nil {
			t.Errorf("accepted what the schema refuses: %v\n%s", err, raw)
		}
	})
}

// A bare address is parsed or refused, and is never more than one endpoint.
func FuzzParseAddress(f *testing.F) {
	for _, c := range addressCases() {
		f.Add(c.raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		file, err := target.ParseAddress(raw)
		if err == nil && (len(file.Endpoints) != 1 || len(file.Offered) == 0 || len(file.Claims) != 0) {
			t.Errorf("%q = %+v", raw, file)
		}
	})
}
