// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"encoding/binary"
	"strings"

	"github.com/rustyonions/macronode"
)

// Sizes and limits of the format.
const (
	// HeaderBytes is the length of a frame's fixed part.
	HeaderBytes = 38
	// MaxFrameBytes is the most that a whole frame may have. A node may accept
	// less, never more.
	MaxFrameBytes = macronode.MaxFrameBytes
	// Version is the one version of the format.
	Version uint16 = 1
)

// Flags say what a frame is.
type Flags uint16

// The flags. Exactly one of REQ, RESP and EVENT is set.
const (
	REQ    Flags = 1 << iota // from the side that opened the stream
	RESP                     // the answer
	EVENT                    // about the connection, or an acknowledgement
	START                    // opens a stream; the only frame with a capability
	END                      // closes the sender's direction
	ACKREQ                   // asks for an acknowledgement at once
	COMP                     // the payload is zstd
	APPE2E                   // the payload is opaque to the node

	allFlags = APPE2E<<1 - 1
	kindMask = REQ | RESP | EVENT
)

var flagNames = [...]string{"REQ", "RESP", "EVENT", "START", "END", "ACK_REQ", "COMP", "APP_E2E"}

// Names lists the set flags by name, lowest bit first.
func (f Flags) Names() []string {
	var names []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// String joins the names with "|"; unknown bits are not shown.
func (f Flags) String() string { return strings.Join(f.Names(), "|") }

// ParseFlag returns the flag of that name; false where there is none.
func ParseFlag(name string) (Flags, bool) {
	for i, n := range flagNames {
		if n == name {
			return 1 << i, true
		}
	}
	return 0, false
}

// Header is the fixed part of a frame.
type Header struct {
	// Len is the whole frame's length in bytes, header included.
	Len   uint32
	Flags Flags
	// Code uses HTTP's numbers; 0 where nothing is stated.
	Code uint16
	// App is the app_proto_id; 0 is the connection itself.
	App    uint16
	Tenant macronode.TenantID
	CapLen uint16
	// Corr names the stream; 0 is the connection.
	Corr uint64
}

// PayloadLen is the payload's length in bytes, for a header that is valid.
func (h *Header) PayloadLen() int { return int(h.Len) - HeaderBytes - int(h.CapLen) }

// ParseHeader reads a frame's header from the first HeaderBytes of b and
// checks all that a header alone decides. maxFrame is the most that this side
// accepts; values outside (0, MaxFrameBytes] mean MaxFrameBytes. Errors are of
// type *Error: TooLarge wins over every other fault, so that a length over the
// maximum is 413 whatever else is wrong. On an error the returned header holds
// what was read, so that a refusal can name the stream.
func ParseHeader(b []byte, maxFrame int) (Header, error) {
	if len(b) < HeaderBytes {
		return Header{}, errShort
	}
	b = b[:HeaderBytes]
	h := Header{
		Len:    binary.BigEndian.Uint32(b[0:]),
		Flags:  Flags(binary.BigEndian.Uint16(b[6:])),
		Code:   binary.BigEndian.Uint16(b[8:]),
		App:    binary.BigEndian.Uint16(b[10:]),
		Tenant: macronode.TenantID(b[12:28]),
		CapLen: binary.BigEndian.Uint16(b[28:]),
		Corr:   binary.BigEndian.Uint64(b[30:]),
	}
	if maxFrame <= 0 || maxFrame > MaxFrameBytes {
		maxFrame = MaxFrameBytes
	}
	switch {
	case h.Len > uint32(maxFrame):
		return h, errTooLarge
	case h.Len < HeaderBytes:
		return h, errShort
	case binary.BigEndian.Uint16(b[4:]) != Version:
		return h, errVersion
	}
	return h, h.check()
}

// check holds the header against the format's rules, lengths aside.
func (h *Header) check() error {
	kind := h.Flags & kindMask
	switch {
	case h.Flags&^allFlags != 0:
		return errFlagBits
	case kind != REQ && kind != RESP && kind != EVENT:
		return errFlagKind
	case h.CapLen != 0 && h.Flags&START == 0:
		return errCapWithoutStart
	case HeaderBytes+uint32(h.CapLen) > h.Len:
		return errCapLen
	}
	return nil
}

// put writes h into the first HeaderBytes of b, as it is.
func (h *Header) put(b []byte) {
	_ = b[HeaderBytes-1]
	binary.BigEndian.PutUint32(b[0:], h.Len)
	binary.BigEndian.PutUint16(b[4:], Version)
	binary.BigEndian.PutUint16(b[6:], uint16(h.Flags))
	binary.BigEndian.PutUint16(b[8:], h.Code)
	binary.BigEndian.PutUint16(b[10:], h.App)
	copy(b[12:28], h.Tenant[:])
	binary.BigEndian.PutUint16(b[28:], h.CapLen)
	binary.BigEndian.PutUint64(b[30:], h.Corr)
}

// PutHeader writes h into b and reports what is wrong with it, by the rules of
// ParseHeader; nothing is written then. It panics where b is shorter than
// HeaderBytes.
func PutHeader(b []byte, h Header) error {
	if h.Len > MaxFrameBytes {
		return errTooLarge
	}
	if h.Len < HeaderBytes {
		return errShort
	}
	if err := h.check(); err != nil {
		return err
	}
	h.put(b)
	return nil
}
