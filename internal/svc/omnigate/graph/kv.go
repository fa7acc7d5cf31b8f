// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package graph

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// prefix is that of every key of the facet.
const prefix = "graph/"

// Direction is from which end edges are looked at.
type Direction byte

// The directions, as they stand in keys.
const (
	Out Direction = 'o'
	In  Direction = 'i'
)

const countKey = 'n'

// Limits of an edge.
const (
	MaxTypeBytes  = 64
	MaxValueBytes = 512
)

const (
	edgeVersion = 1
	edgeHead    = 9 // bytes before the text
)

// errMeta says that metadata is not what this package wrote.
var errMeta = fmt.Errorf("graph: bad metadata: %w", store.ErrCorrupt)

// Edge is one.
type Edge struct {
	From, To  vertex.Vertex
	Type      string
	Value     string // text that is kept with it
	CreatedMS int64  // unix ms of the first put
}

// Counts is what a tenant keeps.
type Counts struct {
	Edges int64
	Bytes int64 // of keys and values, both directions
}

// tenantKeys is the beginning of a tenant's keys.
func tenantKeys(t macronode.TenantID) []byte {
	return append(append(make([]byte, 0, 256), prefix...), t[:]...)
}

// sideKeys is the beginning of the keys of v's edges in one direction.
func sideKeys(t macronode.TenantID, d Direction, v vertex.Vertex) []byte {
	return v.AppendKey(append(tenantKeys(t), byte(d)))
}

func appendType(b []byte, typ string) []byte { return append(append(b, typ...), 0) }

// keys are those of an edge's two directions.
func (e *Edge) keys(t macronode.TenantID) (out, in []byte) {
	out = e.To.AppendKey(appendType(sideKeys(t, Out, e.From), e.Type))
	in = e.From.AppendKey(appendType(sideKeys(t, In, e.To), e.Type))
	return out, in
}

func (e *Edge) value() []byte {
	b := append(make([]byte, 0, edgeHead+len(e.Value)), edgeVersion)
	return append(binary.BigEndian.AppendUint64(b, uint64(e.CreatedMS)), e.Value...)
}

// readValue reads what value wrote; text points into v.
func readValue(v []byte) (createdMS int64, text []byte, err error) {
	if len(v) < edgeHead || len(v) > edgeHead+MaxValueBytes || v[0] != edgeVersion {
		return 0, nil, errMeta
	}
	return int64(binary.BigEndian.Uint64(v[1:])), v[edgeHead:], nil
}

// validType reports whether s can be the type of an edge.
func validType(s string) bool {
	if s == "" || len(s) > MaxTypeBytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// readPlace reads what follows a side's keys: type and other end.
func readPlace(b []byte) (typ string, other vertex.Vertex, ok bool) {
	text, rest, found := bytes.Cut(b, []byte{0})
	if !found || !validType(string(text)) {
		return "", "", false
	}
	other, rest, ok = vertex.CutKey(rest)
	return string(text), other, ok && len(rest) == 0
}

// getCounts returns what t keeps.
func getCounts(r store.Reader, t macronode.TenantID) (c Counts, err error) {
	v, err := r.Get(append(tenantKeys(t), countKey))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return c, nil
	case err != nil:
		return c, err
	case len(v) != 16:
		return c, errMeta
	}
	c = Counts{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:]))}
	if c.Edges < 0 || c.Bytes < 0 {
		return Counts{}, errMeta
	}
	return c, nil
}

func setCounts(tx store.Tx, t macronode.TenantID, c Counts) error {
	if c.Edges < 0 || c.Bytes < 0 {
		return errMeta
	}
	key := append(tenantKeys(t), countKey)
	if c == (Counts{}) {
		return tx.Delete(key)
	}
	v := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(c.Edges))
	return tx.Set(key, binary.BigEndian.AppendUint64(v, uint64(c.Bytes)))
}

// put puts e, whose CreatedMS is now, and reports whether it is new. c is the
// tenant's counts, which it keeps right and does not store; most is how many edges
// the tenant may have.
func put(tx store.Tx, t macronode.TenantID, e *Edge, c *Counts, most int64) (created bool, err error) {
	out, in := e.keys(t)
	now := *e
	old, err := tx.Get(out)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if c.Edges >= most {
			return false, macronode.Errorf(macronode.QuotaObjects, "the tenant may have %d edges", most)
		}
		created = true
		c.Edges++
		c.Bytes += int64(len(out) + len(in))
	case err != nil:
		return false, err
	default:
		was, _, err := readValue(old)
		if err != nil {
			return false, err
		}
		now.CreatedMS = was
		c.Bytes -= 2 * int64(len(old))
	}
	value := now.value()
	c.Bytes += 2 * int64(len(value))
	if err := tx.Set(out, value); err != nil {
		return false, err
	}
	return created, tx.Set(in, value)
}

// drop undoes put; store.ErrNotFound where there is no such edge.
func drop(tx store.Tx, t macronode.TenantID, e *Edge) error {
	out, in := e.keys(t)
	old, err := tx.Get(out)
	if err != nil {
		return err
	}
	c, err := getCounts(tx, t)
	if err != nil {
		return err
	}
	c.Edges--
	c.Bytes -= int64(len(out)+len(in)) + 2*int64(len(old))
	if err := setCounts(tx, t, c); err != nil {
		return err
	}
	if err := tx.Delete(out); err != nil {
		return err
	}
	return tx.Delete(in)
}

// get returns an edge, or store.ErrNotFound.
func get(r store.Reader, t macronode.TenantID, e Edge) (Edge, error) {
	out, _ := e.keys(t)
	v, err := r.Get(out)
	if err != nil {
		return e, err
	}
	at, text, err := readValue(v)
	e.CreatedMS, e.Value = at, string(text)
	return e, err
}

// side is the edges of one vertex in one direction, perhaps of one type.
type side struct {
	tenant macronode.TenantID
	dir    Direction
	of     vertex.Vertex
	typ    string // "": all
}

// each calls f for the edges in order, beginning behind the place after (nil: with
// the first), until f returns false. The place is what a cursor holds.
func (s *side) each(r store.Reader, after []byte, f func(e Edge, place []byte) bool) error {
	base := sideKeys(s.tenant, s.dir, s.of)
	lo := base
	if s.typ != "" {
		lo = appendType(bytes.Clone(base), s.typ)
	}
	hi := store.After(lo)
	if after != nil {
		if next := append(append(bytes.Clone(base), after...), 0); bytes.Compare(next, lo) > 0 {
			lo = next
		}
		if bytes.Compare(lo, hi) >= 0 {
			return nil
		}
	}
	bad := false
	err := r.Scan(lo, hi, func(key, value []byte) bool {
		place := key[len(base):]
		typ, other, ok := readPlace(place)
		at, text, err := readValue(value)
		if !ok || err != nil {
			bad = true
			return false
		}
		e := Edge{From: s.of, To: other, Type: typ, Value: string(text), CreatedMS: at}
		if s.dir == In {
			e.From, e.To = other, s.of
		}
		return f(e, place)
	})
	if bad {
		return errMeta
	}
	return err
}
