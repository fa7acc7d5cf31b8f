// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"net/http"
	"time"

	"github.com/rustyonions/macronode"
)

// Fault makes calls fail.
type Fault struct {
	// Op is the operation that it meets ("object.get", see Call.Op); "": every.
	Op macronode.Op
	// Skip is how many of them pass first, and Times how many fail then; 0: one,
	// negative: all.
	Skip, Times int
	Effect      Effect
}

// Effect is what becomes of a call.
type Effect struct {
	kind       macronode.Kind
	refuse     bool
	retryAfter time.Duration
	breakAfter int64 // bytes of the answer's body; -1: none
	corrupt    int64 // the object's byte; -1: none
	delay      time.Duration
}

// Refuse is a refusal of a kind, which asks to come back after a time; 0: it does
// not.
func Refuse(k macronode.Kind, retryAfter time.Duration) Effect {
	return Effect{kind: k, refuse: true, retryAfter: retryAfter, breakAfter: -1, corrupt: -1}
}

// Break breaks the connection off after so many bytes of the answer's body; with
// 0 there is no answer, though the call was done. Over OAP/1 an answer that began
// is broken off on its stream alone.
func Break(after int64) Effect { return Effect{breakAfter: max(after, 0), corrupt: -1} }

// Corrupt flips a bit of the object's byte at off on its way to the client. What
// is stored stays as it is.
func Corrupt(off int64) Effect { return Effect{breakAfter: -1, corrupt: max(off, 0)} }

// Delay holds the answer back for a while, or until the caller is gone.
func Delay(d time.Duration) Effect { return Effect{breakAfter: -1, corrupt: -1, delay: d} }

// Inject adds a fault. Of several that meet a call the first counts.
func (n *Node) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, &f)
}

// Heal takes all faults away.
func (n *Node) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = nil
}

// meets reports whether a call of op fails, and counts it. Its caller holds mu.
func (f *Fault) meets(op macronode.Op) bool {
	switch {
	case f.Op != "" && f.Op != op, f.Times == 0:
		return false
	case f.Skip > 0:
		f.Skip--
		return false
	case f.Times > 0:
		f.Times--
	}
	return true
}

// breaking is an answer that breaks off after left bytes; before its head, where
// there are none.
type breaking struct {
	http.ResponseWriter
	left  int64
	began bool
}

func (b *breaking) WriteHeader(code int) {
	if b.left > 0 {
		b.began = true
		b.ResponseWriter.WriteHeader(code)
	}
}

func (b *breaking) Write(p []byte) (int, error) {
	if int64(len(p)) < b.left {
		b.began = true
		n, err := b.ResponseWriter.Write(p)
		b.left -= int64(n)
		return n, err
	}
	if b.left > 0 {
		b.began = true
		_, _ = b.ResponseWriter.Write(p[:b.left])
	}
	b.off()
	return 0, nil
}

// off ends the connection. What was written arrives first.
func (b *breaking) off() {
	if f, ok := b.ResponseWriter.(http.Flusher); ok && b.began {
		f.Flush()
	}
	panic(http.ErrAbortHandler)
}
