// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bus

// NamePeer is the event of a session between nodes.
const NamePeer = "Peer"

// Peer says how it stands with another node: "handshake", "active", "back_off",
// "closed" or "idle".
func Peer(node, state, why string) Event {
	e := Event{Name: NamePeer, Fields: []Field{{"node", node}, {"state", state}}}
	if why != "" {
		e.Extra = []Field{{"reason", clean(why)}}
	}
	return e
}
