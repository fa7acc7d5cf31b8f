// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

func TestCover(t *testing.T) {
	src := rules(`@id("data") permit (principal in Tenant::"` + devTenant.String() + `", action in Action::"data", resource);
@id("small") permit (principal in Tenant::"` + devTenant.String() + `", action == Action::"object:put", resource) when { context.bytes < 10 };
@id("plain") forbid (principal, action == Action::"object:put", resource) unless { context.tls };
@id("other") forbid (principal, action == Action::"object:delete", resource);`)
	src[payload.TestsFile] = []byte(`[tenants]
dev = "` + devTenant.String() + `"
[[test]]
name = "put"
tenant = "dev"
action = "object:put"
resource = "object/"
bytes = 50
expect = "allow"
[[test]]
name = "plain"
tenant = "dev"
action = "object:put"
resource = "object/"
tls = false
expect = "deny"
[[test]]
name = "wrong"
tenant = "dev"
action = "object:delete"
resource = "object/"
expect = "allow"
`)
	// Build would refuse it for the test that fails.
	b, err := payload.Assemble(src, payload.Meta{Version: 1, Issued: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	rep, c, err := Cover(b)
	if err != nil || rep.Passed != 2 || rep.Failed != 1 {
		t.Fatalf("%+v %v", rep, err)
	}
	want := map[string]string{
		"data":  "[put] [plain] [] false",
		"small": "[] [plain] [put] true",
		"plain": "[plain] [] [put] true",
		"other": "[] [] [] false",
	}
	for _, p := range c.Policies {
		if got := fmt.Sprint(p.DecidedBy, p.MatchedBy, p.Missed, p.Conditions); got != want[p.ID] {
			t.Errorf("%s: %s, want %s", p.ID, got, want[p.ID])
		}
	}
	if c.Decided != 2 || c.Percent != 50 {
		t.Errorf("%d decided, %d%%", c.Decided, c.Percent)
	}
	if _, c, err := Cover(mustBuild(t, rules(""))); err != nil || c.Percent != 100 {
		t.Errorf("no policies: %+v %v", c, err)
	}
}
