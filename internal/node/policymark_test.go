// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/inspect"
	"github.com/rustyonions/macronode/internal/provision"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

var (
	pinForm = regexp.MustCompile(`(?m)^bundle_hash = "(blake3:[0-9a-f]{64})"`)
	objForm = regexp.MustCompile(`policy-bundle@v\d+`)
)

// policyPin is the policy hash that the config bundle pins.
func policyPin(tb testing.TB, o Options) string {
	tb.Helper()
	_, part, _ := strings.Cut(readBundle(tb, o), "[policy]")
	m := pinForm.FindStringSubmatch(part)
	if m == nil {
		tb.Fatal("the bundle pins no policy")
	}
	return m[1]
}

// pinPolicy builds the policy as a version that follows the pinned one, keeps it
// in the keystore, and makes the config bundle pin it. It returns its hash.
func pinPolicy(tb testing.TB, o Options, version int64, sources policy.Sources) string {
	tb.Helper()
	payload, _, err := policy.Build(sources, policy.Meta{Version: version, Issued: time.Now(), Previous: policyPin(tb, o)})
	if err != nil {
		tb.Fatal(err)
	}
	name := fmt.Sprintf("policy-bundle@v%d", version)
	if _, _, err := datadir.SignPolicy(tb.Context(), payload, o.Dir, "KMS:key/policy", name, slog.New(slog.DiscardHandler)); err != nil {
		tb.Fatal(err)
	}
	repin(tb, o, version, policy.Hash(payload))
	return policy.Hash(payload)
}

// repin makes the config bundle pin a policy that is in the keystore, as its
// next version.
func repin(tb testing.TB, o Options, version int64, hash string) {
	tb.Helper()
	head, part, _ := strings.Cut(readBundle(tb, o), "[policy]")
	part = objForm.ReplaceAllString(part, fmt.Sprintf("policy-bundle@v%d", version))
	part = pinForm.ReplaceAllString(part, `bundle_hash = "`+hash+`"`)
	write(tb, o.Bundle, head+"[policy]"+part)
	sign(tb, o, true)
}

// TestOlderPolicyIsRefused: signed and pinned by a config of a higher version,
// an older policy is refused at reload and at a cold start alike.
func TestOlderPolicyIsRefused(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	hashes := map[int64]string{1: policyPin(t, o)}
	sources := policy.InitSources()
	for v := int64(2); v <= 4; v++ {
		sources["more.cedar"] = fmt.Appendf(nil, "@id(\"more\")\nforbid (principal, action, resource) when { context.bytes > %d };\n", 1<<40+v)
		hashes[v] = pinPolicy(t, o, v, sources)
		if _, err := n.Reload(t.Context()); err != nil {
			t.Fatalf("version %d: %v", v, err)
		}
	}
	good := save(t, o)
	for _, v := range []int64{1, 3, 2} {
		repin(t, o, v, hashes[v])
		if _, err := n.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "an older policy") || n.policy.Set().Version() != 4 {
			t.Errorf("reload of version %d: %v; in force is %d", v, err, n.policy.Set().Version())
		}
	}
	end(t, n)
	for _, v := range []int64{1, 2, 3} {
		repin(t, o, v, hashes[v])
		again, err := Start(t.Context(), o)
		if err == nil {
			end(t, again)
		}
		if datadir.ExitCode(err) != macronode.ExitTrust || !strings.Contains(err.Error(), "an older policy") {
			t.Errorf("cold start with version %d: %v", v, err)
		}
		r, err := inspect.Check(t.Context(), o.Bundle, o.Dir)
		if err != nil || !slices.ContainsFunc(r.Findings, func(f inspect.Finding) bool { return !f.OK && strings.Contains(f.Detail, "an older policy") }) {
			t.Errorf("check says nothing of version %d: %v", v, err)
		}
	}

	// One older bundle may be allowed by name, and stays over a restart; the mark
	// does not go down for it.
	signed := sign(t, o, true) // version 3 of the policy is pinned
	allow := o
	allow.Overrides.AllowRollback = config.Setting{Value: fmt.Sprintf("%d@%s", signed.Version, signed.Hash)}
	n = begin(t, allow)
	if got := n.policy.Set().Version(); got != 3 {
		t.Errorf("in force is %d", got)
	}
	end(t, n)
	n = begin(t, o)
	m, err := datadir.NewPolicyMark(n.keys).Mark()
	if err != nil || m.Version != 4 || m.InForce().Version != 3 {
		t.Errorf("%+v %v", m, err)
	}
	repin(t, o, 2, hashes[2])
	if _, err := n.Reload(t.Context()); err == nil {
		t.Error("another older policy came in after the one that was allowed")
	}
	// What is newer than the mark goes on from there.
	good.restore(t, o)
	sources["more.cedar"] = []byte("@id(\"more\")\nforbid (principal, action, resource) when { context.bytes > 99999999999 };\n")
	repin(t, o, 4, hashes[4])
	pinPolicy(t, o, 5, sources)
	if _, err := n.Reload(t.Context()); err != nil || n.policy.Set().Version() != 5 {
		t.Errorf("version 5: %v", err)
	}
}

// TestPolicyMarkIsTheNodesOwn: neither the API nor a command writes the mark.
func TestPolicyMarkIsTheNodesOwn(t *testing.T) {
	o := production(t, provision.TLSNone)
	n := begin(t, o)
	err := n.operator(t).PutRaw(t.Context(), "/v1/kms/objects/policy-mark", []byte("{}"), nil)
	if !refused(err, macronode.Denied) {
		t.Errorf("by the API: %v", err)
	}
	end(t, n)
	k, err := datadir.OpenKeys(o.Dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.PutObject(t.Context(), "policy-mark", 0, []byte("{}")); datadir.ExitCode(err) != macronode.ExitUsage {
		t.Errorf("by a command: %v", err)
	}
}
