// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package operate

import "testing"

func TestSet(t *testing.T) {
	const text = "[meta]\nbundle_hash = \"a\"\n\n[policy]\ncache = 1\nbundle_hash = \"b\"\n\n[data]\nx = 1\n"
	set := Set("policy", map[string]string{"bundle_hash": `"c"`})
	if got, want := set(text), "[meta]\nbundle_hash = \"a\"\n\n[policy]\ncache = 1\nbundle_hash = \"c\"\n\n[data]\nx = 1\n"; got != want {
		t.Errorf("an old key: %q", got)
	}
	if got, want := Set("data", map[string]string{"y": "2"})(text), text[:len(text)-len("x = 1\n")]+"y = 2\nx = 1\n"; got != want {
		t.Errorf("a new key: %q", got)
	}
	if got, want := Set("new", map[string]string{"y": "2"})(text), text+"\n[new]\ny = 2\n"; got != want {
		t.Errorf("a new section: %q", got)
	}
}
