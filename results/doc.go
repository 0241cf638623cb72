// Package results is the waist of assay: evidence, verdicts, the recorder and the bundle on disk.
// Everything that drives a target writes evidence here, everything that judges or reports reads it
// from here. The package may not drive, judge or render anything, and imports nothing of the house.
package results
