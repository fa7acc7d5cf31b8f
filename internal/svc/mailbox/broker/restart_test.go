// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// ends are the ways in which a run can end.
var ends = map[string]func(w *world){
	"stop":  func(w *world) { w.restart() },
	"power": func(w *world) { w.crash(0, 1) },
	"again": func(w *world) { w.crash(50, 2); w.restart(); w.crash(100, 3) },
}

// TestLeasesOutlive: leases, receipts, attempts and deadlines go through a restart,
// whatever the wall clock does meanwhile.
func TestLeasesOutlive(t *testing.T) {
	for name, end := range ends {
		for _, jump := range []time.Duration{0, time.Hour, -time.Hour} {
			t.Run(name+jump.String(), func(t *testing.T) {
				w := newWorld(t)
				w.send("kept", "lapsed", "delayed")
				held := w.expect(2, "kept", "lapsed")
				delay := 50 * time.Second
				if _, err := w.Nack(context.Background(), orders, receipts(w.expect(1, "delayed")), &delay, ""); err != nil {
					t.Fatal(err)
				}
				w.hands.pass(20 * time.Second)
				w.hands.jump(jump)
				end(w)
				if len(w.receive(10)) != 0 {
					t.Fatal("a leased message was delivered")
				}
				w.want(w.ack(held[0]), nil)
				w.hands.pass(9 * time.Second)
				if len(w.receive(10)) != 0 {
					t.Fatal("the lease ended early")
				}
				w.hands.pass(time.Second)
				w.want(w.ack(held[1]), ErrLeaseLost)
				again := w.expect(10, "lapsed")
				if again[0].Attempt != 2 || again[0].Receipt == held[1].Receipt {
					t.Fatalf("attempt %d", again[0].Attempt)
				}
				w.hands.pass(20 * time.Second)
				if d := w.expect(10, "delayed"); d[0].Attempt != 2 {
					t.Errorf("attempt %d", d[0].Attempt)
				}
			})
		}
	}
}

// TestReboot: after a reboot the wall clock says how long the machine was off.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	w.send("m")
	held := w.expect(1, "m")
	w.hands.boot, w.hands.since = [16]byte{2}, 3*time.Second
	w.hands.jump(10 * time.Second)
	w.crash(0, 1)
	if len(w.receive(1)) != 0 {
		t.Fatal("10 of 30 seconds ended the lease")
	}
	w.want(w.ack(held...), nil)
}

// TestDuplicates is the table of what a repeated idempotency key is told, wherever
// the first message is, before and after each kind of restart.
func TestDuplicates(t *testing.T) {
	ctx := context.Background()
	zero := time.Duration(0)
	for state, reach := range map[string]func(w *world){
		"pending": func(*world) {},
		"leased":  func(w *world) { w.receive(1) },
		"acked":   func(w *world) { w.want(w.ack(w.receive(1)...), nil) },
		"dead": func(w *world) {
			if _, err := w.Nack(ctx, orders, receipts(w.receive(1)), &zero, ""); err != nil {
				w.Fatal(err)
			}
		},
		"expired": func(w *world) { w.hands.pass(31 * time.Second); w.catchUp() },
		"purged": func(w *world) {
			if _, err := w.Purge(ctx, orders); err != nil {
				w.Fatal(err)
			}
		},
		"redriven": func(w *world) {
			if _, err := w.Nack(ctx, orders, receipts(w.receive(1)), &zero, ""); err != nil {
				w.Fatal(err)
			}
			w.redrive(RedriveSpec{})
		},
	} {
		for end, restart := range map[string]func(*world){"before": func(*world) {}, "stop": ends["stop"], "power": ends["power"]} {
			t.Run(state+" "+end, func(t *testing.T) {
				w := newWorld(t)
				w.put(func(c *queue.Config) { c.MaxAttempts = 1 })
				m := Message{Payload: []byte("m"), IdemKey: "key", Request: [32]byte{1}, TTL: 30 * time.Second}
				id := w.sendAll(m)[0]
				reach(w)
				restart(w)
				before := w.counts()
				again, err := w.Send(ctx, orders, []Message{m})
				if err != nil || again[0].Err != nil || !again[0].Duplicate || again[0].ID != id {
					t.Errorf("the same again: %v %+v", err, again)
				}
				other := m
				other.Request[0] = 2
				sent, err := w.Send(ctx, orders, []Message{other, {Payload: []byte("neighbour")}})
				if err != nil {
					t.Fatal(err)
				}
				w.want([]error{sent[0].Err}, ErrMismatch)
				w.want([]error{sent[1].Err}, nil)
				if after := w.counts(); after.Sent != before.Sent+1 {
					t.Errorf("%d messages were made, want the neighbour alone", after.Sent-before.Sent)
				}
				w.hands.pass(11 * time.Minute) // the window is at least 5
				if sent, err = w.Send(ctx, orders, []Message{other}); err != nil || sent[0].Err != nil || sent[0].Duplicate {
					t.Errorf("after the window: %v %+v", err, sent)
				}
			})
		}
	}
}

