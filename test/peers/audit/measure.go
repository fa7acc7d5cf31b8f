// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rustyonions/macronode/test/bench/drive"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/rounds"
	"github.com/rustyonions/macronode/tlog"
)

// Settings are what the environment says; scripts/bench.sh documents them.
type Settings struct {
	Records int      // of the large log
	Only    []string // names of the measurements; none: all
}

func (s *Settings) wants(name string) bool {
	return len(s.Only) == 0 || slices.Contains(s.Only, name)
}

// race is what the measurements share.
type race struct {
	plan rounds.Plan
	set  Settings
	sec  *report.Section
	dir  string
	next int
	max  float64 // records a second that were durably appended, at most
}

// Measure is the part of the report.
func Measure(ctx context.Context, plan rounds.Plan, set Settings) (_ *report.Section, err error) {
	r := &race{plan: plan, set: set, sec: &report.Section{Head: []string{"what", "who", "result", "range", "p50 ms", "p99 ms", "the node is", "goal", ""}}}
	r.sec.Note("Both in one process, each with a folder of its own on the same disk, %d rounds in turn, the order turned around each time, %s a run, medians. The node: package svc/audit with chain, tree, hybrid checkpoints (Ed25519 and "+
		"ML-DSA-44) every 100 ms, over package seglog and Pebble; an append returns once its record is durable. Events become entries of some 600 bytes: about 300 of the event, and the hashes, the writer's id and the names of members. "+
		"Tessera v1.0.4: `posix.New(posix.Config{Path})`, `NewAppendOptions().WithCheckpointSigner(s).WithBatching(SIZE, AGE).WithCheckpointInterval(1s)`, `Add(NewEntry(300 bytes))()`.", plan.Rounds, plan.Span)
	if r.dir, err = os.MkdirTemp(plan.Dir, "audit-"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"append", r.appends}, {"lag", r.lag}, {"cpu", r.cpu}, {"large", r.large}} {
		if set.wants(step.name) {
			if err := step.do(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", step.name, err)
			}
		}
	}
	return r.sec, nil
}

// folder is a new one.
func (r *race) folder() string {
	r.next++
	return filepath.Join(r.dir, fmt.Sprint(r.next))
}

// appends races both with 64 and with 1024 writers.
func (r *race) appends(ctx context.Context) error {
	for _, c := range []struct {
		writers int
		age     time.Duration
		goal    float64
	}{{64, 5 * time.Millisecond, 3}, {1024, 50 * time.Millisecond, 1.5}} {
		what := fmt.Sprintf("durable appends/s, %d writers", c.writers)
		batching := fmt.Sprintf("Tessera, WithBatching(%d, %s)", c.writers, c.age)
		var ours, theirs []report.Result
		var published []time.Duration
		for round := range r.plan.Rounds + 1 {
			turns := []func() error{
				func() error {
					got, waits, err := r.node(ctx, c.writers)
					if err == nil && round > 0 {
						ours, published = append(ours, got), append(published, waits...)
						r.max = max(r.max, got.Rate)
					}
					return err
				},
				func() error {
					got, err := r.tessera(ctx, c.writers, c.age)
					if err == nil && round > 0 {
						theirs = append(theirs, got)
					}
					return err
				},
			}
			if round%2 == 1 {
				slices.Reverse(turns)
			}
			for _, turn := range turns {
				if err := turn(); err != nil {
					return err
				}
			}
		}
		rate := func(x report.Result) float64 { return x.Rate }
		ratio := report.StatOf(ours, rate).Median / report.StatOf(theirs, rate).Median
		got, want := fmt.Sprintf("%.2f×", ratio), fmt.Sprintf("≥ %g×", c.goal)
		r.row(what, "macronode", ours, "", "", "")
		r.row(what, batching, theirs, got, want, r.sec.Judge(what, want, got, ratio >= c.goal))
		slices.Sort(published)
		p50, p99 := drive.Percentile(published, 50), drive.Percentile(published, 99)
		met := r.sec.Judge(what+": proved under a published checkpoint", "p99 ≤ 1 s", p99.String(), p99 <= time.Second)
		r.sec.Row("from the append's answer to a proof under a published checkpoint, meanwhile", "macronode", fmt.Sprintf("%d looked at", len(published)), "",
			fmt.Sprintf("%.1f", drive.Millis(p50)), fmt.Sprintf("%.1f", drive.Millis(p99)), "", "p99 ≤ 1 s", met)
		report.Say("%s: %s; published p99 %s", what, got, p99)
	}
	return nil
}

func (r *race) row(what, who string, runs []report.Result, cells ...string) {
	st := report.StatOf(runs, func(x report.Result) float64 { return x.Rate })
	at := func(f func(report.Result) float64) string { return fmt.Sprintf("%.2f", report.StatOf(runs, f).Median) }
	r.sec.Row(append([]string{what, who, report.Number(st.Median), report.Number(st.Low) + "-" + report.Number(st.High),
		at(func(x report.Result) float64 { return x.P50 }), at(func(x report.Result) float64 { return x.P99 })}, cells...)...)
	r.sec.Runs = append(r.sec.Runs, report.Run{Cell: what, Server: who, Rounds: runs})
}

