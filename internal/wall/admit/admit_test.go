// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/wall"
)

func quietCores() time.Duration { return 0 }

// rig is a controller whose Run runs, in virtual time, and what it reported.
type rig struct {
	*Controller
	t       *testing.T
	reg     *metrics.Registry
	mu      sync.Mutex
	changes []Change
	cores   time.Duration // what work waits for a processor
}

func within(t *testing.T, limit int64, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, reg: metrics.New(false)}
		r.Controller = New(Config{MaxInflight: limit, Cores: 1, Metrics: r.reg, Changed: func(c Change) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changes = append(r.changes, c)
		}, ProcessorWait: func() time.Duration {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.cores
		}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		f(r)
		synctest.Wait()
		cancel()
		wg.Wait()
		if s := r.Status(); s.Running != 0 || s.Working != 0 || s.Waiting != 0 || r.holders.head != nil || r.strays.head != nil {
			t.Errorf("left over: %+v", s)
		}
		if stray, err := r.reg.Stray(); len(stray) > 0 || err != nil {
			t.Errorf("stray series %v %v", stray, err)
		}
	})
}

func (r *rig) setCores(d time.Duration) {
	r.mu.Lock()
	r.cores = d
	r.mu.Unlock()
}

// try admits or says why not.
func (r *rig) try(tn *macronode.Tenant, b *macronode.Binding) (wall.Place, error) {
	p, err := r.Admit(r.t.Context(), tn, b, 0)
	if e := macronode.AsError(err); e != nil && (e.Kind != macronode.Overload || e.RetryHint() < hintLeast || e.Detail == "") {
		r.t.Errorf("%v, hint %v", err, e.RetryHint())
	}
	return p, err
}

// must admits.
func (r *rig) must(tn *macronode.Tenant, b *macronode.Binding) wall.Place {
	r.t.Helper()
	p, err := r.try(tn, b)
	if err != nil {
		r.t.Fatalf("%s of %s: %v", b.Op, tn.Label, err)
	}
	return p
}

// states are what the class went through.
func (r *rig) states(class macronode.Class) (all []State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.changes {
		if c.Class == class {
			all = append(all, c.State)
		}
	}
	return all
}

// TestOrderOfShedding fills a node with calls that do not end: facets are refused
// first, then writes, then reads, and one tenant leaves the others something.
func TestOrderOfShedding(t *testing.T) {
	within(t, 160, func(r *rig) {
		a, b := named("a", 1), named("b", 1)
		var held []wall.Place
		fill := func(tn *macronode.Tenant, k *macronode.Binding) (n int) {
			for {
				p, err := r.try(tn, k)
				if err != nil {
					return n
				}
				p.Await() // a client that is slow holds no place but counts
				held = append(held, p)
				n++
			}
		}
		if n := fill(a, feed); n != 120 {
			t.Errorf("%d facets", n)
		}
		if n := fill(a, put); n != 20 {
			t.Errorf("%d more writes", n)
		}
		if n := fill(a, get); n != 10 {
			t.Errorf("%d more reads of the same tenant", n)
		}
		if n := fill(b, get); n != 10 {
			t.Errorf("%d reads of another", n)
		}
		s := r.Status()
		for _, c := range s.Classes {
			if c.State != Shedding || c.Cause != CauseMax || c.Why == "" || c.Ends == "" {
				t.Errorf("%+v", c)
			}
		}
		if s.Running != 160 || s.Working > 20 {
			t.Errorf("%+v", s)
		}
		for _, p := range held {
			p.Resume()
			p.Release(0, true)
		}
		for _, k := range []*macronode.Binding{feed, put, get} {
			if k == feed {
				continue // while core calls are shed
			}
			r.must(a, k).Release(0, true)
		}
		pass(shedHold + 2*tick)
		r.must(a, feed).Release(0, true)
		pass(recoverHold + 2*tick)
		for _, class := range queueOrder {
			if got := r.states(class); !slices.Equal(got, []State{Shedding, Recovering, Open}) {
				t.Errorf("%s went through %v", class, got)
			}
		}
	})
}

