// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/rustyonions/macronode/internal/store"
)

// cursorKey holds how far a reader of the log came.
func cursorKey(name string) []byte { return append([]byte("audit/sink/"), name...) }

// Cursor is the index of the record that a reader of this name wants next: 0 for one
// that is new.
func (t *Tree) Cursor(ctx context.Context, name string) (next uint64, err error) {
	err = t.cfg.KV.View(ctx, func(r store.Reader) error {
		b, err := r.Get(cursorKey(name))
		if err == nil && len(b) != 8 {
			return fmt.Errorf("%w: how far %q came", ErrDamaged, name)
		}
		if err == nil {
			next = binary.BigEndian.Uint64(b)
		}
		return ignoreMissing(err)
	})
	return next, err
}

// SetCursor keeps durably which record a reader of this name wants next.
func (t *Tree) SetCursor(ctx context.Context, name string, next uint64) error {
	return t.cfg.KV.Reclaim(ctx, func(tx store.Tx) error {
		return tx.Set(cursorKey(name), binary.BigEndian.AppendUint64(nil, next))
	})
}
