// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Place is where a consumer stands.
type Place struct {
	// Cursor: everything up to here was consumed.
	Cursor uint64
	// Since is the change from which on nothing was lost: what the consumer made
	// of the stores before it is not to be trusted.
	Since uint64
	// New: the consumer was not enrolled, and is from now on.
	New bool
}

// Enroll gives the consumer its place. One that has none starts at the head: it
// scans the stores, and then reads on from there.
func (j *Journal) Enroll(ctx context.Context, name string) (p Place, err error) {
	if name == "" || len(name) > 64 {
		return p, errors.New("journal: a consumer has a name of 1 to 64 bytes")
	}
	others := 0
	err = j.kv.View(ctx, func(r store.Reader) (err error) {
		if p, err = placeOf(r, name); err != nil && !errors.Is(err, ErrLost) {
			return err
		}
		others = 0
		lo, hi := span(userPrefix)
		return errors.Join(err, r.Scan(lo, hi, func(key, _ []byte) bool {
			if string(key) != string(userKey(name)) {
				others++
			}
			return true
		}))
	})
	if err == nil || !errors.Is(err, ErrLost) {
		j.admit(name)
		return p, err
	}
	if others >= maxConsumers {
		return p, fmt.Errorf("journal: at most %d consumers", maxConsumers)
	}
	// Recording begins before the head is taken, so that nothing falls between.
	j.admit(name)
	if others == 0 {
		// Nobody needs what is left from before.
		if err := j.remove(ctx, 0, j.Head()); err != nil {
			return p, err
		}
	}
	err = j.kv.Update(ctx, func(tx store.Tx) error {
		// A number of its own: what was made before is older than Since, also where
		// nothing was recorded in between.
		j.mu.Lock()
		j.head++
		head := j.head
		j.mu.Unlock()
		p = Place{Cursor: head, Since: head, New: true}
		return tx.Set(userKey(name), p.encode())
	})
	return p, err
}

// Leave ends the consumer's place; the last one ends the recording.
func (j *Journal) Leave(ctx context.Context, name string) error {
	err := j.kv.Reclaim(ctx, func(tx store.Tx) error { return tx.Delete(userKey(name)) })
	if err != nil {
		return err
	}
	j.drop(name)
	return j.trimPassed(ctx)
}

// Advance records that the consumer has durably consumed everything up to seq,
// and removes what all have. ErrLost where its place was given up. extra, which
// may be nil, is done in the same transaction.
func (j *Journal) Advance(ctx context.Context, name string, seq uint64, extra func(store.Tx) error) error {
	err := j.kv.Reclaim(ctx, func(tx store.Tx) error {
		p, err := placeOf(tx, name)
		if err != nil {
			return err
		}
		if seq > p.Cursor {
			p.Cursor = seq
			if err := tx.Set(userKey(name), p.encode()); err != nil {
				return err
			}
		}
		if extra == nil {
			return nil
		}
		return extra(tx)
	})
	if err != nil {
		return err
	}
	return j.trimPassed(ctx)
}

// Forget removes the count of a tenant that is gone.
func (j *Journal) Forget(tx store.Tx, t macronode.TenantID) error {
	j.mu.Lock()
	delete(j.counts, t)
	j.mu.Unlock()
	return tx.Delete(countKey(t))
}

func (j *Journal) admit(name string) {
	j.mu.Lock()
	j.users[name] = struct{}{}
	j.mu.Unlock()
}

func (j *Journal) drop(name string) {
	j.mu.Lock()
	delete(j.users, name)
	j.mu.Unlock()
}

// trimPassed removes what every consumer has passed.
func (j *Journal) trimPassed(ctx context.Context) error {
	low := j.Head()
	err := j.kv.View(ctx, func(r store.Reader) error {
		for _, name := range j.names() {
			p, err := placeOf(r, name)
			if errors.Is(err, ErrLost) {
				continue // it rebuilds
			}
			if err != nil {
				return err
			}
			low = min(low, p.Cursor)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return j.trim(ctx, low)
}

// trim removes changes up to seq.
func (j *Journal) trim(ctx context.Context, seq uint64) error {
	j.mu.Lock()
	tail := j.tail
	j.mu.Unlock()
	return j.remove(ctx, tail, seq)
}

// remove removes the changes in (tail, seq], in transactions of bounded size.
func (j *Journal) remove(ctx context.Context, tail, seq uint64) error {
	for tail < seq {
		last := seq
		err := j.kv.Reclaim(ctx, func(tx store.Tx) error {
			last = seq
			keys := make([][]byte, 0, trimBatch)
			if err := tx.Scan(changeKey(tail+1), changeKey(seq+1), func(key, _ []byte) bool {
				keys = append(keys, append([]byte(nil), key...))
				return len(keys) < trimBatch
			}); err != nil {
				return err
			}
			if n := len(keys); n == trimBatch {
				last = seqOf(keys[n-1])
			}
			for _, key := range keys {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return tx.Set([]byte(tailKey), u64(last))
		})
		if err != nil {
			return err
		}
		j.mu.Lock()
		j.tail = max(j.tail, last)
		j.mu.Unlock()
		tail = last
	}
	return nil
}

func (p Place) encode() []byte { return binary.BigEndian.AppendUint64(u64(p.Cursor), p.Since) }

func placeOf(r store.Reader, name string) (Place, error) {
	v, err := r.Get(userKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return Place{}, ErrLost
	}
	if err != nil {
		return Place{}, err
	}
	return parsePlace(v)
}

func parsePlace(v []byte) (Place, error) {
	if len(v) != 16 {
		return Place{}, ErrDamaged
	}
	return Place{Cursor: binary.BigEndian.Uint64(v), Since: binary.BigEndian.Uint64(v[8:])}, nil
}
