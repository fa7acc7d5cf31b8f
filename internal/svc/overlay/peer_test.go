// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
)

// bubble runs f in a bubble and ends its nodes within it.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// Both dial at once: one connection stays, and it is the one that the smaller id
// dialled, on both sides.
func TestSimultaneousDial(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.lag = 5 * time.Millisecond // the other one's is there first
		w.start(t)
		pass(3 * time.Second)
		open := w.open(0, 1)
		if len(open) != 1 || open[0].own.i != 0 {
			t.Fatalf("%d connections are open after %d were made", len(open), len(w.pairs))
		}
		if len(w.pairs) < 2 {
			t.Error("there never were two connections: nothing was tested")
		}
		for i, dialled := range []bool{true, false} {
			st := w.nodes[i].Statuses()
			if len(st) != 1 || st[0].State != "active" || st[0].Dialled != dialled || st[0].RTT != 2*w.delay {
				t.Errorf("node %d: %+v", i, st)
			}
		}
	})
}

// Whatever comes in which order, both sides keep the same one.
func TestTieBreak(t *testing.T) {
	for _, order := range []string{"own own", "own theirs", "theirs own", "theirs theirs"} {
		for _, smaller := range []bool{true, false} {
			bubble(t, func(t *testing.T) {
				w := newNet(t, 2, [2]int{0, 1})
				w.setCut(0, 1, true) // they dial, and nothing comes of it
				w.start(t)
				synctest.Wait()
				n, o := w.nodes[0], w.nodes[1]
				if !smaller {
					n, o = o, n
				}
				p := n.peer(o.id)
				var ends [2]*end
				var dialled [2]bool
				for i, word := range strings.Fields(order) {
					ends[i], _ = w.pair(n, o)
					dialled[i] = word == "own"
					p.offer(ends[i], dialled[i])
				}
				synctest.Wait()
				want := 1 // the later one, but where the first is the smaller's
				if dialled[0] != dialled[1] && dialled[0] == smaller {
					want = 0
				}
				if ends[want].closed() || !ends[1-want].closed() || p.current().Session != ends[want] {
					t.Errorf("%s, smaller %v: connection %d should stay", order, smaller, want)
				}
			})
		}
	}
}

// A link that goes silent is noticed, and two seconds after it is back there is a
// session, whenever it was cut and however long.
func TestSilentLink(t *testing.T) {
	for _, away := range []time.Duration{100 * time.Millisecond, time.Second, 1700 * time.Millisecond, 3 * time.Second, time.Minute} {
		bubble(t, func(t *testing.T) {
			w := newNet(t, 2, [2]int{0, 1})
			w.start(t)
			pass(5*time.Second + 123*time.Millisecond)
			before := w.open(0, 1)
			w.setCut(0, 1, true)
			pass(away)
			if away > 1600*time.Millisecond {
				for _, n := range w.nodes {
					if len(n.Active()) != 0 {
						t.Errorf("%v after the cut there is a session still", away)
					}
				}
			}
			w.setCut(0, 1, false)
			pass(2 * time.Second)
			open := w.open(0, 1)
			if len(open) != 1 || len(w.nodes[0].Active()) != 1 || len(w.nodes[1].Active()) != 1 {
				t.Errorf("cut for %v: %d connections two seconds after", away, len(open))
			}
			if away == 100*time.Millisecond && open[0] != before[0] {
				t.Error("a short cut ended the session")
			}
			if away == time.Minute && w.dials > 400 {
				t.Errorf("%d attempts in a minute", w.dials)
			}
		})
	}
}

// As long as frames come a ping may wait.
func TestBusyIsNotDead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		pass(3 * time.Second)
		e := w.nodes[0].peer(w.nodes[1].id).current().Session.(*end)
		e.mu.Lock()
		e.deaf = true
		e.mu.Unlock()
		pass(20 * time.Second)
		if e.closed() {
			t.Error("a busy session was ended")
		}
	})
}

// An attempt that fails is told once and counted each time, and the wait between
// two grows and stays bounded.
func TestBackOff(t *testing.T) {
	var b backoff
	if b.next() != 0 {
		t.Error("the first attempt waits")
	}
	last := time.Duration(0)
	for i := range 20 {
		b.fail()
		d := b.next()
		if d < b.wait*3/4 || d > b.wait*5/4 || b.wait < last || b.wait > lastWait {
			t.Errorf("after %d failures: %v of %v", i+1, d, b.wait)
		}
		last = b.wait
	}
	if last != lastWait {
		t.Errorf("the last wait is %v", last)
	}
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.setCut(0, 1, true)
		stop := w.run(t, w.nodes[0])
		pass(30 * time.Second)
		n := w.nodes[0]
		n.mu.Lock()
		if got := strings.Join(n.events, " "); got != "handshake back_off" {
			t.Errorf("events: %s", got)
		}
		n.mu.Unlock()
		if g := n.gates[w.nodes[1].id]; g.failed < 20 || g.failed > 60 {
			t.Errorf("%d failures reached the breaker", g.failed)
		}
		st := n.Statuses()[0]
		if !strings.Contains(st.LastError, "deadline") || st.State != "back_off" && st.State != "handshake" {
			t.Errorf("%+v", st)
		}
		stop()
		if st := n.Statuses()[0]; st.State != "idle" {
			t.Errorf("after the stop: %+v", st)
		}
	})
}

