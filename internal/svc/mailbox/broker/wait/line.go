// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package wait is how the mailbox waits: receivers in a line, topics for their
// next moment, refused senders for room.
package wait

// Line is who waits for messages of a topic, oldest first. A Waiter sleeps on
// its own channel: waking one touches nobody else, and a thousand that wait cost
// nothing. Its fields, and all of a Waiter's but wake, are guarded by the topic's
// lock.
type Line struct {
	first, last *Waiter
	length      int
	woken       int // left the line to try, and have not tried yet
	next        uint64
}

type Waiter struct {
	Wake       chan struct{} // holds one: never blocks who wakes
	prev, next *Waiter
	ticket     uint64 // its place; kept when it was woken for nothing
	inLine     bool
	called     bool // woken, and has not tried yet
}

// Busy reports whether somebody came earlier and has had nothing yet: who comes
// now and can wait goes behind.
func (l *Line) Busy() bool { return l.length > 0 || l.woken > 0 }

// Join puts w in its place: a new one at the end, one that was woken for nothing
// before all who came later.
func (l *Line) Join(w *Waiter) {
	if w.ticket == 0 {
		l.next++
		w.ticket = l.next
	}
	after := l.last
	for after != nil && after.ticket > w.ticket {
		after = after.prev
	}
	w.prev = after
	if after == nil {
		w.next, l.first = l.first, w
	} else {
		w.next, after.next = after.next, w
	}
	if w.next == nil {
		l.last = w
	} else {
		w.next.prev = w
	}
	w.inLine = true
	l.length++
}

// Leave takes w out of the line, if it is there.
func (l *Line) Leave(w *Waiter) {
	if !w.inLine {
		return
	}
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.inLine = nil, nil, false
	l.length--
}

// Call wakes the n who wait longest. Those who were called and have not tried
// count: a message is worth one call.
func (l *Line) Call(n int) {
	for l.first != nil && l.woken < n {
		w := l.first
		l.Leave(w)
		w.called = true
		l.woken++
		w.Wake <- struct{}{}
	}
}

// CallAll wakes everybody: the topic is gone, or the broker has failed.
func (l *Line) CallAll() { l.Call(l.woken + l.length) }

// Tries notes that w, who may have been called, tries or gives up now.
func (l *Line) Tries(w *Waiter) {
	if !w.called {
		return
	}
	w.called = false
	l.woken--
	select {
	case <-w.Wake: // the call came while w was giving up
	default:
	}
}

// Length is how many wait, or were called and have not tried yet.
func (l *Line) Length() int { return l.length + l.woken }

// Waiting reports whether anybody waits who was not called.
func (l *Line) Waiting() bool { return l.length > 0 }

// Woken is how many were called and have not tried yet.
func (l *Line) Woken() int { return l.woken }

// NewWaiter returns one who waits nowhere yet.
func NewWaiter() *Waiter { return &Waiter{Wake: make(chan struct{}, 1)} }

// Called reports whether w was called and has not tried yet.
func (w *Waiter) Called() bool { return w.called }