// TestFacetsFirst: while core calls are shed, facets do not even wait.
func TestFacetsFirst(t *testing.T) {
	within(t, 2, func(r *rig) {
		a, b := named("a", 1), named("b", 1)
		one, two := r.must(a, get), r.must(b, get)
		if _, err := r.try(a, get); err == nil {
			t.Error("a third of two places")
		}
		begun := time.Now()
		if _, err := r.try(b, feed); err == nil || time.Since(begun) > 0 {
			t.Errorf("a facet waited %v: %v", time.Since(begun), err)
		}
		one.Release(0, true)
		two.Release(0, true)
	})
}

// TestDeadline: a call waits no longer than QueueDeadline, is served where a place
// comes free before, and a caller that goes away leaves the queue at once.
func TestDeadline(t *testing.T) {
	within(t, 1, func(r *rig) {
		a := named("a", 1)
		first := r.must(a, get)
		begun := time.Now()
		if _, err := r.try(a, get); err == nil || time.Since(begun) != QueueDeadline {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Millisecond)
		defer cancel()
		begun = time.Now()
		if _, err := r.Admit(ctx, a, get, 0); macronode.KindOf(err) != macronode.DeadlineExceeded || time.Since(begun) != 10*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		gone, leave := context.WithCancel(r.t.Context())
		leave()
		if _, err := r.Admit(gone, a, get, 0); macronode.KindOf(err) != macronode.ClientGone || !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if s := r.Status(); s.Waiting != 0 {
			t.Errorf("%d wait", s.Waiting)
		}
		time.AfterFunc(15*time.Millisecond, func() { first.Release(0, true) })
		begun = time.Now()
		r.must(a, get).Release(0, true)
		if w := time.Since(begun); w != 15*time.Millisecond {
			t.Errorf("waited %v", w)
		}
	})
}

// TestOwnQueue: a tenant whose queue is full is refused at once, and nobody else
// is; a better class takes the place of its newest call of a worse one.
func TestOwnQueue(t *testing.T) {
	within(t, 32, func(r *rig) {
		storm, other := named("storm", 1), named("other", 1)
		var held []wall.Place
		for range 30 {
			held = append(held, r.must(storm, get))
		}
		held = append(held, r.must(other, get), r.must(other, get))
		most := r.queueLimit() / 2
		var wg sync.WaitGroup
		var mu sync.Mutex
		var early, late int
		for range most + 5 {
			wg.Go(func() {
				begun := time.Now()
				if p, err := r.try(storm, get); err == nil {
					p.Release(0, true)
				} else {
					mu.Lock()
					defer mu.Unlock()
					if time.Since(begun) == 0 {
						early++
					} else {
						late++
					}
				}
			})
		}
		synctest.Wait()
		if s := r.Status(); s.Waiting != int64(most) {
			t.Errorf("%d wait, %d may", s.Waiting, most)
		}
		done := make(chan error)
		go func() {
			p, err := r.try(other, get)
			if err == nil {
				p.Release(0, true)
			}
			done <- err
		}()
		synctest.Wait()
		for _, p := range held[:5] { // a round's worth of the storm's, and one more
			p.Release(0, true)
		}
		if err := <-done; err != nil {
			t.Errorf("another tenant was refused: %v", err)
		}
		wg.Wait()
		if early != 5 || late != 0 {
			t.Errorf("%d were refused at once, %d later", early, late)
		}
		for _, p := range held[5:] {
			p.Release(0, true)
		}
	})
}

