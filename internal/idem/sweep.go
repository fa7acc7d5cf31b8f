// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idem

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// sweepBatch bounds one transaction of Sweep and Purge, which other writers
// wait for.
const sweepBatch = 256

// Sweep deletes the records that expired by now, in small transactions, and
// returns how many index entries it worked off. The service that owns the
// Keeper calls it now and then; a record that is late to go is not replayed.
func (k *Keeper) Sweep(ctx context.Context, now time.Time) (int, error) {
	hi := binary.BigEndian.AppendUint64([]byte(expiryPrefix), uint64(now.UnixMilli())+1)
	return k.drop(ctx, []byte(expiryPrefix), hi, func(tx store.Tx, key []byte) error {
		var i id
		copy(i[:], key[len(expiryPrefix)+8:])
		rec, err := get(tx, i)
		// A record may have been written anew after it expired; then it has
		// a later entry of its own.
		if err == nil && rec != nil && rec.expired(now) {
			err = tx.Delete(recordKey(i))
		}
		if err != nil {
			return err
		}
		return tx.Delete(key)
	}, len(expiryPrefix)+8+len(id{}))
}

// Purge deletes everything kept for tenant t. It may be repeated.
func (k *Keeper) Purge(ctx context.Context, t macronode.TenantID) error {
	lo := append([]byte(recordPrefix), t[:]...)
	_, err := k.drop(ctx, lo, after(lo), func(tx store.Tx, key []byte) error {
		var i id
		copy(i[:], key[len(recordPrefix):])
		rec, err := get(tx, i)
		if err == nil && rec != nil {
			err = tx.Delete(expiryKey(rec.expires, i))
		}
		if err != nil {
			return err
		}
		return tx.Delete(key)
	}, len(recordPrefix)+len(id{}))
	return err
}

var errKey = errors.Join(errors.New("idem: a key of the wrong length"), store.ErrCorrupt)

// drop gives each key in [lo, hi), which must have the given length, to f in
// bounded transactions until none is left.
func (k *Keeper) drop(ctx context.Context, lo, hi []byte, f func(store.Tx, []byte) error, length int) (int, error) {
	for total := 0; ; {
		keys := make([][]byte, 0, sweepBatch)
		err := k.kv.View(ctx, func(r store.Reader) error {
			keys = keys[:0]
			return r.Scan(lo, hi, func(key, _ []byte) bool {
				keys = append(keys, append([]byte(nil), key...))
				return len(keys) < sweepBatch
			})
		})
		if err != nil || len(keys) == 0 {
			return total, err
		}
		err = k.kv.Reclaim(ctx, func(tx store.Tx) error {
			for _, key := range keys {
				if len(key) != length {
					return errKey
				}
				if err := f(tx, key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		total += len(keys)
	}
}

// after is the first key beyond every key that begins with p.
func after(p []byte) []byte {
	hi := append([]byte(nil), p...)
	for i := len(hi) - 1; i >= 0; i-- {
		hi[i]++
		if hi[i] != 0 {
			return hi[:i+1]
		}
	}
	return nil
}
