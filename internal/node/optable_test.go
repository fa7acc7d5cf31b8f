// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"fmt"
	"go/format"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

// clientRoutes is the client's table of what OAP/1 can be asked for.
func clientRoutes(t *testing.T, bindings []*macronode.Binding) []byte {
	var lines []string
	for _, b := range bindings {
		if b.OAP == 0 {
			continue
		}
		// An alias goes behind its op, which the sorting keeps by its number.
		for i, form := range append([]string{b.Label()}, b.Aliases...) {
			method, pattern, _ := strings.Cut(form, " ")
			lines = append(lines, fmt.Sprintf("%s\x00%d\t{%q, %d, %q, %q},\n", b.Op, i, b.Op, b.OAP, method, pattern))
		}
	}
	slices.Sort(lines)
	var w bytes.Buffer
	w.WriteString("// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0\n\n" +
		"// Code generated from the node's routes by: make golden. DO NOT EDIT.\n\npackage optable\n\nvar routes = []Route{\n")
	for _, l := range lines {
		_, line, _ := strings.Cut(l, "\t")
		w.WriteString("\t" + line)
	}
	w.WriteString("}\n")
	text, err := format.Source(w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGoldenClientRoutes holds the client's table of operations against the
// node's routes: what a route is called on either wire must not drift apart.
func TestGoldenClientRoutes(t *testing.T) {
	n := beginDev(t)
	golden(t, "client/internal/optable/routes.go", clientRoutes(t, n.wall.Bindings()))
}
