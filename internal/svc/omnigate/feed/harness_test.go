// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
)

func admit(c *macronode.Call, t *macronode.Tenant, budget int64) *macronode.Admitted {
	return &macronode.Admitted{Call: c, Tenant: t, Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: t.ID}, ReplyBytes: budget}
}

// memory is metadata in memory.
func memory(t testing.TB) store.KV {
	t.Helper()
	kv := mem.NewKV(mem.KVConfig{MaxBytes: 1 << 30})
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// onDisk is metadata as a node keeps it, on fs.
func onDisk(t testing.TB, fs *disk.FS) store.KV {
	t.Helper()
	kv, err := pebblekv.Open(pebblekv.Config{FS: fs, Dir: "/kv", BallastBytes: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}
