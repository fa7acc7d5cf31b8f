// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/rustyonions/macronode/internal/store"
)

// tx implements store.Tx. It is used by one goroutine.
type tx struct {
	k    *KV
	r    pebble.Reader
	s    *snapshot     // of a View: r
	b    *pebble.Batch // of a transaction: r
	keys []string      // written
	deps []*commit     // that what was read waits for
	done bool
}

// wait returns once what was read is durable.
func (t *tx) wait(ctx context.Context) error {
	for _, c := range t.deps {
		select {
		case <-c.durable:
			continue
		default:
		}
		select {
		case <-c.durable:
		case <-t.k.failed:
			return t.k.failErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Get implements store.Reader.
func (t *tx) Get(key []byte) ([]byte, error) {
	if t.done {
		return nil, store.ErrClosed
	}
	if len(key) == 0 {
		return nil, store.ErrNotFound
	}
	value, err := t.get(key)
	// Only now: a commit that was seen has been pending since before it was
	// visible, and is durable if it is not pending any more.
	if c := t.k.pending.of(key); c != nil {
		t.deps = append(t.deps, c)
	}
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, store.ErrNotFound
	}
	if err != nil {
		return nil, t.k.readError(err)
	}
	return value, nil
}

func (t *tx) get(key []byte) ([]byte, error) {
	if t.s != nil {
		return t.s.get(key)
	}
	return read(t.b, key)
}

// Scan implements store.Reader.
func (t *tx) Scan(lo, hi []byte, f func(key, value []byte) bool) error {
	return t.scan(lo, hi, f, (*pebble.Iterator).First, (*pebble.Iterator).Next)
}

// ScanDesc implements store.Reader.
func (t *tx) ScanDesc(lo, hi []byte, f func(key, value []byte) bool) error {
	return t.scan(lo, hi, f, (*pebble.Iterator).Last, (*pebble.Iterator).Prev)
}

func (t *tx) scan(lo, hi []byte, f func(key, value []byte) bool, first, next func(*pebble.Iterator) bool) (err error) {
	if t.done {
		return store.ErrClosed
	}
	if hi != nil && bytes.Compare(lo, hi) >= 0 {
		return nil
	}
	if len(lo) == 0 {
		lo = nil // Pebble knows no empty key
	}
	it, err := t.r.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return t.k.readError(err)
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
		err = t.k.readError(err)
		t.deps = t.k.pending.every(t.deps)
	}()
	for ok := first(it); ok; ok = next(it) {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if !f(it.Key(), value) {
			return nil
		}
	}
	return it.Error()
}

// readError marks corruption, and remembers it: metadata that is damaged is not
// to be served from any more.
func (k *KV) readError(err error) error {
	if err == nil {
		return nil
	}
	if err = corrupted(err); errors.Is(err, store.ErrCorrupt) {
		k.mu.Lock()
		if k.corrupt == nil {
			k.corrupt = err
		}
		k.mu.Unlock()
	}
	return err
}

// Set implements store.Tx.
func (t *tx) Set(key, value []byte) error {
	if t.done {
		return store.ErrClosed
	}
	if len(key) == 0 || len(key) > store.MaxKeyBytes || len(value) > store.MaxValueBytes {
		return fmt.Errorf("%w: %d and %d bytes", store.ErrTooLarge, len(key), len(value))
	}
	t.keys = append(t.keys, string(key))
	return t.b.Set(key, value, nil)
}

// Delete implements store.Tx.
func (t *tx) Delete(key []byte) error {
	if t.done {
		return store.ErrClosed
	}
	t.keys = append(t.keys, string(key))
	return t.b.Delete(key, nil)
}
