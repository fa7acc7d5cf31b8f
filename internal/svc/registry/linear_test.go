// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/registry"
)

// request is a call on the descriptor node/x: a commit that replaces what from wrote
// (0: nothing is there) by to, or a look (to is 0).
type request struct{ from, to int }

// outcome is what the caller saw.
type outcome struct {
	unknown   bool // nothing: the power went
	committed bool
	value     int // of a look
}

// model is one register with compare-and-set. A call without an answer was done, or
// was not.
var model = porcupine.NondeterministicModel{
	Init: func() []any { return []any{0} },
	Step: func(state, in, out any) []any {
		s, r, o := state.(int), in.(request), out.(outcome)
		switch {
		case r.to == 0 && (o.unknown || o.value == s):
			return []any{s}
		case r.to == 0:
			return nil
		case o.unknown && s == r.from:
			return []any{s, r.to}
		case o.unknown:
			return []any{s}
		case o.committed && s == r.from:
			return []any{r.to}
		case !o.committed && s != r.from:
			return []any{s}
		}
		return nil
	},
	Equal: func(a, b any) bool { return a.(int) == b.(int) },
	DescribeOperation: func(in, out any) string {
		return fmt.Sprintf("%+v -> %+v", in, out)
	},
}

// history is what clients of a registry saw whose machine loses power now and then.
type history struct {
	t     *testing.T
	w     *world
	base  *disk.FS
	start time.Time

	gate  sync.RWMutex // held to write down an answer; a crash holds it alone
	epoch int          // guarded by gate

	mu    sync.Mutex
	ops   []porcupine.Operation
	known map[int]string // address of what a value wrote
	next  int            // value
	until int            // length of ops at which reached is closed
	// reached says that enough was done for the power to go.
	reached chan struct{}
}

func (h *history) clock() int64 { return time.Since(h.start).Nanoseconds() }

// do runs a call and writes down what came of it; where the power went before, that
// is nothing.
func (h *history) do(client int, r request, f func(s *Service) (outcome, error)) {
	h.gate.RLock()
	epoch, s := h.epoch, h.w.s
	h.gate.RUnlock()
	called := h.clock()
	out, err := f(s)
	h.gate.RLock()
	defer h.gate.RUnlock()
	if err != nil || epoch != h.epoch {
		out = outcome{unknown: true}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: r, Call: called, Output: out, Return: h.clock()}); len(h.ops) == h.until {
		close(h.reached)
	}
}

func valued(v int) *registry.Descriptor {
	d := node("x")
	d.Labels = map[string]string{"value": strconv.Itoa(v)}
	return d
}

// look reads the register, and returns what it saw.
func (h *history) look(client int) (seen int) {
	h.do(client, request{}, func(s *Service) (outcome, error) {
		var d Descriptor
		r, err := callOn(s, "registry.descriptor", map[string]string{"kind": "node", "name": "x"}, nil)
		if macronode.KindOf(err) == macronode.NotFound {
			return outcome{}, nil
		}
		if err == nil {
			err = json.Unmarshal(r.Body, &d)
		}
		if err != nil {
			return outcome{}, err
		}
		seen, err = strconv.Atoi(d.Descriptor.Labels["value"])
		return outcome{value: seen}, err
	})
	return seen
}

// commit replaces the value from.
func (h *history) commit(client, from int) {
	h.mu.Lock()
	h.next++
	to := h.next
	d := valued(to)
	a, err := d.Addr()
	h.known[to] = a.String()
	prev := h.known[from]
	h.mu.Unlock()
	if err != nil {
		h.t.Error(err)
		return
	}
	p := h.w.proposal(registry.Change{Op: registry.OpPut, Descriptor: d, Prev: prev})
	text, err := p.Encode()
	if err != nil {
		h.t.Error(err)
		return
	}
	sigs, params := h.w.sign(p, registry.Approve, "b", "c"), map[string]string{"id": h.w.id(p).String()}
	h.do(client, request{from, to}, func(s *Service) (outcome, error) {
		_, err := callOn(s, "registry.propose", nil, text)
		if err == nil {
			_, err = callOn(s, "registry.approve", params, Signatures{Signatures: sigs})
		}
		switch macronode.KindOf(err) {
		case macronode.NumKinds:
			return outcome{committed: true}, nil
		case macronode.Conflict:
			return outcome{}, nil
		}
		return outcome{}, err
	})
}

