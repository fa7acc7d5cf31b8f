// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package partial

import (
	"strings"

	"github.com/rustyonions/macronode"
)

// RangeCounts evaluates If-Range: a Range counts where there is none, or where
// it is the object's own strong tag. A date never is.
func RangeCounts(h macronode.Header, tag string) bool {
	v := h["If-Range"]
	return len(v) == 0 || (len(v) == 1 && strings.Trim(v[0], " \t") == tag)
}
