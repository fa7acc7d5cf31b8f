// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ledger is what a mailbox has promised.
type ledger struct {
	mu       sync.Mutex
	messages map[uint64]*promise
	tick     uint64 // counts up with every answer
	problems []string
}

// promise is one message. A message is its number: key and payload follow from it.
type promise struct {
	query   url.Values
	id      string // once acknowledged
	acked   uint64 // tick of the answer to an ack
	maybe   bool   // an ack was sent, and the answer is not known
	drained bool   // came when everything was taken out
}

func newLedger() *ledger { return &ledger{messages: make(map[uint64]*promise)} }

func (l *ledger) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

// payload is a message's.
func payload(n uint64) []byte {
	b := content(n, 16+int(n*7919%5000))
	copy(b, fmt.Sprintf("%016x", n))
	return b
}

// number is the one that a payload begins with.
func number(p []byte) uint64 {
	n, err := strconv.ParseUint(string(p[:min(16, len(p))]), 16, 64)
	if err != nil {
		return 1<<64 - 1 // nobody sent it
	}
	return n
}

// send sends a message, anew or again: with its own idempotency key either way.
func (l *ledger) send(ctx context.Context, b *box, n uint64, query url.Values) error {
	l.mu.Lock()
	if l.messages[n] == nil {
		l.messages[n] = &promise{query: query}
	}
	query = l.messages[n].query
	l.mu.Unlock()
	s, err := b.send(ctx, payload(n), "k"+strconv.FormatUint(n, 10), query)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.messages[n]
	if e.id != "" && (e.id != s.ID || !s.Duplicate) {
		l.problem("message %d was %s and is %s, duplicate %v", n, e.id, s.ID, s.Duplicate)
	}
	e.id = s.ID
	l.tick++
	return nil
}

// receive takes messages and holds them to what is known.
func (l *ledger) receive(ctx context.Context, b *box, a pull) ([]got, error) {
	l.mu.Lock()
	began := l.tick
	l.mu.Unlock()
	list, err := b.receive(ctx, a)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		g := &list[i]
		n := number(g.Payload)
		e := l.messages[n]
		switch {
		case e == nil || !bytes.Equal(g.Payload, payload(n)):
			l.problem("%s has a payload that nobody sent", g.ID)
		case e.id != "" && e.id != g.ID:
			l.problem("message %d is %s and came as %s", n, e.id, g.ID)
		case e.acked != 0 && e.acked <= began:
			l.problem("message %d came again after its ack", n)
		}
	}
	return list, nil
}

// settle acknowledges what came.
func (l *ledger) settle(ctx context.Context, b *box, list []got) error {
	of := func(g got) *promise { return l.messages[number(g.Payload)] }
	before := make([]bool, len(list))
	l.mu.Lock()
	for i, g := range list {
		if e := of(g); e != nil {
			before[i], e.maybe = e.maybe, true
		}
	}
	l.mu.Unlock()
	results, err := b.settle(ctx, "ack", list, nil)
	if err != nil && !refusedAs(err, 409, "lease_lost") {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick++
	for i := range list {
		e := of(list[i])
		switch {
		case e == nil:
		case err == nil && results[i].OK:
			e.acked = l.tick
		default: // it is not ours: this ack changed nothing
			e.maybe = before[i]
		}
	}
	return nil
}

// unsure are the messages whose send was not answered.
func (l *ledger) unsure() (list []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, e := range l.messages {
		if e.id == "" {
			list = append(list, n)
		}
	}
	return list
}

// report fails the test for every promise that was broken.
func (l *ledger) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.problems[:min(len(l.problems), 10)] {
		t.Error(p)
	}
}

// TestKillMailbox kills the node with -9 under eight clients that send, receive,
// acknowledge, give back and extend over both wires, again and again. What was
// acknowledged as sent comes; what was acknowledged as done with never comes again;
// a send that is repeated after a lost answer is the same message; the counts add up.
// MACRONODE_MAILBOX_ROUNDS sets the number of rounds.
func TestKillMailbox(t *testing.T) {
	rounds := envInt(t, "MACRONODE_MAILBOX_ROUNDS", 6)
	n := startDev(t, t.TempDir())
	n.box("http", "torn").configure(map[string]any{"max_attempts": 1000})
	l := newLedger()
	var total int
	for round := range rounds {
		l.load(t, n, uint64(round))
		n.start()
		b := n.box(wiresOf[round%2], "torn")
		for _, m := range l.unsure() {
			if err := l.send(t.Context(), b, m, nil); err != nil {
				t.Fatalf("round %d, a send again: %v\n%s", round, err, n.log)
			}
		}
		b.stand()
		if round%10 == 9 || round == rounds-1 {
			total += l.drain(t, b)
		}
		if l.report(t); t.Failed() {
			t.Fatalf("round %d\n%s", round, n.log)
		}
	}
	t.Logf("%d rounds, %d messages, %d of them left for the last consumer", rounds, len(l.messages), total)
	if len(l.messages) < rounds*20 {
		t.Error("the load was none")
	}
}

