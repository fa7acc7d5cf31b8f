// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// callNames are the calls of a disk, for reading.
var callNames = map[errorfs.OpKind]string{
	errorfs.OpCreate: "create", errorfs.OpLink: "link", errorfs.OpOpen: "open", errorfs.OpOpenDir: "open dir", errorfs.OpRemove: "remove",
	errorfs.OpRename: "rename", errorfs.OpReuseForWrite: "reuse", errorfs.OpMkdirAll: "mkdir", errorfs.OpList: "list", errorfs.OpStat: "stat",
	errorfs.OpFileRead: "read", errorfs.OpFileReadAt: "read at", errorfs.OpFileWrite: "write", errorfs.OpFileWriteAt: "write at",
	errorfs.OpFileSync: "sync", errorfs.OpFileSyncData: "sync data", errorfs.OpFileSyncTo: "sync to", errorfs.OpFilePreallocate: "preallocate",
	errorfs.OpFileClose: "close", errorfs.OpFileStat: "stat file", errorfs.OpGetDiskUsage: "disk usage",
}

// fault fails calls of the disk from a certain one on. The log calls it from its own
// goroutines too.
type fault struct {
	mu    sync.Mutex
	calls int64
	at    int64 // number of the first call that fails; 0 none
	n     int64 // how many fail
	err   error
	hit   map[string]int
}

// arm counts calls from here on: from the at-th on n of them fail; at 0: none.
func (f *fault) arm(at, n int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.at, f.n, f.err = 0, at, n, err
}

// seen is how many calls there were since.
func (f *fault) seen() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fault) inject(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.at == 0 || f.calls < f.at || f.calls >= f.at+f.n {
		return nil
	}
	if f.err == syscall.ENOSPC && op.Kind.ReadOrWrite() == errorfs.OpIsRead {
		return nil // reading needs no space
	}
	if f.calls == f.at {
		f.hit[callNames[op.Kind]]++
	}
	return f.err
}

// fate is what is known of a message.
type fate struct {
	sent, maybe bool // answered; asked and not answered
	acked       bool
	maybeAcked  bool
	until       time.Duration // a lease that its holder knows of
	receipt     string
}

// player plays calls at random, and knows what it was told.
type player struct {
	*world
	rng   *rand.Rand
	fates map[int]*fate
	next  int
	fault *fault
}

func (p *player) payload(value int) []byte {
	size := 10
	if value%7 == 0 {
		size = 60_000
	}
	return append([]byte(strconv.Itoa(value)+" "), bytes.Repeat([]byte{byte(value)}, size)...)
}

func valueOf(t testing.TB, payload []byte) int {
	t.Helper()
	head, _, _ := bytes.Cut(payload, []byte(" "))
	value, err := strconv.Atoi(string(head))
	if err != nil {
		t.Fatal("a payload that nobody sent")
	}
	return value
}

func (p *player) message(value int) Message {
	return Message{Payload: p.payload(value), IdemKey: "k" + strconv.Itoa(value)}
}

func (p *player) sendSome() error {
	var batch []Message
	first := p.next + 1
	for range 1 + p.rng.IntN(5) {
		p.next++
		p.fates[p.next] = &fate{maybe: true}
		batch = append(batch, p.message(p.next))
	}
	sent, err := p.Send(context.Background(), orders, batch)
	if err != nil {
		return err
	}
	for i, s := range sent {
		if s.Err == nil {
			p.fates[first+i].sent = true
		} else if err == nil {
			err = s.Err
		}
		p.fates[first+i].maybe = false
	}
	return err
}

func (p *player) receiveSome() error {
	got, err := p.Receive(context.Background(), orders, Want{Max: 1 + p.rng.IntN(8)})
	for _, d := range got {
		value := valueOf(p, d.Payload)
		f := p.fates[value]
		switch {
		case f == nil || !f.sent && !f.maybe && !f.acked:
			p.Fatalf("message %d was delivered and its send refused", value)
		case f.acked:
			p.Fatalf("message %d was delivered after its ack was acknowledged", value)
		case f.until > p.hands.SinceBoot():
			p.Fatalf("message %d was delivered while it was leased", value)
		}
		f.sent, f.receipt, f.until = true, d.Receipt, p.hands.SinceBoot()+30*time.Second
	}
	return err
}

// settleSome acks or nacks some of what is held.
func (p *player) settleSome(ack bool) error {
	var values []int
	var list []string
	for value := p.next; value > 0 && len(list) < 1+p.rng.IntN(6); value-- {
		if f := p.fates[value]; f.receipt != "" && p.rng.IntN(2) == 0 {
			values, list = append(values, value), append(list, f.receipt)
		}
	}
	if len(list) == 0 {
		return nil
	}
	for _, value := range values {
		f := p.fates[value]
		f.receipt, f.until = "", 0
		f.maybeAcked = f.maybeAcked || ack
	}
	var out []Outcome
	var err error
	if zero := time.Duration(0); ack {
		out, err = p.Ack(context.Background(), orders, list)
	} else {
		out, err = p.Nack(context.Background(), orders, list, &zero, "again")
	}
	for i := range out {
		if ack {
			p.fates[values[i]].acked = out[i].Err == nil
			p.fates[values[i]].maybeAcked = false
		}
	}
	return err
}

func (p *player) play(calls int) error {
	for range calls {
		var err error
		switch n := p.rng.IntN(100); {
		case n < 30:
			err = p.sendSome()
		case n < 60:
			err = p.receiveSome()
		case n < 80:
			err = p.settleSome(true)
		case n < 86:
			err = p.settleSome(false)
		case n < 92:
			p.hands.pass(time.Duration(p.rng.IntN(40)) * time.Second)
			_, err = p.core.CatchUp()
		default:
			err = p.tidy.Tidy(context.Background(), n%2 == 0)
		}
		if p.core.Failure() != nil {
			return err
		}
	}
	return nil
}

