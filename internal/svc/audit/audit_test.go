// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

const (
	nodeID = "b3:1111111111111111111111111111111111111111111111111111111111111111"
	origin = "macronode/1111111111111111111111111111111111111111111111111111111111111111"
)

// hooked is a log that the test can make fail, panic or block.
type hooked struct {
	store.Log
	stage, sync func() error
	reserved    func(reserve bool) error
}

func (h *hooked) StageOne(reserve bool, head, body []byte) (store.Pos, error) {
	if h.stage != nil {
		if err := h.stage(); err != nil {
			return 0, err
		}
	}
	if h.reserved != nil {
		if err := h.reserved(reserve); err != nil {
			return 0, err
		}
	}
	return h.Log.StageOne(reserve, head, body)
}

func (h *hooked) Sync(ctx context.Context) error {
	if h.sync != nil {
		if err := h.sync(); err != nil {
			return err
		}
	}
	return h.Log.Sync(ctx)
}

type world struct {
	*Service
	log  *hooked
	tree tree.Config
	// sealed: the keys are not at hand.
	sealed atomic.Bool
	out    bytes.Buffer
	reg    *metrics.Registry
	stop   func()
}

// logKeys are a hybrid key's halves.
func logKeys() []LogKey {
	seed := bytes.Repeat([]byte{7}, 32)
	ed := ed25519.NewKeyFromSeed(seed)
	pub, pq := mldsa44.NewKeyFromSeed((*[32]byte)(seed))
	return []LogKey{
		{tlog.Key{Name: origin, Type: tlog.Ed25519, Public: ed.Public().(ed25519.PublicKey)}, func(m []byte) ([]byte, error) { return ed25519.Sign(ed, m), nil }},
		{tlog.Key{Name: origin, Type: tlog.MLDSA44, Public: pub.Bytes()}, func(m []byte) ([]byte, error) {
			sig := make([]byte, mldsa44.SignatureSize)
			return sig, mldsa44.SignTo(pq, m, nil, false, sig)
		}},
	}
}

func publicKeys() (out []tlog.Key) {
	for _, k := range logKeys() {
		out = append(out, k.Key)
	}
	return out
}

func newWorld(t testing.TB, queue int) *world {
	w := &world{log: &hooked{Log: mem.NewLog(1 << 30)}, reg: metrics.New(false)}
	w.tree = tree.Config{Log: w.log, KV: mem.NewKV(mem.KVConfig{}), Writer: nodeID}
	var level slog.LevelVar
	level.Set(slog.LevelError + 50) // off: the audit is written all the same
	w.Service = New(Config{
		Open: func(ctx context.Context) (*tree.Tree, func() error, error) {
			tr, _, err := tree.Open(ctx, w.tree, publicKeys()...)
			return tr, func() error { return nil }, err
		},
		Keys: func(string) ([]LogKey, error) {
			if w.sealed.Load() {
				return nil, errors.New("sealed")
			}
			return logKeys(), nil
		},
		Log: logs.New(&w.out, logs.Options{Format: logs.JSON, Level: &level}), Metrics: w.reg, Queue: queue,
	})
	return w
}

// records are what the log holds: one unbroken log.
func (w *world) records(t *testing.T) []*tlog.Record {
	t.Helper()
	tr, _, err := tree.Open(t.Context(), w.tree, publicKeys()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Verify(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	rows, _, _, err := tr.Query(t.Context(), tree.Query{Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var out []*tlog.Record
	for _, r := range rows {
		out = append(out, r.Record)
	}
	return out
}

func (w *world) serve(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (w *world) wantMetric(t *testing.T, line string) {
	t.Helper()
	_, body, err := w.reg.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), line+"\n") {
		t.Errorf("metrics lack %q", line)
	}
}

func event(i int) macronode.AuditEvent {
	return macronode.AuditEvent{Stream: []string{"node", "tenant/a"}[i%2], Kind: "object.put", Actor: "node", Subject: fmt.Sprint("object/", i), Attrs: map[string]any{"i": i}}
}

func TestRecordsFormChains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.serve(t)
		for i := range 5 {
			w.Record(event(i))
		}
		if err := w.Append(t.Context(), event(5)); err != nil {
			t.Fatal(err)
		}
		rs := w.records(t) // written when Append returned
		if len(rs) != 6 || rs[5].Subject != "object/5" || rs[5].Attrs["i"] != int64(5) || rs[0].Writer != nodeID || rs[2].Prev != rs[0].Hash {
			t.Errorf("%d records: %+v", len(rs), rs)
		}
		w.wantMetric(t, "audit_appended_total 6")
		w.wantMetric(t, "audit_append_lag_seconds_count 6")
		w.wantMetric(t, `queue_depth{queue="audit"} 0`)
		w.wantMetric(t, "audit_tree_size 6")
		if n := strings.Count(w.out.String(), `"event":"audit"`); n != 6 {
			t.Errorf("%d lines for 6 records", n)
		}
		for i := range 3 { // what is queued when the service stops is written
			w.Record(event(i))
		}
		w.stop()
		if n := len(w.records(t)); n != 9 {
			t.Errorf("%d records after the stop", n)
		}
		w.serve(t) // a second run goes on where the first ended
		if err := w.Append(t.Context(), event(9)); err != nil {
			t.Error(err)
		}
		w.stop()
		w.records(t)
	})
}

