// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/report"
)

const wrkConnections = 32

// wrkScript walks a list of paths, one after the other, with one header more
// than usual; the header is in this file and not on the command line. What it
// prints at the end is read by wrkResult.
const wrkScript = `local paths, requests, at = {}, {}, 0
for line in io.lines(%q) do paths[#paths + 1] = line end
init = function(args)
  %s
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path) end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT requests=%%d us=%%d p50=%%d p99=%%d bytes=%%d errors=%%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`

// runWrk reads paths from a server for a while.
func (b *bench) runWrk(ctx context.Context, s *server, paths []string, size int64, span time.Duration) (report.Result, error) {
	list, script := filepath.Join(s.dir, "paths"), filepath.Join(s.dir, "walk.lua")
	header := ""
	if s.getHeader[0] != "" {
		header = fmt.Sprintf("wrk.headers[%q] = %q", s.getHeader[0], s.getHeader[1])
	}
	err := errors.Join(
		os.WriteFile(list, []byte(strings.Join(paths, "\n")+"\n"), 0o600),
		os.WriteFile(script, fmt.Appendf(nil, wrkScript, list, header), 0o600))
	if err != nil {
		return report.Result{}, err
	}
	cmd := children.Command(ctx, b.set.wrk, "-t1", "-c"+strconv.Itoa(wrkConnections), "-d"+strconv.Itoa(int(span.Seconds()))+"s",
		"--timeout", "30s", "-s", script, s.url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return report.Result{}, fmt.Errorf("wrk on %s: %w\n%s", s.name, err, out)
	}
	r, err := wrkResult(string(out), size)
	if err != nil {
		return report.Result{}, fmt.Errorf("wrk on %s: %w", s.name, err)
	}
	return r, nil
}

var wrkLine = regexp.MustCompile(`(?m)^RESULT requests=(\d+) us=(\d+) p50=(\d+) p99=(\d+) bytes=(\d+) errors=(\d+)$`)

// wrkResult reads the line that wrkScript prints. Errors, or fewer bytes than
// that many objects have, make the run worthless.
func wrkResult(out string, size int64) (report.Result, error) {
	m := wrkLine.FindStringSubmatch(out)
	if m == nil {
		return report.Result{}, fmt.Errorf("printed no result: %s", out)
	}
	var n [6]float64
	for i := range n {
		n[i], _ = strconv.ParseFloat(m[i+1], 64) // digits, as the expression says
	}
	switch {
	case n[5] > 0:
		return report.Result{}, fmt.Errorf("%.0f errors in %.0f requests", n[5], n[0])
	case n[0] == 0 || n[1] == 0:
		return report.Result{}, errors.New("no request ended; make the runs longer")
	case n[4] < n[0]*float64(size):
		return report.Result{}, fmt.Errorf("%.0f bytes are too few for %.0f objects of %s", n[4], n[0], sizeName(size))
	}
	return report.Result{Rate: n[0] / n[1] * 1e6, P50: n[2] / 1000, P99: n[3] / 1000}, nil
}