// TestBetterClassTakesThePlace: within a full queue writes make room for reads.
func TestBetterClassTakesThePlace(t *testing.T) {
	within(t, 64, func(r *rig) {
		a := named("a", 1)
		r.mu.Lock()
		r.cores = time.Hour // nothing more is let in
		r.mu.Unlock()
		var held []wall.Place
		for range startPerCore {
			held = append(held, r.must(a, get))
		}
		pass(300 * time.Millisecond)
		var wg sync.WaitGroup
		var mu sync.Mutex
		refused := map[string]int{}
		ask := func(b *macronode.Binding) {
			wg.Go(func() {
				if p, err := r.try(a, b); err == nil {
					p.Release(0, true)
				} else if mu.Lock(); true {
					refused[string(b.Op)]++
					mu.Unlock()
				}
			})
			synctest.Wait()
		}
		for range r.queueLimit() / 2 {
			ask(put)
		}
		ask(get)
		mu.Lock()
		if refused["object.put"] != 1 || refused["object.get"] != 0 {
			t.Errorf("refused %v", refused)
		}
		mu.Unlock()
		for _, p := range held {
			p.Release(0, true)
		}
		r.setCores(0)
		wg.Wait()
	})
}

// TestSlowClients: calls that wait for their clients give their places back, and
// their waits are no pressure.
func TestSlowClients(t *testing.T) {
	within(t, 512, func(r *rig) {
		a, b := named("slow", 1), named("quick", 1)
		var held []wall.Place
		for range 300 {
			p := r.must(a, get)
			p.Await()
			held = append(held, p)
		}
		for range 100 {
			p := r.must(b, get)
			pass(time.Millisecond)
			p.Release(1000, true)
		}
		if s := r.Status(); s.Running != 300 || s.Working > 1 {
			t.Errorf("%+v", s)
		}
		pass(10 * time.Second)
		for _, p := range held {
			p.Resume() // a few bytes, and then none again
			p.Await()
		}
		pass(2 * tick)
		if s := r.Status(); s.Working > 1 {
			t.Errorf("%d work whose clients drip", s.Working)
		}
		for _, p := range held {
			p.Resume()
		}
		pass(2 * tick)
		if s := r.Status(); s.Working != 300 {
			t.Errorf("%d of 300 work again", s.Working)
		}
		for _, p := range held {
			p.Release(mib, true)
		}
		r.Controller.mu.Lock()
		defer r.Controller.mu.Unlock()
		if r.limit.all.pressure > 0 || r.profiles[get].base[sizeClass(mib)] > time.Second {
			t.Errorf("the clients' time was taken for the node's: %+v", r.limit)
		}
	})
}

// TestDeadlineInAStorm: a burst may wait long; calls that come when others have waited
// for a while wait less.
func TestDeadlineInAStorm(t *testing.T) {
	within(t, 1, func(r *rig) {
		a := named("a", 1)
		first := r.must(a, get)
		var wg sync.WaitGroup
		for i := range 5 { // one every 30 ms: somebody always waits
			wg.Go(func() {
				pass(time.Duration(i) * 30 * time.Millisecond)
				begun, want := time.Now(), QueueDeadline
				if i >= 4 {
					want = StormDeadline
				}
				if _, err := r.try(a, get); err == nil || time.Since(begun) != want {
					t.Errorf("call %d: %v after %v, want %v", i, err, time.Since(begun), want)
				}
			})
		}
		wg.Wait()
		pass(time.Second)
		begun := time.Now()
		if _, err := r.try(a, get); err == nil || time.Since(begun) != QueueDeadline {
			t.Errorf("after a pause: %v after %v", err, time.Since(begun))
		}
		first.Release(0, true)
	})
}

// TestSlowProcessorIsNoSlowClient: who waits to go on after a write, as long as
// everybody waits for a processor, keeps the place. Else those who get it make the
// wait longer still, and in the end all are inside.
func TestSlowProcessorIsNoSlowClient(t *testing.T) {
	within(t, 512, func(r *rig) {
		a := named("a", 1)
		held := []wall.Place{r.must(a, get), r.must(a, get)}
		r.setCores(100 * time.Millisecond)
		pass(2 * tick)
		r.setCores(0) // one window says nothing
		pass(tick)
		for _, p := range held {
			p.Await()
		}
		pass(100 * time.Millisecond)
		if s := r.Status(); s.Working != 2 {
			t.Errorf("%d of 2 keep their place", s.Working)
		}
		pass(time.Second)
		if s := r.Status(); s.Working != 0 || s.Running != 2 {
			t.Errorf("%+v: the wait for a client keeps a place for good", s)
		}
		for _, p := range held {
			p.Resume()
			p.Release(1000, true)
		}
	})
}