// again starts after a power cut, with the next fault armed; where that strikes the
// start, the power goes once more.
func (p *player) again() {
	p.Helper()
	for _, f := range p.fates { // who had a call under way knows of no lease
		if f.receipt == "" {
			f.until = 0
		}
	}
	for range 3 {
		old := p.log
		p.fs = p.fs.Crash(p.rng.IntN(101), p.rng.Uint64())
		at, n, fails := int64(0), int64(1), error(syscall.EIO)
		if p.rng.IntN(4) > 0 {
			if at = 1 + int64(p.rng.IntN(250)); p.rng.IntN(2) == 0 {
				n, fails = 1+int64(p.rng.IntN(20)), syscall.ENOSPC
			}
		}
		p.fault.arm(at, n, fails)
		err := p.start()
		_ = old.Close()
		if err == nil {
			return
		}
		if at == 0 {
			p.Fatalf("a start without a fault: %v", err)
		}
	}
	p.fault.arm(0, 0, nil)
	p.fs = p.fs.Crash(50, p.rng.Uint64())
	if err := p.start(); err != nil {
		p.Fatal(err)
	}
}

// drain receives all that is there, once, and compares it with what was told.
func (p *player) drain() {
	p.Helper()
	p.fault.arm(0, 0, nil)
	if p.log.Check(context.Background()) != nil { // the fault struck what the log does by itself after a start
		old := p.log
		p.fs = p.fs.Crash(50, p.rng.Uint64())
		if err := p.start(); err != nil {
			p.Fatal(err)
		}
		_ = old.Close()
	}
	for value := 1; value <= p.next; value++ {
		if f := p.fates[value]; f.maybe && !f.sent && !f.acked && !f.maybeAcked {
			// Whoever got no answer asks again, with the same key: once is enough.
			sent, err := p.Send(context.Background(), orders, []Message{p.message(value)})
			// What found the disk full a moment ago tries it again by and by.
			for end := time.Now().Add(10 * time.Second); err == nil && errors.Is(sent[0].Err, store.ErrFull) && time.Now().Before(end); runtime.Gosched() {
				sent, err = p.Send(context.Background(), orders, []Message{p.message(value)})
			}
			if err != nil || sent[0].Err != nil {
				p.Fatalf("a second send of %d: %v %v", value, err, sent)
			}
			f.sent = true
		}
	}
	p.hands.pass(time.Hour)
	p.catchUp()
	p.counts()
	seen := make(map[int]int)
	for {
		got := p.receive(100)
		if len(got) == 0 {
			break
		}
		for _, d := range got {
			seen[valueOf(p, d.Payload)]++
		}
	}
	for value := 1; value <= p.next; value++ {
		f, n := p.fates[value], seen[value]
		switch {
		case n > 1:
			p.Fatalf("message %d is there %d times", value, n)
		case n == 1 && f.acked:
			p.Fatalf("message %d was delivered after its ack was acknowledged", value)
		case n == 1 && !f.sent:
			p.Fatalf("message %d was delivered and its send refused", value)
		case n == 0 && f.sent && !f.acked && !f.maybeAcked:
			p.Fatalf("message %d was acknowledged and is lost", value)
		}
	}
}

// TestCrashes: power cuts with torn writes, and errors at any call of the disk, while
// a mailbox is sent to, received from, snapshotted and compacted. Nothing that was
// acknowledged is lost, nothing comes back after its ack was acknowledged, nothing
// is there twice, and the counts add up.
func TestCrashes(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 10
	}
	hit := make(map[string]int)
	for seed := range seeds {
		f := &fault{hit: hit}
		p := &player{rng: rand.New(rand.NewPCG(seed, 9)), fates: make(map[int]*fate), fault: f}
		p.world = newWorld(t, func(w *world) { w.inject = f.inject })
		p.put(func(c *queue.Config) { c.MaxAttempts, c.ReplayWindow = 1_000_000, 240*time.Hour })
		for range 4 {
			_ = p.play(60) // what failed is what is looked at
			p.again()
			p.counts()
		}
		p.drain()
		_ = p.log.Close()
	}
	t.Logf("%d seeds of 240 calls; faults by call: %v", seeds, hit)
	if len(hit) < 3 {
		t.Errorf("faults struck %d kinds of calls", len(hit))
	}
}

// TestEveryCallFails walks one script with a fault at each of its calls in turn.
func TestEveryCallFails(t *testing.T) {
	hit := make(map[string]int)
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	for at := int64(1); ; at += step {
		f := &fault{hit: hit}
		p := &player{rng: rand.New(rand.NewPCG(5, 9)), fates: make(map[int]*fate), fault: f}
		p.world = newWorld(t, func(w *world) { w.inject = f.inject })
		p.put(func(c *queue.Config) { c.MaxAttempts, c.ReplayWindow = 1_000_000, 240*time.Hour })
		f.arm(at, 1, syscall.EIO)
		if at%2 == 0 {
			f.arm(at, 3, syscall.ENOSPC)
		}
		_ = p.play(40)
		over := f.seen() < at
		p.rng = rand.New(rand.NewPCG(uint64(at), 1))
		p.again()
		p.drain()
		_ = p.log.Close()
		if over || at > 400 {
			t.Logf("%d calls; faults by call: %v", at, hit)
			return
		}
	}
}
