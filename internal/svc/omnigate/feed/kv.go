// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// prefix is that of every key of the facet.
const prefix = "feed/"

// What follows the tenant in a key.
const (
	postKey     = 'p'
	authorKey   = 'a'
	timelineKey = 't'
	lengthKey   = 'c'
	shelfKey    = 'x'
	workKey     = 'w'
	countKey    = 'n'
)

// MaxTextBytes bounds a post's text.
const MaxTextBytes = 4096

const (
	postVersion = 1
	postHead    = 10 // bytes before the author
	flagDone    = 1  // it reached every follower
)

// errMeta says that metadata is not what this package wrote.
var errMeta = fmt.Errorf("feed: bad metadata: %w", store.ErrCorrupt)

// post is one.
type post struct {
	id        ulid.ULID
	author    vertex.Vertex
	item      vertex.Vertex // what it is about; "": nothing
	text      string
	delivered uint32 // followers that have it
	done      bool   // all have
}

// counts is what a tenant keeps.
type counts struct {
	posts   int64
	pending int64 // of them on their way
}

func tenantKeys(t macronode.TenantID) []byte {
	return append(append(make([]byte, 0, 320), prefix...), t[:]...)
}

// key is that of something of a tenant that has no vertex in its name.
func key(t macronode.TenantID, kind byte, id ...byte) []byte {
	return append(append(tenantKeys(t), kind), id...)
}

// of is the beginning of what a vertex has of a kind.
func of(t macronode.TenantID, kind byte, v vertex.Vertex) []byte {
	return v.AppendKey(append(tenantKeys(t), kind))
}

func (p *post) encode() []byte {
	b := make([]byte, 0, postHead+len(p.author)+len(p.item)+len(p.text))
	flags := byte(0)
	if p.done {
		flags = flagDone
	}
	b = append(b, postVersion, flags)
	b = binary.BigEndian.AppendUint32(b, p.delivered)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.author)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.item)))
	return append(append(append(b, p.author...), p.item...), p.text...)
}

func decodePost(id ulid.ULID, b []byte) (p post, err error) {
	if len(b) < postHead || b[0] != postVersion || b[1]&^flagDone != 0 {
		return p, errMeta
	}
	author, item := int(binary.BigEndian.Uint16(b[6:])), int(binary.BigEndian.Uint16(b[8:]))
	rest := b[postHead:]
	if author == 0 || author > vertex.MaxBytes || item > vertex.MaxBytes || author+item > len(rest) || len(rest)-author-item > MaxTextBytes {
		return p, errMeta
	}
	return post{id: id, author: vertex.Vertex(rest[:author]), item: vertex.Vertex(rest[author : author+item]), text: string(rest[author+item:]),
		delivered: binary.BigEndian.Uint32(b[2:]), done: b[1] == flagDone}, nil
}

// getPost returns store.ErrNotFound where there is none.
func getPost(r store.Reader, t macronode.TenantID, id ulid.ULID) (post, error) {
	v, err := r.Get(key(t, postKey, id[:]...))
	if err != nil {
		return post{}, err
	}
	return decodePost(id, v)
}

func setPost(tx store.Tx, t macronode.TenantID, p *post) error {
	return tx.Set(key(t, postKey, p.id[:]...), p.encode())
}

func getCounts(r store.Reader, t macronode.TenantID) (c counts, err error) {
	v, err := r.Get(key(t, countKey))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return c, nil
	case err != nil:
		return c, err
	case len(v) != 16:
		return c, errMeta
	}
	return counts{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}, nil
}

// count changes a tenant's counts.
func count(tx store.Tx, t macronode.TenantID, posts, pending int64) error {
	c, err := getCounts(tx, t)
	if err != nil {
		return err
	}
	c.posts += posts
	c.pending += pending
	if c.posts < 0 || c.pending < 0 {
		return errMeta
	}
	if c == (counts{}) {
		return tx.Delete(key(t, countKey))
	}
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(c.posts))
	return tx.Set(key(t, countKey), binary.BigEndian.AppendUint64(v, uint64(c.pending)))
}

// length is how many entries the list of this kind of length key has.
func length(r store.Reader, k []byte) (int, error) {
	v, err := r.Get(k)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(v) != 4:
		return 0, errMeta
	}
	return int(binary.BigEndian.Uint32(v)), nil
}

func setLength(tx store.Tx, k []byte, n int) error {
	if n <= 0 {
		return tx.Delete(k)
	}
	return tx.Set(k, binary.BigEndian.AppendUint32(make([]byte, 0, 4), uint32(n)))
}

// work is a post on its way to followers, or from them.
type work struct {
	mode   byte
	author vertex.Vertex
	place  []byte // of the last follower reached; empty: none
}

// What work does.
const (
	deliver byte = 'd'
	remove  byte = 'r' // of a post that was unpublished
)

