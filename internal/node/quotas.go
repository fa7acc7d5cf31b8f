// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// quotasKey holds the hash of the policy bundle whose quotas were applied last.
var quotasKey = []byte("node/policy-quotas")

// defaultQuota is what the policy bundle in force gives a new tenant.
func (n *Node) defaultQuota() macronode.Quota {
	if n.policy != nil {
		if q, ok := n.policy.Quotas().Default(); ok {
			return q
		}
	}
	return macronode.UnlimitedQuota()
}

// applyQuotas gives the tenants that the policy bundle names their quotas, once
// for each bundle: what an operator changes afterwards holds until the next.
// Tenants that are not there are passed over.
func (n *Node) applyQuotas(ctx context.Context) error {
	hash := n.policy.Set().Hash()
	var last []byte
	err := n.kv.View(ctx, func(r store.Reader) (err error) {
		last, err = r.Get(quotasKey)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) || string(last) == hash {
		return err
	}
	var errs []error
	n.policy.Quotas().Named(func(ref string, quota macronode.Quota) {
		if t := n.access.Find(ref); t != nil && t.Quota != quota {
			errs = append(errs, n.access.SetQuota(ctx, t.ID, quota))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return err
	}
	// A full disk must not keep a node from starting for want of this note: the
	// quotas are then set once more, to what they are.
	err = n.kv.Update(ctx, func(tx store.Tx) error { return tx.Set(quotasKey, []byte(hash)) })
	if errors.Is(err, store.ErrFull) {
		return nil
	}
	return err
}
