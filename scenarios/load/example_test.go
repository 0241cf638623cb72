package load_test

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-bench/assay/scenarios/load"
)

// double is a target without a network.
type double struct{}

func (double) Call(_ context.Context, id uint64) error {
	if id%10 == 9 {
		return fmt.Errorf("no luck")
	}
	return nil
}

func ExampleRun() {
	schedule := load.Schedule{Kind: load.Const, Rate: 500, Duration: 200 * time.Millisecond}
	pool := &load.Pool{Callers: []load.Caller{double{}, double{}}}
	result, err := load.Run(context.Background(), schedule, pool, load.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%+v %v\n", result.Counts, result.Errors)
	// Output: {Scheduled:100 OK:90 Error:10 Timeout:0 Unsent:0} map[no luck:10]
}
