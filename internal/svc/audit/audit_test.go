// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/tlog"
)

// sink is where log lines go; the test can make it fail, panic or block.
type sink struct {
	mu   sync.Mutex
	b    bytes.Buffer
	do   func() error
	hold chan struct{}
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hold != nil {
		<-s.hold
	}
	if s.do != nil {
		if err := s.do(); err != nil {
			return 0, err
		}
	}
	return s.b.Write(p)
}

// records parses the lines and checks that they are one unbroken log.
func (s *sink) records(t *testing.T) []*tlog.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*tlog.Record
	c := tlog.Chain{Whole: true}
	for line := range strings.Lines(s.b.String()) {
		var l struct {
			Event, Service, Level string
			Record                json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Event != "audit" || l.Service != Name {
			t.Fatalf("%v: %s", err, line)
		}
		r, err := tlog.Parse(l.Record)
		if err != nil {
			t.Fatalf("%v: %s", err, l.Record)
		}
		if err := c.Add(r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

type world struct {
	*Service
	out  *sink
	reg  *metrics.Registry
	stop func()
}

func newWorld(t *testing.T, queue int) *world {
	w := &world{out: &sink{}, reg: metrics.New(false)}
	var level slog.LevelVar
	level.Set(slog.LevelError + 50) // off: the audit is written all the same
	w.Service = New(Config{Writer: "b3:00", Log: logs.New(w.out, logs.Options{Format: logs.JSON, Level: &level}), Metrics: w.reg, Queue: queue})
	return w
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
		rs := w.out.records(t) // written when Append returned
		if len(rs) != 6 || rs[5].Subject != "object/5" || rs[5].Attrs["i"] != int64(5) || rs[0].Writer != "b3:00" || rs[2].Prev != rs[0].Hash {
			t.Errorf("%d records: %+v", len(rs), rs)
		}
		w.wantMetric(t, "audit_appended_total 6")
		w.wantMetric(t, "audit_append_lag_seconds_count 6")
		w.wantMetric(t, `queue_depth{queue="audit"} 0`)
		for i := range 3 { // what is queued when the service stops is written
			w.Record(event(i))
		}
		w.stop()
		if n := len(w.out.records(t)); n != 9 {
			t.Errorf("%d records after the stop", n)
		}
		w.serve(t) // a second run goes on where the first ended
		if err := w.Append(t.Context(), event(9)); err != nil {
			t.Error(err)
		}
		w.stop()
		w.out.records(t)
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
		if n := len(w.out.records(t)); n != 3 {
			t.Errorf("%d records", n)
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
		if rs := w.out.records(t); len(rs) != 1 || rs[0].Subject != "object/2" {
			t.Errorf("%d records", len(rs))
		}
	})
}

func TestAppendBeingWrittenIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		w.out.hold = make(chan struct{})
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
		close(w.out.hold)
		if err := <-got; err != nil {
			t.Error(err)
		}
		w.stop()
	})
}

func TestWriteFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		broken := errors.New("EPIPE")
		w.out.do = func() error { return broken }
		w.serve(t)
		err := w.Append(t.Context(), event(0))
		if macronode.KindOf(err) != macronode.Unavailable || !errors.Is(err, broken) || strings.Contains(macronode.AsError(err).Detail, "EPIPE") {
			t.Errorf("%v", err)
		}
		w.out.do = nil
		if err := w.Append(t.Context(), event(1)); err != nil {
			t.Error(err)
		}
		w.stop()
		// The failed one left no gap.
		if rs := w.out.records(t); len(rs) != 1 || rs[0].Seq != 0 {
			t.Errorf("%+v", rs)
		}

		// A panic reaches the supervisor, and the waiter is told no.
		w.out.do = func() error { panic("boom") }
		panicked := make(chan any, 1)
		go func() {
			defer func() { panicked <- recover() }()
			_ = w.Serve(t.Context())
		}()
		if err := w.Append(t.Context(), event(2)); macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%v", err)
		}
		if v := <-panicked; v != "boom" {
			t.Errorf("recovered %v", v)
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
		rs := w.out.records(t)
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
		for _, r := range w.out.records(t) {
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
	s := New(Config{Writer: "b3:00", Metrics: metrics.New(false), Queue: 1 << 20})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(ctx) }()
	e := event(0)
	b.ReportAllocs()
	for b.Loop() {
		s.Record(e)
	}
	cancel()
	<-done
}
