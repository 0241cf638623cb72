package l4proxy

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	ms := func(all ...float64) []time.Duration {
		var out []time.Duration
		for _, v := range all {
			out = append(out, time.Duration(v*float64(time.Millisecond)))
		}
		return out
	}
	const asked = 50 * time.Millisecond
	quiet := ms(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2)
	cases := []struct {
		name                   string
		control, proxied, late []time.Duration
		good                   bool
	}{
		{"quiet", quiet, ms(50.2, 50.3, 50.4, 50.4, 50.4, 50.5, 51), quiet, true},
		{"not there", quiet, quiet, quiet, false},
		{"not there, wild host", ms(0.1, 0.1, 0.1, 90, 90, 90, 200), ms(51, 52, 53, 90, 90, 90, 200), quiet, false},
		{"not there, a slow one among them", quiet, ms(0.1, 40, 50, 60, 60, 60, 60), quiet, false},
		{"half of it", quiet, ms(25, 25, 25, 25, 25, 25, 25), quiet, false},
		{"too much", quiet, ms(54, 54, 54, 54, 54, 54, 54), quiet, false},
		{"too much, but so is the host", ms(0.1, 0.1, 0.1, 0.1, 0.1, 1, 9), ms(51, 52, 55, 55, 56, 56, 60), quiet, true},
		{"too much, but so are timers", quiet, ms(51, 52, 55, 55, 56, 56, 60), ms(0.1, 0.5, 1, 2, 4, 5, 7), true},
		{"too much for late timers", quiet, ms(51, 52, 65, 65, 66, 66, 70), ms(0.1, 0.5, 1, 2, 4, 5, 7), false},
		{"not there, and timers late", quiet, quiet, ms(90, 90, 90, 90, 90, 90, 90), false},
		{"late timers prove nothing", quiet, ms(51, 90, 90, 90, 90, 90, 90), ms(30, 30, 30, 30, 30, 30, 40), false},
		{"a slow host proves nothing", ms(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 30), ms(50, 50, 50, 50, 50, 50, 50), quiet, false},
	}
	seen := 0
	for _, c := range cases {
		seen++
		m := measured{direct: quiet, control: c.control, proxied: c.proxied, late: c.late}
		if complaint := m.judge(asked); (complaint == "") != c.good {
			t.Errorf("%s: %q", c.name, complaint)
		}
	}
	if seen == 0 {
		t.Fatal("no cases")
	}
}
