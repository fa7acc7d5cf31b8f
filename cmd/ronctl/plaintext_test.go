// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// TestNoPlaintextCapability: ronctl does not even connect where its capability
// would go unencrypted to another machine, and says what to do.
func TestNoPlaintextCapability(t *testing.T) {
	token := testCap(t).Text()
	for _, node := range []string{"http://192.0.2.1:80", "oap+plain://192.0.2.1:80"} {
		r := do(t, map[string]string{"RON_NODE": node, "RON_CAP": token}, "", "ls", "--timeout", "20s")
		if r.code != macronode.ExitFailed || !strings.Contains(r.err, "nothing was sent to "+node) || !strings.Contains(r.err, "--insecure-plaintext") {
			t.Errorf("%s: exit %d\n%s", node, r.code, r.err)
		}
		if strings.Contains(r.err, token) {
			t.Errorf("%s: the error shows the capability", node)
		}
	}
}
