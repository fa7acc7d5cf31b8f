// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/etag"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	// keepDeleted is how many deleted names a tenant's are remembered with their
	// history.
	keepDeleted = 1000
	// keepChanges is how many changes a watch may be behind.
	keepChanges = 10_000
	// trimAtOnce bounds the versions that one change forgets, where max_history was
	// lowered; the next change goes on.
	trimAtOnce = 64
)

// condition is what must hold for a change to happen.
type condition struct {
	match, none []string // If-Match, If-None-Match
	exact       *uint64  // the version that must be there; 0: none may be
}

func conditionOf(h macronode.Header) condition {
	return condition{match: h["If-Match"], none: h["If-None-Match"]}
}

// judge holds the condition against what is there; nil: nothing is.
func (c *condition) judge(now *record) error {
	if c.exact != nil {
		var version uint64
		if now != nil {
			version = now.version
		}
		if version != *c.exact {
			return macronode.Errorf(macronode.PreconditionFailed, "the name has the version %d", version)
		}
	}
	for _, p := range []struct {
		name  string
		lists []string
		weak  bool
	}{{"If-Match", c.match, false}, {"If-None-Match", c.none, true}} {
		if len(p.lists) == 0 {
			continue
		}
		current := ""
		if now != nil {
			current = tag(now.version)
		}
		found, err := etag.Match(p.lists, current, p.weak)
		if err != nil {
			return err
		}
		if wanted := p.name == "If-Match"; (found && now != nil) != wanted {
			e := macronode.Errorf(macronode.PreconditionFailed, "%s does not hold: there is no such name", p.name)
			if now != nil {
				e = macronode.Errorf(macronode.PreconditionFailed, "%s does not hold: the name has the version %d", p.name, now.version)
				e.Header = macronode.Header{"Etag": {current}}
			}
			return e
		}
	}
	return nil
}

// value is what a name is to point at.
type value struct {
	addr b3.Addr
	ttl  uint32
	meta []byte
}

// write is one change of one name under way in a transaction. A nil value deletes.
type write struct {
	s      *Service
	tx     store.Tx
	tenant macronode.TenantID
	name   string
	now    int64 // unix ms
	max    Limits
}

// result is what a change did.
type result struct {
	record
	existed bool
	seq     uint64
}

// set points the name at v.
func (w *write) set(v value, c condition) (out result, err error) {
	was, err := current(w.tx, w.tenant, w.name)
	if err != nil {
		return out, err
	}
	if err := c.judge(was); err != nil {
		return out, err
	}
	u, err := getTotals(w.tx, w.tenant)
	if err != nil {
		return out, err
	}
	out.record = record{addr: v.addr, ttl: v.ttl, meta: v.meta, created: w.now, updated: w.now}
	if was != nil {
		out.existed = true
		out.version, out.oldest, out.created = was.version+1, was.oldest, was.created
	} else {
		if u.names >= uint64(w.max.MaxNames) { //nolint:gosec // positive
			return out, macronode.Errorf(macronode.QuotaObjects, "a tenant has at most %d names", w.max.MaxNames)
		}
		if err := w.revive(&u, &out.record); err != nil {
			return out, err
		}
		u.names++
	}
	if err := w.keep(&u, &out.record); err != nil {
		return out, err
	}
	if err := w.tx.Set(nameKey(w.tenant, keyName, w.name), out.encode()); err != nil {
		return out, err
	}
	if j := w.s.journal; j != nil {
		if err := j.NameSet(w.tx, w.tenant, w.name, out.addr, out.version, out.updated); err != nil {
			return out, err
		}
	}
	out.seq, err = w.note(&u, &out.record)
	return out, err
}

// revive gives a name that is not there its first version: the one after its last,
// where it was deleted and is remembered.
func (w *write) revive(u *totals, r *record) error {
	b, err := read(w.tx, nameKey(w.tenant, keyDeleted, w.name))
	if err != nil {
		return err
	}
	if b == nil {
		r.version, r.oldest = u.floor+1, u.floor+1
		return nil
	}
	if len(b) != 24 {
		return fmt.Errorf("%w: what is remembered of a deleted name", store.ErrCorrupt)
	}
	r.version, r.oldest = binary.BigEndian.Uint64(b)+1, binary.BigEndian.Uint64(b[8:])
	u.deleted--
	return errors.Join(w.tx.Delete(nameKey(w.tenant, keyDeleted, w.name)), w.tx.Delete(seqKey(w.tenant, keyOrder, binary.BigEndian.Uint64(b[16:]))))
}

