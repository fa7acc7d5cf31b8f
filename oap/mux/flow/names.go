// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flow

import "github.com/rustyonions/macronode/oap"

// Reasons why frames and streams are refused, beside the codec's.
const (
	ReasonHello    = "hello"    // no HELLO first, a second one, or none in time
	ReasonStream   = "stream"   // a stream's number out of order or never opened
	ReasonWindow   = "window"   // past a window, or an ACK that goes backwards or ahead
	ReasonControl  = "control"  // a control frame that means nothing
	ReasonChunk    = "chunk"    // more payload than a chunk
	ReasonComp     = "comp"     // a payload that expands too far, or must not be compressed
	ReasonOverload = "overload" // a stream over the limit
	ReasonDraining = "draining" // a stream after GOAWAY
	ReasonStalled  = "stalled"  // a stream or frame that nobody went on with
)

// Reasons are all of them.
var Reasons = []string{
	oap.ReasonOversize, oap.ReasonLength, oap.ReasonVersion, oap.ReasonFlags, oap.ReasonCap, oap.ReasonPayload,
	ReasonHello, ReasonStream, ReasonWindow, ReasonControl, ReasonChunk, ReasonComp, ReasonOverload, ReasonDraining, ReasonStalled,
}

// Kind is what a frame is for.
type Kind uint8

// The kinds. KindDropped is a frame for a stream that is closed.
const (
	KindHello Kind = iota
	KindStart
	KindData
	KindCancel
	KindError
	KindPing
	KindAck
	KindGoAway
	KindDropped
)

// Kinds are the names of the kinds, by their number.
var Kinds = []string{"hello", "start", "data", "cancel", "error", "ping", "ack", "goaway", "dropped"}

func (k Kind) String() string { return Kinds[k] }
