// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/rustyonions/macronode/oap"
)

// The model: two tables, the frames on their way, and applications that may do
// each of their steps at any time. Every step uses something up, so no history
// is endless; where nothing can be done any more, all must be done.

// script is what the applications do with one stream.
type script struct {
	request, answer int  // counted frames, each way
	slowNode        bool // the node's application never reads
	slowPeer        bool // the opener's
	cancel          bool // the opener may cancel, at any time
	fail            bool // the node may answer with an error, at any time
	early           bool // the node may end its answer at any time, and reads no more then
}

// sizes are the windows of a model.
type sizes struct{ stream, conn, quarter, streams int }

// party is one stream at one side.
type party struct {
	l       *Line
	sent    int // frames that its application has queued
	unread  int // counted frames that came and were not consumed
	ended   bool
	gaveUp  bool
	refused bool
}

// world is one state.
type world struct {
	tables [2]*Table // 0 the opener, 1 the node
	wires  [2][]oap.Header
	counts [2][]uint64 // payloads of ACKs, in order
	calls  []script
	at     [2][]party
}

var dummy = &Buffer{class: -1}

func newWorld(w sizes, setAside bool, calls []script) *world {
	s := &world{calls: calls}
	for i := range s.tables {
		t := NewTable(i == 0, false, setAside && i == 0)
		l := Limits{Stream: w.stream, Conn: w.conn, Quarter: w.quarter, Streams: w.streams}
		t.in, t.Out, t.muted = l, l, false
		s.tables[i] = t
		s.at[i] = make([]party, len(calls))
	}
	return s
}

func (w *world) clone() *world {
	c := &world{calls: w.calls}
	for i := range w.tables {
		from := w.tables[i]
		t := *from
		seen := map[*Line]*Line{}
		line := func(l *Line) *Line {
			if l == nil {
				return nil
			}
			if n, ok := seen[l]; ok {
				return n
			}
			n := new(Line)
			*n = *l
			n.queue = slices.Clone(l.queue)
			seen[l] = n
			return n
		}
		t.Lines = maps.Clone(from.Lines)
		for id, l := range t.Lines {
			t.Lines[id] = line(l)
		}
		t.ring = line(from.ring)
		for l := from.ring; l != nil; {
			a, b := line(l), line(l.next)
			a.next, b.prev = b, a
			if l = l.next; l == from.ring {
				break
			}
		}
		list := func(ls []*Line) []*Line {
			out := make([]*Line, len(ls))
			for i, l := range ls {
				out[i] = line(l)
			}
			return out
		}
		t.ackNow, t.owing = list(from.ackNow), list(from.owing)
		t.Urgent, t.Shut = slices.Clone(from.Urgent), nil
		c.tables[i] = &t
		c.at[i] = slices.Clone(w.at[i])
		for k := range c.at[i] {
			c.at[i][k].l = line(c.at[i][k].l)
		}
		c.wires[i], c.counts[i] = slices.Clone(w.wires[i]), slices.Clone(w.counts[i])
	}
	return c
}

