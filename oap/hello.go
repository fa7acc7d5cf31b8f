// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oap

import (
	"bytes"
	"encoding/json"
)

// maxHelloBytes bounds the JSON of a HELLO, either way.
const maxHelloBytes = 4 << 10

// Hello opens a connection: the client's first frame.
type Hello struct {
	// UA names the client's software; only for logs and statistics.
	UA string `json:"ua"`
}

// HelloReply is what the node says of itself in answer.
type HelloReply struct {
	MaxFrame    int `json:"max_frame"`    // bytes, header included
	MaxInflight int `json:"max_inflight"` // counted frames unacknowledged a stream
	MaxStreams  int `json:"max_streams"`  // open streams a connection
	// ChunkBytes is the most body bytes of a frame, after expansion; 0 where the
	// node does not say.
	ChunkBytes int `json:"chunk_bytes,omitempty"`
	// FlagsSupported are the names of the flags that the node acts on.
	FlagsSupported []string `json:"flags_supported"`
	Versions       []int    `json:"versions"`
	Transports     []string `json:"transports"` // "tcp", "tcp+tls"
}

// IsHello reports whether h is a HELLO's header. Its corr_id and tenant_id are
// free.
func (h *Header) IsHello() bool { return h.App == 0 && h.Code == 0 && h.Flags == REQ }

// ParseHello reads a HELLO's payload: a JSON object of at most 4 KiB, whose
// further members are ignored. Errors are of type *Error.
func ParseHello(payload []byte) (Hello, error) {
	var v Hello
	return v, parseObject(payload, &v)
}

// ParseHelloReply reads the payload of the answer to a HELLO.
func ParseHelloReply(payload []byte) (HelloReply, error) {
	var v HelloReply
	return v, parseObject(payload, &v)
}

func parseObject(payload []byte, v any) error {
	if len(payload) > maxHelloBytes || !bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{")) {
		return errHello
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return errHello
	}
	return nil
}

// NewHello makes the frame that opens a connection.
func NewHello(corr uint64, h Hello) (Frame, error) {
	b, err := json.Marshal(h)
	if err != nil || len(b) > maxHelloBytes {
		return Frame{}, errHello
	}
	return Frame{Header: Header{Flags: REQ, Corr: corr}, Payload: b}, nil
}
