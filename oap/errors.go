// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import "github.com/rustyonions/macronode"

// Reasons a frame is refused: the values of oap_rejects_total{reason} that the
// codec itself gives.
const (
	ReasonOversize = "oversize" // len over the maximum
	ReasonLength   = "length"   // len or cap_len do not fit the frame
	ReasonVersion  = "version"
	ReasonFlags    = "flags"
	ReasonCap      = "cap" // a capability without START
	ReasonPayload  = "payload"
	ReasonHead     = "head"      // no head, or one that is not deterministic CBOR
	ReasonHeadSize = "head_size" // a head over its limits
	ReasonComp     = "comp"      // COMP that expands beyond its limits
)

// Error says why bytes are no frame. Its text holds nothing of the bytes.
type Error struct {
	Reason string // one of the Reason constants
	text   string
}

func (e *Error) Error() string { return "oap: " + e.text }

// Code is the status of the error frame that answers it: 413, 431 or 400.
func (e *Error) Code() uint16 { return uint16(e.Kind().Info().Status) }

// Kind is the node's kind for it.
func (e *Error) Kind() macronode.Kind {
	switch e.Reason {
	case ReasonOversize:
		return macronode.TooLarge
	case ReasonHeadSize:
		return macronode.HeaderTooLarge
	case ReasonComp:
		return macronode.DecompressLimit
	}
	return macronode.Malformed
}

// Text is the error without its prefix, fit for a problem's detail.
func (e *Error) Text() string { return e.text }

// One value each, so that refusing a frame allocates nothing.
var (
	errTooLarge        = &Error{ReasonOversize, "the frame is larger than the maximum"}
	errShort           = &Error{ReasonLength, "the frame is shorter than its header"}
	errLen             = &Error{ReasonLength, "len does not match the bytes given"}
	errCapLen          = &Error{ReasonLength, "cap_len exceeds the frame"}
	errVersion         = &Error{ReasonVersion, "the version is not 1"}
	errFlagBits        = &Error{ReasonFlags, "an unknown flag is set"}
	errFlagKind        = &Error{ReasonFlags, "exactly one of REQ, RESP and EVENT must be set"}
	errCapWithoutStart = &Error{ReasonCap, "a capability without START"}
	errHello           = &Error{ReasonPayload, "HELLO takes a small JSON object"}
	errCount           = &Error{ReasonPayload, "the payload must be one u64"}
	errZstd            = &Error{ReasonPayload, "the payload is not zstd"}
	errExpands         = &Error{ReasonComp, "the payload expands beyond its limit"}
)
