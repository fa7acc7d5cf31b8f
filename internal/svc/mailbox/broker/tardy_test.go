// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/snapfile"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// tardy is a log whose syncs wait for a permit when it is shut.
type tardy struct {
	store.Log
	shut   atomic.Bool
	permit chan struct{}
	fail   atomic.Pointer[error]
	stages atomic.Bool // Stage goes on when syncs fail
	full   atomic.Bool
	mangle atomic.Bool // Read changes the last byte, as if the checksum had been made of it
}

func (l *tardy) Read(p store.Pos, buf []byte) ([]byte, error) {
	b, err := l.Log.Read(p, buf)
	if err == nil && l.mangle.Load() {
		b[len(b)-1] ^= 1
	}
	return b, err
}

func (l *tardy) ReadMany(places []store.Span, f func(i int, record []byte, err error)) {
	for i, p := range places {
		b, err := l.Read(p.At, nil)
		f(i, b, err)
	}
}

func (l *tardy) StageOne(reserve bool, head, body []byte) (store.Pos, error) {
	if l.full.Load() && !reserve {
		return 0, store.ErrFull
	}
	if err := l.fail.Load(); err != nil && !l.stages.Load() {
		return 0, *err
	}
	return l.Log.StageOne(reserve, head, body)
}

func (l *tardy) Sync(ctx context.Context) error { return l.SyncTo(ctx, l.Staged()) }

