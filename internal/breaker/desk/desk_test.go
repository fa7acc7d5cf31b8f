// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package desk

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/svc/ops"
)

// recorder is an audit log that may take nothing.
type recorder struct {
	full   bool
	events []macronode.AuditEvent
}

func (r *recorder) Record(macronode.AuditEvent) {}
func (r *recorder) Append(_ context.Context, e macronode.AuditEvent) error {
	if r.full {
		return errors.New("full")
	}
	r.events = append(r.events, e)
	return nil
}

func TestForce(t *testing.T) {
	r := breaker.NewRegistry(metrics.New(false), nil)
	b := r.Add(breaker.Config{Name: "metadata", Required: true})
	r.Add(breaker.Config{Name: "policy_source", MaxHeldOpen: time.Second})
	log := &recorder{full: true}
	d := New(r, log)
	force := func(f ops.BreakerForce) (ops.BreakerStatus, error) { return d.Force(t.Context(), "cap:1", f) }

	if _, err := force(ops.BreakerForce{Name: "metadata", State: "open"}); macronode.KindOf(err) != macronode.Unavailable || b.Check() != nil {
		t.Fatalf("what cannot be recorded is done: %v", err)
	}
	log.full = false
	for _, c := range []struct {
		f    ops.BreakerForce
		want macronode.Kind
	}{
		{ops.BreakerForce{Name: "none", State: "open"}, macronode.NotFound},
		{ops.BreakerForce{Name: "metadata", State: "half_open"}, macronode.Invalid},
		{ops.BreakerForce{Name: "metadata"}, macronode.Invalid},
		{ops.BreakerForce{Name: "policy_source", State: "open", For: time.Minute}, macronode.Invalid},
	} {
		if _, err := force(c.f); macronode.KindOf(err) != c.want {
			t.Errorf("%+v: %v", c.f, err)
		}
	}
	if len(log.events) != 0 {
		t.Errorf("what is refused is on record: %+v", log.events)
	}
	s, err := force(ops.BreakerForce{Name: "metadata", State: "open", For: time.Minute, Reason: "a test"})
	if err != nil || s.State != "open" || s.Mode != "open" || s.Reason != "a test" || s.UntilMS-s.SinceMS != 60_000 || b.Check() == nil {
		t.Errorf("%+v, %v", s, err)
	}
	if len(log.events) != 1 || log.events[0].Kind != "breaker.force" || log.events[0].Actor != "cap:1" ||
		log.events[0].Attrs["dependency"] != "metadata" || log.events[0].Attrs["state"] != "open" || log.events[0].Attrs["for_ms"] != int64(60_000) {
		t.Errorf("%+v", log.events)
	}
	if s, err = force(ops.BreakerForce{Name: "metadata", State: "auto"}); err != nil || s.State != "closed" || s.Mode != "auto" || b.Check() != nil {
		t.Errorf("%+v, %v", s, err)
	}
	// Held off without a time, what the operator needs comes back by itself.
	if s, err = force(ops.BreakerForce{Name: "policy_source", State: "open"}); err != nil || s.UntilMS-s.SinceMS != 1000 {
		t.Errorf("%+v, %v", s, err)
	}
	list := d.Breakers()
	if len(list) != 2 || list[0].Name != "metadata" || !list[0].Required || list[1].State != "open" {
		t.Errorf("%+v", list)
	}
}
