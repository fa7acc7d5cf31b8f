// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package parts

import (
	"time"

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

// NameChanges is the journal as ron-naming tells it of names.
type NameChanges struct{ J *journal.Journal }

// NameSet implements naming.Journal.
func (c NameChanges) NameSet(tx store.Tx, t macronode.TenantID, name string, addr b3.Addr, version uint64, atMS int64) error {
	return c.J.Record(tx, journal.Change{Tenant: t, Kind: journal.NameSet, Name: name, Addr: addr, Version: version, At: time.UnixMilli(atMS)})
}

// NameDeleted implements naming.Journal.
func (c NameChanges) NameDeleted(tx store.Tx, t macronode.TenantID, name string, version uint64, atMS int64) error {
	return c.J.Record(tx, journal.Change{Tenant: t, Kind: journal.NameDeleted, Name: name, Version: version, At: time.UnixMilli(atMS)})
}
