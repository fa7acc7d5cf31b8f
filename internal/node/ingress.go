// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"strings"

	"github.com/rustyonions/macronode"
)

// operatorsOnly tells which operations of OAP/1 are the operators' own.
func operatorsOnly(bindings []*macronode.Binding) func(macronode.Op) bool {
	ops := make(map[macronode.Op]bool)
	for _, b := range bindings {
		if strings.HasPrefix(b.Pattern, "/v1/admin/") {
			ops[b.Op] = true
		}
	}
	return func(op macronode.Op) bool { return ops[op] }
}
