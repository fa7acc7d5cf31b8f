// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package queue is the state of the mailbox's topics: which messages wait,
// which are leased, delayed or dead, and which idempotency keys were used. It
// does no I/O, has no clock, no randomness and no goroutine: the same records
// in the same order make the same state, live and when a log is read again.
//
// How it is used, under the topic's lock (for a Dead or Redrive that concerns
// two topics, under both, the lower number first):
//
//  1. take the time; ask the topic for a decision (Receivable, CheckLease,
//     Admit, Due, Kill …). Decisions change nothing that is ever recorded;
//  2. make the record, stage it in the log, which gives it its place;
//  3. Apply it with that place, to record.Other's topic too;
//
// and then, without the lock, wait until the log is durable before anyone is
// told. The order of places must be the order of Apply within a topic. Times
// must not go backwards within a topic: where they do, the later one counts.
//
// When a log is read again, each record is applied to its topic (and the
// other). A record that a snapshot already holds is skipped by its place; one
// whose message is not there, because its record was damaged or went with an
// old segment, changes nothing and is no error.
package queue

import (
	"errors"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/block"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/letters"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// The vocabulary of records that users of this package need throughout.
type (
	Time     = record.Time
	ID       = record.ID
	TopicRef = record.TopicRef
	Config   = record.Config
	Record   = record.Record
	Why      = record.Why
	Event    = record.Event
)

// Refusals of decisions.
var (
	// ErrLeaseLost: the message is not, or no longer, under this lease: it
	// lapsed, was given to another, was acked, expired, died, or never was.
	ErrLeaseLost = errors.New("lease lost")
	ErrDepth     = errors.New("topic is full: messages")
	ErrBytes     = errors.New("topic is full: bytes")
	ErrAge       = errors.New("topic's oldest message is too old")
	ErrDedupFull = errors.New("topic is full: idempotency keys")
	ErrNotDead   = errors.New("no such dead letter")
	ErrTooLarge  = errors.New("message is longer than a record may be")
	// ErrExpires: a message would expire before it may be delivered first.
	ErrExpires = errors.New("message expires before it is due")
	// ErrRecord: a record that contradicts the state: another topic's, or a
	// place or number that goes backwards. The log is not this topic's.
	ErrRecord = errors.New("record does not fit the topic")
	// ErrSnapshot: whatever is wrong with a snapshot.
	ErrSnapshot = block.ErrDamaged
)

// Candidate is a message that may be leased now.
type Candidate struct {
	Seq     uint64
	At      uint64 // place of its record: a Send or a Move in the log
	Bytes   int64  // of that record, rounded up to 8
	Attempt uint32 // the number that this delivery gets, from 1
	First   Time   // first sent
	Sent    Time   // sent or redriven last
}

// Held is a message under a lease in force.
type Held struct {
	Candidate
	Lease uint64
	Until Time
}

// Freed is room in the log that nothing needs any more.
type Freed struct {
	Segment  uint32 // upper half of the place
	Messages int64
	Bytes    int64 // rounded up to 8 a message
}

// Effect is what one Apply did, for metrics and for the log's accounts. Apply
// adds to it, so that one Effect may be used for many; Reset empties it.
type Effect struct {
	Freed     []Freed
	Placed    []Freed // messages that a segment holds from now on
	Sent      int64
	Leased    int64
	Redeliver int64 // of those, after a first attempt
	Acked     int64
	Nacked    int64
	Extended  int64
	Died      int64
	Expired   int64 // messages and dead letters
	Purged    int64
	Deleted   int64 // dead letters deleted by an operator, or everything of a topic
	Redriven  int64
	Stale     int64 // items of records that changed nothing: behind a fence, or gone
}

// Reset empties e and keeps its memory.
func (e *Effect) Reset() { *e = Effect{Freed: e.Freed[:0], Placed: e.Placed[:0]} }

// Counts is what a topic holds and what became of everything that came in.
// Always: Sent + MovedIn = Ready + Delayed + Leased + Dead + Acked + Expired +
// Purged + Deleted + MovedOut.
type Counts struct {
	Ready   int64 // receivable, or behind an earlier message of its key
	Delayed int64 // sent with a delay, backing off, or Dying and not leased last
	Leased  int64 // or Dying after a lapse
	Dead    int64
	Bytes   int64 // of their records, dead ones included
	Keys    int64 // idempotency keys remembered

	Sent     int64
	Acked    int64
	Expired  int64 // in waiting, or as a dead letter
	Purged   int64
	Deleted  int64
	MovedIn  int64 // from another topic, dead or redriven
	MovedOut int64

	OldestUnacked Time // when the oldest message that waits or is leased was sent or redriven; 0: none
}

// Due is what is to be recorded because of the time.
type Due struct {
	// Cut > 0: an Expire with this Cut: retention ended for messages below it.
	Cut uint64
	// Expired: messages to expire one by one (an Expire with these Seqs, or a
	// Kill each where the topic keeps expired messages).
	Expired []uint64
	// Spent: messages whose last attempt lapsed or was nacked: a Kill with WhyMaxAttempts each.
	Spent []uint64
	// DeadCut > 0: a DeadDelete with this Cut and Expired: dead letters below it are over their retention.
	DeadCut uint64
	// More: there is more than was asked for.
	More bool
}

// Empty reports whether there is nothing to record.
func (d *Due) Empty() bool {
	return d.Cut == 0 && len(d.Expired) == 0 && len(d.Spent) == 0 && d.DeadCut == 0
}

// State is where a message is.
type State uint8

// The states.
const (
	Ready State = iota
	Delayed
	Leased
	Dying // to be recorded as dead or expired at once
)

var stateNames = [...]string{"ready", "delayed", "in_flight", "dying"}

func (s State) String() string { return stateNames[s] }

// Peeked is a message as an operator sees it, without a lease.
type Peeked struct {
	Seq      uint64
	At       uint64
	Bytes    int64
	State    State
	Attempts uint32
	First    Time
	Sent     Time
	Until    Time // end of the lease or of the delay; 0 none
	Expires  Time // by TTL or retention, whichever is first
	Blocked  bool // behind an earlier message of its key
}

// DeadLetter is a message in a dead-letter queue.
type DeadLetter = letters.Letter

// Backoff returns how long a message waits after its failed attempt (from 1)
// where the nack names no delay: full jitter, r uniform in [0,1), below 100 ms
// doubling with each attempt up to 60 s.
func Backoff(attempt uint32, r float64) time.Duration {
	const base, limit = 100 * time.Millisecond, time.Minute
	most := limit
	if attempt < 1 {
		attempt = 1
	}
	if attempt < 11 {
		most = min(limit, base<<(attempt-1))
	}
	return time.Duration(r * float64(most)).Truncate(time.Millisecond)
}