// TestGrowthAfterPressure: where processors were short a moment ago, a quiet
// window does not open the node wide; some in a row do.
func TestGrowthAfterPressure(t *testing.T) {
	for _, c := range []struct {
		short, again bool
		want         func(places int64) bool
		says         string
	}{
		{true, true, func(p int64) bool { return p <= floorPerCore+4 }, "hardly grow"},
		{true, false, func(p int64) bool { return p == 512 }, "grow to the end"},
		{false, false, func(p int64) bool { return p == 512 }, "grow to the end"},
	} {
		l := newLimiter(1, 512)
		now := time.Hour
		l.places, l.began = floorPerCore, now
		if c.short {
			l.feel(now, 10*time.Millisecond, true)
		}
		for i := range 8 {
			now += window
			wait := time.Duration(0)
			if c.again && i%2 == 1 {
				wait = processorTarget * 9 / 10
			}
			l.wanted = true
			l.step(now, wait, floorPerCore)
		}
		if got := l.limit(); !c.want(got) {
			t.Errorf("short before: %v, now and then: %v: places came from %d to %d; they should %s", c.short, c.again, floorPerCore, got, c.says)
		}
	}
}

// TestBurstOnAQuietNode: nobody is refused whom the node can serve in time.
func TestBurstOnAQuietNode(t *testing.T) {
	within(t, 512, func(r *rig) {
		a := named("a", 1)
		var wg sync.WaitGroup
		for range 400 {
			wg.Go(func() {
				p := r.must(a, put) // waits for a disk, not for a processor
				pass(15 * time.Millisecond)
				p.Release(1000, true)
			})
		}
		wg.Wait()
		for _, c := range r.Status().Classes {
			if c.State != Open || c.Refused != 0 {
				t.Errorf("%+v", c)
			}
		}
	})
}

// TestYield: who waits for a disk alone needs no place. Its time there says nothing
// about the node, and what it moved is paid for all the same.
func TestYield(t *testing.T) {
	within(t, 512, func(r *rig) {
		a := named("a", 1)
		var yielded []wall.Place
		for i := range 40 {
			p := r.must(a, put)
			p.Yield()
			p.Yield() // the first one counts
			yielded = append(yielded, p)
			if s := r.Status(); s.Working != 0 {
				t.Fatalf("call %d: %d places are held", i, s.Working)
			}
		}
		pass(300 * time.Millisecond) // the disk is slow, and the controller looks
		learned := yielded[0].(*Place).profile
		held := []wall.Place{r.must(a, put), r.must(a, put)}
		if s := r.Status(); s.Working != 2 {
			t.Errorf("%d places are held, by two calls that work", s.Working)
		}
		for _, p := range yielded {
			p.Await()
			p.Resume()
			p.Release(1000, true)
		}
		for _, p := range held {
			p.Release(1000, true)
		}
		if s := r.Status(); s.Working != 0 {
			t.Errorf("%d places are held by nobody", s.Working)
		}
		if learned.base[sizeClass(1000)] > 50*time.Millisecond {
			t.Errorf("the disk's time counts as the node's: %v", learned.base)
		}
	})
}

// TestReleasePays: a tenant that moves more bytes is served less often.
func TestReleasePays(t *testing.T) {
	within(t, 1, func(r *rig) {
		big, small := named("big", 1), named("small", 1)
		var mu sync.Mutex
		served := map[string]int{}
		var wg sync.WaitGroup
		end := time.Now().Add(4 * time.Second)
		for _, tn := range []*macronode.Tenant{big, small} {
			for range 6 {
				wg.Go(func() {
					for time.Now().Before(end) {
						p, err := r.try(tn, get)
						if err != nil {
							pass(time.Millisecond)
							continue
						}
						pass(time.Millisecond)
						moved := int64(256 << 10)
						if tn == big {
							moved = 4 * mib
						}
						p.Release(moved, true)
						mu.Lock()
						served[tn.Label]++
						mu.Unlock()
					}
				})
			}
		}
		wg.Wait()
		// 4112 KiB against 272: fifteen to one, less what flows while one queue
		// is empty.
		if ratio := float64(served["small"]) / float64(served["big"]); ratio < 10 || ratio > 16 {
			t.Errorf("served %v", served)
		}
	})
}

