// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"io"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// Topic is one topic's state. It is not safe for concurrent use.
type Topic struct {
	num uint32
	ref TopicRef
	cfg Config
}

// New makes the topic that r, logged at place at, begins.
func New(r *record.TopicPut, at uint64) (*Topic, error) {
	return &Topic{num: r.Topic, ref: r.Ref, cfg: r.Config}, nil
}

// Number, Ref and Config tell which topic it is and how it behaves.
func (t *Topic) Number() uint32 { return t.num }

// Ref returns the topic's name.
func (t *Topic) Ref() TopicRef { return t.ref }

// Config returns the topic's config.
func (t *Topic) Config() Config { return t.cfg }

// Applied returns the place of the last record that was applied: a reader of the log may begin after the lowest of all topics.
func (t *Topic) Applied() uint64 { return 0 }

// Latest returns the latest time in a record that was applied.
func (t *Topic) Latest() Time { return 0 }

// MaxLease returns the highest lease given: after a restart, the node's next one is above those of all topics.
func (t *Topic) MaxLease() uint64 { return 0 }

// NextSeq returns the number that the next Send or Redrive into this topic takes.
func (t *Topic) NextSeq() uint64 { return 0 }

// Admit reports whether a message of that record length (Send.Len) may be
// sent: ErrDepth, ErrBytes, ErrTooLarge, ErrExpires; with an idempotency key
// that Seen does not know also ErrDedupFull.
func (t *Topic) Admit(now Time, s *record.Send) error { return nil }

// KeyRoom returns when, after ErrDedupFull, the next idempotency keys are forgotten.
func (t *Topic) KeyRoom(now Time) Time { return 0 }

// Seen appends to into the places of records that may have used the
// idempotency key within the replay window: mostly none or one. The caller
// reads each (a Send, Move or Remember), and record.Judge tells whether it is
// a duplicate, a mismatch, or another key with the same fingerprint.
func (t *Topic) Seen(now Time, key []byte, into []uint64) []uint64 { return into }

// Receivable appends to into messages that may be leased at now, oldest
// first: at most max, at most maxBytes of records in sum (but always one), and
// no more than the topic may have in flight. Of each ordering key it gives the
// oldest message alone, and none while that is leased or delayed. A Lease for
// any of them, in any order, may follow.
func (t *Topic) Receivable(now Time, max int, maxBytes int64, into []Candidate) []Candidate {
	return into
}

// InFlightFull reports whether Receivable gives nothing because too much is leased.
func (t *Topic) InFlightFull(now Time) bool { return false }

// CheckLease says what is held under the lease: ErrLeaseLost. Call it before an Ack, Nack or Extend, one for each item.
func (t *Topic) CheckLease(now Time, seq, lease uint64) (Held, error) { return Held{}, nil }

// Due returns what is to be recorded because of the time, at most max
// messages. The caller records it and asks again, until it is Empty.
func (t *Topic) Due(now Time, max int) Due { return Due{} }

// NextChange returns the earliest time at which something becomes receivable
// or due; now, if something is due already; false if nothing will by itself.
func (t *Topic) NextChange(now Time) (Time, bool) { return 0, false }

// Kill makes the record that moves a message into the dead-letter queue of
// topic into (its own number, or that of Config.DLQ's topic). id is from the
// message's record. False if there is no such message.
func (t *Topic) Kill(now Time, seq uint64, id ID, why Why, into uint32, detail string) (record.Dead, bool) {
	return record.Dead{}, false
}

// Revive makes the record that sends dead letter num back, into topic to. ErrNotDead.
func (t *Topic) Revive(now Time, num uint64, to *Topic) (record.Redrive, error) {
	return record.Redrive{}, nil
}

// Apply changes the state by a record that is staged in the log at place at.
// Byte fields of r are copied where they are kept. ErrRecord.
func (t *Topic) Apply(r Record, at uint64, e *Effect) error { return nil }

// Counts tells what the topic holds at now.
func (t *Topic) Counts(now Time) Counts { return Counts{} }

// Peek appends up to limit messages from seq on, oldest first; next is where to go on, 0 at the end.
func (t *Topic) Peek(now Time, seq uint64, limit int, into []Peeked) (out []Peeked, next uint64) {
	return into, 0
}

// Dead appends up to limit dead letters with a number from num on that f
// chooses, oldest first; next is where to go on, 0 at the end. It looks at
// no more than a few thousand at a time, so that out may be short, or empty, before the end.
func (t *Topic) Dead(f *record.DeadFilter, num uint64, limit int, into []DeadLetter) (out []DeadLetter, next uint64) {
	return into, 0
}

// DeadByID returns the dead letter with that message id. ErrNotDead.
func (t *Topic) DeadByID(id ID) (DeadLetter, error) { return DeadLetter{}, nil }

// Jobs appends the topic's redrive jobs, oldest first.
func (t *Topic) Jobs(into []record.RedriveJob) []record.RedriveJob { return into }

// Place is where the log holds something that is still needed.
type Place struct {
	Seq   uint64 // of a message
	Num   uint64 // or of a dead letter
	At    uint64
	Bytes int64
}

// Holding appends up to limit places in that segment from cursor on (0: the
// beginning); next is where to go on, 0 at the end. Each is to be moved before
// the segment is dropped.
func (t *Topic) Holding(segment uint32, cursor uint64, limit int, into []Place) (out []Place, next uint64) {
	return into, 0
}

// Segments adds what each segment holds for this topic, to rebuild the log's accounts at start.
func (t *Topic) Segments(add func(Freed)) {}

// Remembered appends the places in that segment which are there for the sake
// of an idempotency key alone or also: each needs a Remember (or a Move of its
// message, which does as well) before the segment is dropped.
func (t *Topic) Remembered(now Time, segment uint32, into []uint64) []uint64 { return into }

// Freeze takes a snapshot. What it costs under the lock is a list of pointers;
// it is written without the lock, while the topic changes. It is dropped by
// forgetting it.
func (t *Topic) Freeze() *Snapshot { return nil }

// Snapshot is a topic's state at one place in the log.
type Snapshot struct{}

// Write writes the snapshot: blocks, each with its checksum.
func (s *Snapshot) Write(w io.Writer) error { return nil }

// Restore reads one topic's snapshot, and no byte more. ErrSnapshot for whatever is wrong with it.
func Restore(r io.Reader) (*Topic, error) { return nil, nil }
