// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/wall/why"
)

// A refusal's corr_id, as its caller got it, leads the operator to its reason, on a
// running node; a tenant learns nothing of it.
func TestWhy(t *testing.T) {
	n := beginDev(t)
	op, tenant := n.operator(t), n.tenant(t)
	ctx := t.Context()
	_, err := op.Put(ctx, strings.NewReader("the operator stores nothing"), client.PutOptions{})
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || refused.Code != "denied" {
		t.Fatal(err)
	}
	doc, err := op.Why(ctx, refused.CorrID)
	if err != nil {
		t.Fatal(err)
	}
	var r why.Report
	if err := json.Unmarshal(doc, &r); err != nil || len(r.Refusals) != 1 {
		t.Fatalf("%s %v", doc, err)
	}
	e := r.Refusals[0]
	if e.Stage != "policy" || e.TenantLabel != "system" || e.Action != "object:put" || e.Net != "127.0.0.0/24" || e.Policy == nil || e.Policy.Changed || e.Policy.Nearest == nil || len(e.PassesIf) == 0 {
		t.Errorf("%s", doc)
	}
	// The operator's own permit fits but for the deed.
	if g := e.Policy.Nearest; g.ID != "operator" || len(g.Misses) != 1 || g.Misses[0].Part != "action" {
		t.Errorf("nearest: %+v", g)
	}
	if strings.Contains(string(doc), n.token(t, "operator.cap")) {
		t.Error("the token is in it")
	}
	if _, err := op.Why(ctx, "never"); code(err) != "Not Found not_found" || !strings.Contains(err.Error(), "1 of known callers from") {
		t.Error(err)
	}
	if _, err := tenant.Why(ctx, refused.CorrID); code(err) != "Forbidden denied" {
		t.Error(err)
	}
	forged, err := client.Dial(n.endpoints().HTTP, client.Options{Token: "ron1_AAAA", Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer forged.Close()
	_, err = forged.List(ctx, "", "", 1)
	if refused, ok = errors.AsType[*client.Error](err); !ok {
		t.Fatal(err)
	}
	if doc, err = op.Why(ctx, refused.CorrID); err != nil || !strings.Contains(string(doc), `"stage":"auth"`) || strings.Contains(string(doc), "AAAA") {
		t.Errorf("%s %v", doc, err)
	}
}
