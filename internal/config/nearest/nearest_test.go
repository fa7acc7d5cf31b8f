// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package nearest

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	known := []string{"meta", "data", "server", "readiness", "zk", "oap"}
	for wrong, want := range map[string]string{
		"sever": "server", "esrver": "server", "SERVER": "server", "deta": "data meta", "zkk": "zk", "paо": "oap", "raediness": "readiness",
		"": "", "completely_else": "", strings.Repeat("x", 10000): "",
	} {
		if got := strings.Join(Names(wrong, known), " "); got != want {
			t.Errorf("Names(%.20q) = %s, want %s", wrong, got, want)
		}
	}
	if d := Distance("abc", "acb"); d != 1 {
		t.Errorf("two swapped neighbours are %d edits", d)
	}
	if d := Distance("abcd", "badc"); d < 2 {
		t.Errorf("two swaps are %d edits", d)
	}
}
