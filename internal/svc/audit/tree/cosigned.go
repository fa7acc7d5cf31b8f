// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"

	"github.com/rustyonions/macronode/internal/store"
)

// cosignedKey holds the newest checkpoint with a quorum of cosignatures.
var cosignedKey = []byte("audit/cosigned")

// KeepCosigned makes a cosigned checkpoint durable, in place of the one before.
func (t *Tree) KeepCosigned(ctx context.Context, note []byte) error {
	return t.cfg.KV.Reclaim(ctx, func(tx store.Tx) error { return tx.Set(cosignedKey, note) })
}

// Cosigned is the checkpoint that was kept last; nil: none was.
func (t *Tree) Cosigned(ctx context.Context) (note []byte, err error) {
	err = t.cfg.KV.View(ctx, func(r store.Reader) error {
		note, err = r.Get(cosignedKey)
		return ignoreMissing(err)
	})
	return note, err
}