// load works with eight clients until the node was killed under them.
func (l *ledger) load(t *testing.T, n *node, round uint64) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var done atomic.Int64
	rnd := rand.New(rand.NewPCG(round, 17))
	kill := 50 + rnd.Int64N(500)
	var once sync.Once
	for worker := range uint64(8) {
		b := n.box(wiresOf[worker%2], "torn")
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(round, worker+900))
			for i := uint64(0); ctx.Err() == nil; i++ {
				m := round<<32 | worker<<24 | i
				if err := patiently(ctx, func() error { return l.step(ctx, b, rnd, m) }); err != nil {
					return // the node is gone
				}
				if done.Add(1) >= kill {
					once.Do(n.kill)
				}
			}
		})
	}
	wg.Wait()
}

// step is one thing that a client does.
func (l *ledger) step(ctx context.Context, b *box, rnd *rand.Rand, m uint64) error {
	switch rnd.IntN(10) {
	case 0:
		return l.send(ctx, b, m, url.Values{"delay_ms": {strconv.Itoa(rnd.IntN(500))}})
	case 1:
		return l.send(ctx, b, m, url.Values{"key": {strconv.Itoa(rnd.IntN(5))}})
	case 2, 3, 4, 5:
		return l.send(ctx, b, m, nil)
	}
	list, err := l.receive(ctx, b, pull{Max: 1 + rnd.IntN(10), Visibility: 200 + rnd.Int64N(1500)})
	if err != nil || len(list) == 0 {
		return err
	}
	cut := rnd.IntN(len(list) + 1)
	if cut < len(list) {
		switch more := map[string]any{"delay_ms": rnd.IntN(300), "reason": "no"}; rnd.IntN(3) {
		case 0:
			_, err = b.settle(ctx, "nack", list[cut:], more)
		case 1:
			_, err = b.settle(ctx, "extend", list[cut:], map[string]any{"visibility_ms": 300})
		}
		if err != nil && !refusedAs(err, 409, "lease_lost") {
			return err
		}
	}
	if cut == 0 {
		return nil
	}
	return l.settle(ctx, b, list[:cut])
}

// drain takes everything out and returns how much that was.
func (l *ledger) drain(t *testing.T, b *box) (came int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		list, err := l.receive(t.Context(), b, pull{Max: 100, Visibility: 60_000, Wait: 300})
		if err == nil && len(list) > 0 {
			err = l.settle(t.Context(), b, list)
		}
		if err != nil {
			t.Fatalf("the last consumer: %v", err)
		}
		came += len(list)
		l.mu.Lock()
		for _, g := range list {
			if e := l.messages[number(g.Payload)]; e != nil {
				e.drained = true
			}
		}
		l.mu.Unlock()
		if len(list) > 0 {
			continue
		}
		if d := b.stand().Depth; d.Ready+d.Delayed+d.InFlight+d.Dead == 0 {
			break
		}
	}
	if d := b.stand().Depth; d.Ready+d.Delayed+d.InFlight+d.Dead != 0 {
		t.Errorf("after everything was taken out: %+v", d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, e := range l.messages {
		if e.id != "" && e.acked == 0 && !e.maybe && !e.drained {
			l.problem("message %d (%s) was acknowledged and is lost", n, e.id)
		}
	}
	return came
}

// TestKillMailboxOrder: messages of one key come one after the other, in order, and
// each only once the one before it was acknowledged, whatever is killed meanwhile.
func TestKillMailboxOrder(t *testing.T) {
	const keys, each = 4, 60
	n := startDev(t, t.TempDir())
	n.box("http", "ordered").configure(map[string]any{"max_attempts": 1000})
	var sent, done [keys]int // next to be sent, next to be acknowledged
	rnd := rand.New(rand.NewPCG(5, 5))
	kills := 0
	for finished := false; !finished; {
		b := n.box(wiresOf[kills%2], "ordered")
		for steps := 60 + rnd.IntN(60); steps > 0 && !finished; steps-- {
			if k := rnd.IntN(keys); sent[k] < each && rnd.IntN(2) == 0 {
				body := fmt.Appendf(nil, "%d %d", k, sent[k])
				b.must(b.send(t.Context(), body, fmt.Sprintf("o-%d-%d", k, sent[k]), url.Values{"key": {strconv.Itoa(k)}}))
				sent[k]++
				continue
			}
			for _, g := range b.take(pull{Max: 10, Visibility: 300}) {
				var k, i int
				if _, err := fmt.Sscanf(string(g.Payload), "%d %d", &k, &i); err != nil || g.Key != strconv.Itoa(k) {
					t.Fatalf("%q with key %q: %v", g.Payload, g.Key, err)
				}
				if i != done[k] {
					t.Fatalf("key %d: message %d came, %d are acknowledged\n%s", k, i, done[k], n.log)
				}
				if rnd.IntN(3) == 0 {
					continue // its lease lapses; what is behind it waits
				}
				if _, err := b.settle(t.Context(), "ack", []got{g}, nil); err == nil {
					done[k]++
				} else if !refusedAs(err, 409, "lease_lost") {
					t.Fatal(err)
				}
			}
			finished = done == [keys]int{each, each, each, each}
		}
		if !finished {
			n.kill()
			n.start()
			kills++
		}
		if kills > 200 {
			t.Fatalf("it does not come to an end: %v sent, %v acknowledged", sent, done)
		}
	}
	t.Logf("%d messages of %d keys, %d kills", keys*each, keys, kills)
}