// crash loses power and starts anew on what is left.
func (h *history) crash(seed uint64) {
	h.gate.Lock()
	defer h.gate.Unlock()
	image := h.base.Crash(int(seed%5)*25, seed) //nolint:gosec // small
	old := h.w.kv
	h.t.Cleanup(func() { _ = old.Close() })
	h.base = image
	h.open()
	h.w.start()
	h.epoch++
}

func (h *history) open() {
	kv, err := pebblekv.Open(pebblekv.Config{FS: h.base, Dir: "meta", BallastBytes: -1})
	if err != nil {
		h.t.Fatal(err)
	}
	h.w.kv = kv
}

// TestLinearizable: commits of several clients, with losses of power in between, are
// those of one register with compare-and-set. Every start replays the whole chain.
func TestLinearizable(t *testing.T) {
	rounds := uint64(4)
	if n, err := strconv.ParseUint(os.Getenv("MACRONODE_CRASH_SEEDS"), 10, 32); err == nil {
		rounds = n
	}
	committed := 0
	for seed := range rounds {
		committed += linear(t, seed)
	}
	if committed < 4*int(rounds) { //nolint:gosec // small
		t.Errorf("%d commits in %d rounds: nothing was tried", committed, rounds)
	}
}

func linear(t *testing.T, seed uint64) (committed int) {
	h := &history{t: t, base: disk.Crashable(), start: time.Now(), known: map[int]string{}}
	h.w = newWorldOn(t, func(w *world) { h.w = w; h.open() })
	for round := range uint64(3) {
		ctx, cancel := context.WithCancel(t.Context())
		h.mu.Lock()
		h.until, h.reached = len(h.ops)+6+rand.New(rand.NewPCG(seed, 99+round)).IntN(20), make(chan struct{})
		h.mu.Unlock()
		var clients sync.WaitGroup
		for c := range 3 {
			rng := rand.New(rand.NewPCG(seed, round*16+uint64(c))) //nolint:gosec // small
			clients.Go(func() {
				for range 6 {
					if ctx.Err() != nil {
						return
					}
					seen := h.look(c)
					if rng.IntN(5) == 0 {
						seen = rng.IntN(seen + 1) // what is, most likely, there no more
					}
					h.commit(c, seen)
				}
			})
		}
		<-h.reached
		h.crash(seed*7 + round)
		clients.Wait()
		cancel()
		h.look(3)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.clock()
	for i := range h.ops {
		o := h.ops[i].Output.(outcome)
		if o.unknown {
			h.ops[i].Return = end // it may be done at any time since
		}
		if o.committed {
			committed++
		}
	}
	if r := porcupine.CheckOperationsTimeout(model.ToModel(), h.ops, 20*time.Second); r != porcupine.Ok {
		for _, o := range h.ops {
			t.Logf("%d %s [%d, %d]", o.ClientId, model.DescribeOperation(o.Input, o.Output), o.Call, o.Return)
		}
		t.Fatalf("seed %d: %d operations are %v", seed, len(h.ops), r)
	}
	return committed
}

// TestModel: the model refuses what must not be.
func TestModel(t *testing.T) {
	op := func(c int, r request, o outcome, call, ret int64) porcupine.Operation {
		return porcupine.Operation{ClientId: c, Input: r, Output: o, Call: call, Return: ret}
	}
	for name, ops := range map[string][]porcupine.Operation{
		"two replaced the same":     {op(0, request{0, 1}, outcome{committed: true}, 0, 1), op(1, request{0, 2}, outcome{committed: true}, 2, 3)},
		"a commit was lost":         {op(0, request{0, 1}, outcome{committed: true}, 0, 1), op(1, request{}, outcome{value: 0}, 2, 3)},
		"a refusal without a cause": {op(0, request{0, 1}, outcome{}, 0, 1)},
		"it came from nowhere":      {op(0, request{}, outcome{value: 3}, 0, 1)},
	} {
		if porcupine.CheckOperations(model.ToModel(), ops) {
			t.Errorf("%s, and the model takes it", name)
		}
	}
}
