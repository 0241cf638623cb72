package main

import (
	"fmt"

	"github.com/assay-bench/assay/results"
	"github.com/assay-bench/assay/suites/gate"
)

// courseHere is the course of a policy on this host: margins that it does not name are raised to what link orders alone
// reach here, and those that it names and that are below are refused.
func courseHere(file string, p gate.Policy, o *gate.Options) (*gate.Course, error) {
	c, _, err := gateCalibration("")
	if err != nil {
		return nil, usage(fmt.Errorf("the calibration of this host: %w; remove the file, or say where another one is with XDG_CACHE_HOME", err))
	}
	o.Floors = c.Floors()
	course, err := gate.NewCourse(p, *o)
	if err == nil {
		err = c.CheckMargins(course.Metrics())
	}
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", file, err))
	}
	return course, nil
}

// keepPreflight adds what a run showed of unchanged code to the trials of this host. The run stands without it.
func (a *app) keepPreflight(b *results.Bundle) {
	file, err := gateTrialsFile()
	if err != nil {
		return // no cache folder, no pool
	}
	found, err := gate.Unchanged(b)
	if err == nil {
		_, err = keepTrials(file, found)
	}
	if err != nil {
		fmt.Fprintf(a.err, "assay: the pre-flight was not added to %s: %v\n", file, err)
	}
}
