// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSizesAndDurations(t *testing.T) {
	for s, want := range map[string]Size{"0B": 0, "1B": 1, "64KiB": 64 * KiB, "5GiB": 5 * GiB, "1024KiB": MiB, "1023KiB": 1023 * KiB} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "B", "KiB", "64", "64 KiB", "64kib", "64KB", "-1B", "+1B", "1.5MiB", "9223372036854775807TiB", "8192TiB", "1e3B", "0x1B"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %d", s, got)
		}
	}
	for _, s := range []string{"", "5", "-5s", "+5s", "0", "5 s", "5d", "1e3s", "99999999h"} {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %s", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := Size(rapid.Int64Range(0, 1<<53-1).Draw(t, "size"))
		if back, err := ParseSize(s.String()); err != nil || back != s {
			t.Fatalf("%d reads back as %d, %v", s, back, err)
		}
	})
}

func TestFormatDuration(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(10000*time.Hour)).Draw(t, "duration"))
		if back, err := ParseDuration(FormatDuration(d)); err != nil || back != d {
			t.Fatalf("%s reads back as %s, %v", FormatDuration(d), back, err)
		}
	})
	for d, want := range map[time.Duration]string{5 * time.Minute: "5m", 90 * time.Minute: "1h30m", 336 * time.Hour: "336h", 0: "0s", time.Hour + time.Second: "1h0m1s"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d is written %s, want %s", d, got, want)
		}
	}
}

func TestPermits(t *testing.T) {
	p, err := ParsePermits("4xCPU")
	if err != nil || p.Count() != 4*int64(runtime.GOMAXPROCS(0)) || p.String() != "4xCPU" {
		t.Errorf("got %v, %v", p, err)
	}
	if (Permits{N: 7}).Count() != 7 {
		t.Error("a number counts as itself")
	}
	for _, s := range []string{"", "xCPU", "0xCPU", "-1xCPU", "+1xCPU", "4xcpu", "4", "4.5xCPU", "9999999xCPU"} {
		if p, err := ParsePermits(s); err == nil {
			t.Errorf("ParsePermits(%q) = %v", s, p)
		}
	}
}
