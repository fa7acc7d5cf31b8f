// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drive

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(i+1))
	}
	if a, b, c := Percentile(all, 50), Percentile(all, 99), Percentile(all[:1], 99); a != 100 || b != 198 || c != 1 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
}

func TestDrive(t *testing.T) {
	var calls atomic.Int64
	r, err := Run(t.Context(), 3, 50*time.Millisecond, func(context.Context, int, int) error {
		calls.Add(1)
		<-time.After(time.Millisecond)
		return nil
	})
	if err != nil || r.Rate == 0 || r.Rate > float64(calls.Load())*20 || r.P50 < 1 || r.P99 < r.P50 {
		t.Errorf("%d calls: %+v, %v", calls.Load(), r, err)
	}
	want := errors.New("refused")
	if _, err := Run(t.Context(), 2, time.Minute, func(ctx context.Context, w, _ int) error {
		if w == 0 {
			return want
		}
		<-ctx.Done() // the other worker is told to end
		return ctx.Err()
	}); !errors.Is(err, want) {
		t.Errorf("%v, want the worker's error", err)
	}
}