// newcomers is how long new clients come in TestWhatWasToldHolds.
const newcomers = 200 * time.Millisecond

// TestWhatWasToldHolds: four times as many clients come as can be served. Those
// that are refused come again when they are told to, and get in.
func TestWhatWasToldHolds(t *testing.T) {
	within(t, 4, func(r *rig) {
		a := named("a", 1)
		var mu sync.Mutex
		var again, refusedAgain, late int
		begun := time.Now()
		var longest time.Duration
		var wg sync.WaitGroup
		for i := range 400 {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			wg.Go(func() {
				pass(time.Duration(rnd.Int64N(int64(newcomers))))
				for n := 0; ; n++ {
					p, err := r.try(a, get)
					mu.Lock()
					if n > 0 {
						again++
						if err != nil {
							refusedAgain++
						}
						if err != nil && time.Since(begun) > newcomers {
							late++
						}
					}
					mu.Unlock()
					if err == nil {
						pass(10 * time.Millisecond)
						p.Release(1000, true)
						return
					}
					hint := macronode.AsError(err).RetryHint()
					mu.Lock()
					longest = max(longest, hint)
					mu.Unlock()
					pass(hint)
				}
			})
		}
		wg.Wait()
		t.Logf("%d came again, %d of them in vain, %d once no new ones came; the longest wait was %v", again, refusedAgain, late, longest)
		if again < 100 || refusedAgain*6 > again || late*100 > again {
			t.Errorf("%d of %d came again in vain, %d later", refusedAgain, again, late)
		}
		// 400 calls of 10 ms on 4 places take a second: nobody was sent away for
		// much longer.
		if longest > 2*time.Second {
			t.Errorf("told to wait %v", longest)
		}
	})
}

// TestHintWithoutMeasure: where nothing ends, the hint grows with the wait.
func TestHintWithoutMeasure(t *testing.T) {
	within(t, 8, func(r *rig) {
		a := named("a", 1)
		var held []wall.Place
		for range 7 {
			held = append(held, r.must(a, put))
		}
		_, err := r.try(a, put)
		if hint := macronode.AsError(err).RetryHint(); hint < time.Second || hint > 2*time.Second {
			t.Errorf("%v", hint)
		}
		held[0].Release(0, true)
		held[0] = r.must(a, put)
		pass(5 * time.Second)
		_, err = r.try(a, put)
		if hint := macronode.AsError(err).RetryHint(); hint < 5*time.Second || hint > hintMost {
			t.Errorf("nothing ended for 5 s, told to wait %v", hint)
		}
		for _, p := range held {
			p.Release(0, true)
		}
	})
}

// TestStatusSaysWhy: by processor, by latency, and who uses most.
func TestStatusSaysWhy(t *testing.T) {
	within(t, 512, func(r *rig) {
		storm, other := named("storm", 1), named("other", 1)
		storm1 := func(d, work time.Duration) {
			var wg sync.WaitGroup
			end := time.Now().Add(d)
			for range 200 {
				wg.Go(func() {
					for time.Now().Before(end) {
						if p, err := r.try(storm, get); err == nil {
							pass(work)
							p.Release(mib, true)
						} else {
							pass(5 * time.Millisecond)
						}
					}
				})
			}
			wg.Wait()
		}
		for range 50 {
			p := r.must(other, get)
			pass(time.Millisecond)
			p.Release(mib, true)
		}
		r.setCores(20 * time.Millisecond)
		storm1(time.Second, 5*time.Millisecond)
		s := r.Status()
		c := s.Classes[0]
		if c.State != Shedding || c.Cause != CauseProcessor || !strings.Contains(c.Why, "20ms for a processor") || !strings.Contains(c.Why, "tenant storm") {
			t.Errorf("%+v", c)
		}
		if s.TopLabel != "storm" || s.Share < .8 || s.Limit != s.Floor {
			t.Errorf("%+v", s)
		}
		r.setCores(0)
		pass(time.Minute)
		if s := r.Status(); s.Classes[0].State != Open || s.Classes[0].Why != "" || s.Limit != startPerCore {
			t.Errorf("a minute later: %+v", s)
		}
		// A disk that became slow: the limit comes down, and says what for.
		var over sync.WaitGroup
		over.Go(func() { storm1(4*time.Second, 300*time.Millisecond) })
		slow := ClassStatus{}
		for range 500 {
			pass(10 * time.Millisecond)
			if c := r.Status().Classes[0]; c.State == Shedding && c.Cause == CauseLatency {
				slow = c
			}
		}
		over.Wait()
		if !strings.Contains(slow.Why, "on a quiet node") || !strings.Contains(slow.Ends, "disk") {
			t.Errorf("%+v", slow)
		}
	})
}

