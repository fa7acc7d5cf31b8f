// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// witness runs clients against a broker that crashes, and writes down what they saw.
type witness struct {
	t     *testing.T
	w     *world
	seed  uint64
	start time.Time
	next  atomic.Int64 // values and leases

	gate  sync.RWMutex // held to write down an answer; a crash holds it alone
	epoch int          // guarded by gate

	mu      sync.Mutex
	history []porcupine.Operation
	held    []holder // what was delivered and not settled yet
	ids     map[queue.ID]int
}

type holder struct {
	receipt      string
	value, lease int
}

func (v *witness) clock() int64 { return time.Since(v.start).Nanoseconds() }

// do runs a call and writes it down. Where the power went before its answer was
// written down, nobody was answered. f returns the answer, and what to note with it.
func (v *witness) do(client int, in input, f func(b *Broker) (output, func(), error)) {
	v.gate.RLock()
	epoch, b := v.epoch, v.w.Broker
	v.gate.RUnlock()
	called := v.clock()
	out, note, err := f(b)
	v.gate.RLock()
	defer v.gate.RUnlock()
	if err != nil || v.epoch != epoch {
		out = output{unknown: true}
	} else if note != nil {
		note()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.history = append(v.history, porcupine.Operation{ClientId: client, Input: in, Call: called, Output: out, Return: v.clock()})
}

func (v *witness) send(client int, rng *rand.Rand) {
	in := input{op: opSend, value: int(v.next.Add(1))}
	m := Message{Payload: []byte(strconv.Itoa(in.value))}
	if rng.IntN(2) == 0 {
		in.key = 1 + rng.IntN(4)
		m.IdemKey = "key " + strconv.Itoa(in.key)
	}
	v.do(client, in, func(b *Broker) (output, func(), error) {
		sent, err := b.Send(context.Background(), orders, []Message{m})
		if err == nil {
			err = sent[0].Err
		}
		if err != nil {
			return output{}, nil, err
		}
		o := output{duplicate: sent[0].Duplicate}
		v.mu.Lock()
		defer v.mu.Unlock()
		if !o.duplicate {
			v.ids[sent[0].ID] = in.value
		}
		o.value = v.ids[sent[0].ID] // 0 where the first send has not been answered, and may never be
		return o, nil, nil
	})
}

func (v *witness) receive(client int) {
	in := input{op: opReceive, lease: int(v.next.Add(1))}
	v.do(client, in, func(b *Broker) (output, func(), error) {
		got, err := b.Receive(context.Background(), orders, Want{})
		if err != nil || len(got) == 0 {
			return output{}, nil, err
		}
		value, err := strconv.Atoi(string(got[0].Payload))
		return output{value: value, attempt: got[0].Attempt}, func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.held = append(v.held, holder{got[0].Receipt, value, in.lease})
		}, err
	})
}

func (v *witness) settle(client, op int, rng *rand.Rand) {
	v.mu.Lock()
	if len(v.held) == 0 {
		v.mu.Unlock()
		return
	}
	i := rng.IntN(len(v.held))
	h := v.held[i]
	if op != opExtend && rng.IntN(4) > 0 { // sometimes a receipt is used again
		v.held = append(v.held[:i:i], v.held[i+1:]...)
	}
	v.mu.Unlock()
	zero := time.Duration(0)
	v.do(client, input{op: op, value: h.value, lease: h.lease}, func(b *Broker) (output, func(), error) {
		var out []Outcome
		var err error
		switch op {
		case opAck:
			out, err = b.Ack(context.Background(), orders, []string{h.receipt})
		case opNack:
			out, err = b.Nack(context.Background(), orders, []string{h.receipt}, &zero, "")
		default:
			out, err = b.Extend(context.Background(), orders, []string{h.receipt}, modelExtension*time.Second)
		}
		if err != nil {
			return output{}, nil, err
		}
		if out[0].Err != nil && !errors.Is(out[0].Err, ErrLeaseLost) {
			return output{}, nil, out[0].Err
		}
		return output{lost: out[0].Err != nil}, nil, nil
	})
}

func (v *witness) pass(client int) {
	v.do(client, input{op: opPass}, func(b *Broker) (output, func(), error) {
		v.w.hands.pass(modelPass * time.Second)
		return output{}, nil, nil
	})
}

func (v *witness) redrive(client int) {
	v.do(client, input{op: opRedrive}, func(b *Broker) (output, func(), error) {
		if _, err := b.core.CatchUp(); err != nil {
			return output{}, nil, err
		}
		j, err := b.Redrive(context.Background(), orders, RedriveSpec{})
		if err != nil {
			return output{}, nil, err
		}
		for _, job := range b.jobs.list() {
			if ulid.ULID(job.id).String() != j.ID {
				continue
			}
			for over := false; !over; {
				if over, err = b.step(context.Background(), job, redriveStep); err != nil {
					return output{}, nil, err
				}
			}
			b.jobs.remove(job.id)
		}
		return output{}, nil, nil
	})
}

// crash cuts the power between any two moments of the clients, and starts again.
func (v *witness) crash(rng *rand.Rand) {
	v.gate.Lock()
	v.epoch++
	old := v.w.log
	v.w.fs = v.w.fs.Crash(rng.IntN(101), rng.Uint64())
	if err := v.w.start(); err != nil {
		v.t.Errorf("seed %d: %v", v.seed, err)
	}
	v.gate.Unlock()
	_ = old.Close() // it writes on a disk that is gone
	// What a job that nobody was told of goes on with is an operation of its own.
	v.do(99, input{op: opRedrive}, func(b *Broker) (output, func(), error) {
		for _, job := range b.jobs.list() {
			for over := false; !over; {
				var err error
				if over, err = b.step(context.Background(), job, redriveStep); err != nil {
					return output{}, nil, err
				}
			}
			b.jobs.remove(job.id)
		}
		return output{}, nil, errResumed
	})
}

