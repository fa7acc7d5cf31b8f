// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package wrk calls a server with wrk.
package wrk

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

// Connections is how many wrk keeps open.
const Connections = 32

// script walks a list of paths, one after the other, with one header more
// than usual; the header is in this file and not on the command line. What it
// prints at the end is read by parse.
const script = `local paths, requests, at = {}, {}, 0
for line in io.lines(%q) do paths[#paths + 1] = line end
init = function(args)
  %s
  for i, path in ipairs(paths) do requests[i] = wrk.format("GET", path) end
end
request = function()
  at = at %% #requests + 1
  return requests[at]
end
` + result

// result prints what parse reads.
const result = `done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT requests=%%d us=%%d p50=%%d p99=%%d bytes=%%d errors=%%d refused=%%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), summary.bytes,
    e.connect + e.read + e.write + e.timeout, e.status))
end
`

// Job is what is read.
type Job struct {
	Bin    string // wrk's
	URL    string
	Dir    string // for the script
	Header [2]string
	Paths  []string
	Size   int64 // of each object
	Span   time.Duration
}

// Run reads the paths, one after the other, for a while.
func (j Job) Run(ctx context.Context) (report.Result, error) {
	list, lua := filepath.Join(j.Dir, "paths"), filepath.Join(j.Dir, "walk.lua")
	header := ""
	if j.Header[0] != "" {
		header = fmt.Sprintf("wrk.headers[%q] = %q", j.Header[0], j.Header[1])
	}
	err := errors.Join(
		os.WriteFile(list, []byte(strings.Join(j.Paths, "\n")+"\n"), 0o600),
		os.WriteFile(lua, fmt.Appendf(nil, script, list, header), 0o600))
	if err != nil {
		return report.Result{}, err
	}
	out, err := run(ctx, j.Bin, Connections, j.Span, lua, j.URL)
	if err != nil {
		return report.Result{}, err
	}
	r, err := parse(out, j.Size)
	if err != nil {
		return report.Result{}, fmt.Errorf("wrk: %w", err)
	}
	return r, nil
}

// run has wrk follow the script and returns what it printed.
func run(ctx context.Context, bin string, conns int, span time.Duration, lua, url string) (string, error) {
	cmd := children.Command(ctx, bin, "-t1", "-c"+strconv.Itoa(conns), "-d"+strconv.Itoa(max(1, int(span.Seconds())))+"s", "--timeout", "30s", "-s", lua, url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return string(out), nil
}

var line = regexp.MustCompile(`(?m)^RESULT requests=(\d+) us=(\d+) p50=(\d+) p99=(\d+) bytes=(\d+) errors=(\d+) refused=(\d+)$`)

// parse reads the line that script prints. Errors, refusals, or fewer bytes than
// that many objects have, make the run worthless.
func parse(out string, size int64) (report.Result, error) {
	r, refused, err := parseRefused(out, size)
	if err == nil && refused > 0 {
		err = fmt.Errorf("%.0f requests were refused", refused)
	}
	return r, err
}

// parseRefused counts what was refused apart.
func parseRefused(out string, size int64) (r report.Result, refused float64, err error) {
	m := line.FindStringSubmatch(out)
	if m == nil {
		return r, 0, fmt.Errorf("printed no result: %s", out)
	}
	var n [7]float64
	for i := range n {
		n[i], _ = strconv.ParseFloat(m[i+1], 64) // digits, as the expression says
	}
	switch {
	case n[5] > 0:
		return r, 0, fmt.Errorf("%.0f errors in %.0f requests", n[5], n[0])
	case n[0] <= n[6] || n[1] == 0:
		return r, 0, errors.New("no request ended; make the runs longer")
	case n[4] < n[0]*float64(size):
		return r, 0, fmt.Errorf("%.0f bytes are too few for %.0f objects of %d", n[4], n[0], size)
	}
	return report.Result{Rate: (n[0] - n[6]) / n[1] * 1e6, P50: n[2] / 1000, P99: n[3] / 1000}, n[6], nil
}