// key names the state: two worlds with the same key behave the same.
func (w *world) key() string {
	var b []byte
	num := func(ns ...uint64) {
		for _, n := range ns {
			b = binary.AppendUvarint(b, n)
		}
	}
	flag := func(fs ...bool) {
		for _, f := range fs {
			if f {
				b = append(b, 1)
			} else {
				b = append(b, 0)
			}
		}
	}
	for i, t := range w.tables {
		num(t.nextID, t.lastIn, t.got, t.used, t.acked, t.sent, t.ackedOut, uint64(t.theirs), uint64(t.MineNow), uint64(t.Opening))
		flag(t.stuck, t.AckConn)
		name := func(l *Line) uint64 {
			return uint64(slices.IndexFunc(w.at[i], func(p party) bool { return p.l == l }) + 1)
		}
		for l := t.ring; l != nil; {
			num(name(l) + 100)
			if l = l.next; l == t.ring {
				break
			}
		}
		for _, ls := range [][]*Line{t.ackNow, t.owing} {
			num(uint64(len(ls)))
			for _, l := range ls {
				num(name(l))
			}
		}
		num(uint64(len(t.Urgent)))
		for _, f := range t.Urgent {
			num(uint64(f.Header.Flags), uint64(f.Header.Code), f.Header.Corr)
		}
		for _, p := range w.at[i] {
			num(uint64(p.sent), uint64(p.unread))
			flag(p.ended, p.gaveUp, p.refused, p.l != nil)
			if l := p.l; l != nil {
				num(l.ID, l.got, l.used, l.acked, l.sent, l.theirs, uint64(len(l.queue)))
				flag(l.InEnd, l.OutEnd, l.outDone, l.Gone, l.Discarded, l.deaf, l.owing)
				for _, f := range l.queue {
					num(uint64(f.Header.Flags))
				}
			}
		}
		num(uint64(len(w.wires[i])))
		for _, h := range w.wires[i] {
			num(uint64(h.Flags), uint64(h.Code), h.Corr, uint64(h.Len))
		}
		num(w.counts[i]...)
	}
	return string(b)
}

const (
	onWire = 1 // frames that may be on their way
	queued = 1 // frames that an application queues ahead
)

// steps are all that can happen next.
func (w *world) steps() []func(*world) error {
	var out []func(*world) error
	add := func(ok bool, f func(*world) error) {
		if ok {
			out = append(out, f)
		}
	}
	for i, t := range w.tables {
		add(t.Pending() && len(w.wires[i]) < onWire, func(w *world) error { return w.write(i) })
		add(len(w.wires[i]) > 0, func(w *world) error { return w.read(i) })
		add(t.Owes() && !t.Pending(), func(w *world) error { w.tables[i].Flush(); return nil })
	}
	// Streams open in order, so that equal histories are not told apart.
	next := slices.IndexFunc(w.at[0], func(p party) bool { return p.l == nil })
	add(next >= 0 && w.tables[0].MineNow < w.tables[0].Out.Streams, func(w *world) error { return w.open(next) })
	for k, c := range w.calls {
		for i := range w.tables {
			p := &w.at[i][k]
			if p.l == nil {
				continue
			}
			slow := (i == 1 && c.slowNode) || (i == 0 && c.slowPeer)
			add(p.unread > 0 && !slow && !p.gaveUp, func(w *world) error {
				p := &w.at[i][k]
				p.unread--
				w.tables[i].Consume(p.l, 1)
				return nil
			})
			most := c.request
			if i == 1 {
				most = c.answer
			}
			add(!p.l.Gone && !p.l.OutEnd && p.sent < most && p.l.Queued() < queued, func(w *world) error { return w.send(i, k, p.sent+1 == most) })
		}
		peer, node := &w.at[0][k], &w.at[1][k]
		add(c.cancel && peer.l != nil && !peer.l.Gone, func(w *world) error {
			w.tables[0].Cancel(w.at[0][k].l)
			return w.drop(0, k)
		})
		add(c.fail && node.l != nil && !node.l.Gone && !node.l.OutEnd, func(w *world) error {
			w.tables[1].Fail(w.at[1][k].l, 500, nil)
			return w.drop(1, k)
		})
		add(c.early && node.l != nil && !node.gaveUp && !node.l.Gone && node.l.OutEnd, func(w *world) error {
			w.tables[1].Ignore(w.at[1][k].l)
			return w.drop(1, k)
		})
	}
	return out
}

func (w *world) drop(i, k int) error {
	p := &w.at[i][k]
	p.unread, p.gaveUp = 0, true
	return nil
}

func (w *world) open(k int) error {
	l := &Line{}
	w.at[0][k].l = l
	w.tables[0].Open(l)
	return w.send(0, k, w.calls[k].request == 1)
}

