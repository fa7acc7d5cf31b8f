// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// Defaults and limits.
const (
	// DefaultMax is how many changes are kept at most for a consumer that does
	// not advance, about 120 bytes each; beyond it its place is given up.
	DefaultMax = 1 << 20
	// MaxRead bounds one Read.
	MaxRead = 4096
	// maxConsumers bounds how many may be enrolled.
	maxConsumers = 8
	// trimBatch bounds one transaction of removals, which other writers wait for.
	trimBatch = 1024
	// maxCounts bounds the tenants whose counts are held in memory.
	maxCounts = 8192
)

// A change becomes visible a moment after it was recorded: so often Wait looks,
// first and later. It stops looking often where nothing comes, for a transaction
// may have been given up.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 500 * time.Millisecond
)

const (
	changePrefix = "journal/c/"
	countPrefix  = "journal/n/"
	userPrefix   = "journal/u/"
	tailKey      = "journal/tail"
)

// ErrLost says that a consumer is not enrolled, or has fallen so far behind that
// its place was given up. It enrolls anew and rebuilds.
var ErrLost = errors.New("journal: the consumer has no place")

// Config is what a journal works with; KV is required.
type Config struct {
	KV  store.KV
	Max uint64           // changes kept for a consumer that does not advance; 0: DefaultMax
	Now func() time.Time // nil: time.Now
}

// Journal is the order of changes. It is safe for concurrent use.
type Journal struct {
	kv  store.KV
	max uint64
	now func() time.Time

	mu     sync.Mutex
	head   uint64 // highest seq given
	tail   uint64 // removed up to here
	users  map[string]struct{}
	counts map[macronode.TenantID]uint64
	wake   chan struct{} // closed and replaced by a Record
}

// Open reads how far the journal has come.
func Open(ctx context.Context, c Config) (*Journal, error) {
	if c.KV == nil {
		return nil, errors.New("journal: KV is required")
	}
	if c.Max == 0 {
		c.Max = DefaultMax
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	j := &Journal{kv: c.KV, max: c.Max, now: c.Now, users: map[string]struct{}{},
		counts: map[macronode.TenantID]uint64{}, wake: make(chan struct{})}
	err := c.KV.View(ctx, func(r store.Reader) error {
		var err error
		if j.tail, err = number(r, []byte(tailKey)); err != nil {
			return err
		}
		j.head = j.tail
		lo, hi := span(changePrefix)
		if err := r.ScanDesc(lo, hi, func(key, _ []byte) bool {
			j.head = max(j.head, seqOf(key))
			return false
		}); err != nil {
			return err
		}
		lo, hi = span(userPrefix)
		var bad error
		err = r.Scan(lo, hi, func(key, v []byte) bool {
			var p Place
			if p, bad = parsePlace(v); bad != nil {
				return false
			}
			// A place may be beyond what was kept: its number is not given again.
			j.head = max(j.head, p.Cursor, p.Since)
			j.users[string(key[len(userPrefix):])] = struct{}{}
			return len(j.users) <= maxConsumers
		})
		return errors.Join(err, bad)
	})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return j, nil
}

// Record adds c to the transaction that makes the change: both are kept or
// neither. It gives c its numbers and, where c has none, its time. Where nobody
// is enrolled only the tenant's count is kept.
func (j *Journal) Record(tx store.Tx, c Change) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	keep := len(j.users) > 0
	if keep && j.head-j.tail >= j.max {
		// Nobody advances: what is here is given up, and with it every place.
		for name := range j.users {
			if err := tx.Delete(userKey(name)); err != nil {
				return err
			}
		}
		keep = false
	}
	n, ok := j.counts[c.Tenant]
	if !ok {
		var err error
		if n, err = number(tx, countKey(c.Tenant)); err != nil {
			return err
		}
		if len(j.counts) >= maxCounts {
			clear(j.counts)
		}
	}
	if c.At.IsZero() {
		c.At = j.now()
	}
	c.Seq, c.TenantSeq = j.head+1, n+1
	v, err := c.encode()
	if err != nil {
		return err
	}
	if err := tx.Set(countKey(c.Tenant), u64(c.TenantSeq)); err != nil {
		return err
	}
	j.counts[c.Tenant] = c.TenantSeq
	if !keep {
		return nil
	}
	if err := tx.Set(changeKey(c.Seq), v); err != nil {
		return err
	}
	// Where the transaction is given up the numbers are missing, which nobody minds.
	j.head = c.Seq
	close(j.wake)
	j.wake = make(chan struct{})
	return nil
}

// Head is a number that no change made so far exceeds.
func (j *Journal) Head() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head
}

// Backlog is how many changes are kept, about.
func (j *Journal) Backlog() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.head - j.tail
}

// Count is the tenant's own count of its changes: each that was acknowledged
// before the call is within it.
func (j *Journal) Count(ctx context.Context, t macronode.TenantID) (n uint64, err error) {
	err = j.kv.View(ctx, func(r store.Reader) error { n, err = number(r, countKey(t)); return err })
	return n, err
}

// Read returns up to limit changes beyond after, in order. What it returns is
// durable. It may be called for any consumer that is enrolled.
func (j *Journal) Read(ctx context.Context, after uint64, limit int) ([]Change, error) {
	limit = min(max(limit, 1), MaxRead)
	var list []Change
	_, hi := span(changePrefix)
	err := j.kv.View(ctx, func(r store.Reader) error {
		list = list[:0]
		var bad error
		err := r.Scan(changeKey(after+1), hi, func(key, v []byte) bool {
			if len(key) != len(changePrefix)+8 {
				bad = ErrDamaged
				return false
			}
			var c Change
			if c, bad = decode(seqOf(key), v); bad != nil {
				return false
			}
			list = append(list, c)
			return len(list) < limit
		})
		return errors.Join(err, bad)
	})
	return list, err
}

// Wait returns once Read has something beyond after, or with the context's error.
func (j *Journal) Wait(ctx context.Context, after uint64) error {
	look := firstLook
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		j.mu.Lock()
		head, wake := j.head, j.wake
		j.mu.Unlock()
		if head > after {
			list, err := j.Read(ctx, after, 1)
			if err != nil || len(list) > 0 {
				return err
			}
			timer.Reset(look)
			look = min(2*look, lastLook)
		} else {
			timer.Stop()
			look = firstLook
		}
		select {
		case <-wake:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (j *Journal) names() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	names := make([]string, 0, len(j.users))
	for name := range j.users {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// number reads a number; 0 where there is none.
func number(r store.Reader, key []byte) (uint64, error) {
	v, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, ErrDamaged
	}
	return binary.BigEndian.Uint64(v), nil
}

func u64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func changeKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, len(changePrefix)+8), changePrefix...), seq)
}

func seqOf(key []byte) uint64 {
	if len(key) != len(changePrefix)+8 {
		return 0
	}
	return binary.BigEndian.Uint64(key[len(changePrefix):])
}

func countKey(t macronode.TenantID) []byte { return append([]byte(countPrefix), t[:]...) }
func userKey(name string) []byte           { return append([]byte(userPrefix), name...) }

// span is every key that begins with prefix, which ends in a slash.
func span(prefix string) (lo, hi []byte) {
	return []byte(prefix), append([]byte(prefix[:len(prefix)-1]), '/'+1)
}
