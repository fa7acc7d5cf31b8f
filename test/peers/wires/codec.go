// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wires

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// goalHeaders is how many headers are to be read a second.
const goalHeaders = 20e6

// codecBench are package oap's benchmarks that have a goal: a header, and a data
// frame of 64 KiB cut from a buffer in place.
const codecBench = "^Benchmark(ParseHeader|Cut64KiB)$"

var benchLine = regexp.MustCompile(`(?m)^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op.*?\s(\d+) B/op\s+(\d+) allocs/op`)

// codec runs the benchmarks of package oap and quotes them.
func (b *bench) codec(ctx context.Context) error {
	args := []string{"test", "-run", "^$", "-bench", codecBench, "-benchtime", "300ms", "-count", strconv.Itoa(b.plan.Rounds), "-benchmem", "github.com/rustyonions/macronode/oap"}
	out, err := children.Command(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	nanos, allocs := map[string][]float64{}, map[string]float64{}
	for _, m := range benchLine.FindAllStringSubmatch(string(out), -1) {
		ns, err1 := strconv.ParseFloat(m[2], 64)
		n, err2 := strconv.ParseFloat(m[4], 64)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		nanos[m[1]], allocs[m[1]] = append(nanos[m[1]], ns), max(allocs[m[1]], n)
	}
	if len(nanos["ParseHeader"]) == 0 || len(nanos["Cut64KiB"]) == 0 {
		return fmt.Errorf("package oap printed no benchmark:\n%s", out)
	}
	add := func(what, bench string, perSecond float64) {
		st := report.StatOf(nanos[bench], func(f float64) float64 { return 1e9 / f })
		got := fmt.Sprintf("%.1f M/s, %.0f allocations", st.Median/1e6, allocs[bench])
		want := fmt.Sprintf("≥ %g M/s, no allocation", perSecond/1e6)
		report.Say("%s: %s", what, got)
		b.sec.Row(what, "codec", report.Number(st.Median), report.Number(st.Low)+"-"+report.Number(st.High), "", "", "", "", "", "", got, want,
			b.sec.Judge("codec: "+what, want, got, st.Median >= perSecond && allocs[bench] == 0))
	}
	add("headers parsed", "ParseHeader", goalHeaders)
	// A copy of 64 KiB takes microseconds: at this rate there was none.
	add("64 KiB data frames parsed in place", "Cut64KiB", goalHeaders/2)
	return nil
}

// grpcVersion is the peer's, as it was built in.
func grpcVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "google.golang.org/grpc" {
				return m.Version
			}
		}
	}
	return "unknown version"
}
