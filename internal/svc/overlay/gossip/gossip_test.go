// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

func node(i int) string { return fmt.Sprintf("b3:%064x", i) }

func mustNode(i int) Node {
	n, err := ParseNode(node(i))
	if err != nil {
		panic(err)
	}
	return n
}

// world is nodes that gossip over memory.
type world struct {
	mu       sync.Mutex
	nodes    []*member
	carried  int
	compared []string
}

type member struct {
	*Exchange
	got    []string
	counts map[string]int
	refuse error
}

func (w *world) count(i int, l Lane, r string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[i].counts[l.String()+" "+r]
}

func newWorld(n int) *world {
	w := &world{}
	for i := range n {
		m := &member{counts: make(map[string]int)}
		handler := func(_ context.Context, _ string, msg *Message) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if m.refuse != nil {
				return m.refuse
			}
			m.got = append(m.got, string(msg.Payload))
			return nil
		}
		m.Exchange = New(Config{Self: mustNode(i), Handlers: map[Lane]Handler{Revocations: handler, Registry: handler, Announcements: handler},
			Compare: func(from string) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.compared = append(w.compared, fmt.Sprint(i, " with ", from[len(from)-1:]))
			},
			Count: func(l Lane, r string, n int) {
				w.mu.Lock()
				defer w.mu.Unlock()
				m.counts[l.String()+" "+r] += n
			}})
		w.nodes = append(w.nodes, m)
	}
	return w
}

// link joins two nodes until ctx ends.
func (w *world) link(ctx context.Context, a, b int) {
	for _, d := range [][2]int{{a, b}, {b, a}} {
		out, err := w.nodes[d[0]].Join(node(d[1]))
		if err != nil {
			panic(err)
		}
		to := w.nodes[d[1]]
		go func() {
			for {
				batch, err := out.Next(ctx)
				if err != nil {
					return
				}
				w.mu.Lock()
				w.carried++
				w.mu.Unlock()
				if to.Receive(ctx, node(d[0]), batch) != nil {
					out.Failed()
					continue
				}
				out.Sent()
			}
		}()
	}
}

func (w *world) heard(i int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.nodes[i].got, " ")
}

// In a ring and its chords everyone hears once, whatever the ways.
func TestEveryoneHearsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(5)
		for a := range 5 {
			for b := range a {
				w.link(ctx, a, b)
			}
		}
		w.nodes[0].Publish(Revocations, "", macronode.TenantID{}, []byte("x"))
		w.nodes[3].Publish(Registry, "", macronode.TenantID{}, []byte("y"))
		synctest.Wait()
		for i, want := range []string{"y", "x y", "x y", "x", "x y"} {
			got := w.heard(i)
			if len(got) != len(want) || strings.Contains(want, "x") != strings.Contains(got, "x") {
				t.Errorf("node %d heard %q, want %q", i, got, want)
			}
		}
		if w.count(1, Revocations, Duplicate) == 0 {
			t.Error("no duplicate in a mesh")
		}
		before := w.carried
		w.nodes[0].Publish(Revocations, "", macronode.TenantID{}, []byte("z"))
		synctest.Wait()
		if n := w.carried - before; n > 4+4*4 {
			t.Errorf("%d batches for one message among five", n)
		}
	})
}

// A message goes along a line as far as its hops last, and announcements go one.
func TestHops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(MaxHops + 4)
		for i := range w.nodes[1:] {
			w.link(ctx, i, i+1)
		}
		w.nodes[0].Publish(Revocations, "", macronode.TenantID{}, []byte("r"))
		w.nodes[0].Publish(Announcements, "", macronode.TenantID{1}, []byte("a"))
		synctest.Wait()
		for i := range w.nodes {
			want := ""
			switch {
			case i == 1:
				want = "r a"
			case i > 1 && i <= MaxHops+1:
				want = "r"
			}
			if got := w.heard(i); got != want {
				t.Errorf("node %d heard %q, want %q", i, got, want)
			}
		}
	})
}

// What a node announces comes from itself: nobody speaks for another.
func TestAnnouncementsAreOfTheirSender(t *testing.T) {
	w := newWorld(1)
	x := w.nodes[0]
	x.Join(node(1))
	err := x.Receive(t.Context(), node(1), Encode([]Message{
		{Lane: Announcements, Origin: mustNode(2), Payload: []byte("not mine")},
		{Lane: Announcements, Origin: mustNode(1), Payload: []byte("mine")},
		{Lane: Registry, Origin: mustNode(2), Payload: []byte("told")},
		{Lane: Registry, Origin: mustNode(0), Payload: []byte("my own, years ago")},
	}))
	if err != nil || w.heard(0) != "mine told" {
		t.Errorf("%v; heard %q", err, w.heard(0))
	}
	if n := w.count(0, Announcements, Refused); n != 1 {
		t.Errorf("%d refused", n)
	}
	if err := x.Receive(t.Context(), node(7), Encode(nil)); !errors.Is(err, ErrStranger) {
		t.Errorf("a stranger is heard: %v", err)
	}
}

