// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest/logtest"
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
			logtest.Log(t, func(t *testing.T) store.Log { return mustOpen(t, f(t)) })
		})
	}
}

const testDir = "/data/log"

// openSmall makes segments of some tens of records.
func openSmall(fs *disk.FS) (store.Log, error) {
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		return nil, err // no Log in the interface
	}
	return l, nil
}

func openTiny(fs *disk.FS, dir string) (*Log, Found, error) {
	return open(Config{FS: fs, Dir: dir, SegmentBytes: 24 << 10}, 24<<10)
}

func TestCrash(t *testing.T) { logtest.LogCrash(t, openSmall) }

func TestFaults(t *testing.T) { logtest.LogFaults(t, openSmall) }

func TestForget(t *testing.T) { logtest.LogForget(t, openSmall, testDir) }

func TestKill(t *testing.T) {
	logtest.LogKill(t, func(dir string) (store.Log, error) {
		l, _, err := openTiny(disk.Real(), dir+"/log")
		if err != nil {
			return nil, err
		}
		return l, nil
	})
}

func TestDamage(t *testing.T) {
	var found Found
	logtest.LogDamage(t, func(fs *disk.FS) (store.Log, error) {
		l, f, err := openTiny(fs, testDir)
		found = f
		if err != nil {
			return nil, err
		}
		return l, nil
	}, testDir, func(store.Log) int64 {
		n := found.TornBytes
		for _, d := range found.Damaged {
			n += d.Bytes
		}
		return n
	})
}
