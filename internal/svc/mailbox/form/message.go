// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

// Limits of one message, beside its size. They are part of the contract.
const (
	MaxAttrs      = 16
	MaxAttrName   = 64  // bytes
	MaxAttrValue  = 256 // bytes
	MaxKeyBytes   = 128
	MaxTopicBytes = 128
	// MaxDelay is the farthest that a message may be put off, and the longest
	// that it may live.
	MaxDelay = 366 * 24 * time.Hour
	// maxInstant is the last moment that is a deliver_at_ms: the year 9999.
	maxInstant = 253_402_300_799_999
)

// Topic judges a topic's name: 1 to 128 of a-z, 0-9, ".", "_" and "-", beginning
// with a letter or digit.
func Topic(name string) error {
	if len(name) == 0 || len(name) > MaxTopicBytes {
		return macronode.Errorf(macronode.Malformed, "a topic's name is 1 to %d characters long", MaxTopicBytes)
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return macronode.Errorf(macronode.Malformed, "a topic's name is made of a-z, 0-9, \".\", \"_\" and \"-\" and begins with a letter or digit")
		}
	}
	return nil
}

var (
	errPayloads = errors.New("payload, text and json exclude each other, and one is needed")
	errWhen     = errors.New("delay_ms and deliver_at_ms exclude each other")
)

// setAttr adds an attribute.
func setAttr(m *broker.Message, name, value string) error {
	switch {
	case name == "" || len(name) > MaxAttrName:
		return fmt.Errorf("an attribute's name is 1 to %d bytes long", MaxAttrName)
	case len(value) > MaxAttrValue:
		return fmt.Errorf("an attribute's value is at most %d bytes long", MaxAttrValue)
	case !utf8.ValidString(name) || !utf8.ValidString(value):
		return errUTF8
	}
	if _, there := m.Attrs[name]; there {
		return errors.New("an attribute stands twice")
	}
	if len(m.Attrs) == MaxAttrs {
		return fmt.Errorf("a message has at most %d attributes", MaxAttrs)
	}
	if m.Attrs == nil {
		m.Attrs = make(map[string]string, 4)
	}
	m.Attrs[name] = value
	return nil
}

func setKey(m *broker.Message, v string) error {
	if v == "" || len(v) > MaxKeyBytes {
		return fmt.Errorf("key is 1 to %d bytes long", MaxKeyBytes)
	}
	if !utf8.ValidString(v) {
		return errUTF8
	}
	m.Key = v
	return nil
}

func setIdemKey(m *broker.Message, v string) error {
	if v == "" || len(v) > macronode.MaxIdempotencyKeyBytes {
		return fmt.Errorf("idempotency_key is 1 to %d characters long", macronode.MaxIdempotencyKeyBytes)
	}
	for i := range len(v) {
		if v[i] <= ' ' || v[i] > '~' {
			return errors.New("idempotency_key takes visible ASCII alone")
		}
	}
	m.IdemKey = v
	return nil
}

// setNumber sets one of the members that are numbers of milliseconds.
func setNumber(m *broker.Message, name string, v int64) error {
	low, top := int64(0), MaxDelay.Milliseconds()
	switch name {
	case "ttl_ms":
		low = 1
	case "deliver_at_ms":
		top = maxInstant
	}
	if v < low || v > top {
		return fmt.Errorf("%s is %d to %d", name, low, top)
	}
	d := time.Duration(v) * time.Millisecond
	switch name {
	case "delay_ms":
		m.Delay = d
	case "ttl_ms":
		m.TTL = d
	default:
		m.DeliverAt = time.UnixMilli(v)
	}
	return nil
}

// check is what a message must hold as a whole.
func check(m *broker.Message) error {
	if m.Delay > 0 && !m.DeliverAt.IsZero() {
		return errWhen
	}
	return nil
}

// Fingerprint tells requests under one idempotency key apart: all that a message
// says but the key itself, in a form that is the same whichever way it came.
func Fingerprint(m *broker.Message) [32]byte {
	b := make([]byte, 0, 512)
	text := func(s string) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	b = append(b, "macronode/mailbox/request/v1\x00"...)
	b = binary.AppendVarint(b, int64(m.Delay))
	at := int64(-1)
	if !m.DeliverAt.IsZero() {
		at = m.DeliverAt.UnixMilli()
	}
	b = binary.AppendVarint(b, at)
	b = binary.AppendVarint(b, int64(m.TTL))
	text(m.Key)
	b = binary.AppendUvarint(b, uint64(len(m.Attrs)))
	for _, name := range slices.Sorted(maps.Keys(m.Attrs)) {
		text(name)
		text(m.Attrs[name])
	}
	payload := blake3.Sum256(m.Payload)
	return blake3.Sum256(append(b, payload[:]...))
}
