// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package parts

import (
	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
)

// ObjectChanges is the journal as svc-storage tells it of objects.
type ObjectChanges struct{ J *journal.Journal }

// Put implements storage.Changes.
func (c ObjectChanges) Put(tx store.Tx, t macronode.TenantID, addr b3.Addr) error {
	return c.J.Record(tx, journal.Change{Tenant: t, Kind: journal.ObjectPut, Addr: addr})
}

// Deleted implements storage.Changes.
func (c ObjectChanges) Deleted(tx store.Tx, t macronode.TenantID, addr b3.Addr) error {
	return c.J.Record(tx, journal.Change{Tenant: t, Kind: journal.ObjectDeleted, Addr: addr})
}

// Purged implements storage.Changes.
func (c ObjectChanges) Purged(tx store.Tx, t macronode.TenantID) error {
	return c.J.Record(tx, journal.Change{Tenant: t, Kind: journal.TenantPurged})
}
