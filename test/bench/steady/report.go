// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package steady

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
)

// Report adds what came of the load, and of one before the changes.
func (c *Changes) Report(sec *report.Section, before, count Count, made []Change) {
	wanted := c.Load.Requests
	took := map[string][]time.Duration{}
	for _, m := range made {
		took[m.Name] = append(took[m.Name], m.Took)
	}
	for _, name := range []string{"reload", "key rotation", "certificate rotation"} {
		all := took[name]
		slices.Sort(all)
		sec.Value(name+"s", fmt.Sprintf("%d, %.2f s in the median, %.2f s at most, signing and all", len(all), at(all, 500).Seconds(), all[len(all)-1].Seconds()), "", nil)
	}
	slices.Sort(count.Took)
	slices.Sort(before.Took)
	sec.Value("requests", fmt.Sprint(count.Requests), fmt.Sprint(wanted), met(count.Requests == wanted))
	sec.Value("told to come again, and served then", fmt.Sprintf("%d, %d before the changes", count.Again, before.Again), "", nil)
	sec.Value("failed", fmt.Sprint(count.Failed), "0", met(count.Failed == 0))
	sec.Value("slower than a second", fmt.Sprint(count.Slow), "0", met(count.Slow == 0))
	sec.Value("kept connections that the node ended", fmt.Sprint(count.Ended), "0", met(count.Ended == 0))
	sec.Value("handshakes for one request", fmt.Sprint(count.Fresh), "", nil)
	times := func(d []time.Duration) string {
		return fmt.Sprintf("p50 %.2f, p99 %.2f, p99.9 %.1f, longest %.1f ms", ms(at(d, 500)), ms(at(d, 990)), ms(at(d, 999)), ms(at(d, 1000)))
	}
	sec.Value("times", times(count.Took), "", nil)
	sec.Value("times before the changes", times(before.Took), "", nil)
	for _, e := range append(before.Errors, count.Errors...) {
		sec.Note("An error: `%s`", strings.ReplaceAll(e, "`", "'"))
	}
}

// at is the smallest of sorted times that p in a thousand do not exceed.
func at(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+999)/1000-1]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func met(b bool) *bool { return &b }
