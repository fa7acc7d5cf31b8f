// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"encoding/binary"
	"errors"

	"github.com/rustyonions/macronode/b3"
)

// Buckets is how many parts a summary has.
const Buckets = 256

// SummaryBytes is the length of a summary as bytes.
const SummaryBytes = Buckets * 8

// Summary tells sets of revocations apart, in parts, so that two nodes find what
// one of them lacks without telling all. It says nothing about who revoked and
// when. Sets that differ can have equal summaries by chance, at one in 2^64 a
// part, or by the doing of who chooses the ids; nodes that have a session trust
// each other with revocations in any case.
type Summary [Buckets]uint64

// ErrSummary says that bytes are no summary.
var ErrSummary = errors.New("a summary has 2048 bytes")

// ParseSummary reads what Bytes wrote.
func ParseSummary(b []byte) (*Summary, error) {
	if len(b) != SummaryBytes {
		return nil, ErrSummary
	}
	var s Summary
	for i := range s {
		s[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return &s, nil
}

// Bytes is the summary as it goes over a wire: its parts, big-endian.
func (s *Summary) Bytes() []byte {
	b := make([]byte, 0, SummaryBytes)
	for _, part := range s {
		b = binary.BigEndian.AppendUint64(b, part)
	}
	return b
}

// Flip adds a revocation that the summary lacks, or takes one away that it has.
func (s *Summary) Flip(e *Entry) {
	at, sum := place(e)
	s[at] ^= sum
}

// Differs reports whether o differs from s in the part that e belongs to.
func (s *Summary) Differs(o *Summary, e *Entry) bool {
	at, _ := place(e)
	return s[at] != o[at]
}

// place is the part that a revocation belongs to, and what it adds there.
func place(e *Entry) (at byte, sum uint64) {
	text := make([]byte, 0, 128)
	text = append(text, e.Tenant...)
	text = append(text, 0)
	text = append(text, e.ID...)
	text = append(text, 0)
	text = append(text, e.KID...)
	h := b3.Sum(text)
	return h[0], binary.BigEndian.Uint64(h[8:16])
}