// errResumed: what was resumed may have been nothing, or any part.
var errResumed = errors.New("resumed")

func (v *witness) client(n, calls int) {
	rng := rand.New(rand.NewPCG(v.seed, uint64(n)))
	for range calls {
		switch p := rng.IntN(100); {
		case p < 30:
			v.send(n, rng)
		case p < 60:
			v.receive(n)
		case p < 74:
			v.settle(n, opAck, rng)
		case p < 86:
			v.settle(n, opNack, rng)
		case p < 90:
			v.settle(n, opExtend, rng)
		case p < 95:
			v.pass(n)
		default:
			v.redrive(n)
		}
	}
}

// TestLinearizable: random histories of clients at once, with power cuts and
// restarts in them, each as if the calls had come one after the other.
func TestLinearizable(t *testing.T) {
	histories := uint64(1000)
	if testing.Short() {
		histories = 100
	}
	var operations, unknown, delivered, lost, unsure int
	for seed := range histories {
		v := &witness{t: t, seed: seed, start: time.Now(), ids: make(map[queue.ID]int)}
		v.w = newWorld(t)
		v.w.put(func(c *queue.Config) { c.MaxAttempts, c.Visibility = modelAttempts, modelVisibility*time.Second })
		rng := rand.New(rand.NewPCG(seed, 77))
		for range 1 + rng.IntN(2) {
			var clients sync.WaitGroup
			for n := range 3 {
				clients.Go(func() { v.client(n, 5) })
			}
			if rng.IntN(3) == 0 {
				clients.Wait()
			}
			v.crash(rng)
			clients.Wait()
		}
		for range 2 { // whoever lost a lease shows it now
			v.pass(0)
			for range 6 {
				v.receive(0)
			}
		}
		for _, o := range v.history {
			out := o.Output.(output)
			operations++
			if out.unknown {
				unknown++
			}
			if out.value != 0 && o.Input.(input).op == opReceive {
				delivered++
			}
			if out.lost {
				lost++
			}
		}
		v.w.counts()
		_ = v.w.log.Close()
		switch verdict(v.history) {
		case porcupine.Illegal:
			t.Fatalf("seed %d: a history of %d calls that no order explains", seed, len(v.history))
		case porcupine.Unknown:
			unsure++
		}
	}
	t.Logf("%d histories, %d calls, %d unanswered, %d delivered, %d leases lost, %d undecided", histories, operations, unknown, delivered, lost, unsure)
	if unsure > int(histories/100) || unknown == 0 || delivered == 0 || lost == 0 {
		t.Error("the histories do not say enough")
	}
}

// TestModelBites: histories that must not be explained.
func TestModelBites(t *testing.T) {
	at := int64(0)
	call := func(in input, out output) porcupine.Operation {
		at += 2
		return porcupine.Operation{Input: in, Output: out, Call: at, Return: at + 1}
	}
	for name, h := range map[string][]porcupine.Operation{
		"lost":            {call(input{op: opSend, value: 1}, output{}), call(input{op: opReceive, lease: 5}, output{})},
		"out of nothing":  {call(input{op: opReceive, lease: 5}, output{value: 1, attempt: 1})},
		"twice":           {call(input{op: opSend, value: 1}, output{}), call(input{op: opReceive, lease: 5}, output{value: 1, attempt: 1}), call(input{op: opReceive, lease: 6}, output{value: 1, attempt: 2})},
		"after ack":       {call(input{op: opSend, value: 1}, output{}), call(input{op: opReceive, lease: 5}, output{value: 1, attempt: 1}), call(input{op: opAck, value: 1, lease: 5}, output{}), call(input{op: opPass}, output{}), call(input{op: opReceive, lease: 6}, output{value: 1, attempt: 2})},
		"stale ack":       {call(input{op: opSend, value: 1}, output{}), call(input{op: opReceive, lease: 5}, output{value: 1, attempt: 1}), call(input{op: opPass}, output{}), call(input{op: opAck, value: 1, lease: 5}, output{})},
		"second key":      {call(input{op: opSend, value: 1, key: 1}, output{}), call(input{op: opSend, value: 2, key: 1}, output{})},
		"wrong duplicate": {call(input{op: opSend, value: 1, key: 1}, output{}), call(input{op: opSend, value: 2, key: 1}, output{duplicate: true, value: 3})},
		"order":           {call(input{op: opSend, value: 1}, output{}), call(input{op: opSend, value: 2}, output{}), call(input{op: opReceive, lease: 5}, output{value: 2, attempt: 1})},
		"one too many": {call(input{op: opSend, value: 1}, output{}), call(input{op: opReceive, lease: 5}, output{value: 1, attempt: 1}), call(input{op: opPass}, output{}),
			call(input{op: opReceive, lease: 6}, output{value: 1, attempt: 2}), call(input{op: opPass}, output{}), call(input{op: opReceive, lease: 7}, output{value: 1, attempt: 3})},
	} {
		if verdict(h) != porcupine.Illegal {
			t.Errorf("%s is explained", name)
		}
	}
}
