// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
)

// openJournal reads how far the journal has come. A damaged one is that of a damaged
// store, which its services say by themselves.
func (n *Node) openJournal(ctx context.Context) (err error) {
	n.journal, err = journal.Open(ctx, journal.Config{KV: n.kv})
	if errors.Is(err, store.ErrCorrupt) {
		n.log.Error("the journal of changes cannot be read", "event", "journal_open", "error", err)
	}
	return err
}

// objectChanges is the journal as svc-storage tells it of objects.
type objectChanges struct{ j *journal.Journal }

// Put implements storage.Changes.
func (c objectChanges) Put(tx store.Tx, t macronode.TenantID, addr b3.Addr) error {
	return c.j.Record(tx, journal.Change{Tenant: t, Kind: journal.ObjectPut, Addr: addr})
}

// Deleted implements storage.Changes.
func (c objectChanges) Deleted(tx store.Tx, t macronode.TenantID, addr b3.Addr) error {
	return c.j.Record(tx, journal.Change{Tenant: t, Kind: journal.ObjectDeleted, Addr: addr})
}

// Purged implements storage.Changes.
func (c objectChanges) Purged(tx store.Tx, t macronode.TenantID) error {
	return c.j.Record(tx, journal.Change{Tenant: t, Kind: journal.TenantPurged})
}