// An operator's breaker and a penalty end the session and keep it shut.
func TestHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		a, b := w.nodes[0], w.nodes[1]
		pass(3 * time.Second)
		state := func(want string) {
			t.Helper()
			if st := a.Statuses()[0]; st.State != want {
				t.Errorf("%+v, want %s", st, want)
			}
		}
		state("active")
		a.gates[b.id].hold(true)
		pass(time.Second)
		state("closed")
		if a.Welcome(b.id) || !a.Known(b.id) || a.Welcome("b3:x") || !b.Welcome(a.id) {
			t.Error("who is shut out is welcome, or who is not is not")
		}
		pass(10 * time.Second)
		if len(w.open(0, 1)) != 0 {
			t.Error("a connection stays although the breaker is held open")
		}
		a.gates[b.id].hold(false)
		pass(2 * time.Second)
		state("active")
		a.Penalise(b.id, "it lied")
		pass(firstPenalty - time.Second)
		state("closed")
		if len(w.open(0, 1)) != 0 {
			t.Error("a connection stays although the peer lied")
		}
		pass(3 * time.Second)
		state("active")
	})
}

// A peer that lies again and again is shut out for longer each time, up to a bound, and
// for a short time again once that is long ago.
func TestPenaltyGrows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		w.start(t)
		a, b := w.nodes[0], w.nodes[1]
		pass(3 * time.Second)
		shut := func(want time.Duration) {
			t.Helper()
			began := time.Now()
			a.Penalise(b.id, "it lied")
			pass(want - time.Second)
			if a.Welcome(b.id) || len(a.Active()) != 0 {
				t.Fatalf("let in again before %v", want)
			}
			pass(4 * time.Second)
			if !a.Welcome(b.id) || len(a.Active()) != 1 {
				t.Fatalf("still shut out %v after a penalty of %v", time.Since(began), want)
			}
		}
		for _, want := range []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 320 * time.Second, 10 * time.Minute, 10 * time.Minute} {
			shut(want)
		}
		pass(forgetAfter)
		shut(firstPenalty)
	})
}

// Peers come and go with their source, without a restart, and who is no peer has
// no session.
func TestRefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 3, [2]int{0, 1}, [2]int{0, 2})
		w.start(t)
		a, b, c := w.nodes[0], w.nodes[1], w.nodes[2]
		pass(3 * time.Second)
		if got := a.Active(); len(got) != 2 {
			t.Fatalf("active: %d", len(got))
		}
		kept := w.open(0, 2)
		a.mu.Lock()
		all := slices.Clone(a.peers)
		a.peers = slices.DeleteFunc(slices.Clone(all), func(p Peer) bool { return p.NodeID == b.id })
		a.mu.Unlock()
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if got := a.Active(); !slices.Equal(got, []string{c.id}) || a.Known(b.id) || len(w.open(0, 1)) != 0 {
			t.Errorf("who was removed has a session: %d active", len(got))
		}
		if now := w.open(0, 2); len(now) != 1 || now[0] != kept[0] {
			t.Error("a session that had nothing to do with it was ended")
		}
		if _, err := a.invoke(t.Context(), b.id, OpGossip, nil, gossip.Encode(nil)); macronode.KindOf(err) != macronode.Denied {
			t.Errorf("who was removed is heard: %v", err)
		}
		if a.gates[b.id] != nil {
			t.Error("its breaker stays")
		}
		a.mu.Lock()
		a.peers = all
		a.mu.Unlock()
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		pass(2 * time.Second)
		if got := a.Active(); len(got) != 2 {
			t.Errorf("who came back has no session: %d active", len(got))
		}
		a.mu.Lock()
		a.peers = append(a.peers, Peer{Addr: "0", NodeID: a.id})
		a.mu.Unlock()
		if err := a.Refresh(); err == nil || !strings.Contains(err.Error(), "itself") {
			t.Errorf("a node that is its own peer: %v", err)
		}
	})
}

// Those who listen hear of each session's begin and end, in order.
func TestOnPeer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newNet(t, 2, [2]int{0, 1})
		heard := make(chan string, 100)
		w.nodes[0].OnPeer(func(node string, up bool) {
			if up {
				heard <- "up"
			} else {
				heard <- "down"
			}
		})
		w.start(t)
		pass(3 * time.Second)
		w.open(0, 1)[0].Close()
		pass(3 * time.Second)
		var got []string
		for len(heard) > 0 {
			got = append(got, <-heard)
		}
		if strings.Join(got, " ") != "up down up" {
			t.Errorf("%v", got)
		}
	})
}

func TestConfigMustBeComplete(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty config is accepted")
	}
}
