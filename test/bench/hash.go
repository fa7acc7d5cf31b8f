// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

// measureHash runs the benchmarks of package b3 and quotes them.
func measureHash(ctx context.Context, b *bench) (*report.Section, error) {
	args := []string{"test", "-run", "^$", "-bench", ".", "-benchtime", b.set.hashTime, "-count", strconv.Itoa(b.set.rounds), "./b3"}
	out, err := children.Command(ctx, "go", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	sec := &report.Section{Head: []string{"benchmark", "MB/s", "range", "ns/op"}}
	sec.Note("`go %s`, medians. `Hash` makes the address and the tree of groups; `Verify` checks groups against a tree, `all` from the first to the last, `random` one at a time.", strings.Join(args, " "))
	rows := benchLines(string(out))
	if len(rows) == 0 {
		return nil, errors.New("package b3 printed no benchmark")
	}
	for _, r := range rows {
		speed := report.StatOf(r.speed, func(f float64) float64 { return f })
		nanos := report.StatOf(r.nanos, func(f float64) float64 { return f })
		sec.Row(r.name, report.Number(speed.Median), report.Number(speed.Low)+"-"+report.Number(speed.High), report.Number(nanos.Median))
	}
	return sec, nil
}

// benchRow is one benchmark with all its runs.
type benchRow struct {
	name         string
	nanos, speed []float64
}

var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op\s+([0-9.]+) MB/s`)

// benchLines reads what go test prints, in the order it does.
func benchLines(out string) []*benchRow {
	var rows []*benchRow
	byName := map[string]*benchRow{}
	for _, m := range benchLine.FindAllStringSubmatch(out, -1) {
		r := byName[m[1]]
		if r == nil {
			r = &benchRow{name: m[1]}
			byName[m[1]] = r
			rows = append(rows, r)
		}
		nanos, err1 := strconv.ParseFloat(m[2], 64)
		speed, err2 := strconv.ParseFloat(m[3], 64)
		if errors.Join(err1, err2) == nil {
			r.nanos, r.speed = append(r.nanos, nanos), append(r.speed, speed)
		}
	}
	return rows
}
