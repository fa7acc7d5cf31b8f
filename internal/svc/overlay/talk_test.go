// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/revocation"
)

// revoke makes revocations hold at a node, as its own operator would.
func (n *node) revoke(list ...revocation.Item) {
	n.book.mu.Lock()
	for _, i := range list {
		n.book.items[key(&i)] = i
	}
	n.book.mu.Unlock()
	n.Revoked(list)
}

// In a triangle and along a line everyone knows within a second.
func TestRevocationsSpread(t *testing.T) {
	for name, links := range map[string][][2]int{"triangle": {{0, 1}, {1, 2}, {0, 2}}, "line": {{0, 1}, {1, 2}, {2, 3}, {3, 4}}} {
		bubble(t, func(t *testing.T) {
			nodes := 3
			if name == "line" {
				nodes = 5
			}
			w := newNet(t, nodes, links...)
			w.start(t)
			pass(3 * time.Second)
			w.nodes[0].revoke(item(1))
			w.nodes[nodes-1].revoke(item(2), item(3))
			pass(time.Second)
			for i, n := range w.nodes {
				if n.book.len() != 3 {
					t.Errorf("%s: node %d knows %d of 3 after a second", name, i, n.book.len())
				}
			}
		})
	}
}

// Who was away learns, with its session, all that it missed, and hands it on to
// those behind it at once.
func TestAwayAndBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 3, [2]int{0, 1}, [2]int{1, 2})
		w.start(t)
		pass(3 * time.Second)
		w.setCut(0, 1, true)
		pass(5 * time.Second)
		for i := range 2500 { // more than two pages
			w.nodes[0].revoke(item(i))
		}
		w.nodes[2].revoke(item(9999))
		pass(5 * time.Second)
		if w.nodes[1].book.len() != 1 || w.nodes[0].book.len() != 2500 {
			t.Fatal("the cut link carries")
		}
		w.setCut(0, 1, false)
		at := time.Now()
		for len(w.nodes[1].Active()) < 2 {
			pass(10 * time.Millisecond)
		}
		if d := time.Since(at); d > 2*time.Second {
			t.Errorf("the session is back after %v", d)
		}
		pass(time.Second)
		for i, n := range w.nodes {
			if n.book.len() != 2501 {
				t.Errorf("a second after the session node %d knows %d of 2501", i, n.book.len())
			}
		}
	})
}

// What falls out of a queue is found by comparing, long before the next regular
// comparison.
func TestOverflowIsFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.delay = 50 * time.Millisecond
		w.start(t)
		pass(40 * time.Second)
		before := w.nodes[1].book.calls
		for i := range 5000 {
			w.nodes[0].revoke(item(i))
		}
		pass(3 * time.Second)
		if n := w.nodes[1].book.len(); n != 5000 {
			t.Errorf("%d of 5000 are known", n)
		}
		if n := w.nodes[1].book.calls - before; n > 2500 {
			t.Errorf("%d messages were needed", n)
		}
	})
}

// A list without end that is told at once becomes a comparison.
func TestManyAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		pass(3 * time.Second)
		var many []revocation.Item
		for i := range 3 * tellAtMost {
			many = append(many, item(i))
		}
		w.nodes[0].revoke(many...)
		pass(2 * time.Second)
		if n := w.nodes[1].book.len(); n != len(many) {
			t.Errorf("%d of %d are known", n, len(many))
		}
	})
}

// A node that cannot keep a revocation now has it once it can.
func TestStoreAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		pass(3 * time.Second)
		b := w.nodes[1].book
		b.mu.Lock()
		b.err = macronode.Errorf(macronode.Unavailable, "the disk")
		b.mu.Unlock()
		w.nodes[0].revoke(item(1))
		pass(2 * time.Second)
		b.mu.Lock()
		b.err = nil
		b.mu.Unlock()
		pass(45 * time.Second)
		if b.len() != 1 {
			t.Error("it never came again")
		}
	})
}

