// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// A change that is sent with Prefer: audit-receipt is answered with a proof that its
// record is in the log, on both wires, and who holds the log's keys believes it offline.
func TestPreferReceipt(t *testing.T) {
	n := beginDev(t)
	keys := n.audit.PublicKeys()
	prefer := macronode.Header{"Prefer": {"audit-receipt"}}
	for name, q := range map[string]ask{
		"object.post": {op: "object.post", body: "some bytes", header: prefer},
		"cap.mint":    {op: "cap.mint", header: prefer, cap: datadir.OperatorCapName, body: `{}`},
	} {
		for _, w := range []macronode.Wire{macronode.WireHTTP, macronode.WireOAP} {
			a := n.over(t, w, q)
			if a.status >= 300 || a.header.Get("Preference-Applied") != "audit-receipt" {
				t.Errorf("%s on wire %d: %d %s %s, %v", name, w, a.status, a.kind, a.detail, a.header)
				continue
			}
			p, err := tlog.ParseCompact(a.header.Get("Audit-Receipt"))
			if err != nil {
				t.Fatal(err)
			}
			r, s, err := p.Verify(keys)
			if err != nil || s.Origin != tree.Origin(n.nodeID) || r.Kind != name || len(s.By) != 2 {
				t.Errorf("%s on wire %d: %v, %+v", name, w, err, r)
			}
			if q.header = nil; n.over(t, w, q).header.Get("Audit-Receipt") != "" {
				t.Error("a receipt that nobody asked for")
			}
			q.header = prefer
		}
	}
}