func TestAFullQueueShedsRecordsAndRefusesAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		for i := range 5 {
			w.Record(event(i))
		}
		w.wantMetric(t, "audit_shed_total 3")
		if w.Ready(t.Context()) == nil {
			t.Error("ready with a full queue")
		}
		begin := time.Now()
		err := w.Append(t.Context(), event(5))
		if macronode.KindOf(err) != macronode.Overload || time.Since(begin) != room {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Append(ctx, event(5)); macronode.KindOf(err) != macronode.Overload {
			t.Errorf("%v", err)
		}
		w.serve(t)
		if err := w.Append(t.Context(), event(6)); err != nil || w.Ready(t.Context()) != nil {
			t.Error(err)
		}
		w.stop()
		// Two that were queued, one that was waited for, and that five were not kept.
		rs := w.records(t)
		if len(rs) != 4 {
			t.Fatalf("%d records", len(rs))
		}
		shed := slices.IndexFunc(rs, func(r *tlog.Record) bool { return r.Kind == ShedKind })
		if shed < 0 || rs[shed].Attrs["count"] != int64(5) {
			t.Errorf("what was not kept is not on record: %+v", rs)
		}
	})
}

// An Append that was told no is not on record later.
func TestAbandonedAppendsAreNeverWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Append(ctx, event(0)); macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%v", err)
		}
		begin := time.Now()
		if err := w.Append(t.Context(), event(1)); macronode.KindOf(err) != macronode.Unavailable || time.Since(begin) != patience {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		w.serve(t)
		if err := w.Append(t.Context(), event(2)); err != nil {
			t.Error(err)
		}
		w.stop()
		if rs := w.records(t); len(rs) != 1 || rs[0].Subject != "object/2" {
			t.Errorf("%d records", len(rs))
		}
	})
}

func TestAppendBeingWrittenIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		hold := make(chan struct{})
		w.log.sync = func() error { <-hold; return nil }
		w.serve(t)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error, 1)
		go func() { got <- w.Append(ctx, event(0)) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("it answered %v while the record was being written", err)
		default:
		}
		close(hold)
		if err := <-got; err != nil {
			t.Error(err)
		}
		w.stop()
	})
}

func TestWriteFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		broken := errors.New("EIO")
		w.log.stage = func() error { return broken }
		w.serve(t)
		err := w.Append(t.Context(), event(0))
		if macronode.KindOf(err) != macronode.Unavailable || !errors.Is(err, broken) || strings.Contains(macronode.AsError(err).Detail, "EIO") {
			t.Errorf("%v", err)
		}
		w.log.stage = func() error { return store.ErrFull }
		if err := w.Append(t.Context(), event(0)); macronode.KindOf(err) != macronode.DiskFull {
			t.Errorf("%v", err)
		}
		w.log.stage = nil
		if err := w.Append(t.Context(), event(1)); err != nil {
			t.Error(err)
		}
		w.stop()
		// Those that failed left no gap.
		if rs := w.records(t); len(rs) != 1 || rs[0].Seq != 0 {
			t.Errorf("%+v", rs)
		}

		// Where a sync fails nobody knows what is kept: the waiter is told no, and the
		// supervisor that the log is to be opened again.
		w.log.sync = func() error { return broken }
		ended := make(chan error, 1)
		go func() { ended <- w.Serve(t.Context()) }()
		if err := w.Append(t.Context(), event(2)); macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%v", err)
		}
		if err := <-ended; !errors.Is(err, broken) {
			t.Errorf("the supervisor is told %v", err)
		}
		if err := w.Ready(t.Context()); err == nil {
			t.Error("ready without a log")
		}

		// A panic reaches the supervisor, and the waiter is told no.
		w.log.sync = func() error { panic("boom") }
		panicked := make(chan any, 1)
		go func() {
			defer func() { panicked <- recover() }()
			_ = w.Serve(t.Context())
		}()
		if err := w.Append(t.Context(), event(3)); macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%v", err)
		}
		if v := <-panicked; v != "boom" {
			t.Errorf("recovered %v", v)
		}
	})
}

// TestCheckpoints: what is recorded is under a signed checkpoint soon, and at the
// latest when the service stops; without a key records go on, and the service says
// that it is not ready.
func TestCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.serve(t)
		size := func() uint64 {
			if p := w.Service.tree.Load().Published(); p != nil {
				return p.Size
			}
			return 0
		}
		if err := w.Append(t.Context(), event(0)); err != nil {
			t.Fatal(err)
		}
		<-time.After(defaultInterval + time.Millisecond)
		if size() != 1 {
			t.Errorf("a checkpoint of %d", size())
		}
		w.sealed.Store(true)
		if err := w.Append(t.Context(), event(1)); err != nil || w.Ready(t.Context()) != nil {
			t.Fatal(err)
		}
		<-time.After(unsignedLimit + time.Second)
		if size() != 1 || w.Ready(t.Context()) == nil {
			t.Errorf("a checkpoint of %d without a key, ready", size())
		}
		w.sealed.Store(false)
		<-time.After(time.Second)
		if err := w.Ready(t.Context()); size() != 2 || err != nil {
			t.Errorf("a checkpoint of %d, %v", size(), err)
		}
		w.wantMetric(t, "audit_checkpoints_total 2")
		w.Record(event(2))
		w.stop()
		tr, _, err := tree.Open(t.Context(), w.tree, publicKeys()...)
		if err != nil || tr.Published().Size != 3 || len(tr.Published().By) != 2 {
			t.Errorf("the last checkpoint: %+v, %v", tr.Published(), err)
		}
	})
}

func TestHostileEventsStillBecomeRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.serve(t)
		long := strings.Repeat("ü\x01", 5000)
		many, same := map[string]any{}, map[string]any{}
		for i := range 500 {
			many[fmt.Sprint(i)] = long
			same[fmt.Sprint(long, i)] = 1
		}
		for _, e := range []macronode.AuditEvent{
			{Stream: "node", Kind: "a", Subject: long, Actor: long, Reason: long},
			{Stream: "node", Kind: "b", Subject: "bad \xff utf-8", Attrs: map[string]any{"\xfe": "\xfd", "ok": true, "no": false, "u": uint32(7)}},
			{Stream: "node", Kind: "c", Attrs: many},
			{Stream: "node", Kind: "d", Attrs: map[string]any{"float": 1.5}},
			{Stream: "node", Kind: "e", Attrs: same},
			{Stream: long, Kind: long, Subject: long, Actor: long, Reason: long, Attrs: many},
			{},
		} {
			if err := w.Append(t.Context(), e); err != nil {
				t.Errorf("%.10s: %v", e.Kind, err)
			}
		}
		w.stop()
		rs := w.records(t)
		if len(rs) != 7 || rs[4].Attrs["cut"] != int64(499) || rs[1].Attrs["ok"] != int64(1) || rs[1].Attrs["no"] != int64(0) || rs[1].Attrs["u"] != int64(7) || rs[2].Attrs["cut"] != int64(500) {
			t.Errorf("%d records", len(rs))
		}
	})
}

func TestRefusalStormsAreFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10000)
		w.serve(t)
		<-time.After(time.Second - time.Duration(time.Now().Nanosecond())) // the beginning of a second
		refuse := func(n int, stream, reason, net string) {
			for range n {
				w.Record(macronode.AuditEvent{Stream: stream, Kind: "object.put", Reason: reason, Attrs: map[string]any{"net": net}})
			}
		}
		refuse(FoldAbove+30, "tenant/a", "quota_rate", "192.0.2.0/24")
		refuse(20, "tenant/b", "quota_rate", "192.0.2.0/24")
		refuse(10, "tenant/b", "quota_rate", "198.51.100.0/24")
		refuse(5, "tenant/b", "denied", "")
		for i := range 3 {
			w.Record(event(i)) // no refusals are never folded
		}
		<-time.After(1500 * time.Millisecond)
		refuse(1, "tenant/a", "quota_rate", "") // a new second: its own record again
		w.stop()
		var own, ok int
		folds := map[string]any{}
		for _, r := range w.records(t) {
			switch {
			case r.Kind == FoldedKind:
				folds[fmt.Sprint(r.Stream, " ", r.Attrs["net"])] = r.Attrs["count"]
			case r.Reason == "":
				ok++
			default:
				own++
			}
		}
		if own != FoldAbove+5+1 || ok != 3 {
			t.Errorf("%d refusals of their own, %d others", own, ok)
		}
		want := map[string]any{"tenant/a 192.0.2.0/24": int64(30), "tenant/b 192.0.2.0/24": int64(20), "tenant/b 198.51.100.0/24": int64(10)}
		if fmt.Sprint(folds) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", folds, want)
		}
		w.wantMetric(t, "audit_folded_total 60")
	})
}

// Every refusal is counted once, and memory stays bounded, whatever streams a
// flood names.
func TestFoldsAreBounded(t *testing.T) {
	f := folder{folded: metrics.New(false).Counter("x_total", "X.")}
	f.above.Store(FoldAbove)
	now := time.Unix(100, 0)
	var own, n int64
	for i := range 3 * maxFolds {
		n++
		if !f.take(&macronode.AuditEvent{Stream: fmt.Sprint("tenant/", i), Reason: "denied"}, now) {
			own++
		}
	}
	if len(f.counts) > maxFolds+1 {
		t.Errorf("%d counts kept", len(f.counts))
	}
	if len(f.over(100)) != 0 {
		t.Error("the present second is over")
	}
	for _, o := range f.over(101) {
		own += o.n
	}
	if own != n || len(f.counts) != 0 {
		t.Errorf("%d of %d counted, %d kept", own, n, len(f.counts))
	}
}

func BenchmarkRecord(b *testing.B) {
	w := newWorld(b, 1<<20)
	w.cfg.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Serve(ctx) }()
	e := event(0)
	b.ReportAllocs()
	for b.Loop() {
		w.Record(e)
	}
	cancel()
	<-done
}