// News whose signature is not that of the node they name hold nowhere and go
// nowhere; what names a key that a node does not have goes on all the same.
func TestOnlyVerifiedNews(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 3, [2]int{0, 1}, [2]int{1, 2})
		w.start(t)
		a, b, c := w.nodes[0], w.nodes[1], w.nodes[2]
		pass(3 * time.Second)
		good, err := a.conf.Sign([]revocation.Item{item(1)}, "")
		if err != nil {
			t.Fatal(err)
		}
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		strange, err := revocation.SignNews([]revocation.Item{item(2)}, "", signer{k})
		if err != nil {
			t.Fatal(err)
		}
		origin, err := gossip.ParseNode(a.id)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(good)
		flipped[len(flipped)/2] ^= 1
		for _, payload := range [][]byte{strange, flipped, good[:len(good)/2], []byte("{}")} {
			batch := gossip.Encode([]gossip.Message{{Lane: gossip.Revocations, Hops: 3, Origin: origin, Payload: payload}})
			if _, err := b.invoke(t.Context(), a.id, OpGossip, nil, batch); err != nil {
				t.Errorf("one bad message ends the batch: %v", err)
			}
		}
		pass(time.Second)
		if b.book.len() != 0 || c.book.len() != 0 {
			t.Error("news that do not verify hold")
		}
		foreign := revocation.Item{Entry: revocation.Entry{KID: "v1", Tenant: macronode.TenantID{1}.String(), By: "cap:x"}, KeyHash: strings.Repeat("0a", 16)}
		before := c.book.calls
		a.Revoked([]revocation.Item{foreign})
		pass(time.Second)
		if c.book.calls == before {
			t.Error("what means nothing to one node is kept from the next")
		}
	})
}

// A peer is answered one list and heard one batch at a time, and who is none is
// refused, whatever else it is.
func TestRoutesRefuse(t *testing.T) {
	w := newNet(t, 2, [2]int{0, 1})
	n, peerID := w.nodes[0], w.nodes[1].id
	call := func(p *macronode.Principal, op macronode.Op, body string) error {
		for _, r := range n.Routes() {
			if r.Op == op {
				_, err := r.Handler(t.Context(), &macronode.Admitted{Principal: p, Call: &macronode.Call{Body: strings.NewReader(body)}})
				return err
			}
		}
		return errors.New("no such route")
	}
	peer := &macronode.Principal{Kind: macronode.PeerNode, Node: peerID}
	summary := string(new(revocation.Summary).Bytes())
	for i, c := range []struct {
		p    *macronode.Principal
		op   macronode.Op
		body string
		want macronode.Kind
	}{
		{&macronode.Principal{Kind: macronode.Capability, Node: peerID}, OpGossip, "\x01", macronode.Denied},
		{&macronode.Principal{Kind: macronode.PeerNode, Node: n.id}, OpGossip, "\x01", macronode.Denied},
		{&macronode.Principal{Kind: macronode.Anonymous}, OpRevocations, summary, macronode.Denied},
		{peer, OpGossip, "", macronode.Malformed},
		{peer, OpGossip, "\x02", macronode.Malformed},
		{peer, OpRevocations, summary[1:], macronode.Malformed},
	} {
		if err := call(c.p, c.op, c.body); macronode.KindOf(err) != c.want || err == nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	for _, op := range []macronode.Op{OpGossip, OpRevocations} {
		if err := call(peer, op, map[macronode.Op]string{OpGossip: "\x01", OpRevocations: summary}[op]); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	p := n.peer(peerID)
	p.hearing.Store(true)
	p.listing.Store(true)
	for _, op := range []macronode.Op{OpGossip, OpRevocations} {
		if err := call(peer, op, summary); macronode.KindOf(err) != macronode.QuotaInFlight {
			t.Errorf("%s: two at a time: %v", op, err)
		}
	}
	p.hearing.Store(false)
	var err error
	many := make([]gossip.Message, gossip.MaxBatchMessages)
	for i := range many {
		many[i] = gossip.Message{Lane: gossip.Registry, Payload: []byte(fmt.Sprint(i))}
	}
	flood := gossip.Encode(many)
	for range 100 {
		if err = call(peer, OpGossip, string(flood)); err != nil {
			break
		}
	}
	if e, ok := errors.AsType[*macronode.Error](err); !ok || e.Kind != macronode.QuotaRate || e.RetryAfter == 0 {
		t.Errorf("a flood: %v", err)
	}
}

// Announcements come from the node that they speak of, to those who listen.
func TestAnnouncements(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 3, [2]int{0, 1}, [2]int{1, 2})
		var heard []string
		for _, n := range w.nodes {
			n.Subscribe(func(_ context.Context, from string, tenant macronode.TenantID, payload []byte) error {
				heard = append(heard, fmt.Sprintf("%d %v %d %s", n.i, from == w.nodes[0].id, tenant[0], payload))
				return nil
			})
			n.SubscribeHead(func(_ context.Context, _ string, _ macronode.TenantID, payload []byte) error {
				if string(payload) == "bad" {
					return errors.New("it does not verify")
				}
				if n.i == 2 {
					heard = append(heard, "head "+string(payload))
				}
				return nil
			})
		}
		w.start(t)
		pass(3 * time.Second)
		if !w.nodes[0].Publish("", macronode.TenantID{7}, []byte("here")) || w.nodes[0].Publish("", macronode.TenantID{7}, make([]byte, gossip.Announcements.MaxPayload()+1)) {
			t.Error("what fits is told, and no more")
		}
		pass(time.Second)
		w.nodes[0].PublishHead([]byte("bad"))
		w.nodes[0].PublishHead([]byte("good"))
		pass(time.Second)
		if got := strings.Join(heard, ", "); got != "1 true 7 here, head good" {
			t.Errorf("heard: %s", got)
		}
	})
}

