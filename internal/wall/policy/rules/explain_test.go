// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/wall/policy/payload"
)

func TestExplain(t *testing.T) {
	src := rules(`@id("readers") @obligation("audit=data")
permit (principal in Tenant::"` + devTenant.String() + `", action in Action::"data:read", resource)
when { context.tls } unless { context.bytes > 10 };
@id("sys") permit (principal in Tenant::"00000000000000000000000001", action in Action::"operate", resource);
@id("night") forbid (principal, action == Action::"object:get", resource) when { context.hour < 6 };
@id("sum") forbid (principal, action == Action::"name:get", resource) when { context.bytes + 9223372036854775807 > 0 };`)
	src[payload.TestsFile] = []byte("[tenants]\ndev = \"" + devTenant.String() + "\"\n")
	built := mustBuild(t, src)
	no := false
	base := payload.Request{Tenant: "dev", Action: "object:get", Resource: "object/a", Hour: 12}
	for name, tc := range map[string]struct {
		change   func(*payload.Request)
		decision string
		reasons  []string
		errors   []string
		summary  string
		near     string // "ID: lacks"
	}{
		"allowed": {func(*payload.Request) {}, "allow", []string{"readers"}, nil, "readers permits", "night: when { context.hour < 6 }"},
		"forbidden": {func(r *payload.Request) { r.Hour = 3 }, "deny", []string{"night"}, nil, "night forbids",
			`sys: principal, action`},
		"condition": {func(r *payload.Request) { r.TLS = &no }, "deny", nil, nil, "no policy permits", `readers: when { context.tls }`},
		"second condition": {func(r *payload.Request) { r.Bytes = 11 }, "deny", nil, nil, "no policy permits",
			`readers: unless { context.bytes > 10 }`},
		"tenant":         {func(r *payload.Request) { r.Tenant = "01ARZ3NDEKTSV4RRFFQ69G5FAV" }, "deny", nil, nil, "no policy permits", "readers: principal"},
		"action":         {func(r *payload.Request) { r.Action = "object:put" }, "deny", nil, nil, "no policy permits", "readers: action"},
		"failure":        {func(r *payload.Request) { r.Action, r.Resource, r.Bytes = "name:get", "name/x", 1 }, "error", nil, []string{"sum"}, "failed to evaluate", `sys: principal, action`},
		"unknown action": {func(r *payload.Request) { r.Action = "object:gett" }, "deny", nil, nil, `did you mean "object:get"`, ""},
		"kind":           {func(r *payload.Request) { r.Resource = "key/x" }, "deny", nil, nil, "does not let object:get apply to Capability and Key", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := base
			tc.change(&r)
			e, err := Explain(built, r)
			if err != nil {
				t.Fatal(err)
			}
			var reasons, errs []string
			for _, x := range e.Reasons {
				reasons = append(reasons, x.ID)
				if x.File != "a.cedar" || x.Line == 0 || (x.Effect == "forbid") == (e.Decision == "allow") {
					t.Errorf("%+v", x)
				}
			}
			for _, x := range e.Errors {
				errs = append(errs, x.ID)
			}
			near := ""
			if len(e.NearMisses) > 0 {
				near = e.NearMisses[0].ID + ": " + strings.Join(e.NearMisses[0].Lacks, ", ")
			}
			squash := func(s string) string { return strings.Join(strings.Fields(s), " ") }
			if e.Decision != tc.decision || !slices.Equal(reasons, tc.reasons) || !slices.Equal(errs, tc.errors) ||
				!strings.Contains(e.Summary, tc.summary) || squash(near) != tc.near {
				b, _ := json.MarshalIndent(e, "", " ")
				t.Errorf("%s\nnear %q, want %q", b, near, tc.near)
			}
		})
	}
	if _, err := Explain(built, payload.Request{}); err == nil {
		t.Error("an empty request is explained")
	}
	if _, err := Explain([]byte("{}"), base); err == nil {
		t.Error("an empty built is explained")
	}
}

