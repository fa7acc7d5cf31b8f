// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rulegen"
)

// FuzzLoad: whatever the bytes, loading ends with an error or with a set whose
// encoding is those bytes and which decides without a panic.
func FuzzLoad(f *testing.F) {
	for _, src := range []payload.Sources{payload.InitSources(), payload.DevSources(devTenant), rules(permitAll + `forbid (principal, action, resource) when { context.bytes + 9223372036854775807 > 0 };`)} {
		f.Add(mustBuild(f, src))
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"cedar":{"a.cedar":"permit (principal, action, resource) when { if true then !!!true else -1 > 2 };"},"entities":[],"expires_at":null,"issued_at":"2026-11-23T08:00:00Z","previous":null,"quotas":{},"schema":{},"tests":{},"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Load(b)
		if err != nil {
			return
		}
		if again, err := s.doc.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("another encoding (%v)", err)
		}
		s.Decide(ask("object:get", macronode.ObjectResource, "a"), noon, 0)
	})
}

// FuzzRules: whatever stands in a rule, building ends with an error or with a
// set that answers as plain Cedar does.
func FuzzRules(f *testing.F) {
	for _, seed := range []string{
		permitAll,
		`@id("a") permit (principal is Capability in Tenant::"x", action in [Action::"data"], resource) when { context.ip.isInRange(ip("::1/64")) };`,
		`forbid (principal, action, resource) unless { {"a": [1, 2]} has a && "x" like "*\*" && decimal("1.0").lessThan(decimal("2.0")) };`,
		`permit (principal, action, resource) when { if context.tls then principal in resource.tenant else !(resource is Node) };`,
		`permit (principal == ?principal, action, resource);`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		built, _, err := Build(rules(text), testMeta)
		if err != nil {
			return
		}
		s, err := Load(built)
		if err != nil {
			t.Fatal(err)
		}
		r := ask("object:get", macronode.ObjectResource, "a")
		allow, _, _ := plain(s, r)
		if a := s.Decide(r, noon, 0); a.Decision.Allow != allow {
			t.Fatalf("allow = %v, plain Cedar says %v", a.Decision.Allow, allow)
		}
	})
}

// FuzzTOML: quotas and tests of any content.
func FuzzTOML(f *testing.F) {
	f.Add("[default]\nweight = 2\n[tenants.dev]\nobjects = -1\n", "[[test]]\nname = \"x\"\naction = \"docs:read\"\nresource = \"node/\"\nprincipal = \"anonymous\"\nexpect = \"deny\"\n")
	f.Add("a.b.c = {x = [1, {y = 2}]}", "test = [[]]")
	f.Fuzz(func(t *testing.T, quotas, tests string) {
		built, _, err := Build(payload.Sources{payload.QuotasFile: []byte(quotas), payload.TestsFile: []byte(tests)}, testMeta)
		if err != nil {
			return
		}
		if _, err := Load(built); err != nil {
			t.Fatal(err)
		}
	})
}

// bytesSource makes a fuzzer's bytes the choices.
type bytesSource struct{ b []byte }

func (s *bytesSource) IntN(n int) int {
	if len(s.b) == 0 {
		return 0
	}
	c := int(s.b[0])
	s.b = s.b[1:]
	return c % n
}

// FuzzDecide: on rules, entities and requests of the fuzzer's choice, cached and
// uncached answers are those of plain Cedar.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(16) {
		r := rand.New(rand.NewPCG(seed, 5))
		b := make([]byte, 1024)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	g := newGenerator(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		src := &bytesSource{b}
		s, text := g.set(t, src, 30)
		sequence(t, rulegen.Gen{Src: src}, s, text, 8)
	})
}