func (w *world) send(i, k int, last bool) error {
	p := &w.at[i][k]
	h := oap.Header{Flags: oap.REQ}
	switch {
	case i == 1:
		h.Flags, h.Code = oap.RESP, 200
	case p.sent == 0:
		h.Flags |= oap.START
	}
	p.sent++
	if last {
		h.Flags |= oap.END
	}
	w.tables[i].Enqueue(p.l, Frame{Header: h, Buf: dummy, Counted: true})
	return nil
}

func (w *world) write(i int) error {
	f, ok := w.tables[i].Take(time.Time{})
	if !ok {
		if w.tables[i].Pending() {
			return fmt.Errorf("side %d has something to write, and gives nothing", i)
		}
		return nil
	}
	f.Header.Len = oap.HeaderBytes
	if f.Buf != nil {
		f.Header.Len++
	}
	w.wires[i] = append(w.wires[i], f.Header)
	if f.Counter {
		w.counts[i] = append(w.counts[i], f.Count)
	}
	return w.check()
}

// check is what holds in every state.
func (w *world) check() error {
	for i, t := range w.tables {
		if t.sent-t.ackedOut > uint64(t.Out.Conn) {
			return fmt.Errorf("side %d is past the connection's window", i)
		}
		holders := 0
		for _, l := range t.Lines {
			un := l.sent - l.theirs
			if un > uint64(t.Out.Stream) {
				return fmt.Errorf("side %d is past stream %d's window", i, l.ID)
			}
			if un > uint64(t.Out.Quarter) {
				holders++
			}
		}
		if t.acked > t.used || t.used > t.got {
			return fmt.Errorf("side %d acknowledges %d of %d of %d", i, t.acked, t.used, t.got)
		}
		for k, p := range w.at[i] {
			if p.l != nil && !t.setAside && p.l.got-p.l.used > uint64(t.in.Quarter) {
				return fmt.Errorf("stream %d holds more than a quarter at side %d", k, i)
			}
		}
	}
	return nil
}

// read takes the next frame that side i has written.
func (w *world) read(i int) error {
	h := w.wires[i][0]
	w.wires[i] = w.wires[i][1:]
	o := 1 - i
	t := w.tables[o]
	if h.Flags&oap.EVENT != 0 {
		n := w.counts[i][0]
		w.counts[i] = w.counts[i][1:]
		if f := t.Acknowledged(h.Corr, n, time.Time{}); f != nil {
			return f
		}
		return nil
	}
	l, v, f := t.Arrive(&h, time.Time{})
	if f != nil {
		return f
	}
	k := int(h.Corr / 2)
	for j := range w.at[0] { // by the opener's number, which is given when START leaves
		if p := w.at[0][j].l; p != nil && p.ID == h.Corr {
			k = j
		}
	}
	p := &w.at[o][k]
	switch v {
	case Opened:
		p.l = l
		if h.Counted() {
			p.unread++
		}
	case Deliver:
		if h.Counted() && !p.gaveUp {
			p.unread++
		}
		t.Settle(l)
	case Ended:
		return w.drop(o, k)
	case Busy, Leaving:
		return fmt.Errorf("a stream was refused that was allowed")
	}
	return nil
}

// done reports what is not over where nothing can happen any more.
func (w *world) done() error {
	stuck := false
	for k, c := range w.calls {
		slow := c.slowNode || c.slowPeer
		for i := range w.tables {
			p := w.at[i][k]
			open := p.l == nil || !p.l.Gone
			if first := w.at[0][k].l; first != nil && first.Gone && first.ID == 0 {
				open = false // cancelled before its START left
			}
			if open && !slow {
				return fmt.Errorf("stream %d is not over at side %d", k, i)
			}
			stuck = stuck || slow
		}
	}
	if stuck {
		return nil
	}
	for i, t := range w.tables {
		if len(t.Lines) != 0 || t.MineNow != 0 || t.theirs != 0 || t.Opening != 0 {
			return fmt.Errorf("side %d still counts streams", i)
		}
		if t.used != t.got || t.acked != t.used || t.sent != t.ackedOut {
			return fmt.Errorf("side %d: got %d, used %d, acknowledged %d; sent %d, of them %d", i, t.got, t.used, t.acked, t.sent, t.ackedOut)
		}
	}
	return nil
}

