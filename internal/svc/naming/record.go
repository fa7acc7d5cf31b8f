// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
)

const keyPrefix = "name/"

// Kinds of keys below a tenant.
const (
	keyName    = 'n'
	keyHistory = 'h'
	keyDeleted = 'd'
	keyOrder   = 'e'
	keyChange  = 'c'
	keyTotals  = 'u'
)

func key(t macronode.TenantID, kind byte, rest ...byte) []byte {
	b := make([]byte, 0, len(keyPrefix)+len(t)+1+len(rest)+9)
	b = append(b, keyPrefix...)
	b = append(b, t[:]...)
	b = append(b, kind)
	return append(b, rest...)
}

func nameKey(t macronode.TenantID, kind byte, name string) []byte {
	b := make([]byte, 0, len(keyPrefix)+len(t)+1+len(name)+9)
	b = append(b, keyPrefix...)
	b = append(b, t[:]...)
	b = append(b, kind)
	return append(b, name...)
}

func seqKey(t macronode.TenantID, kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(key(t, kind), seq)
}

// versionKey sorts the newest version first. No name holds a NUL, so the versions
// of one name lie together.
func versionKey(t macronode.TenantID, name string, version uint64) []byte {
	return binary.BigEndian.AppendUint64(append(nameKey(t, keyHistory, name), 0), ^version)
}

// after is the end of the keys that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// record is one version of a name.
type record struct {
	deleted bool
	ttl     uint32 // seconds
	version uint64
	oldest  uint64 // version that is kept
	created int64  // unix ms, of the name
	updated int64  // unix ms, of this version
	addr    b3.Addr
	meta    []byte // a JSON object as it is answered; empty: {}
}

const (
	recordFormat = 1
	recordBytes  = 2 + 4 + 4*8 + len(b3.Addr{})
)

func (r *record) encode() []byte {
	b := make([]byte, 0, recordBytes+len(r.meta))
	b = append(b, recordFormat, 0)
	if r.deleted {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint32(b, r.ttl)
	b = binary.BigEndian.AppendUint64(b, r.version)
	b = binary.BigEndian.AppendUint64(b, r.oldest)
	b = binary.BigEndian.AppendUint64(b, uint64(r.created)) //nolint:gosec // read back as it was
	b = binary.BigEndian.AppendUint64(b, uint64(r.updated)) //nolint:gosec // read back as it was
	b = append(b, r.addr[:]...)
	return append(b, r.meta...)
}

// decodeRecord reads a record; its meta is a part of b.
func decodeRecord(b []byte) (r record, err error) {
	if len(b) < recordBytes || b[0] != recordFormat || b[1] > 1 {
		return r, fmt.Errorf("%w: the record of a name", store.ErrCorrupt)
	}
	u64 := func(at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }
	r = record{
		deleted: b[1] == 1, ttl: binary.BigEndian.Uint32(b[2:]), version: u64(6), oldest: u64(14),
		created: int64(u64(22)), updated: int64(u64(30)), meta: b[recordBytes:], //nolint:gosec // written from int64
	}
	copy(r.addr[:], b[38:])
	if r.version == 0 || r.oldest == 0 || r.oldest > r.version {
		return r, fmt.Errorf("%w: the versions of a name", store.ErrCorrupt)
	}
	return r, nil
}

// change is what a watch reads: that a name has a version.
type change struct {
	version uint64
	deleted bool
	name    string
}

func (c *change) encode() []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 9+len(c.name)), c.version)
	if c.deleted {
		return append(append(b, 1), c.name...)
	}
	return append(append(b, 0), c.name...)
}

func decodeChange(b []byte) (c change, err error) {
	if len(b) < 10 || b[8] > 1 {
		return c, fmt.Errorf("%w: a change of names", store.ErrCorrupt)
	}
	return change{binary.BigEndian.Uint64(b), b[8] == 1, string(b[9:])}, nil
}

// totals is what is known of all names of a tenant.
type totals struct {
	names    uint64
	versions uint64 // kept, of deleted names too
	deleted  uint64 // names that are remembered
	seq      uint64 // of the last change
	floor    uint64
}

func getTotals(r store.Reader, t macronode.TenantID) (u totals, err error) {
	b, err := read(r, key(t, keyTotals))
	if b == nil || err != nil {
		return u, err
	}
	if len(b) != 40 {
		return u, fmt.Errorf("%w: the totals of a tenant's names", store.ErrCorrupt)
	}
	for i, p := range []*uint64{&u.names, &u.versions, &u.deleted, &u.seq, &u.floor} {
		*p = binary.BigEndian.Uint64(b[8*i:])
	}
	return u, nil
}

func (u *totals) put(tx store.Tx, t macronode.TenantID) error {
	b := make([]byte, 0, 40)
	for _, v := range []uint64{u.names, u.versions, u.deleted, u.seq, u.floor} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return tx.Set(key(t, keyTotals), b)
}

// tag is the ETag of a version.
func tag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// appendDocument appends the JSON that is answered about r. Names need no escapes:
// a name has letters, digits, hyphens and dots.
func appendDocument(b []byte, name string, r *record) []byte {
	b = append(b, `{"name":"`...)
	b = append(b, name...)
	if r.deleted {
		b = append(b, `","deleted":true`...)
	} else {
		b = append(b, `","addr":"`...)
		b = append(b, r.addr.String()...)
		b = append(b, '"')
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, r.version, 10)
	if !r.deleted {
		b = append(b, `,"ttl_s":`...)
		b = strconv.AppendUint(b, uint64(r.ttl), 10)
		b = append(b, `,"meta":`...)
		if len(r.meta) == 0 {
			b = append(b, "{}"...)
		} else {
			b = append(b, r.meta...)
		}
		b = append(b, `,"created_ms":`...)
		b = strconv.AppendInt(b, r.created, 10)
	}
	b = append(b, `,"updated_ms":`...)
	b = strconv.AppendInt(b, r.updated, 10)
	return append(b, '}')
}

// Entry is one name as other services see it.
type Entry struct {
	Name      string
	Addr      b3.Addr
	Version   uint64
	TTL       uint32            // seconds that an answer may be kept
	Meta      map[string]string // nil: none
	CreatedMS int64
	UpdatedMS int64
}

func (r *record) entry(name string) (Entry, error) {
	e := Entry{Name: name, Addr: r.addr, Version: r.version, TTL: r.ttl, CreatedMS: r.created, UpdatedMS: r.updated}
	if len(r.meta) > 0 {
		if err := json.Unmarshal(r.meta, &e.Meta); err != nil {
			return e, fmt.Errorf("%w: the meta of a name", store.ErrCorrupt)
		}
	}
	return e, nil
}