// A link that comes and goes fifty times, while both sides revoke: it is back within
// two seconds each time, and nothing is lost.
func TestFlaps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 3, [2]int{0, 1}, [2]int{1, 2})
		w.start(t)
		pass(3 * time.Second)
		made := 0
		for flap := range 50 {
			w.setCut(0, 1, true)
			for range 5 {
				w.nodes[made%3].revoke(item(made))
				made++
				pass(time.Duration(flap%7) * 37 * time.Millisecond)
			}
			w.setCut(0, 1, false)
			pass(2 * time.Second)
			if len(w.nodes[0].Active()) != 1 || len(w.nodes[1].Active()) != 2 {
				t.Fatalf("flap %d: no session two seconds after", flap)
			}
		}
		pass(time.Second)
		for i, n := range w.nodes {
			if n.book.len() != made {
				t.Errorf("node %d knows %d of %d", i, n.book.len(), made)
			}
			for _, l := range []gossip.Lane{gossip.Revocations, gossip.Announcements} {
				if d := n.exchange.Depth(l); d != 0 {
					t.Errorf("node %d: %d messages wait", i, d)
				}
			}
		}
		if len(w.open(0, 1)) != 1 || len(w.open(1, 2)) != 1 {
			t.Error("connections were left open")
		}
	})
}

// A peer whose policy refuses gossip is asked less and less often.
func TestRefusedGossip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		pass(3 * time.Second)
		var mu sync.Mutex
		asked := 0
		w.refuse = func(op macronode.Op) error {
			if op != OpGossip {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			asked++
			return macronode.Errorf(macronode.Denied, "policy")
		}
		w.nodes[0].revoke(item(1))
		pass(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if asked < 3 || asked > 40 {
			t.Errorf("asked %d times in five minutes", asked)
		}
		if w.nodes[1].book.len() != 1 {
			t.Error("lists are not compared meanwhile")
		}
	})
}
