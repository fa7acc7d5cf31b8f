// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/tlog"
)

// Who collects notes learns which of the records is its own, and gets it with a proof
// that needs the keys alone.
func TestReceiptOfAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 100)
		w.serve(t)
		defer w.stop()
		for i := range 5 {
			w.Record(macronode.AuditEvent{Stream: "node", Kind: "noise"})
			var n macronode.RecordNotes
			ctx := macronode.WithRecordNotes(t.Context(), &n)
			if err := w.Append(ctx, macronode.AuditEvent{Stream: TenantStream(tenantA), Kind: "mine", Attrs: map[string]any{"n": int64(i)}}); err != nil {
				t.Fatal(err)
			}
			if _, ok := n.Last("node"); ok {
				t.Error("another's record was noted")
			}
			seq, ok := n.Last(TenantStream(tenantA))
			if all, ok2 := n.Last(""); !ok || !ok2 || all != seq {
				t.Fatalf("%d, %d", seq, all)
			}
			began := time.Now()
			text, err := w.Receipt(t.Context(), seq, 6<<10)
			if err != nil || text == "" {
				t.Fatalf("%q, %v", text, err)
			}
			if waited := time.Since(began); waited > 100*time.Millisecond {
				t.Errorf("a checkpoint came after %v", waited)
			}
			p, err := tlog.ParseCompact(text)
			if err != nil {
				t.Fatal(err)
			}
			r, _, err := p.Verify(publicKeys())
			if err != nil || r.Kind != "mine" || r.Attrs["n"] != int64(i) {
				t.Fatalf("%v, %v", r, err)
			}
			if text, err := w.Receipt(t.Context(), seq, len(text)-1); text != "" || err != nil {
				t.Errorf("one that does not fit: %d characters, %v", len(text), err)
			}
		}
		// An event that is not kept is not noted.
		var n macronode.RecordNotes
		ctx, cancel := context.WithCancel(macronode.WithRecordNotes(t.Context(), &n))
		cancel()
		if err := w.Append(ctx, macronode.AuditEvent{Stream: "node", Kind: "late"}); err == nil {
			t.Log("it was in time")
		} else if _, ok := n.Last(""); ok {
			t.Error("an event that was refused is noted")
		}
		if _, err := w.Receipt(t.Context(), 1000, 6<<10); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("a record that is not there: %v", err)
		}
	})
}
