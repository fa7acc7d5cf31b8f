// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/rustyonions/macronode/internal/wall"

// Attributes of a request that Reads names, beside those of the context.
const (
	ReadsPrincipal = "principal"
	ReadsResource  = "resource"
)

// Reads names what of r the rules that may apply to it look at, beyond action,
// kinds and tenant: "principal", "resource", and attributes of the context. It
// errs on the side of more. None where no rule is asked.
func (s *Set) Reads(r *wall.PolicyRequest) []string {
	action, ok := s.admissible(r)
	if !ok {
		return nil
	}
	want := s.idx.reads[action][r.Principal.Kind][r.Resource.Kind]
	var out []string
	if want&readsPrincipal != 0 {
		out = append(out, ReadsPrincipal)
	}
	if want&readsResource != 0 {
		out = append(out, ReadsResource)
	}
	for _, a := range contextAttrs {
		if want&a.bit != 0 {
			out = append(out, string(a.name))
		}
	}
	return out
}

// Obligations are the decision's as "key=value".
func (a *Answer) Obligations() []string {
	var out []string
	for _, o := range a.Decision.Obligations {
		out = append(out, obligationText(o))
	}
	return out
}
