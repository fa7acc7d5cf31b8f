// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package stored reads messages back from the mailbox's log.
package stored

import (
	"errors"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// ErrDamaged: the record is not a message, or not whole.
var ErrDamaged = errors.New("mailbox: the stored message is damaged")

// Reader reads messages, and keeps the memory that this takes. The zero value is
// ready but for Log; it is not safe for concurrent use.
type Reader struct {
	Log          store.Log
	outer, inner record.Decoder
}

// Read returns the message at a place, whether it is where it was sent or was moved
// there, read into buf where that has room, and how much of buf that used. It is
// valid until the next call; its byte fields are the caller's. ErrDamaged;
// store.ErrNotFound where the segment is gone; or what the log says.
func (r *Reader) Read(at uint64, buf []byte) (s *record.Send, used int, err error) {
	raw, err := r.Log.Read(store.Pos(at), buf)
	if errors.Is(err, store.ErrCorrupt) {
		return nil, 0, ErrDamaged
	}
	if err != nil {
		return nil, 0, err
	}
	s, err = r.Decode(raw)
	return s, len(raw), err
}

// Decode is the message within a record; ErrDamaged where there is none.
func (r *Reader) Decode(raw []byte) (*record.Send, error) {
	rec, err := r.outer.Decode(raw)
	if err != nil {
		return nil, ErrDamaged
	}
	if m, ok := rec.(*record.Move); ok {
		if rec, err = r.inner.Decode(m.Send); err != nil {
			return nil, ErrDamaged
		}
	}
	s, ok := rec.(*record.Send)
	if !ok {
		return nil, ErrDamaged
	}
	return s, nil
}

// Attrs are a message's attributes by name; nil where it has none.
func Attrs(list []record.Attr) map[string]string {
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list))
	for _, a := range list {
		m[string(a.Name)] = string(a.Value)
	}
	return m
}