// redrive runs a job to its end.
func (w *world) redrive(spec RedriveSpec) Job {
	w.Helper()
	ctx := context.Background()
	j, err := w.Redrive(ctx, orders, spec)
	if err != nil {
		w.Fatal(err)
	}
	w.resume()
	if j, err = w.JobGet(ctx, orders, j.ID); err != nil {
		w.Fatal(err)
	}
	return j
}

// resume takes the steps of all jobs that run.
func (w *world) resume() {
	w.Helper()
	for _, job := range w.jobs.list() {
		for over := false; !over; {
			var err error
			if over, err = w.step(context.Background(), job, 10); err != nil {
				w.Fatal(err)
			}
		}
		w.jobs.remove(job.id)
	}
}

func TestRedrive(t *testing.T) {
	ctx := context.Background()
	zero := time.Duration(0)
	w := newWorld(t)
	w.put(func(c *queue.Config) { c.MaxAttempts = 2 })
	for range 25 {
		w.send("m")
	}
	for range 2 {
		if _, err := w.Nack(ctx, orders, receipts(w.receive(100)), &zero, "no"); err != nil {
			t.Fatal(err)
		}
	}
	if c := w.counts(); c.Dead != 25 {
		t.Fatalf("%d dead letters", c.Dead)
	}
	if j := w.redrive(RedriveSpec{DryRun: true}); j.Matched != 25 || j.Moved != 0 || j.State != JobDone || w.counts().Dead != 25 {
		t.Fatalf("a dry run: %+v", j)
	}
	if j := w.redrive(RedriveSpec{Filter: DeadFilter{Reason: "integrity"}}); j.Matched != 0 || j.State != JobDone {
		t.Fatalf("another reason: %+v", j)
	}
	j, err := w.Redrive(ctx, orders, RedriveSpec{RatePerSec: 100})
	if err != nil {
		t.Fatal(err)
	}
	if over, err := w.step(ctx, w.jobs.list()[0], 10); over || err != nil {
		t.Fatal(over, err)
	}
	w.crash(0, 4) // in the middle
	if j, err = w.JobGet(ctx, orders, j.ID); err != nil || j.State != JobRunning || j.Moved != 10 {
		t.Fatalf("after the crash: %+v, %v", j, err)
	}
	w.resume()
	if j, err = w.JobGet(ctx, orders, j.ID); err != nil || j.State != JobDone || j.Moved != 25 || w.counts().Dead != 0 {
		t.Fatalf("resumed: %+v, %v", j, err)
	}
	got := w.receive(100)
	if len(got) != 25 || got[0].Attempt != 3 {
		t.Fatalf("%d came back, the first with attempt %d", len(got), got[0].Attempt)
	}
	if _, err := w.Nack(ctx, orders, receipts(got), &zero, ""); err != nil {
		t.Fatal(err)
	}
	if got = w.receive(100); len(got) != 25 || got[0].Attempt != 4 {
		t.Fatalf("a redriven message has fewer attempts than a new one: %d", len(got))
	}
	if _, err := w.JobStop(ctx, orders, "no id"); err == nil {
		t.Error("a job of no name was stopped")
	}
	k, err := w.Redrive(ctx, orders, RedriveSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if k, err = w.JobStop(ctx, orders, k.ID); err != nil || k.State != JobStopped || len(w.jobs.list()) != 0 {
		t.Errorf("stopped: %+v, %v", k, err)
	}
}

// flip changes a bit of every copy of text in the files of a directory.
func (w *world) flip(dir, text string) (flipped int) {
	w.Helper()
	names, err := w.fs.List(dir)
	if err != nil {
		w.Fatal(err)
	}
	for _, name := range names {
		path := w.fs.PathJoin(dir, name)
		b, err := w.fs.ReadFile(path, 1<<30)
		if err != nil {
			w.Fatal(err)
		}
		at := bytes.Index(b, []byte(text))
		if at < 0 {
			continue
		}
		b[at] ^= 1
		if err := w.fs.ReplaceFile(path, b, disk.FileMode); err != nil {
			w.Fatal(err)
		}
		flipped++
	}
	return flipped
}

// TestDamagedPayload: a message whose bytes are damaged becomes a dead letter with
// that reason, and its neighbours are delivered.
func TestDamagedPayload(t *testing.T) {
	var damaged int64
	w := newWorld(t, func(w *world) { w.cfg.Events.Damaged = func(_ queue.TopicRef, n int64) { damaged += n } })
	w.send("first", "bad payload of one message", "last")
	w.stop()
	if w.flip("log", "bad payload") != 1 {
		t.Fatal("the payload is not in the log")
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.expect(10, "first", "last")
	list, _, err := w.DeadList(context.Background(), orders, DeadFilter{Reason: "integrity"}, "", 0)
	if err != nil || len(list) != 1 || !list[0].Damaged || damaged != 1 {
		t.Fatalf("%d dead letters, %d damaged, %v", len(list), damaged, err)
	}
	w.crash(0, 1)
	if c := w.counts(); c.Dead != 1 || c.Leased != 2 {
		t.Errorf("counts %+v", c)
	}
}

// TestDamagedAlone: where all that was asked for is damaged, what is behind it comes.
func TestDamagedAlone(t *testing.T) {
	w := newWorld(t)
	w.send("bad payload of one message", "last")
	w.stop()
	w.flip("log", "bad payload")
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "last")
}

// TestDamagedTail: a damaged record that no snapshot covers is found, said and
// passed over at the start.
func TestDamagedTail(t *testing.T) {
	w := newWorld(t)
	w.send("first", "bad payload of one message", "last")
	w.send("later") // what only the last write holds could as well be torn
	w.fs = w.fs.Crash(0, 1)
	if w.flip("log", "bad payload") != 1 {
		t.Fatal("the payload is not in the log")
	}
	old := w.log
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	_ = old.Close()
	if w.found.DamagedRecords != 1 || w.found.DamagedBytes == 0 || w.found.Messages != 3 {
		t.Errorf("found %+v", w.found)
	}
	w.expect(10, "first", "last", "later")
	w.send("next")
	w.restart()
	w.expect(10, "next")
}

// TestDamagedTopic: damage to the record that made a topic, before any snapshot holds
// it, does not spread to its messages; a deleted topic does not come back by that.
func TestDamagedTopic(t *testing.T) {
	w := newWorld(t)
	gone := queue.TopicRef{Tenant: tenant, Name: "gone"}
	if _, err := w.Send(context.Background(), gone, []Message{{Payload: []byte("lost")}}); err != nil {
		t.Fatal(err)
	}
	w.put(func(c *queue.Config) { c.MaxAttempts = 7 })
	w.send("first")
	if err := w.DeleteTopic(context.Background(), gone); err != nil {
		t.Fatal(err)
	}
	w.send("second")
	w.want(w.ack(w.expect(1, "first")...), nil)
	w.fs = w.fs.Crash(0, 1)
	for _, name := range []string{"gone", "orders"} { // the first of each is what made it
		if w.flip("log", name) != 1 {
			t.Fatal("the topic is not in the log")
		}
	}
	old := w.log
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	_ = old.Close()
	if w.found.DamagedRecords != 2 || w.found.TopicsRemade != 1 || w.found.Topics != 1 || w.found.Messages != 1 {
		t.Errorf("found %+v", w.found)
	}
	for range 2 { // also with the damage dropped behind a snapshot
		w.send("next")
		w.crash(0, 1)
		if w.found.TopicsRemade != 0 {
			t.Errorf("remade again: %+v", w.found)
		}
	}
	w.expect(10, "second", "next", "next")
}

// TestDamagedSnapshot: the one before it, and more of the log, make the same state.
func TestDamagedSnapshot(t *testing.T) {
	w := newWorld(t)
	w.send("one", "two")
	w.restart()
	held := w.expect(1, "one")
	w.want(w.ack(held...), nil)
	w.send("three")
	w.stop()
	names, err := w.fs.List("snap")
	if err != nil || len(names) != 2 {
		t.Fatalf("%d snapshots, %v", len(names), err)
	}
	newest := max(names[0], names[1])
	b, err := w.fs.ReadFile("snap/"+newest, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := w.fs.ReplaceFile("snap/"+newest, b, disk.FileMode); err != nil {
		t.Fatal(err)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	if w.found.SnapshotsRefused != 1 || !w.found.Snapshot {
		t.Errorf("found %+v", w.found)
	}
	w.expect(10, "two", "three")
	w.want(w.ack(held...), ErrLeaseLost)
}

// TestRoomAfterStart: on a disk so full that no snapshot can be written, a start gives
// back what the two snapshots that are there do not need, sparse segments too.
func TestRoomAfterStart(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	big := strings.Repeat("x", 100_000)
	w.send("keeper " + big)
	for range 40 {
		w.send("fill " + big)
	}
	keeper := w.receive(1)
	for range 40 {
		w.want(w.ack(w.receive(1)...), nil)
	}
	w.restart()
	w.restart()
	most := len(w.log.Segments())
	var full atomic.Bool
	w.inject = func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "snap") {
			return syscall.ENOSPC
		}
		return nil
	}
	w.restart()
	full.Store(true)
	for n := range 3 {
		if err := w.tidy.Tidy(ctx, true); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("tidy %d: %v", n, err)
		}
	}
	if left := w.log.Segments(); most < 4 || len(left) > 2 || left[0].ID == 1 {
		t.Errorf("%d segments of %d are left, from number %d", len(left), most, left[0].ID)
	}
	full.Store(false)
	w.want(w.ack(keeper...), nil)
}

