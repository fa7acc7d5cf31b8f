// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// act is one thing that happens to a node.
type act struct {
	what   string
	n      int // how many calls, or how much
	tenant int
	class  int
	wait   time.Duration // afterwards
}

var acts = rapid.Custom(func(t *rapid.T) act {
	return act{
		what:   rapid.SampledFrom([]string{"calls", "calls", "calls", "slow clients", "end", "cores", "limit", "disk", "forget"}).Draw(t, "what"),
		n:      rapid.IntRange(0, 80).Draw(t, "n"),
		tenant: rapid.IntRange(0, 2).Draw(t, "tenant"),
		class:  rapid.IntRange(0, 2).Draw(t, "class"),
		wait:   rapid.SampledFrom([]time.Duration{0, 0, time.Millisecond, 30 * time.Millisecond, time.Second, 4 * time.Second}).Draw(t, "wait"),
	}
})

// world is a node to which acts happen.
type world struct {
	c     *Controller
	mu    sync.Mutex
	cores time.Duration
	disk  time.Duration
	held  []wall.Place // of slow clients
	wg    sync.WaitGroup
}

func (w *world) do(a act) {
	b := []*macronode.Binding{get, put, feed}[a.class]
	tn := named(string(rune('a'+a.tenant)), int64(a.tenant)*3+1)
	switch a.what {
	case "calls", "slow clients":
		for range a.n {
			w.wg.Go(func() { w.call(tn, b, a.what == "slow clients") })
		}
	case "end":
		w.end()
	case "cores":
		w.mu.Lock()
		w.cores = time.Duration(a.n/20) * 5 * time.Millisecond
		w.mu.Unlock()
	case "disk":
		w.mu.Lock()
		w.disk = time.Duration(a.n*a.n) * 100 * time.Microsecond
		w.mu.Unlock()
	case "limit":
		w.c.SetLimit(int64(a.n) + 1)
	case "forget":
		_ = w.c.Purge(context.Background(), tn.ID)
	}
	pass(a.wait)
}

func (w *world) call(tn *macronode.Tenant, b *macronode.Binding, slow bool) {
	p, err := w.c.Admit(context.Background(), tn, b, 1000)
	if err != nil {
		return
	}
	w.mu.Lock()
	disk := w.disk
	if slow {
		p.Await()
		w.held = append(w.held, p)
	}
	w.mu.Unlock()
	if !slow {
		pass(time.Millisecond + disk)
		p.Release(100_000, true)
	}
}

func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.held {
		p.Resume()
		p.Release(mib, true)
	}
	w.held = nil
}

// endsWithin is how long after its last cause shedding lasts at most, and how
// long the limit takes to come back.
const endsWithin = shedHold + recoverHold + 20*time.Second

// TestNeverStuck: whatever happened to a node, once the causes are gone it admits
// every call at once, is in the open state for every class and has its places
// back, without anything being done about it.
func TestNeverStuck(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(acts, 1, 25).Draw(rt, "script")
		var wrong string
		synctest.Test(t, func(t *testing.T) { wrong = afterwards(t, script) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// afterwards plays the script, takes the causes away, and says what is wrong then.
func afterwards(t *testing.T, script []act) string {
	w := &world{}
	w.c = New(Config{MaxInflight: 64, Cores: 1, ProcessorWait: func() time.Duration {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.cores
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() { w.c.Run(ctx) })
	defer runs.Wait()
	defer cancel()
	for _, a := range script {
		w.do(a)
	}
	w.mu.Lock()
	w.cores, w.disk = 0, 0
	w.mu.Unlock()
	w.c.SetLimit(64)
	pass(2 * QueueDeadline) // nobody waits any more
	w.end()
	w.wg.Wait()
	pass(endsWithin)
	s := w.c.Status()
	for _, k := range s.Classes {
		if k.State != Open {
			return fmt.Sprintf("%s is %s, because of %s", k.Class, k.State, k.Cause)
		}
	}
	if s.Running != 0 || s.Working != 0 || s.Waiting != 0 || s.Limit != startPerCore {
		return fmt.Sprintf("%+v", s)
	}
	var held []wall.Place
	for i := range startPerCore {
		begun := time.Now()
		p, err := w.c.Admit(t.Context(), named(string(rune('a'+i%3)), 1), []*macronode.Binding{get, put, feed}[i%3], 0)
		if err != nil || time.Since(begun) > 0 {
			return fmt.Sprintf("call %d of %d waited %v: %v", i, startPerCore, time.Since(begun), err)
		}
		held = append(held, p)
	}
	for _, p := range held {
		p.Release(0, true)
	}
	pass(time.Minute)
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.c.awake {
		return "Run never sleeps"
	}
	return ""
}
