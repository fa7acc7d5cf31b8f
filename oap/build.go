// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"encoding/binary"
	"encoding/json"
	"slices"
)

// CodeCancel is the code of a frame that cancels a stream.
const CodeCancel = 499

// CodeGoAway is the code of GOAWAY.
const CodeGoAway = 503

// counterBytes is the length of an ACK or GOAWAY.
const counterBytes = HeaderBytes + 8

// Open is a stream's first frame: h's App, Tenant and Corr, the capability, and
// a payload that begins with a request's head. flags may be END, where payload
// is all that the stream's opener sends, ACKREQ, COMP and APPE2E.
func Open(h *Header, flags Flags, capability, payload []byte) Frame {
	f := Request(h, flags|START, payload)
	f.Cap = capability
	return f
}

// Request is a later frame from the side that opened the stream of h: DATA, or
// with END and no payload the bare end of that direction.
func Request(h *Header, flags Flags, payload []byte) Frame {
	return Frame{Header: Header{Flags: REQ | flags, App: h.App, Tenant: h.Tenant, Corr: h.Corr}, Payload: payload}
}

// Answer is a frame of the answer to f: its stream, app_proto_id and tenant_id
// are repeated.
func Answer(f *Header, code uint16, flags Flags, payload []byte) Frame {
	return Frame{
		Header:  Header{Flags: RESP | flags, Code: code, App: f.App, Tenant: f.Tenant, Corr: f.Corr},
		Payload: payload,
	}
}

// Refusal is the error frame that ends the stream of f, both directions: code
// is at least 400, problem the problem document.
func Refusal(f *Header, code uint16, problem []byte) Frame { return Answer(f, code, END, problem) }

// Cancel is the frame with which the opener of the stream of h ends both its
// directions.
func Cancel(h *Header) Frame {
	f := Request(h, END, nil)
	f.Code = CodeCancel
	return f
}

// NewHelloReply makes the answer to the HELLO with header h.
func NewHelloReply(h *Header, r HelloReply) (Frame, error) {
	b, err := json.Marshal(r)
	if err != nil || len(b) > maxHelloBytes {
		return Frame{}, errHello
	}
	return Answer(h, 200, 0, b), nil
}

// Ping asks the other side whether it is there.
func Ping() Frame { return Frame{Header: Header{Flags: EVENT | ACKREQ}} }

// Ack acknowledges consumed frames: of the stream corr, or with 0 of the
// connection.
func Ack(corr, consumed uint64) Frame {
	return Frame{Header: Header{Flags: EVENT, Corr: corr}, Payload: binary.BigEndian.AppendUint64(nil, consumed)}
}

// GoAway announces that no stream after last is accepted on the connection.
func GoAway(last uint64) Frame {
	return Frame{Header: Header{Flags: EVENT, Code: CodeGoAway}, Payload: binary.BigEndian.AppendUint64(nil, last)}
}

// AppendPing, AppendAck and AppendGoAway write the frames of Ping, Ack and
// GoAway behind b. They allocate nothing where b has room.
func AppendPing(b []byte) []byte {
	b, at := room(b, HeaderBytes)
	h := Header{Len: HeaderBytes, Flags: EVENT | ACKREQ}
	h.put(b[at:])
	return b
}

// AppendAck is like AppendPing.
func AppendAck(b []byte, corr, consumed uint64) []byte {
	return appendCounter(b, Header{Len: counterBytes, Flags: EVENT, Corr: corr}, consumed)
}

// AppendGoAway is like AppendPing.
func AppendGoAway(b []byte, last uint64) []byte {
	return appendCounter(b, Header{Len: counterBytes, Flags: EVENT, Code: CodeGoAway}, last)
}

func appendCounter(b []byte, h Header, n uint64) []byte {
	b, at := room(b, counterBytes)
	h.put(b[at:])
	binary.BigEndian.PutUint64(b[at+HeaderBytes:], n)
	return b
}

// AppendHeader writes the header of a frame with capBytes of capability and
// payloadBytes of payload behind b, for those who write both themselves. The
// rules of ParseHeader hold; on an error b is returned as it was.
func AppendHeader(b []byte, h Header, capBytes, payloadBytes int) ([]byte, error) {
	if capBytes < 0 || capBytes > 0xffff {
		return b, errCapLen
	}
	if payloadBytes < 0 || payloadBytes > MaxFrameBytes-HeaderBytes-capBytes {
		return b, errTooLarge
	}
	h.Len, h.CapLen = uint32(HeaderBytes+capBytes+payloadBytes), uint16(capBytes)
	if err := h.check(); err != nil {
		return b, err
	}
	b, at := room(b, HeaderBytes)
	h.put(b[at:])
	return b, nil
}

// room makes b longer by n bytes, which begin at the returned index.
func room(b []byte, n int) ([]byte, int) {
	at := len(b)
	return slices.Grow(b, n)[:at+n], at
}

// Counted reports whether the frame counts against the windows: it has a
// payload and belongs to a stream, and is neither an error nor a cancel. HELLO
// and its answer, which belong to none, are not for it to tell.
func (h *Header) Counted() bool {
	switch {
	case h.Flags&EVENT != 0, h.PayloadLen() <= 0:
		return false
	case h.Flags&END == 0:
		return true
	case h.Flags&RESP != 0:
		return h.Code < 400
	default:
		return h.Code != CodeCancel
	}
}

// IsCancel reports whether h cancels its stream.
func (h *Header) IsCancel() bool {
	return h.Flags&(REQ|START|END) == REQ|END && h.Code == CodeCancel
}

// IsRefusal reports whether h is an error frame, which ends its stream.
func (h *Header) IsRefusal() bool { return h.Flags&(RESP|END) == RESP|END && h.Code >= 400 }

// Count reads the one u64 that the payload of an ACK or GOAWAY is.
func Count(payload []byte) (uint64, error) {
	if len(payload) != 8 {
		return 0, errCount
	}
	return binary.BigEndian.Uint64(payload), nil
}