// TestCompactIntoReserve: what empties a segment may take of the reserve, for it gives
// more back.
func TestCompactIntoReserve(t *testing.T) {
	var l *tardy
	w := newWorld(t, func(w *world) {
		w.over = func(log store.Log) store.Log { l = &tardy{Log: log}; return l }
	})
	big := strings.Repeat("x", 100_000)
	w.send("keeper " + big)
	keeper := w.receive(1)
	for range 40 {
		w.send("fill " + big)
		w.want(w.ack(w.receive(1)...), nil)
	}
	if err := w.tidy.Tidy(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if w.log.Segments()[0].ID != 1 {
		t.Fatal("it was emptied before")
	}
	l.full.Store(true)
	if err := w.tidy.Tidy(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	if left := w.log.Segments(); left[0].ID == 1 {
		t.Error("the sparse segment is still there")
	}
	w.want(w.ack(keeper...), nil)
}

// TestRoomComesBack: segments whose messages are gone are dropped, sparse ones are
// emptied first, and what idempotency keys and dead letters need of them stays.
func TestRoomComesBack(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	w.put(func(c *queue.Config) { c.MaxAttempts = 1 })
	big := strings.Repeat("x", 100_000)
	w.sendAll(Message{Payload: []byte("first " + big), IdemKey: "key"})
	dead := w.send("dead " + big)[0]
	keeper := w.send("keeper " + big)
	got := w.receive(3)
	zero := time.Duration(0)
	if _, err := w.Nack(ctx, orders, receipts(got[1:2]), &zero, "no"); err != nil {
		t.Fatal(err)
	}
	w.want(w.ack(got[0]), nil)
	for range 100 { // 10 MB through
		w.send("fill " + big)
		w.want(w.ack(w.receive(1)...), nil)
	}
	most := len(w.log.Segments())
	for range 6 {
		if err := w.tidy.Tidy(ctx, true); err != nil {
			t.Fatal(err)
		}
	}
	left := w.log.Segments()
	if len(left) > 4 || most < 8 || left[0].ID == 1 {
		t.Errorf("%d segments of %d are left, from number %d", len(left), most, left[0].ID)
	}
	for _, end := range []func(){func() {}, func() { w.crash(0, 1) }, w.restart} {
		end()
		sent, err := w.Send(ctx, orders, []Message{{Payload: []byte("first " + big), IdemKey: "key"}})
		if err != nil || !sent[0].Duplicate {
			t.Errorf("the key was forgotten with its segment: %v %+v", err, sent)
		}
		if d, err := w.DeadGet(ctx, orders, dead); err != nil || d.Damaged || len(d.Payload) != len(big)+5 {
			t.Errorf("the dead letter: %v, damaged %v", err, d.Damaged)
		}
		w.want(w.ack(got[0]), ErrLeaseLost)
	}
	// The snapshot before the latest, and the log from there, are still all that is needed.
	w.send("victim")
	victim := w.receive(1)
	for _, after := range []func(){func() {}, func() { w.want(w.ack(victim...), nil) }} {
		if err := w.tidy.Tidy(ctx, true); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			w.send("fill " + big)
			w.want(w.ack(w.receive(1)...), nil)
		}
		after()
		for range 30 {
			w.send("fill " + big)
			w.want(w.ack(w.receive(1)...), nil)
		}
	}
	if err := w.tidy.Tidy(ctx, true); err != nil {
		t.Fatal(err)
	}
	names, err := w.fs.List("snap")
	if err != nil || len(names) != 2 {
		t.Fatalf("%d snapshots, %v", len(names), err)
	}
	if err := w.fs.RemoveSync("snap/" + max(names[0], names[1])); err != nil {
		t.Fatal(err)
	}
	w.crash(0, 9)
	if w.found.DamagedRecords != 0 {
		t.Errorf("whole records are damaged: %+v", w.found)
	}
	if c := w.counts(); c.Dead != 1 || c.Leased != 1 || c.Ready != 0 {
		t.Errorf("from the older snapshot: %+v", c)
	}
	w.hands.pass(31 * time.Second)
	w.catchUp()
	if d, err := w.DeadGet(ctx, orders, keeper[0]); err != nil || d.Damaged { // its one attempt lapsed
		t.Errorf("the kept message: %v", err)
	}
}
