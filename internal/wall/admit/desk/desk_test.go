// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package desk

import (
	"context"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/metrics"
)

// TestRefusalIsTold: a refusal becomes an event with its cause, and the document
// says what would end it.
func TestRefusalIsTold(t *testing.T) {
	reg := metrics.New(false)
	events := bus.New(reg, nil, nil, nil)
	c, stop := Start(1, reg, events)
	tn := &macronode.Tenant{ID: macronode.TenantID{1}, Label: "acme", Quota: macronode.UnlimitedQuota()}
	b := &macronode.Binding{Op: "thing.get", Class: macronode.CoreRead}
	place, err := c.Admit(t.Context(), tn, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Admit(t.Context(), tn, b, 0); macronode.KindOf(err) != macronode.Overload {
		t.Fatalf("%v", err)
	}
	page, _, _ := events.After(0, 10)
	if len(page) != 1 || page[0].String() != "KernelEvent::Admission{class=core_read, state=shedding, cause=max_inflight}" {
		t.Errorf("%v", page)
	}
	d := Document(c)
	if k := d.Classes[0]; k.Class != "core_read" || k.State != "shedding" || k.Cause != "max_inflight" || k.Why == "" || k.Ends == "" || k.Refused != 1 {
		t.Errorf("%+v", k)
	}
	if d.Working != 1 || d.MaxInflight != 1 || d.Classes[1].State != "open" || d.Classes[1].Why != "" {
		t.Errorf("%+v", d)
	}
	place.Release(1000, true)
	if d := Document(c); d.TopTenant != "acme" || d.TopShare != 100 {
		t.Errorf("%+v", d)
	}
	if err := stop(context.Background()); err != nil {
		t.Error(err)
	}
}