func TestLint(t *testing.T) {
	dev := devTenant.String()
	for name, tc := range map[string]struct {
		rules string
		want  []string // "check policy"
	}{
		"fine":         {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource);`, nil},
		"everything":   {permitAll, []string{"permits-everything a.cedar#1"}},
		"anonymous":    {`permit (principal, action == Action::"object:get", resource);`, []string{"anonymous a.cedar#1", "every-tenant a.cedar#1"}},
		"every tenant": {`permit (principal is Capability, action == Action::"object:get", resource) when { context.tls };`, []string{"every-tenant a.cedar#1"}},
		"documents":    {`permit (principal, action == Action::"docs:read", resource);`, nil},
		"by label":     {`permit (principal, action == Action::"object:get", resource) when { principal.label == "dev" };`, nil},
		"shadowed":     {`permit (principal is Capability in Tenant::"` + dev + `", action == Action::"object:get", resource is Object); forbid (principal in Tenant::"` + dev + `", action in Action::"data", resource);`, []string{"shadowed a.cedar#1"}},
		"not shadowed": {`permit (principal in Tenant::"` + dev + `", action == Action::"object:get", resource); forbid (principal, action, resource) when { context.tls };`, nil},
		"redundant":    {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource); permit (principal in Tenant::"` + dev + `", action == Action::"object:get", resource) when { context.tls };`, []string{"redundant a.cedar#2"}},
		"obliges":      {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource); @obligation("audit") permit (principal in Tenant::"` + dev + `", action == Action::"object:get", resource);`, nil},
		"same":         {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.tls }; permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.tls };`, []string{"redundant a.cedar#2"}},
		"never":        {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) unless { true };`, []string{"unreachable a.cedar#1"}},
		"only tenants": {`permit (principal == Tenant::"` + dev + `", action in Action::"data", resource);`, []string{"unreachable a.cedar#1"}},
		"obligation":   {`@obligation("adit") permit (principal in Tenant::"` + dev + `", action in Action::"data", resource);`, []string{"unknown-obligation a.cedar#1"}},
		"nothing":      {``, []string{"no-permit "}},
		"any action":   {`permit (principal in Tenant::"` + dev + `", action, resource);`, []string{"any-action a.cedar#1"}},
		"the clock":    {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.hour < 6 };`, []string{"reads-hour a.cedar#1"}},
		"no such hour": {`forbid (principal, action == Action::"object:get", resource) when { context.hour > 23 }; permit (principal in Tenant::"` + dev + `", action in Action::"data", resource);`, []string{"unreachable a.cedar#1", "reads-hour a.cedar#1"}},
		"two hours":    {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.hour < 6 && 20 <= context.hour };`, []string{"unreachable a.cedar#1", "reads-hour a.cedar#1"}},
		"either hour":  {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.hour < 6 || 20 <= context.hour };`, []string{"reads-hour a.cedar#1"}},
		"any hour":     {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.hour < 12 || context.hour >= 12 };`, []string{"reads-hour a.cedar#1"}},
		"less than 0":  {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) unless { context.bytes >= 0 };`, []string{"unreachable a.cedar#1"}},
		"a range":      {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.bytes >= 5 && context.bytes <= 5 && !(context.bytes > 5) };`, nil},
		"two methods":  {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.method == "GET" } when { "PUT" == context.method };`, []string{"unreachable a.cedar#1"}},
		"no TLS":       {`permit (principal in Tenant::"` + dev + `", action in Action::"data", resource) when { context.tls } unless { context.tls };`, []string{"unreachable a.cedar#1"}},
		"no such id":   {`permit (principal in Tenant::"acme", action in Action::"data", resource);`, []string{"unknown-tenant a.cedar#1"}},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := Lint(mustBuild(t, rules(tc.rules)))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range found {
				if f.Check != "no-expiry" && f.Check != "no-tests" {
					got = append(got, f.Check+" "+f.Policy)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// The policies that the node makes itself are in order.
func TestLintDefaults(t *testing.T) {
	for _, src := range []payload.Sources{payload.InitSources(), payload.InitSources(devTenant), payload.DevSources(devTenant)} {
		found, err := Lint(mustBuild(t, src))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if f.Check != "no-expiry" {
				t.Errorf("%+v", f)
			}
		}
	}
}

// TestLintTenants: tests say who is known; rules and quotas that speak of others
// are told.
func TestLintTenants(t *testing.T) {
	dev, other := devTenant.String(), "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	src := rules(`@id("a") permit (principal in Tenant::"` + dev + `", action in Action::"data", resource);
@id("b") permit (principal in Tenant::"` + other + `", action in Action::"data", resource in Tenant::"` + other + `");
@id("c") permit (principal, action == Action::"object:get", resource) when { principal.label == "dav" };
@id("d") permit (principal, action == Action::"object:put", resource) when { principal.label == "dev" && principal in Tenant::"Nobody" };`)
	src[payload.TestsFile] = []byte("[tenants]\ndev = \"" + dev + "\"\n[[test]]\nname = \"a\"\ntenant = \"dev\"\naction = \"object:list\"\nresource = \"object/\"\nexpect = \"allow\"\n")
	src[payload.QuotasFile] = []byte("[tenants.dev]\nobjects = 1\n[tenants.deb]\nobjects = 1\n[tenants.dav]\nobjects = 1\n[tenants." + other + "]\nobjects = 1\n[tenants.01BX5ZZKBKACTAV9WEVGEMMVRZ]\nobjects = 1\n")
	found, err := Lint(mustBuild(t, src))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		if strings.HasPrefix(f.Check, "unknown") {
			got = append(got, f.Level+" "+f.Check+" "+f.Policy+": "+f.Text)
		}
	}
	want := []string{
		"note unknown-tenant b: no test and no entity speaks of tenant " + other,
		`note unknown-label c: no test speaks of a tenant labelled "dav" (did you mean "dev"?)`,
		`warning unknown-tenant d: no tenant has the id "Nobody": ids are ULIDs in upper case (ronctl tenant ls), labels are in principal.label`,
		"note unknown-quota : quotas.toml names tenant 01BX5ZZKBKACTAV9WEVGEMMVRZ, of whom no rule, test or entity speaks",
		`note unknown-quota : quotas.toml names tenant "deb", of whom no rule, test or entity speaks (did you mean "dev"?)`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLintSchema(t *testing.T) {
	src := payload.InitSources()
	src[payload.SchemaFile] = []byte(strings.Replace(payload.DefaultSchema(), `"media:read"`, `"media:reed"`, 1))
	found, err := Lint(mustBuild(t, src))
	if err != nil {
		t.Fatal(err)
	}
	var text string
	for _, f := range found {
		text += f.Check + ": " + f.Text + "\n"
	}
	for _, want := range []string{`unknown-action: the schema has an action "media:reed"`, `did you mean "media:read"`, `missing-action: the schema lacks the action "media:read"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
