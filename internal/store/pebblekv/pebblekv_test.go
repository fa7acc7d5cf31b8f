// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/storetest"
)

func TestKV(t *testing.T) {
	for name, f := range map[string]func(t *testing.T) Config{
		"real":   func(t *testing.T) Config { return Config{FS: disk.Real(), Dir: t.TempDir() + "/meta"} },
		"memory": func(*testing.T) Config { return Config{FS: disk.Mem(), Dir: "/meta", MemTableBytes: 256 << 10} },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.KV(t, func(t *testing.T) store.KV {
				kv, err := Open(f(t))
				if err != nil {
					t.Fatal(err)
				}
				return kv
			})
		})
	}
}

func openCrash(fs *disk.FS) (store.KV, error) {
	// A small memtable, so that flushes and compactions are in it.
	return Open(Config{FS: fs, Dir: "/data/meta", MemTableBytes: 64 << 10})
}

func TestCrash(t *testing.T) { storetest.KVCrash(t, openCrash) }

func TestFaults(t *testing.T) { storetest.KVFaults(t, openCrash) }

func TestKill(t *testing.T) {
	storetest.KVKill(t, func(dir string) (store.KV, error) {
		return Open(Config{FS: disk.Real(), Dir: dir + "/meta", MemTableBytes: 64 << 10})
	})
}
