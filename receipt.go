// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package macronode

import (
	"context"
	"sync"
)

// RecordNotes collect which audit records a call has made durable, so that the
// caller can be given a receipt of them. They are safe for concurrent use.
type RecordNotes struct {
	mu   sync.Mutex
	last map[string]uint64 // by stream
}

type notesKey struct{}

// WithRecordNotes returns a context with which NoteRecord writes to n.
func WithRecordNotes(ctx context.Context, n *RecordNotes) context.Context {
	return context.WithValue(ctx, notesKey{}, n)
}

// NoteRecord says that a record of the stream became durable under this index. An
// Auditor calls it where Append succeeds; without notes in ctx it does nothing.
func NoteRecord(ctx context.Context, stream string, seq uint64) {
	n, ok := ctx.Value(notesKey{}).(*RecordNotes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[string]uint64{}
	}
	if old, ok := n.last[stream]; !ok || seq > old {
		n.last[stream] = seq
	}
}

// Last is the newest record that was noted of the stream; of any stream where that
// is "".
func (n *RecordNotes) Last(stream string) (seq uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if stream != "" {
		seq, ok = n.last[stream]
		return seq, ok
	}
	for _, s := range n.last {
		seq, ok = max(seq, s), true
	}
	return seq, ok
}
