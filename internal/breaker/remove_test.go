// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package breaker

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/metrics"
)

// A breaker that was taken away is not shown, reports nothing more, and leaves its
// name to another.
func TestRemove(t *testing.T) {
	m := metrics.New(false)
	told := 0
	r := NewRegistry(m, func(Change) { told++ })
	b := r.Add(Config{Name: "peer", Failures: 1})
	r.Remove("peer")
	r.Remove("peer")
	if err := b.Force(ForcedOpen, 0, "late"); err != nil {
		t.Fatal(err)
	}
	_, text, err := m.Expose("")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `dependency="peer"`) || told != 0 || len(r.Statuses()) != 0 {
		t.Errorf("told %d times, %d are shown", told, len(r.Statuses()))
	}
	if _, err := r.Get("peer"); err == nil {
		t.Error("it is there")
	}
	r.Add(Config{Name: "peer"})
}
