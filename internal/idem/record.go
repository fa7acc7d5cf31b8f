// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idem

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// ReplayedHeader marks an answer that was given before.
const ReplayedHeader = "Idempotency-Replayed"

// record is the first answer to a key.
//
//	version(1)=1 expires(8, unix ms) fingerprint(32) status(2)
//	text(content type) n (text(name) m text(value)*m)*n body...
//
// where n, m and the length of a text are uvarints.
type record struct {
	expires int64
	fp      Fingerprint
	status  int
	ctype   string
	header  macronode.Header
	body    []byte
}

const (
	recordVersion = 1
	recordHead    = 1 + 8 + 32 + 2
	maxFields     = 64
	maxValues     = 16
)

func (r *record) expired(now time.Time) bool { return now.UnixMilli() >= r.expires }

func (r *record) encode() []byte {
	b := make([]byte, 0, recordHead+64+len(r.body))
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.expires))
	b = append(b, r.fp[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(r.status))
	b = appendText(b, r.ctype)
	b = binary.AppendUvarint(b, uint64(len(r.header)))
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		b = appendText(b, name)
		b = binary.AppendUvarint(b, uint64(len(r.header[name])))
		for _, v := range r.header[name] {
			b = appendText(b, v)
		}
	}
	return append(b, r.body...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// errRecord means that the store holds a record that encode did not write.
var errRecord = fmt.Errorf("idem: bad record: %w", store.ErrCorrupt)

func decodeRecord(b []byte) (*record, error) {
	if len(b) < recordHead || b[0] != recordVersion {
		return nil, errRecord
	}
	r := &record{expires: int64(binary.BigEndian.Uint64(b[1:])), status: int(binary.BigEndian.Uint16(b[41:]))}
	copy(r.fp[:], b[9:])
	d := decoder{b: b[recordHead:]}
	r.ctype = d.text()
	n := d.count(maxFields)
	for range n {
		name := d.text()
		values := make([]string, 0, 1)
		for range d.count(maxValues) {
			values = append(values, d.text())
		}
		if r.header == nil {
			r.header = make(macronode.Header, n)
		}
		r.header[name] = values
	}
	if d.bad {
		return nil, errRecord
	}
	if len(d.b) > 0 {
		r.body = d.b
	}
	return r, nil
}

// decoder takes the front of b apart; after a mistake it yields zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) count(limit uint64) uint64 {
	n, w := binary.Uvarint(d.b)
	if w <= 0 || n > limit {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[w:]
	return n
}

func (d *decoder) text() string {
	n := d.count(uint64(len(d.b)))
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// replay is the reply as it was given first, marked.
func (r *record) replay() *macronode.Reply {
	h := make(macronode.Header, len(r.header)+1)
	maps.Copy(h, r.header)
	h.Set(ReplayedHeader, "true")
	return &macronode.Reply{Status: r.status, ContentType: r.ctype, Header: h, Body: r.body}
}

// errorReply renders e as listeners do, so that a replay equals the first
// answer in every byte, its correlation id too.
func errorReply(e *macronode.Error, corrID string) (*macronode.Reply, error) {
	p := e.Problem(corrID)
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return &macronode.Reply{Status: p.Status, ContentType: "application/problem+json", Header: e.Header, Body: b}, nil
}
