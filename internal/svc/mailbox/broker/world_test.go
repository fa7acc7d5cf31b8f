// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/snapfile"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

var (
	tenant = macronode.TenantID{1}
	orders = queue.TopicRef{Tenant: tenant, Name: "orders"}
)

// defaults is a config with round numbers.
func defaults() queue.Config {
	return queue.Config{Retention: 24 * time.Hour, DeadRetention: 48 * time.Hour, ReplayWindow: 5 * time.Minute, Visibility: 30 * time.Second,
		MaxAttempts: 3, MaxDepth: 1_000_000, MaxBytes: 1 << 40, MaxInFlight: 100_000, MaxKeys: 100_000}
}

// hands is a clock that moves when it is told to.
type hands struct {
	mu    sync.Mutex
	boot  [16]byte
	since time.Duration
	wall  time.Time
}

func newHands() *hands {
	return &hands{boot: [16]byte{1}, since: time.Hour, wall: time.UnixMilli(1_800_000_000_000)}
}

func (h *hands) Boot() [16]byte           { h.mu.Lock(); defer h.mu.Unlock(); return h.boot }
func (h *hands) SinceBoot() time.Duration { h.mu.Lock(); defer h.mu.Unlock(); return h.since }
func (h *hands) Wall() time.Time          { h.mu.Lock(); defer h.mu.Unlock(); return h.wall }

func (h *hands) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.since += d
	h.wall = h.wall.Add(d)
}

func (h *hands) jump(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wall = h.wall.Add(d)
}

// world is a broker with its disk and its clock.
type world struct {
	testing.TB
	*Broker
	fs    *disk.FS
	hands *hands
	log   store.Log
	found Found
	cfg   Config
	// over wraps the log; nil does not.
	over func(store.Log) store.Log
	// inject fails calls of the disk; nil fails none.
	inject func(errorfs.Op) error
	rng    *rand.Rand
	mu     sync.Mutex
}

// segment is the size of the log's segments in tests.
const segment = seglog.MinSegmentBytes

// newWorld starts a broker on an empty disk.
func newWorld(t testing.TB, edit ...func(*world)) *world {
	t.Helper()
	w := &world{TB: t, fs: disk.Crashable(), hands: newHands(), rng: rand.New(rand.NewPCG(1, 2))}
	w.cfg = Config{Time: w.hands, Defaults: defaults, Rand: func() uint64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.rng.Uint64()
	}}
	for _, e := range edit {
		e(w)
	}
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	return w
}

// start opens the log and the broker on w.fs.
func (w *world) start() error {
	fsys := w.fs
	if w.inject != nil {
		fsys = w.fs.WithFaults(w.inject)
	}
	log, _, err := seglog.Open(seglog.Config{FS: fsys, Dir: "log", SegmentBytes: segment})
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	w.log = log
	if w.over != nil {
		w.log = w.over(log)
	}
	snaps, err := snapfile.Open(fsys, "snap")
	if err != nil {
		return errors.Join(err, log.Close())
	}
	cfg := w.cfg
	cfg.Log, cfg.Snapshots = w.log, snaps
	if w.Broker, w.found, err = Open(cfg); err != nil {
		return errors.Join(err, log.Close())
	}
	return nil
}

// stop ends the run in order, with a snapshot.
func (w *world) stop() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Serve(ctx); err != nil {
		w.Fatal(err)
	}
	if err := w.log.Close(); err != nil {
		w.Fatal(err)
	}
}

// restart is stop and start.
func (w *world) restart() {
	w.Helper()
	w.stop()
	if err := w.start(); err != nil {
		w.Fatal(err)
	}
}

// crash cuts the power: of what was not synced each block stays with a chance of
// unsynced in 100. Then it starts again.
func (w *world) crash(unsynced int, seed uint64) {
	w.Helper()
	old := w.log
	w.fs = w.fs.Crash(unsynced, seed)
	_ = old.Close() // on the disk that is gone
	if err := w.start(); err != nil {
		w.Fatal(err)
	}
}

// catchUp lets happen what is due.
func (w *world) catchUp() {
	w.Helper()
	if _, err := w.core.CatchUp(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) send(texts ...string) []queue.ID {
	w.Helper()
	var batch []Message
	for _, text := range texts {
		batch = append(batch, Message{Payload: []byte(text)})
	}
	return w.sendAll(batch...)
}

func (w *world) sendAll(batch ...Message) (ids []queue.ID) {
	w.Helper()
	sent, err := w.Send(context.Background(), orders, batch)
	if err != nil {
		w.Fatal(err)
	}
	for i, s := range sent {
		if s.Err != nil {
			w.Fatalf("message %d: %v", i, s.Err)
		}
		ids = append(ids, s.ID)
	}
	return ids
}

func (w *world) receive(limit int) []Delivery {
	w.Helper()
	got, err := w.Receive(context.Background(), orders, Want{Max: limit})
	if err != nil {
		w.Fatal(err)
	}
	return got
}

// expect receives and compares payloads.
func (w *world) expect(limit int, texts ...string) []Delivery {
	w.Helper()
	got := w.receive(limit)
	if len(got) != len(texts) {
		w.Fatalf("%d messages were delivered, want %d", len(got), len(texts))
	}
	for i := range got {
		if string(got[i].Payload) != texts[i] {
			w.Fatalf("message %d is %.20q, want %q", i, got[i].Payload, texts[i])
		}
	}
	return got
}

func receipts(list []Delivery) (out []string) {
	for i := range list {
		out = append(out, list[i].Receipt)
	}
	return out
}

// ack acknowledges and returns the outcomes' errors.
func (w *world) ack(list ...Delivery) []error {
	w.Helper()
	out, err := w.Ack(context.Background(), orders, receipts(list))
	if err != nil {
		w.Fatal(err)
	}
	return outcomes(out)
}

func outcomes(out []Outcome) (errs []error) {
	for i := range out {
		errs = append(errs, out[i].Err)
	}
	return errs
}

func (w *world) want(errs []error, target error) {
	w.Helper()
	for i, err := range errs {
		if target == nil && err != nil || target != nil && !errors.Is(err, target) {
			w.Fatalf("outcome %d: %v, want %v", i, err, target)
		}
	}
}

func (w *world) counts() queue.Counts {
	w.Helper()
	s, err := w.Topic(context.Background(), orders)
	if err != nil {
		w.Fatal(err)
	}
	c := s.Counts
	if c.Sent+c.MovedIn != c.Ready+c.Delayed+c.Leased+c.Dead+c.Acked+c.Expired+c.Purged+c.Deleted+c.MovedOut {
		w.Fatalf("counts are not conserved: %+v", c)
	}
	return c
}

func (w *world) put(edit func(*queue.Config)) {
	w.Helper()
	cfg := defaults()
	edit(&cfg)
	if _, err := w.PutTopic(context.Background(), orders, cfg); err != nil {
		w.Fatal(err)
	}
}