const workHead = 4 // bytes before the author

func (w *work) encode() []byte {
	b := append(make([]byte, 0, workHead+len(w.author)+len(w.place)), 1, w.mode)
	b = binary.BigEndian.AppendUint16(b, uint16(len(w.author)))
	return append(append(b, w.author...), w.place...)
}

func decodeWork(b []byte) (w work, err error) {
	if len(b) < workHead || b[0] != 1 || b[1] != deliver && b[1] != remove {
		return w, errMeta
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n == 0 || n > vertex.MaxBytes || n > len(b)-workHead {
		return w, errMeta
	}
	return work{b[1], vertex.Vertex(b[workHead : workHead+n]), append([]byte(nil), b[workHead+n:]...)}, nil
}

// unpublish takes a post away for good, and leaves the work of taking it out of
// timelines. store.ErrNotFound where there is no such post.
func unpublish(tx store.Tx, t macronode.TenantID, id ulid.ULID) error {
	p, err := getPost(tx, t, id)
	if err != nil {
		return err
	}
	if err := tx.Delete(key(t, postKey, id[:]...)); err != nil {
		return err
	}
	if err := shelf(t, p.author).drop(tx, id); err != nil {
		return err
	}
	var pending int64
	if p.done {
		pending = 1
	}
	w := work{mode: remove, author: p.author}
	if err := tx.Set(key(t, workKey, id[:]...), w.encode()); err != nil {
		return err
	}
	return count(tx, t, -1, pending)
}

// list is the posts of a timeline, or of an author.
type list struct {
	tenant       macronode.TenantID
	of           vertex.Vertex
	kind, length byte // of the keys
}

func timeline(t macronode.TenantID, v vertex.Vertex) list {
	return list{t, v, timelineKey, lengthKey}
}

func shelf(t macronode.TenantID, v vertex.Vertex) list { return list{t, v, authorKey, shelfKey} }

// add adds a post and returns those that went for it: the oldest, where there are an
// eighth more than most.
func (l list) add(tx store.Tx, id ulid.ULID, most int) (gone []ulid.ULID, err error) {
	base := of(l.tenant, l.kind, l.of)
	if err := tx.Set(append(base, id[:]...), nil); err != nil {
		return nil, err
	}
	n, err := length(tx, of(l.tenant, l.length, l.of))
	if err != nil {
		return nil, err
	}
	n++
	if n > most+most/8 {
		if gone, err = oldest(tx, base, n-most); err != nil {
			return nil, err
		}
		for _, old := range gone {
			if err := tx.Delete(append(base, old[:]...)); err != nil {
				return nil, err
			}
		}
		n -= len(gone)
	}
	return gone, setLength(tx, of(l.tenant, l.length, l.of), n)
}

// drop takes a post out, where it is in.
func (l list) drop(tx store.Tx, id ulid.ULID) error {
	k := append(of(l.tenant, l.kind, l.of), id[:]...)
	if _, err := tx.Get(k); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	n, err := length(tx, of(l.tenant, l.length, l.of))
	if err != nil {
		return err
	}
	if err := setLength(tx, of(l.tenant, l.length, l.of), n-1); err != nil {
		return err
	}
	return tx.Delete(k)
}

// oldest are the first n posts whose keys begin with base.
func oldest(r store.Reader, base []byte, n int) (ids []ulid.ULID, err error) {
	bad := false
	err = r.Scan(base, store.After(base), func(k, _ []byte) bool {
		id, ok := idOf(k, base)
		if bad = !ok; bad {
			return false
		}
		ids = append(ids, id)
		return len(ids) < n
	})
	if bad {
		return nil, errMeta
	}
	return ids, err
}

// idOf is the post at the end of a key that begins with base.
func idOf(k, base []byte) (id ulid.ULID, ok bool) {
	if len(k) != len(base)+len(id) {
		return id, false
	}
	copy(id[:], k[len(base):])
	return id, true
}

// newest calls f with the posts of the list that are still there, newest first and
// older than before (nil: from the newest), until f returns false.
func (l list) newest(r store.Reader, before *ulid.ULID, f func(p post) bool) error {
	base := of(l.tenant, l.kind, l.of)
	hi := store.After(base)
	if before != nil {
		hi = append(append([]byte(nil), base...), before[:]...)
	}
	var bad error
	err := r.ScanDesc(base, hi, func(k, _ []byte) bool {
		id, ok := idOf(k, base)
		if !ok {
			bad = errMeta
			return false
		}
		p, err := getPost(r, l.tenant, id)
		if errors.Is(err, store.ErrNotFound) {
			return true // unpublished
		}
		if err != nil {
			bad = err
			return false
		}
		return f(p)
	})
	if bad != nil {
		return bad
	}
	return err
}
