// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import (
	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/rules/form"
)

// ReadsResource is what Reads calls the resource.
const ReadsResource = form.ResourceName

// Reads names what of r the rules that may apply to it look at, beyond action,
// kinds and tenant: "principal", "resource", and attributes of the context. It
// errs on the side of more. None where no rule is asked.
func (s *Set) Reads(r *wall.PolicyRequest) []string {
	action, ok := s.admissible(r)
	if !ok {
		return nil
	}
	return s.idx.reads[action][r.Principal.Kind][r.Resource.Kind].Names()
}

// Obligations are the decision's as "key=value".
func (a *Answer) Obligations() []string {
	var out []string
	for _, o := range a.Decision.Obligations {
		out = append(out, obligationText(o))
	}
	return out
}
