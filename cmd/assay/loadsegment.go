package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/assay-bench/assay/scenarios/load"
)

// indexVariable is what an Indexed Job of Kubernetes gives each of its pods: 0, 1, …
const indexVariable = "JOB_COMPLETION_INDEX"

// parseSegment is load.ParseSegment with index/N for the share of a pod of an Indexed Job: images without a
// shell can not add one to a number.
func parseSegment(text string, lookup func(string) (string, bool)) (load.Segment, error) {
	rest, indexed := strings.CutPrefix(text, "index/")
	if !indexed {
		return load.ParseSegment(text)
	}
	value, set := lookup(indexVariable)
	index, err := strconv.Atoi(value)
	if !set || err != nil || index < 0 {
		return load.Segment{}, fmt.Errorf("--segment %.40s: %s is %.40q, want the index of a pod of an Indexed Job, from 0", text, indexVariable, value)
	}
	return load.ParseSegment(fmt.Sprintf("%d/%s", index+1, rest))
}
