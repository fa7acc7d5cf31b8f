// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bus

// NameBreaker is the event of a circuit breaker.
const NameBreaker = "Breaker"

// Breaker says that the breaker before a dependency came into a state, by itself
// ("auto") or by an operator's force ("open", "closed").
func Breaker(dependency, state, mode, why string) Event {
	return Event{Name: NameBreaker, Fields: []Field{{"dependency", dependency}, {"state", state}},
		Extra: []Field{{"mode", mode}, {"reason", clean(why)}}}
}
