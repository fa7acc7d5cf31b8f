// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// TestPolicyQuotas proves that a bundle's quotas apply when it comes into force,
// and that what an operator changes afterwards holds over reload and restart.
func TestPolicyQuotas(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	ctx := t.Context()
	acme, err := n.operator(t).Tenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	sources := policy.InitSources(acme.ID)
	sources["quotas.toml"] = []byte("[default]\nobjects = 3\n\n[tenants.acme]\nobjects = 7\n")
	pinPolicy(t, o, 2, sources)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	objects := func(n *Node, tenant string) int64 {
		t.Helper()
		got, err := n.operator(t).Tenant(ctx, tenant)
		if err != nil {
			t.Fatal(err)
		}
		return got.Quota.Objects
	}
	if got := objects(n, "acme"); got != 7 {
		t.Errorf("the bundle gives acme 7 objects, it has %d", got)
	}
	if fresh, err := n.operator(t).CreateTenant(ctx, "fresh", nil, ""); err != nil || fresh.Quota.Objects != 3 || fresh.Quota.StoredBytes != macronode.NoLimit {
		t.Errorf("a new tenant gets the default: %+v %v", fresh.Quota, err)
	}
	nine := int64(9)
	if _, err := n.operator(t).SetQuota(ctx, "acme", client.QuotaChange{Objects: &nine}); err != nil {
		t.Fatal(err)
	}
	sign(t, o, true)
	if _, err := n.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if got := objects(n, "acme"); got != 9 {
		t.Errorf("after a reload of the same policy acme has %d objects", got)
	}
	end(t, n)
	if got := objects(begin(t, o), "acme"); got != 9 {
		t.Errorf("after a restart acme has %d objects", got)
	}
}
