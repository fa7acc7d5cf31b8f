// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

func mustOpen(tb testing.TB, c Config) *Log {
	tb.Helper()
	l, _, err := Open(c)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func TestLog(t *testing.T) {
	for name, f := range map[string]func(t *testing.T) Config{
		"real": func(t *testing.T) Config { return Config{FS: disk.Real(), Dir: t.TempDir() + "/log"} },
		"small": func(t *testing.T) Config {
			return Config{FS: disk.Real(), Dir: t.TempDir() + "/log", SegmentBytes: MinSegmentBytes}
		},
		"memory": func(*testing.T) Config { return Config{FS: disk.Mem(), Dir: "/log", SegmentBytes: MinSegmentBytes} },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Log(t, func(t *testing.T) store.Log { return mustOpen(t, f(t)) })
		})
	}
}
