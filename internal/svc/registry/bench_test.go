// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"fmt"
	"testing"

	"github.com/rustyonions/macronode/registry"
)

// BenchmarkLookup is a descriptor by its name, of a thousand that are registered.
func BenchmarkLookup(b *testing.B) {
	w := newWorld(b)
	var changes []registry.Change
	for i := range 1000 {
		changes = append(changes, w.put(node(fmt.Sprintf("n%d", i))))
		if len(changes) == 50 {
			w.must(w.commit(w.proposal(changes...), "b", "c"))
			changes = nil
		}
	}
	params := map[string]string{"kind": "node", "name": "n500"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.call("registry.descriptor", params, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCommit is a proposal with two approvals, from proposing to the commit.
func BenchmarkCommit(b *testing.B) {
	w := newWorld(b)
	i := 0
	for b.Loop() {
		i++
		d := node("x")
		d.Labels = map[string]string{"n": fmt.Sprint(i)}
		w.must(w.commit(w.proposal(w.put(d)), "b", "c"))
	}
}