// drop deletes the name.
func (w *write) drop(c condition) (out result, err error) {
	was, err := current(w.tx, w.tenant, w.name)
	if err != nil {
		return out, err
	}
	if err := c.judge(was); err != nil {
		return out, err
	}
	if was == nil {
		return out, errNoName()
	}
	u, err := getTotals(w.tx, w.tenant)
	if err != nil {
		return out, err
	}
	out.existed = true
	out.record = record{deleted: true, addr: was.addr, version: was.version + 1, oldest: was.oldest, created: was.created, updated: w.now}
	if err := w.keep(&u, &out.record); err != nil {
		return out, err
	}
	u.names--
	u.deleted++
	b := binary.BigEndian.AppendUint64(nil, out.version)
	b = binary.BigEndian.AppendUint64(b, out.oldest)
	b = binary.BigEndian.AppendUint64(b, u.seq+1)
	err = errors.Join(w.tx.Delete(nameKey(w.tenant, keyName, w.name)), w.tx.Set(nameKey(w.tenant, keyDeleted, w.name), b),
		w.tx.Set(seqKey(w.tenant, keyOrder, u.seq+1), []byte(w.name)))
	if err != nil {
		return out, err
	}
	if err := w.forget(&u); err != nil {
		return out, err
	}
	if j := w.s.journal; j != nil {
		if err := j.NameDeleted(w.tx, w.tenant, w.name, out.version, out.updated); err != nil {
			return out, err
		}
	}
	out.seq, err = w.note(&u, &out.record)
	return out, err
}

// keep adds the version to the name's history and forgets what is too old.
func (w *write) keep(u *totals, r *record) error {
	u.versions++
	for n := 0; r.version-r.oldest >= uint64(w.max.MaxHistory) && n < trimAtOnce; n++ { //nolint:gosec // positive
		if err := w.tx.Delete(versionKey(w.tenant, w.name, r.oldest)); err != nil {
			return err
		}
		r.oldest++
		u.versions--
	}
	return w.tx.Set(versionKey(w.tenant, w.name, r.version), r.encode())
}

// forget drops the name that was deleted first, where too many are remembered.
func (w *write) forget(u *totals) error {
	if u.deleted <= keepDeleted {
		return nil
	}
	var order, name []byte
	lo := key(w.tenant, keyOrder)
	err := w.tx.Scan(lo, after(lo), func(k, v []byte) bool {
		order, name = bytes.Clone(k), bytes.Clone(v)
		return false
	})
	if err != nil || order == nil {
		return err
	}
	b, err := read(w.tx, nameKey(w.tenant, keyDeleted, string(name)))
	if err != nil {
		return err
	}
	if len(b) != 24 {
		return fmt.Errorf("%w: what is remembered of a deleted name", store.ErrCorrupt)
	}
	last, oldest := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	for v := oldest; v <= last; v++ {
		if err := w.tx.Delete(versionKey(w.tenant, string(name), v)); err != nil {
			return err
		}
		u.versions--
	}
	u.deleted--
	u.floor = max(u.floor, last)
	return errors.Join(w.tx.Delete(order), w.tx.Delete(nameKey(w.tenant, keyDeleted, string(name))))
}

// note adds the change to those that watches read, and writes the totals.
func (w *write) note(u *totals, r *record) (seq uint64, err error) {
	u.seq++
	c := change{version: r.version, deleted: r.deleted, name: w.name}
	if err := w.tx.Set(seqKey(w.tenant, keyChange, u.seq), c.encode()); err != nil {
		return 0, err
	}
	if u.seq > keepChanges {
		if err := w.tx.Delete(seqKey(w.tenant, keyChange, u.seq-keepChanges)); err != nil {
			return 0, err
		}
	}
	return u.seq, u.put(w.tx, w.tenant)
}

// current is the record of a name; nil where there is none.
func current(r store.Reader, t macronode.TenantID, name string) (*record, error) {
	b, err := read(r, nameKey(t, keyName, name))
	if b == nil || err != nil {
		return nil, err
	}
	rec, err := decodeRecord(b)
	return &rec, err
}

// read is Get where a missing key is no error.
func read(r store.Reader, k []byte) ([]byte, error) {
	b, err := r.Get(k)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}

func errNoName() error { return macronode.Errorf(macronode.NotFound, "there is no such name") }
