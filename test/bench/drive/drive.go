// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package drive calls something again and again and times it.
package drive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
)

// Run lets workers call op until the time is up; the first tenth (at most a
// second) is not counted. op is told its worker and how many calls that worker
// has made.
func Run(ctx context.Context, workers int, span time.Duration, op func(ctx context.Context, worker, call int) error) (report.Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begun := time.Now()
	from := begun.Add(min(time.Second, span/10))
	until := from.Add(span)
	took := make([][]time.Duration, workers)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for call := 0; ; call++ {
				start := time.Now()
				if start.After(until) {
					return
				}
				if err := op(ctx, w, call); err != nil {
					errs[w] = err
					cancel() // the others need not go on
					return
				}
				if end := time.Now(); start.After(from) && !end.After(until) {
					took[w] = append(took[w], end.Sub(start))
				}
			}
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return report.Result{}, err
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return report.Result{}, fmt.Errorf("no call ended within %s", span)
	}
	return Of(all, span), nil
}

// Of sums up the times of a non-empty list of calls that took span together.
func Of(all []time.Duration, span time.Duration) report.Result {
	slices.Sort(all)
	return report.Result{Rate: float64(len(all)) / span.Seconds(), P50: Millis(Percentile(all, 50)), P99: Millis(Percentile(all, 99))}
}

// Percentile of a sorted, non-empty list: the smallest value that p percent do
// not exceed.
func Percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

// Millis is d in milliseconds.
func Millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
