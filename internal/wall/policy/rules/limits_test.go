// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// The longest chains that the limits let through do end,
// in time and within the stack.
func TestLongChains(t *testing.T) {
	const room = 15_000
	fill := func(link, last string) string { return strings.Repeat(link, room/len(link)) + last }
	for name, body := range map[string]string{
		"not":  fill("!", "true"),
		"neg":  fill("-", "1") + " == 1",
		"if":   fill("if context.tls then true else ", "false"),
		"or":   fill("context.tls || ", "false"),
		"and":  fill("principal.label == \"x\" && ", "true"),
		"plus": fill("context.bytes + ", "1") + " > 0",
		"dots": "principal" + fill(".tenant", "") + " == principal.tenant",
		"has":  fill("context has ip && ", "true"),
		"list": "[" + fill("1,", "1") + "].contains(2)",
	} {
		b, _, err := Build(rules("permit (principal, action, resource) when { "+body+" };"), testMeta)
		if err != nil {
			t.Errorf("%s: %.200v", name, err)
			continue
		}
		s, err := Load(b)
		if err != nil {
			t.Fatal(err)
		}
		s.Decide(ask("object:get", macronode.ObjectResource, "a"), noon, 0)
	}
}
