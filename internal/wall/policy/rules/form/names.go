// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

// Names of what Reads holds beside the attributes of the context.
const (
	PrincipalName = "principal"
	ResourceName  = "resource"
)

// Names lists what r holds: "principal", "resource", and attributes of the context.
func (r Reads) Names() []string {
	var out []string
	if r&ReadsPrincipal != 0 {
		out = append(out, PrincipalName)
	}
	if r&ReadsResource != 0 {
		out = append(out, ResourceName)
	}
	for i := range contextAttrs {
		if r&contextAttrs[i].bit != 0 {
			out = append(out, string(contextAttrs[i].name))
		}
	}
	return out
}