func (l *tardy) SyncTo(ctx context.Context, end store.Pos) error {
	if l.shut.Load() && end > l.Log.Durable() {
		select {
		case <-l.permit:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := l.fail.Load(); err != nil {
		return *err
	}
	return l.Log.SyncTo(ctx, end)
}

// memWorld is a world over a log in memory that can be held up.
func memWorld(t testing.TB, edit ...func(*world)) (*world, *tardy) {
	t.Helper()
	l := &tardy{Log: mem.NewLog(1 << 30), permit: make(chan struct{})}
	w := &world{TB: t, fs: disk.Mem(), hands: newHands(), log: l}
	snaps, err := snapfile.Open(w.fs, "snap")
	if err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{Time: w.hands, Defaults: defaults, Log: l, Snapshots: snaps}
	for _, e := range edit {
		e(w)
	}
	if w.Broker, w.found, err = Open(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w, l
}

// TestAnswersAreDurable: no call answers before the log is durable up to what the
// answer rests on, be it the call's own record or one that somebody else staged.
func TestAnswersAreDurable(t *testing.T) {
	ctx := context.Background()
	zero := time.Duration(0)
	none := queue.TopicRef{Tenant: tenant, Name: "none"}
	// beside starts a call, and returns when its record is staged; it is not durable.
	beside := func(w *world, call func()) {
		before := w.log.Staged()
		go call()
		for w.log.Staged() == before {
			runtime.Gosched()
		}
	}
	staged := func(w *world) {
		beside(w, func() { _, _ = w.Send(ctx, orders, []Message{{IdemKey: "k", Payload: []byte("m")}}) })
	}
	for name, call := range map[string]func(w *world, held []Delivery, dead queue.ID) error{
		"send": func(w *world, _ []Delivery, _ queue.ID) error {
			_, err := w.Send(ctx, orders, []Message{{}})
			return err
		},
		"duplicate": func(w *world, _ []Delivery, _ queue.ID) error {
			staged(w)
			s, err := w.Send(ctx, orders, []Message{{IdemKey: "k", Payload: []byte("m")}})
			if err == nil && !s[0].Duplicate {
				t.Error("a repeated key is no duplicate")
			}
			return err
		},
		"mismatch": func(w *world, _ []Delivery, _ queue.ID) error {
			staged(w)
			_, err := w.Send(ctx, orders, []Message{{IdemKey: "k", Request: [32]byte{1}}})
			return err
		},
		"receive": func(w *world, _ []Delivery, _ queue.ID) error { _, err := w.Receive(ctx, orders, Want{}); return err },
		"ack":     func(w *world, h []Delivery, _ queue.ID) error { _, err := w.Ack(ctx, orders, receipts(h)); return err },
		"stale ack": func(w *world, h []Delivery, _ queue.ID) error {
			beside(w, func() { _, _ = w.Ack(ctx, orders, receipts(h)) })
			out, err := w.Ack(ctx, orders, receipts(h))
			if err == nil {
				w.want(outcomes(out), ErrLeaseLost)
			}
			return err
		},
		"nack": func(w *world, h []Delivery, _ queue.ID) error {
			_, err := w.Nack(ctx, orders, receipts(h), &zero, "")
			return err
		},
		"extend": func(w *world, h []Delivery, _ queue.ID) error {
			_, err := w.Extend(ctx, orders, receipts(h), time.Hour)
			return err
		},
		"peek": func(w *world, _ []Delivery, _ queue.ID) error {
			staged(w)
			_, _, err := w.Peek(ctx, orders, "", 1)
			return err
		},
		"topic": func(w *world, _ []Delivery, _ queue.ID) error { staged(w); _, err := w.Topic(ctx, orders); return err },
		"topics": func(w *world, _ []Delivery, _ queue.ID) error {
			staged(w)
			_, _, err := w.Topics(ctx, tenant, "", "", 0)
			return err
		},
		"make": func(w *world, _ []Delivery, _ queue.ID) error {
			_, err := w.PutTopic(ctx, none, defaults())
			return err
		},
		"put": func(w *world, _ []Delivery, _ queue.ID) error {
			_, err := w.PutTopic(ctx, orders, defaults())
			return err
		},
		"delete": func(w *world, _ []Delivery, _ queue.ID) error { return w.DeleteTopic(ctx, orders) },
		"deleted": func(w *world, _ []Delivery, _ queue.ID) error {
			beside(w, func() { _ = w.DeleteTopic(ctx, orders) })
			if _, err := w.Topic(ctx, orders); !errors.Is(err, ErrNoTopic) {
				return err
			}
			return nil
		},
		"purge": func(w *world, _ []Delivery, _ queue.ID) error { _, err := w.Purge(ctx, orders); return err },
		"dead list": func(w *world, _ []Delivery, _ queue.ID) error {
			staged(w)
			_, _, err := w.DeadList(ctx, orders, DeadFilter{}, "", 0)
			return err
		},
		"dead get": func(w *world, _ []Delivery, id queue.ID) error {
			staged(w)
			_, err := w.DeadGet(ctx, orders, id)
			return err
		},
		"dead delete": func(w *world, _ []Delivery, _ queue.ID) error {
			_, err := w.DeadDelete(ctx, orders, DeadFilter{})
			return err
		},
		"redrive": func(w *world, _ []Delivery, _ queue.ID) error {
			_, err := w.Redrive(ctx, orders, RedriveSpec{})
			return err
		},
		"jobs": func(w *world, _ []Delivery, _ queue.ID) error { staged(w); _, err := w.Jobs(ctx, orders); return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, l := memWorld(t)
				w.put(func(c *queue.Config) { c.MaxAttempts = 1 })
				dead := w.send("dead")[0]
				if _, err := w.Nack(ctx, orders, receipts(w.receive(1)), &zero, ""); err != nil {
					t.Fatal(err)
				}
				w.send("held", "ready")
				held := w.receive(1)
				l.shut.Store(true)
				var answered atomic.Bool
				go func() {
					if err := call(w, held, dead); err != nil {
						t.Error(err)
					}
					answered.Store(true)
				}()
				synctest.Wait()
				if answered.Load() {
					t.Error("answered before it was durable")
				}
				l.shut.Store(false)
				close(l.permit)
				synctest.Wait()
				if !answered.Load() {
					t.Error("not answered when it was durable")
				}
			})
		})
	}
}

