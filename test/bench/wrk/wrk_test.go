// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wrk

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/test/bench/report"
)

func TestParse(t *testing.T) {
	out := "Running 1s test\n  2 threads\nRESULT requests=1000 us=2000000 p50=1500 p99=20500 bytes=1100000 errors=0 refused=0\n"
	r, err := parse(out, 1024)
	if err != nil || r != (report.Result{Rate: 500, P50: 1.5, P99: 20.5}) {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, bad := range map[string]string{
		"nothing":       "unable to connect",
		"errors":        strings.Replace(out, "errors=0", "errors=1", 1),
		"refused":       strings.Replace(out, "refused=0", "refused=1", 1),
		"too few bytes": strings.Replace(out, "bytes=1100000", "bytes=1000000", 1),
		"no requests":   strings.Replace(out, "requests=1000", "requests=0", 1),
	} {
		if _, err := parse(bad, 1024); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if r, refused, err := parseRefused(strings.Replace(out, "refused=0", "refused=250", 1), 0); err != nil || refused != 250 || r.Rate != 375 {
		t.Errorf("%+v, %v refused, %v", r, refused, err)
	}
}
