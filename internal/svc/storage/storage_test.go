// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

func admit(c *macronode.Call, t *macronode.Tenant, replyBytes int64) *macronode.Admitted {
	return &macronode.Admitted{
		Call: c, Tenant: t, ReplyBytes: replyBytes,
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: t.ID, MaxBytes: macronode.NoLimit},
	}
}

func memEnv(t testing.TB) storagetest.Env {
	e := storagetest.Env{KV: mem.NewKV(mem.KVConfig{}), Objects: mem.NewObjects(mem.ObjectsConfig{}), Admit: admit}
	t.Cleanup(func() {
		_ = e.KV.Close()
		_ = e.Objects.Close()
	})
	return e
}

func TestSuite(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storagetest.Env { return memEnv(t) })
}