// What its handler refuses goes nowhere, and what could not be handled comes again.
func TestRefusedAndLater(t *testing.T) {
	w := newWorld(1)
	x := w.nodes[0]
	x.Join(node(1))
	out, _ := x.Join(node(2))
	batch := Encode([]Message{{Lane: Revocations, Hops: 3, Origin: mustNode(1), Payload: []byte("r")}})
	say := func() {
		t.Helper()
		if err := x.Receive(t.Context(), node(1), batch); err != nil {
			t.Fatal(err)
		}
	}
	x.refuse = fmt.Errorf("the disk: %w", ErrLater)
	say()
	if len(w.compared) != 1 || w.compared[0] != "0 with 1" {
		t.Errorf("lists are compared: %q", w.compared)
	}
	x.refuse = errors.New("forged")
	say()
	say()
	if out.Depth(Revocations) != 0 || w.count(0, Revocations, Refused) != 1 || w.count(0, Revocations, Duplicate) != 1 {
		t.Errorf("%v, %d wait", x.counts, out.Depth(Revocations))
	}
	x.refuse = nil
	batch = Encode([]Message{{Lane: Revocations, Hops: 3, Origin: mustNode(1), Payload: []byte("s")}})
	say()
	b := out.batch()
	list, err := Parse(b)
	if err != nil || len(list) != 1 || list[0].Hops != 2 || string(list[0].Payload) != "s" {
		t.Errorf("%v %v", list, err)
	}
}

// A queue keeps the newest, within its bytes, and what was lost of revocations
// becomes a request to compare.
func TestQueuesAreBounded(t *testing.T) {
	w := newWorld(1)
	x := w.nodes[0]
	out, _ := x.Join(node(1))
	const n = 2000
	for i := range n {
		x.Publish(Revocations, "", macronode.TenantID{}, binary.BigEndian.AppendUint32(nil, uint32(i)))
		x.Publish(Announcements, "", macronode.TenantID{}, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 2<<10))
		x.Publish(Registry, "", macronode.TenantID{}, binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	if d := out.Depth(Revocations); d != rules[Revocations].depth {
		t.Errorf("%d revocations wait", d)
	}
	if b := out.lanes[Announcements].bytes; b > rules[Announcements].bytes || out.Depth(Announcements) < 200 {
		t.Errorf("%d bytes of announcements wait", b)
	}
	if got := w.count(0, Revocations, DroppedQueue); got != n-rules[Revocations].depth {
		t.Errorf("%d counted as dropped", got)
	}
	var told []Message
	for b := out.batch(); b != nil; b = out.batch() {
		if len(b) > MaxBatchBytes {
			t.Fatalf("a batch of %d bytes", len(b))
		}
		list, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, list...)
		out.Sent()
	}
	if first := binary.BigEndian.Uint32(told[0].Payload); first != uint32(n-rules[Revocations].depth) {
		t.Errorf("the oldest that is told is %d", first)
	}
	asks := 0
	for _, m := range told {
		if len(m.Payload) == 0 {
			asks++
		}
	}
	if asks != 1 || out.lanes[Announcements].bytes != 0 {
		t.Errorf("asked %d times to compare; %d bytes left", asks, out.lanes[Announcements].bytes)
	}
}

// Until the peer has answered for a batch the same batch comes again; one that it
// refuses is dropped, and revocations in it lead to a comparison.
func TestPending(t *testing.T) {
	w := newWorld(1)
	x := w.nodes[0]
	out, _ := x.Join(node(1))
	x.Publish(Revocations, node(1), macronode.TenantID{}, []byte("a"))
	first := out.batch()
	x.Publish(Revocations, node(2), macronode.TenantID{}, []byte("not for this one"))
	if again := out.batch(); !bytes.Equal(first, again) {
		t.Error("another batch before the first was taken")
	}
	out.Failed()
	list, err := Parse(out.batch())
	if err != nil || len(list) != 1 || len(list[0].Payload) != 0 || list[0].Lane != Revocations {
		t.Errorf("%v %v", list, err)
	}
	out.Sent()
	if out.batch() != nil {
		t.Error("something is left")
	}
	x.Publish(Announcements, "", macronode.TenantID{}, []byte("b"))
	out.batch()
	out.Failed()
	if out.batch() != nil {
		t.Error("a dropped announcement leads to a comparison")
	}
}

