// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bus

// NameAuditWitness is the event of the audit log's witnesses.
const NameAuditWitness = "AuditWitness"

// AuditWitness says how it stands with the audit log's witnesses: "ok", "late" (too few
// sign in time) or "refused".
func AuditWitness(state, why string) Event {
	e := Event{Name: NameAuditWitness, Fields: []Field{{"state", state}}}
	if why != "" {
		e.Extra = []Field{{"reason", clean(why)}}
	}
	return e
}