// release is what ends slow streams: they are cancelled, and then all must be
// over.
func (w *world) release() *world {
	w = w.clone()
	slow := false
	for k, c := range w.calls {
		if p := w.at[0][k]; (c.slowNode || c.slowPeer) && p.l != nil {
			slow = true
			w.tables[0].Close(p.l, true) // what was read by nobody is given back
			if !p.l.Gone {
				w.tables[0].Cancel(p.l)
			}
			w.tables[0].Push(oap.Header{Flags: oap.REQ | oap.END, Code: oap.CodeCancel}, p.l, KindCancel, nil)
			w.drop(0, k)
		}
	}
	if !slow {
		return nil
	}
	w.calls = slices.Clone(w.calls)
	for k := range w.calls {
		w.calls[k].slowNode, w.calls[k].slowPeer = false, false
	}
	return w
}

// explore walks through every history of w.
func explore(t *testing.T, w *world) (states int) {
	seen := map[string]bool{}
	todo := []*world{w}
	for len(todo) > 0 {
		w := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		steps := w.steps()
		if len(steps) == 0 {
			if err := w.done(); err != nil {
				t.Fatalf("nothing can happen any more: %v", err)
			}
			if r := w.release(); r != nil {
				todo = append(todo, r)
			}
			continue
		}
		for _, step := range steps {
			n := w.clone()
			if err := step(n); err != nil {
				t.Fatal(err)
			}
			if k := n.key(); !seen[k] {
				seen[k] = true
				todo = append(todo, n)
			}
		}
		if len(seen) > 600_000 {
			t.Fatal("the model is too large", len(todo))
		}
	}
	return len(seen)
}

func TestEveryHistoryOfSmallWindowsEnds(t *testing.T) {
	plain := script{request: 2, answer: 1}
	for _, c := range []struct {
		name     string
		sizes    sizes
		setAside bool
		calls    []script
	}{
		{"one frame each", sizes{1, 2, 1, 2}, false, []script{{request: 1, answer: 1}, {request: 1, answer: 1}, {request: 1, answer: 1}}},
		{"window of one", sizes{1, 2, 1, 2}, false, []script{plain, {request: 1, answer: 2}}},
		{"window of two", sizes{2, 4, 1, 2}, false, []script{plain, {request: 1, answer: 1}}},
		{"set aside", sizes{2, 4, 1, 2}, true, []script{{request: 1, answer: 2}, {request: 1, answer: 1}}},
		{"slow node", sizes{2, 2, 1, 3}, false, []script{{request: 3, answer: 1, slowNode: true}, {request: 2, answer: 1}}},
		{"slow opener", sizes{2, 2, 1, 3}, true, []script{{request: 1, answer: 3, slowPeer: true}, {request: 1, answer: 2}}},
		{"cancel", sizes{1, 2, 1, 2}, false, []script{{request: 2, answer: 1, cancel: true}, {request: 1, answer: 1}}},
		{"error", sizes{1, 2, 1, 2}, false, []script{{request: 2, answer: 1, fail: true}, {request: 1, answer: 1}}},
		{"early answer", sizes{1, 2, 1, 2}, false, []script{{request: 3, answer: 1, early: true}, {request: 1, answer: 1}}},
		{"one at a time", sizes{1, 2, 1, 1}, false, []script{{request: 2, answer: 1, cancel: true}, {request: 1, answer: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			n := explore(t, newWorld(c.sizes, c.setAside, c.calls))
			t.Logf("%d states, %v", n, time.Since(began).Round(time.Millisecond))
		})
	}
}
