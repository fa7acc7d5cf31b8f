// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import "bytes"

// Verdict is what an earlier record says of a send with an idempotency key.
type Verdict uint8

// The verdicts.
const (
	Unrelated Verdict = iota // another key, or none: go on looking
	Duplicate                // the same key and the same request: the answer is the first one's id
	Mismatch                 // the same key for another request
)

// Judge compares a send's idempotency key and request hash with the record
// that is at a place which Topic.Seen gave: a Send, Move or Remember. It
// returns the id of the first message.
func Judge(earlier Record, key []byte, request *[32]byte) (Verdict, ID) {
	var idem []byte
	var id ID
	var was *[32]byte
	switch r := earlier.(type) {
	case *Send:
		idem, id, was = r.Idem, r.ID, &r.Request
	case *Remember:
		idem, id, was = r.Idem, r.ID, &r.Request
	case *Move:
		first, err := Decode(r.Send)
		if err != nil || first.Kind() != KindSend {
			return Unrelated, ID{}
		}
		return Judge(first, key, request)
	default:
		return Unrelated, ID{}
	}
	switch {
	case len(key) == 0 || !bytes.Equal(idem, key):
		return Unrelated, ID{}
	case *was != *request:
		return Mismatch, id
	}
	return Duplicate, id
}
