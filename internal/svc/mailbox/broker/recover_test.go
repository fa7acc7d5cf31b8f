// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
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
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// flipAt changes a bit of the n-th copy of text in the log, from 0.
func (w *world) flipAt(text string, n int) {
	w.Helper()
	names, err := w.fs.List("log")
	if err != nil {
		w.Fatal(err)
	}
	for _, name := range names {
		path := w.fs.PathJoin("log", name)
		b, err := w.fs.ReadFile(path, 1<<30)
		if err != nil {
			w.Fatal(err)
		}
		for from := 0; ; n-- {
			at := strings.Index(string(b[from:]), text)
			if at < 0 {
				break
			}
			if from += at; n == 0 {
				b[from] ^= 1
				if err := w.fs.ReplaceFile(path, b, disk.FileMode); err != nil {
					w.Fatal(err)
				}
				return
			}
			from += len(text)
		}
	}
	w.Fatal("the text is not in the log so often")
}

// TestDamagedDelete: where the record that deleted a topic is damaged, a later topic
// of its name is not lost with it, whether the record that made that one is whole.
func TestDamagedDelete(t *testing.T) {
	ctx := context.Background()
	for name, alsoPut := range map[string]bool{"delete": false, "delete and put": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.send("old")
			old := w.core.FindNumber(1)
			if err := w.DeleteTopic(ctx, orders); err != nil {
				t.Fatal(err)
			}
			w.put(func(c *queue.Config) { c.MaxAttempts = 7 })
			w.send("new", "newer")
			held := w.expect(1, "new")
			w.send("newest")
			w.fs = w.fs.Crash(0, 1)
			w.flipDelete(old.Number())
			if alsoPut {
				w.flipAt("orders", 2) // the first made the old one, the second is its message
			}
			last := w.log
			if err := w.start(); err != nil {
				t.Fatal(err)
			}
			_ = last.Close()
			if w.found.Topics != 1 || w.found.Messages != 3 {
				t.Fatalf("found %+v", w.found)
			}
			w.want(w.ack(held...), nil)
			w.expect(1, "newer")
			w.restart()
			w.expect(1, "newest")
			s, err := w.Topic(ctx, orders)
			if err != nil || alsoPut == (s.Config.MaxAttempts == 7) {
				t.Errorf("attempts %d, %v", s.Config.MaxAttempts, err)
			}
		})
	}
}

// flipDelete damages the record that deleted a topic.
func (w *world) flipDelete(number uint32) {
	w.Helper()
	var at store.Pos
	if err := w.log.Scan(0, func(p store.Pos, raw []byte) error {
		if r, err := record.Decode(raw); err == nil && r.Kind() == record.KindTopicDelete && r.Header().Topic == number {
			at = p
		}
		return nil
	}, func(store.Pos, int64) {}); err != nil || at == 0 {
		w.Fatalf("the record is not in the log: %v", err)
	}
	raw, err := w.log.Read(at, nil)
	if err != nil {
		w.Fatal(err)
	}
	w.flipAt(string(raw), 0)
}