// TestForget: a deleted tenant leaves nothing behind, and nothing of a running
// call breaks.
func TestForget(t *testing.T) {
	within(t, 8, func(r *rig) {
		a := named("a", 1)
		p := r.must(a, get)
		_ = r.Purge(r.t.Context(), a.ID)
		if len(r.tenants) != 1 {
			t.Error("forgotten with a call inside")
		}
		p.Release(1, true)
		if len(r.tenants) != 0 {
			t.Error("not forgotten")
		}
		_ = r.Purge(r.t.Context(), named("never", 1).ID)
	})
}

// TestThousands: many goroutines at once, some of which go away.
func TestThousands(t *testing.T) {
	c := New(Config{MaxInflight: 64, ProcessorWait: quietCores})
	ctx, cancel := context.WithCancel(t.Context())
	var runs, wg sync.WaitGroup
	runs.Go(func() { c.Run(ctx) })
	bindings := []*macronode.Binding{get, put, feed}
	var most int64
	for i := range 4000 {
		rnd := rand.New(rand.NewPCG(2, uint64(i)))
		wg.Go(func() {
			tn := named(string(rune('a'+i%7)), int64(i%3)+1)
			for range 5 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(30)+1)*time.Millisecond)
				p, err := c.Admit(ctx, tn, bindings[rnd.IntN(3)], int64(rnd.IntN(mib)))
				if err == nil {
					p.Await()
					c.mu.Lock()
					most = max(most, c.running)
					c.mu.Unlock()
					p.Resume()
					p.Release(int64(rnd.IntN(mib)), rnd.IntN(4) > 0)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	cancel()
	runs.Wait()
	if s := c.Status(); s.Running != 0 || s.Working != 0 || s.Waiting != 0 || c.wheel.size != 0 || most > 64 {
		t.Errorf("left over: %+v, wheel %d, at most %d inside", s, c.wheel.size, most)
	}
}

// BenchmarkAdmit is a call that finds a place.
func BenchmarkAdmit(b *testing.B) {
	c := New(Config{MaxInflight: 512, ProcessorWait: quietCores})
	a := named("a", 1)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		p, err := c.Admit(ctx, a, get, 0)
		if err != nil {
			b.Fatal(err)
		}
		p.Release(1000, true)
	}
}

// BenchmarkRefuse is a call that is refused at once.
func BenchmarkRefuse(b *testing.B) {
	c := New(Config{MaxInflight: 8, ProcessorWait: quietCores})
	a := named("a", 1)
	ctx := context.Background()
	for range 7 {
		if _, err := c.Admit(ctx, a, put, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Admit(ctx, a, put, 0); err == nil {
			b.Fatal("admitted")
		}
	}
}

// BenchmarkClientWait is what each read from or write to a client costs.
func BenchmarkClientWait(b *testing.B) {
	c := New(Config{MaxInflight: 8, ProcessorWait: quietCores})
	p, err := c.Admit(context.Background(), named("a", 1), get, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Await()
		p.Resume()
	}
}
