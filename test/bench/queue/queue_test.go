// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rustyonions/macronode/test/bench/report"
)

func TestParseBenchmark(t *testing.T) {
	const out = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\"p99_latency_ms\",\"max_latency_ms\"\n" +
		"\"XADD bench * d abc\",\"50420.17\",\"1.169\",\"0.432\",\"1.007\",\"2.311\",\"3.607\",\"9.255\"\n"
	if r, err := parseBenchmark(out); err != nil || r != (report.Result{Rate: 50420.17, P50: 1.007, P99: 3.607}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "Could not connect to Redis", "\"test\",\"rps\"\n\"XADD\",\"0\"\n"} {
		if _, err := parseBenchmark(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestCountCalls(t *testing.T) {
	const out = "    calls syscall\n--------- ----------------\n      155 fdatasync\n        2 fsync\n--------- ----------------\n      157 total\n"
	if n := countCalls(out); n != 157 {
		t.Errorf("%d", n)
	}
}

// TestSyncs counts what a process of its own does.
func TestSyncs(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have strace")
		}
		t.Skip("SKIPPED: there is no strace")
	}
	b := &Bench{Dir: t.TempDir()}
	defer b.Procs.KillAll()
	gate, done := filepath.Join(b.Dir, "gate"), filepath.Join(b.Dir, "done")
	p, err := b.Procs.Start("syncer", filepath.Join(b.Dir, "log"), nil, "sh", "-c", `until [ -e "$0" ]; do sleep 0.01; done; for i in 1 2 3; do dd if=/dev/zero of="$0" bs=1 count=1 conv=fdatasync 2>/dev/null; done; : >"$1"; exec sleep 60`, gate, done)
	if err != nil {
		t.Fatal(err)
	}
	n, err := b.Syncs(t.Context(), p, func() error {
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			return err
		}
		return poll(t.Context(), p, func() error { _, err := os.Stat(done); return err })
	})
	if errors.Is(err, ErrNoTrace) {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil || n != 3 {
		t.Errorf("%d syncs, %v", n, err)
	}
}

func TestPayload(t *testing.T) {
	p := Payload()
	q := bytes.Clone(p)
	Number(p, 7)
	if len(p) != Bytes || bytes.Equal(p, q) || !bytes.Equal(p[16:], q[16:]) || string(p[:16]) != "0000000000000007" {
		t.Errorf("%.20q", p)
	}
	all := batches(2, 3)
	seen := map[string]bool{}
	for call := range 2 {
		for w := range all {
			renumber(all[w], w, call)
			for _, b := range all[w] {
				seen[string(b)] = true
			}
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d payloads of 12 differ", len(seen))
	}
}

// TestRaw: the disk gives something.
func TestRaw(t *testing.T) {
	b := &Bench{Dir: t.TempDir(), Span: 50 * time.Millisecond}
	if r, err := b.Raw(t.Context()); err != nil || r.Rate <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if left, err := os.ReadDir(b.Dir); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}