// node has writers append and wait for each record. The first of them looks now and
// then how long it takes until its record is proved under a published checkpoint.
func (r *race) node(ctx context.Context, writers int) (got report.Result, waits []time.Duration, err error) {
	dir := r.folder()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := start(ctx, dir, 0)
	if err != nil {
		return got, nil, err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	looking, looked := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		var err error
		for looking.Err() == nil && err == nil {
			var wait time.Duration
			if wait, err = l.proved(looking); err == nil {
				waits = append(waits, wait)
			}
		}
		done <- err
	}()
	got, err = drive.Run(ctx, writers, r.plan.Span, func(ctx context.Context, w, call int) error {
		return l.Append(ctx, event(w<<20|call))
	})
	looked()
	if lerr := <-done; lerr != nil && looking.Err() == nil {
		err = errors.Join(err, lerr)
	}
	return got, waits, err
}

// proved appends a record and returns how long it then took until a published
// checkpoint proved it.
func (l *log) proved(ctx context.Context) (time.Duration, error) {
	t := l.tree.Load()
	if err := l.Append(ctx, event(0)); err != nil {
		return 0, err
	}
	begun := time.Now()
	seq := t.Durable() - 1 // the record, or one behind it
	for {
		grown := t.Grown()
		if p := t.Published(); p != nil && p.Size > seq {
			entry, err := t.Entry(ctx, seq)
			if err != nil {
				return 0, err
			}
			in, err := tlog.ProveInclusion(seq, p.Size, t)
			if err != nil {
				return 0, err
			}
			return time.Since(begun), in.Check(p.Checkpoint, entry)
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (r *race) tessera(ctx context.Context, writers int, age time.Duration) (got report.Result, err error) {
	dir := r.folder()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := startPeer(ctx, dir, uint(writers), age) //nolint:gosec // not negative
	if err != nil {
		return got, err
	}
	got, err = drive.Run(ctx, writers, r.plan.Span, func(ctx context.Context, w, call int) error { return p.add(ctx, entry(w, call)) })
	return got, errors.Join(err, p.stop())
}

// lag records at half of the highest rate that was reached, without waiting, and looks
// how long it takes until what was recorded is durable.
func (r *race) lag(ctx context.Context) (err error) {
	if r.max == 0 {
		got, _, err := r.node(ctx, 1024)
		if err != nil {
			return err
		}
		r.max = got.Rate
	}
	dir := r.folder()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := start(ctx, dir, 1<<16)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	t := l.tree.Load()
	type mark struct {
		at   time.Time
		size uint64
	}
	marks, lags := make(chan mark, 1<<16), make(chan []time.Duration, 1)
	go func() {
		var all []time.Duration
		for m := range marks {
			for t.Durable() < m.size && ctx.Err() == nil {
				grown := t.Grown()
				if t.Durable() < m.size {
					<-grown
				}
			}
			all = append(all, time.Since(m.at))
		}
		lags <- all
	}()
	const step = 2 * time.Millisecond
	size, begun := t.Size(), time.Now()
	first := size
	tick := time.NewTicker(step)
	for now := range tick.C {
		for due := first + uint64(now.Sub(begun).Seconds()*r.max/2); size < due; size++ {
			l.Record(event(int(size))) //nolint:gosec // small
		}
		marks <- mark{time.Now(), size}
		if now.Sub(begun) > r.plan.Span || ctx.Err() != nil {
			break
		}
	}
	tick.Stop()
	close(marks)
	all := <-lags
	slices.Sort(all)
	p99 := drive.Percentile(all, 99)
	r.sec.Row("from an event to its durable record, at half of the highest rate", "macronode", report.Number(r.max/2)+" records/s", "", fmt.Sprintf("%.2f", drive.Millis(drive.Percentile(all, 50))),
		fmt.Sprintf("%.2f", drive.Millis(p99)), "", "p99 ≤ 500 ms", r.sec.Judge("ingest lag", "p99 ≤ 500 ms", p99.String(), p99 <= 500*time.Millisecond))
	return ctx.Err()
}

// cpu is the processor time that recording takes of who records, thread by thread.
func (r *race) cpu(ctx context.Context) (err error) {
	dir := r.folder()
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := start(ctx, dir, 1<<16)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.stop()) }()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const calls = 20_000
	var nanos []float64
	for range r.plan.Rounds {
		before, err := threadTime()
		if err != nil {
			return err
		}
		for i := range calls {
			l.Record(event(i))
		}
		after, err := threadTime()
		if err != nil {
			return err
		}
		nanos = append(nanos, float64(after-before)/calls)
		if err := l.Append(ctx, event(0)); err != nil { // the queue is empty again
			return err
		}
	}
	st := report.StatOf(nanos, func(x float64) float64 { return x / 1000 })
	r.sec.Row("processor time of who records, µs a record, the event's making included", "macronode", fmt.Sprintf("%.2f", st.Median), fmt.Sprintf("%.2f-%.2f", st.Low, st.High), "", "", "", "≤ 5 µs",
		r.sec.Judge("request path", "≤ 5 µs", fmt.Sprintf("%.2f µs", st.Median), st.Median <= 5))
	return nil
}

func threadTime() (time.Duration, error) {
	var u syscall.Rusage
	const thread = 1 // RUSAGE_THREAD
	err := syscall.Getrusage(thread, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// binary is the node's client.
func (r *race) binary() (string, error) {
	if strings.TrimSpace(r.plan.Bin) == "" {
		return "", errors.New("MACRONODE_BIN is not set")
	}
	return filepath.Join(r.plan.Bin, "ronctl"), nil
}
