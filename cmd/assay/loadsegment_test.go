package main

import "testing"

func TestParseSegment(t *testing.T) {
	tests := []struct {
		text, index string
		want        string
		fails       bool
	}{
		{text: "2/8", want: "2/8"},
		{text: "index/3", index: "0", want: "1/3"},
		{text: "index/3", index: "2", want: "3/3"},
		{text: "index/3:5,3,2", index: "1", want: "2/3:5,3,2"},
		{text: "index/3", index: "3", fails: true},
		{text: "index/3", index: "-1", fails: true},
		{text: "index/3", index: "", fails: true},
		{text: "index", index: "0", fails: true},
	}
	for _, tt := range tests {
		got, err := parseSegment(tt.text, func(string) (string, bool) { return tt.index, tt.index != "" })
		if (err != nil) != tt.fails || (err == nil && got.String() != tt.want) {
			t.Errorf("%s with index %q: %s, %v; want %q", tt.text, tt.index, got, err, tt.want)
		}
	}
}