// TestLogFails: an error of the log's sync is the end: the call does not succeed,
// everything is refused, who waits is told, and Serve returns.
func TestLogFails(t *testing.T) {
	for _, at := range []string{"sync", "stage"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := context.Background()
				w, l := memWorld(t)
				w.put(func(*queue.Config) {})
				ended := make(chan error, 1)
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				go func() { ended <- w.Serve(ctx) }()
				waiting := make(chan error, 1)
				go func() {
					_, err := w.Receive(ctx, orders, Want{Wait: 10 * time.Second})
					waiting <- err
				}()
				synctest.Wait()
				boom := errors.New("boom")
				l.stages.Store(at == "sync")
				l.fail.Store(&boom)
				_, err := w.Send(ctx, orders, []Message{{}})
				if macronode.KindOf(err) != macronode.Unavailable || !errors.Is(err, boom) {
					t.Errorf("a send that was not synced: %v", err)
				}
				soon := func(c chan error) error {
					select {
					case err := <-c:
						return err
					case <-time.After(time.Minute):
						t.Fatal("a failed broker goes on")
						return nil
					}
				}
				if err := soon(waiting); macronode.KindOf(err) != macronode.Unavailable {
					t.Errorf("who waited: %v", err)
				}
				if err := soon(ended); !errors.Is(err, boom) {
					t.Errorf("Serve: %v", err)
				}
				l.fail.Store(nil) // the disk came back, which changes nothing
				if _, err := w.Send(ctx, orders, []Message{{}}); !errors.Is(err, ErrFailed) {
					t.Errorf("a send afterwards: %v", err)
				}
				if w.Check(ctx) == nil {
					t.Error("a failed broker says that it is well")
				}
			})
		})
	}
}

// TestDiskFull: sends are refused and take no effect; everything that gives room
// back goes on.
func TestDiskFull(t *testing.T) {
	w, l := memWorld(t)
	ctx := context.Background()
	w.put(func(c *queue.Config) { c.MaxAttempts = 1 })
	w.send("a", "b", "c", "d")
	l.full.Store(true)
	sent, err := w.Send(ctx, orders, []Message{{}})
	if err != nil || macronode.KindOf(sent[0].Err) != macronode.DiskFull {
		t.Fatalf("a send: %v, %v", err, sent)
	}
	got := w.expect(2, "a", "b")
	w.want(w.ack(got[0]), nil)
	zero := time.Duration(0)
	if _, err := w.Nack(ctx, orders, receipts(got[1:]), &zero, "no"); err != nil {
		t.Fatal(err)
	}
	if list, _, err := w.DeadList(ctx, orders, DeadFilter{}, "", 0); err != nil || len(list) != 1 {
		t.Fatalf("%d dead letters, %v", len(list), err)
	}
	if n, err := w.DeadDelete(ctx, orders, DeadFilter{}); err != nil || n != 1 {
		t.Fatalf("deleted %d, %v", n, err)
	}
	w.expect(1, "c")
	if n, err := w.Purge(ctx, orders); err != nil || n != 2 {
		t.Fatalf("purged %d, %v", n, err)
	}
	if err := w.Check(ctx); err != nil {
		t.Errorf("a full disk is no failure: %v", err)
	}
	l.full.Store(false)
	w.send("again")
	w.expect(1, "again")
}

// TestWaiting: a thousand wait, each message wakes the one who waits longest, and a
// call that came to one who went is passed on.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := memWorld(t)
		w.put(func(*queue.Config) {})
		const n = 1000
		got := make(chan int, n)
		cancels := make([]context.CancelFunc, n)
		for i := range n {
			ctx, cancel := context.WithCancel(context.Background())
			cancels[i] = cancel
			go func() {
				if d, err := w.Receive(ctx, orders, Want{Wait: 15 * time.Second}); err == nil && len(d) == 1 {
					got <- i
				} else if err == nil {
					got <- -1
				}
			}()
			synctest.Wait()
		}
		if s, err := w.Topic(context.Background(), orders); err != nil || s.Waiting != n {
			t.Fatalf("%d wait, %v", s.Waiting, err)
		}
		for i := range 10 {
			w.send("m")
			synctest.Wait()
			if first := <-got; first != i || len(got) != 0 {
				t.Fatalf("message %d went to %d, and %d more were woken", i, first, len(got))
			}
		}
		cancels[10]()
		w.send("m") // while 10 goes
		synctest.Wait()
		if next := <-got; next != 11 {
			t.Fatalf("the message went to %d, want 11", next)
		}
		w.send("x", "y", "z")
		synctest.Wait()
		for range 3 { // they run at once
			if next := <-got; next < 12 || next > 14 {
				t.Fatalf("one of three went to %d, want 12 to 14", next)
			}
		}
		start := time.Now()
		for range n - 15 {
			if <-got != -1 {
				t.Fatal("a message out of nothing")
			}
		}
		if waited := time.Since(start); waited != 15*time.Second {
			t.Errorf("they waited %v, want 15s", waited)
		}
		for _, cancel := range cancels {
			cancel()
		}
	})
}

