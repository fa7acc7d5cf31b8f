// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"fmt"
	"time"

	"github.com/rustyonions/macronode/internal/svc/audit/tree"
)

// pump hands one sink its records.
type pump struct {
	f    *Forwarder
	log  Log
	t    Target
	next uint64
	read bool // next is the cursor

	pause time.Duration
}

// step hands over a batch, or waits until there is one.
func (p *pump) step(ctx context.Context) {
	grown := p.log.Grown()
	rows, err := p.batch(ctx)
	if err == nil && len(rows) == 0 {
		p.note(func(s *state) { s.behind, s.failing, s.err = time.Time{}, time.Time{}, nil })
		if wait(ctx, grown, 0) {
			wait(ctx, nil, linger)
		}
		return
	}
	refused := 0
	if err == nil {
		refused, err = p.deliver(ctx, rows)
	}
	if err == nil {
		last := rows[len(rows)-1].Record.Seq
		// Also where ctx ended just now: the sink has them.
		err = p.log.SetCursor(context.WithoutCancel(ctx), p.t.Name, last+1)
		if err == nil {
			p.next, p.pause = last+1, 0
		}
	}
	if ctx.Err() != nil && err != nil {
		return
	}
	if err != nil {
		p.failed(ctx, err)
		return
	}
	p.f.delivered.WithLabelValues(p.t.Name).Add(float64(len(rows)))
	if refused > 0 {
		p.f.refused.WithLabelValues(p.t.Name).Add(float64(refused))
		p.f.cfg.Log.Warn("a sink will never take some audit records", "event", "audit_sink", "sink", p.t.Name, "refused", refused)
	}
	p.note(func(s *state) {
		if !s.failing.IsZero() {
			p.f.cfg.Log.Info("a sink takes audit records again", "event", "audit_sink", "sink", p.t.Name)
		}
		s.next, s.failing, s.err = p.next, time.Time{}, nil
	})
}

func (p *pump) note(g func(*state)) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	g(p.f.state(p.t.Name))
}

// batch is what comes next.
func (p *pump) batch(ctx context.Context) ([]tree.Row, error) {
	if !p.read {
		next, err := p.log.Cursor(ctx, p.t.Name)
		if err != nil {
			return nil, err
		}
		p.next, p.read = next, true
		p.note(func(s *state) { s.next, s.known = next, true })
	}
	rows, _, _, err := p.log.Query(ctx, tree.Query{From: p.next, Limit: maxBatch})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	p.note(func(s *state) { s.behind = time.UnixMilli(rows[0].Record.TSMilli) })
	bytes := 0
	for i := range rows {
		if bytes += len(rows[i].Entry); bytes > maxBatchBytes && i > 0 {
			return rows[:i], nil
		}
	}
	return rows, nil
}

// deliver gives rows to the sink, within a time, and contains its panics.
func (p *pump) deliver(ctx context.Context, rows []tree.Row) (refused int, err error) {
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return p.t.Sink.Deliver(ctx, rows)
}

// failed notes it, and waits.
func (p *pump) failed(ctx context.Context, err error) {
	p.f.failures.WithLabelValues(p.t.Name).Inc()
	p.note(func(s *state) {
		if s.failing.IsZero() {
			s.failing = p.f.cfg.Now()
			p.f.cfg.Log.Warn("a sink takes no audit records; it is tried again, and nothing is lost", "event", "audit_sink", "sink", p.t.Name, "error", err)
		}
		s.err = err
	})
	p.pause = min(max(2*p.pause, pauseFirst), pauseMost)
	wait(ctx, nil, p.pause)
}

// wait returns true once grown is closed or d, where it is not 0, has passed; false
// where ctx ended.
func wait(ctx context.Context, grown <-chan struct{}, d time.Duration) bool {
	var due <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-grown:
	case <-due:
	case <-ctx.Done():
		return false
	}
	return true
}