// TestDamagedSnapshotGoes: a snapshot that was found damaged does not take the place
// of an older one that is whole.
func TestDamagedSnapshotGoes(t *testing.T) {
	w := newWorld(t)
	damage := func() {
		t.Helper()
		names, err := w.fs.List("snap")
		if err != nil || len(names) != 2 {
			t.Fatalf("%d snapshots, %v", len(names), err)
		}
		path := "snap/" + max(names[0], names[1])
		b, err := w.fs.ReadFile(path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 4
		if err := w.fs.ReplaceFile(path, b, disk.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	w.send("one")
	w.restart()
	w.send("two")
	for range 3 { // each start finds the newest damaged, and writes another
		w.fs = w.fs.Crash(0, 1)
		damage()
		last := w.log
		if err := w.start(); err != nil {
			t.Fatal(err)
		}
		_ = last.Close()
		if w.found.SnapshotsRefused != 1 || w.found.Messages != 2 {
			t.Fatalf("found %+v", w.found)
		}
	}
	w.expect(10, "one", "two")
}

// TestLastSnapshotFull: a run whose last snapshot has no room ends in order, and
// nothing is lost.
func TestLastSnapshotFull(t *testing.T) {
	var full atomic.Bool
	w := newWorld(t, func(w *world) {
		w.inject = func(op errorfs.Op) error {
			if full.Load() && op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "snap") {
				return syscall.ENOSPC
			}
			return nil
		}
	})
	w.send("kept")
	full.Store(true)
	if err := w.tidy.Tidy(context.Background(), true); !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a snapshot on a full disk: %v", err)
	}
	w.stop()
	full.Store(false)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	w.expect(1, "kept")
}

// TestReceiveBytes: max_bytes counts payloads, to the byte, whatever else a record
// holds; one message comes at least.
func TestReceiveBytes(t *testing.T) {
	ctx := context.Background()
	attrs := map[string]string{"name": strings.Repeat("v", 200)}
	for name, sizes := range map[string][]int{
		"plain": {1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000},
		"mixed": {1, 5000, 10, 900, 1, 1, 4000, 80, 8, 8},
	} {
		for _, with := range []map[string]string{nil, attrs} {
			for limit := int64(1); limit < 12_500; limit += 333 {
				w := newWorld(t)
				var batch []Message
				for _, n := range sizes {
					batch = append(batch, Message{Payload: make([]byte, n), Attrs: with, CorrID: "corr"})
				}
				w.sendAll(batch...)
				want, sum := 0, int64(0)
				for want < len(sizes) && (want == 0 || sum+int64(sizes[want]) <= limit) {
					sum += int64(sizes[want])
					want++
				}
				got, err := w.Receive(ctx, orders, Want{Max: 100, MaxBytes: limit})
				if err != nil || len(got) != want {
					t.Fatalf("%s, %d attributes: %d bytes gave %d messages, want %d (%v)", name, len(with), limit, len(got), want, err)
				}
				if c := w.counts(); c.Leased != int64(want) {
					t.Fatalf("%d are leased, %d were delivered", c.Leased, want)
				}
				_ = w.log.Close()
			}
		}
	}
}

// TestHeld: whose leases are whose is known after each kind of restart, and ends with
// the lease.
func TestHeld(t *testing.T) {
	ctx := context.Background()
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.send("1", "2", "3", "4", "5", "6")
			mine, err := w.Receive(ctx, orders, Want{Max: 4, Owner: 7})
			if err != nil || len(mine) != 4 {
				t.Fatal(len(mine), err)
			}
			if other, err := w.Receive(ctx, orders, Want{Max: 1, Owner: 8}); err != nil || len(other) != 1 {
				t.Fatal(len(other), err)
			}
			w.expect(1, "6")
			w.want(w.ack(mine[1]), nil)
			zero := time.Duration(0)
			if _, err := w.Nack(ctx, orders, receipts(mine[2:3]), &zero, ""); err != nil {
				t.Fatal(err)
			}
			w.expect(1, "3") // leased again, by nobody
			end(w)
			held, err := w.Held(ctx, orders, 7)
			if err != nil || len(held) != 2 || held[0].Receipt != mine[0].Receipt || held[1].Receipt != mine[3].Receipt ||
				held[0].Lease != mine[0].Lease || held[0].Left <= 0 || held[0].Left > 30*time.Second {
				t.Fatalf("%+v, %v", held, err)
			}
			if none, err := w.Held(ctx, orders, 0); err != nil || len(none) != 0 {
				t.Errorf("%d leases are nobody's, %v", len(none), err)
			}
			w.want(w.ack(mine[3]), nil)
			w.hands.pass(30 * time.Second)
			if held, err = w.Held(ctx, orders, 7); err != nil || len(held) != 0 {
				t.Errorf("%d leases are left, %v", len(held), err)
			}
		})
	}
}