// TestWaitForDelay: who waits is woken when a delay, or another's lease, ends.
func TestWaitForDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := memWorld(t, func(w *world) { w.cfg.Time = bubble{time.Now()} })
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- w.Serve(ctx) }()
		w.sendAll(Message{Payload: []byte("m"), Delay: 3 * time.Second})
		for _, want := range []time.Duration{3 * time.Second, 2 * time.Second} {
			start := time.Now()
			d, err := w.Receive(ctx, orders, Want{Wait: 10 * time.Second, Visibility: 2 * time.Second})
			if err != nil || len(d) != 1 {
				t.Fatalf("%d messages, %v", len(d), err)
			}
			if waited := time.Since(start); waited < want || waited > want+5*time.Millisecond {
				t.Errorf("waited %v, want %v", waited, want)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := w.Send(context.Background(), orders, []Message{{}}); !errors.Is(err, ErrStopped) {
			t.Errorf("a send after the end: %v", err)
		}
	})
}

// TestLeavesWithLeases: who leaves while the leases are being made durable is given
// them all the same, and gives them back.
func TestLeavesWithLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := memWorld(t)
		w.send("one", "two")
		l.shut.Store(true)
		ctx, leave := context.WithCancel(t.Context())
		var got []Delivery
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			got, err = w.Receive(ctx, orders, Want{Max: 2})
		}()
		synctest.Wait()
		leave()
		synctest.Wait()
		l.shut.Store(false)
		close(l.permit)
		<-done
		if err != nil || len(got) != 2 {
			t.Fatalf("%d leases, %v", len(got), err)
		}
		zero := time.Duration(0)
		if _, err := w.Nack(t.Context(), orders, receipts(got), &zero, ""); err != nil {
			t.Fatal(err)
		}
		w.expect(2, "one", "two")
	})
}

// bubble is the clock of a synctest bubble.
type bubble struct{ start time.Time }

func (b bubble) Boot() [16]byte           { return [16]byte{1} }
func (b bubble) SinceBoot() time.Duration { return time.Since(b.start) }
func (b bubble) Wall() time.Time          { return time.Now() }

// TestSnapshotWaits: a snapshot takes its name when what it rests on is durable, and
// not before.
func TestSnapshotWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, l := memWorld(t)
		w.put(func(*queue.Config) {})
		l.shut.Store(true)
		go func() { _, _ = w.Send(context.Background(), orders, []Message{{}}) }()
		synctest.Wait()
		go func() {
			if err := w.tidy.Tidy(context.Background(), true); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		count := func(want int) {
			t.Helper()
			names, err := w.fs.List("snap")
			whole := 0
			for _, name := range names {
				if strings.HasPrefix(name, "snapshot-") {
					whole++
				}
			}
			if err != nil || whole != want {
				t.Errorf("%d snapshots, want %d (%v)", whole, want, err)
			}
		}
		count(1)
		l.shut.Store(false)
		close(l.permit)
		synctest.Wait()
		count(2)
	})
}

// TestPayloadHash: a payload that is not the one that was sent is not delivered,
// whatever the log believes.
func TestPayloadHash(t *testing.T) {
	w, l := memWorld(t)
	id := w.send("m")[0]
	l.mangle.Store(true)
	if got := w.receive(1); len(got) != 0 {
		t.Fatal("another payload was delivered")
	}
	if d, err := w.DeadGet(context.Background(), orders, id); err != nil || !d.Damaged || d.Payload != nil || d.Reason != "integrity" {
		t.Errorf("the dead letter: %+v, %v", d, err)
	}
}