// A peer that floods is cut off at its budget, which time fills again.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1)
		x := w.nodes[0]
		x.Join(node(1))
		x.Join(node(2))
		taken, refused := 0, 0
		say := func(from int, i int) error {
			list := make([]Message, 100)
			for j := range list {
				list[j] = Message{Lane: Announcements, Origin: mustNode(from), Payload: fmt.Appendf(nil, "%d %d", i, j)}
			}
			return x.Receive(t.Context(), node(from), Encode(list))
		}
		for i := range 1000 {
			switch err := say(1, i); {
			case err == nil:
				taken++
			case errors.Is(err, ErrBudget):
				refused++
			default:
				t.Fatal(err)
			}
		}
		if taken != burstSeconds*messagesPerSec/100 || refused != 1000-taken {
			t.Errorf("%d batches taken, %d refused", taken, refused)
		}
		if n := x.seen[Announcements].len(); n > 2*rules[Announcements].seen {
			t.Errorf("%d ids are kept", n)
		}
		if n := w.count(0, Announcements, DroppedBudget); n != 100*refused {
			t.Errorf("%d counted", n)
		}
		if err := say(2, 0); err != nil {
			t.Errorf("another peer pays: %v", err)
		}
		<-time.After(time.Second) // of the bubble's clock
		for i := range 10 {
			if err := say(1, 5000+i); err != nil {
				t.Errorf("after a second, batch %d: %v", i, err)
			}
		}
		if err := say(1, 6000); !errors.Is(err, ErrBudget) {
			t.Errorf("more than a second brings: %v", err)
		}
		big := Encode([]Message{{Lane: Revocations, Origin: mustNode(2), Payload: make([]byte, rules[Revocations].payload)}})
		n := 0
		for n < 1000 && x.Receive(t.Context(), node(2), big) == nil {
			n++
		}
		if n*len(big) > burstSeconds*bytesPerSec {
			t.Errorf("%d bytes at once", n*len(big))
		}
	})
}

func TestSeenIsBounded(t *testing.T) {
	s := seen{max: 100}
	at := func(i int) id { return id{byte(i), byte(i >> 8)} }
	for i := range 10_000 {
		if !s.add(at(i)) {
			t.Fatalf("%d is no duplicate", i)
		}
		if i > 0 && s.add(at(i-1)) {
			t.Fatalf("%d is known no more", i-1)
		}
		if s.len() > 200 {
			t.Fatalf("%d ids are kept", s.len())
		}
	}
	s.forget(at(9_999))
	if !s.add(at(9_999)) {
		t.Error("what was forgotten is known")
	}
}

func TestParseRefuses(t *testing.T) {
	good := Encode([]Message{{Lane: Revocations, Hops: 1, Payload: []byte("abc")}})
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	edit := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	many := make([]Message, MaxBatchMessages+1)
	for i := range many {
		many[i].Lane = Registry
	}
	for name, b := range map[string][]byte{
		"nothing":               {},
		"another format":        edit(0, 2),
		"lane 0":                edit(1, 0),
		"a lane after the last": edit(1, byte(endLane)),
		"too many hops":         edit(2, MaxHops+1),
		"hops of announcements": edit(1, byte(Announcements)),
		"a length beyond":       edit(1+headBytes-1, 4),
		"a great length":        edit(1+headBytes-4, 0xff),
		"a cut head":            good[:headBytes],
		"a cut payload":         good[:len(good)-1],
		"something behind":      append(bytes.Clone(good), 1),
		"too long a payload":    Encode([]Message{{Lane: Registry, Payload: make([]byte, rules[Registry].payload+1)}}),
		"too many messages":     Encode(many),
		"more than a batch's":   make([]byte, MaxBatchBytes+1),
	} {
		if _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Encode([]Message{{Lane: Revocations, Hops: 1, Payload: []byte("abc")}, {Lane: Announcements, Tenant: macronode.TenantID{1}}}))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := Parse(b)
		if err != nil {
			return
		}
		if again := Encode(list); !bytes.Equal(again, b) {
			t.Error("another encoding")
		}
		more, err := Parse(Encode(list))
		if err != nil || !reflect.DeepEqual(list, more) {
			t.Error(err)
		}
	})
}
