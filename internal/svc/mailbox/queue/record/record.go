// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package record is what the mailbox writes into its log: every change of a
// topic is one of these records, in a fixed binary form, and a topic's state
// is what remains when they are applied in their order. Each has one encoding
// alone: what decodes, encodes to the same bytes.
package record

import (
	"errors"
	"time"

	"github.com/rustyonions/macronode"
)

// Time is mailbox time: milliseconds on the broker's clock, which only goes
// forward and goes on after a restart. It is not a wall time. Zero is no time.
type Time int64

// Add returns the time d later, rounded to milliseconds.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }

// Sub returns how long after u this is.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Millisecond }

// ID is the ULID of a message.
type ID [16]byte

// TopicRef names a topic: names belong to their tenant.
type TopicRef struct {
	Tenant macronode.TenantID
	Name   string
}

// Hard limits of the form. Config may set narrower ones, never wider.
const (
	MaxTopicBytes   = 128
	MaxKeyBytes     = 256 // ordering key
	MaxIdemBytes    = macronode.MaxIdempotencyKeyBytes
	MaxCorrBytes    = 128
	MaxAttrs        = 16
	MaxAttrName     = 64
	MaxAttrValue    = 256
	MaxPayload      = 16 << 20
	MaxItems        = 10000 // messages that one record leases, acks, expires …
	MaxReasonBytes  = 256   // of a nack; longer ones are cut with CutReason
	MaxEvents       = 8     // of a message's history; the oldest go first
	MaxEventReason  = 96    // of a reason within the history
	MaxJobIDs       = 1000
	MaxRecordBytes  = MaxPayload + 64<<10
	maxHistoryBytes = MaxEvents * (eventBytes + MaxEventReason)
)

// ErrMalformed is what Decode returns for bytes that are no record, whatever is wrong with them.
var ErrMalformed = errors.New("malformed mailbox record")

// ErrVersion is returned for a record of a later version of the form.
var ErrVersion = errors.New("mailbox record of a later version")

// Kind says which record it is. The values are on disk: append only.
type Kind uint8

// The kinds.
const (
	KindNone Kind = iota
	KindSend
	KindLease
	KindAck
	KindNack
	KindExtend
	KindDead
	KindExpire
	KindTopicPut
	KindTopicDelete
	KindPurge
	KindDeadDelete
	KindRedrive
	KindRedriveJob
	KindMove
	KindRemember
	KindTick
	KindLeaseOwned // a Lease with an owner
	numKinds
)

// Why is the reason for which a message is in a dead-letter queue.
type Why uint8

// The reasons.
const (
	WhyNone Why = iota
	WhyMaxAttempts
	WhyIntegrity // its bytes in the log are damaged
	WhyExpired
	WhyRejected
	numWhy
)

var whyNames = [numWhy]string{"", "max_attempts", "integrity", "expired", "rejected"}

func (w Why) String() string {
	if w >= numWhy {
		return "unknown"
	}
	return whyNames[w]
}

// ParseWhy returns the reason of that name; false where there is none.
func ParseWhy(s string) (Why, bool) {
	for w := WhyMaxAttempts; w < numWhy; w++ {
		if whyNames[w] == s {
			return w, true
		}
	}
	return WhyNone, false
}

// Head is in every record.
type Head struct {
	Now   Time   // when it was decided
	Topic uint32 // number of the topic it changes; 0 in a Tick alone
}

// Record is one of the kinds.
type Record interface {
	Header() Head
	Kind() Kind
	// Append appends the record's one encoding. Fields beyond the hard
	// limits are the caller's mistake: such a record does not decode.
	Append(b []byte) []byte
}

// Header returns the head itself.
func (h Head) Header() Head { return h }

// Attr is a name and a value that travel with a message.
type Attr struct{ Name, Value []byte }

// Send is a new message. The payload comes last in its encoding, so that it
// need not be copied: log AppendHead and then Payload.
type Send struct {
	Head
	Seq       uint64 // Topic.NextSeq
	ID        ID
	Ref       TopicRef // so that a message tells where it belongs by itself
	Wall      int64    // wall time of the send, Unix milliseconds: for people, nothing is decided by it
	NotBefore Time     // of a delayed or scheduled message; 0 none
	Expire    Time     // of a message with a TTL; 0 none. Retention is the topic's and not in it
	Request   [32]byte // hash of the request, compared where the idempotency key comes again
	Hash      [32]byte // BLAKE3 of the payload
	Key       []byte   // ordering key; empty none
	Idem      []byte   // idempotency key; empty none
	Corr      []byte   // correlation id
	Attrs     []Attr
	Payload   []byte
}

// Item is a message under a lease.
type Item struct{ Seq, Lease uint64 }

// Lease gives messages to a receiver. Each lease number is higher than every
// one given before on this node: the higher one fences off the lower.
type Lease struct {
	Head
	Until Time
	Owner uint64 // the subscription that it is given to; 0 none
	Items []Item
}

// Ack ends messages: they were dealt with.
type Ack struct {
	Head
	Items []Item
}

// NackItem is a message that comes back, not before that time.
type NackItem struct {
	Item
	NotBefore Time // what the back-off came to; 0 or past: at once
}

// Nack gives messages back.
type Nack struct {
	Head
	Reason []byte
	Items  []NackItem
}

// Extend moves the end of leases, forward or back.
type Extend struct {
	Head
	Until Time
	Items []Item
}

// Event is one thing that went wrong with a message.
type Event struct {
	At      Time
	Attempt uint32
	Lapsed  bool // visibility ended without a word; otherwise a nack
	Reason  []byte
}

// Dead moves a message to a dead-letter queue. It holds all that the queue
// keeps of it, so that the target need not know where it came from. It is
// made by Topic.Kill.
type Dead struct {
	Head
	Seq      uint64
	ID       ID
	Why      Why
	Into     uint32 // topic whose dead-letter queue takes it; the message's own, or another of the tenant
	At       uint64 // place of the message in the log
	Size     uint32 // bytes of its record
	Attempts uint32
	Base     uint32 // attempts at the last redrive
	First    Time   // when it was first sent
	Key      uint64 // hash of its ordering key; 0 none
	Detail   []byte // last error
	History  []Event
}

// Expire ends messages whose time is over and that are under no lease in
// force at Now: all with a lower seq than Cut, and those in Seqs.
type Expire struct {
	Head
	Cut  uint64
	Seqs []uint64
}

// TopicPut makes a topic or changes its config. A number is one topic's for ever.
type TopicPut struct {
	Head
	Ref    TopicRef
	Config Config
}

// TopicDelete ends a topic and everything in it.
type TopicDelete struct{ Head }

// Purge ends all messages with a lower seq than Before, leased ones too; dead letters stay.
type Purge struct {
	Head
	Before uint64
}

// DeadDelete ends dead letters: all with a lower number than Cut, and those in Nums.
type DeadDelete struct {
	Head
	Expired bool // by retention, not by an operator
	Cut     uint64
	Nums    []uint64
}

// Redrive sends a dead letter back as the newest message of topic To, with
// its attempts and first-seen time. It is made by Topic.Revive.
type Redrive struct {
	Head
	Num      uint64 // in the dead-letter queue of Topic
	To       uint32
	Seq      uint64 // in To
	ID       ID
	At       uint64
	Size     uint32
	Attempts uint32
	First    Time
	Key      uint64
	History  []Event
}

// JobState is how far a redrive job is.
type JobState uint8

// The states.
const (
	JobRunning JobState = iota
	JobDone
	JobStopped
	JobFailed
	numJobStates
)

// DeadFilter chooses dead letters; the zero value chooses all.
type DeadFilter struct {
	Why           Why  // 0: any
	After, Before Time // when they died: After <= died < Before; 0 no bound
	IDs           []ID // any of these; none: all
}

// RedriveJob is the whole state of a redrive job; the latest one counts. The
// broker writes it along with the redrives that it tells of.
type RedriveJob struct {
	Head
	ID         ID
	State      JobState
	DryRun     bool
	To         uint32
	PerSecond  int64  // 0: as fast as it goes
	Started    int64  // wall time, Unix milliseconds
	Ended      int64  // 0 while it runs
	Next, Last uint64 // dead letters with Next <= number <= Last are still to be looked at
	Matched    int64
	Moved      int64
	Failed     int64
	Filter     DeadFilter
}

// Move is a message whose record was copied to a later place, so that the
// segment of the first can go. Send is the encoded Send record.
type Move struct {
	Head
	Seq  uint64 // of a waiting message; 0 where it is a dead letter
	Num  uint64 // of a dead letter
	Send []byte
}

// Remember is what is kept of a message for the sake of its idempotency key,
// when its record goes before the replay window is over. Old is that place.
type Remember struct {
	Head
	Old     uint64
	Sent    Time // when the message was sent
	ID      ID
	Request [32]byte
	Idem    []byte
}

// Tick records the time, so that a clock can go on from it.
type Tick struct{ Head }

// CutReason returns s cut to at most limit bytes, at the edge of a character.
func CutReason(s []byte, limit int) []byte {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xc0 == 0x80 {
		limit--
	}
	return s[:limit]
}

// Other returns the second topic that r changes: the target of a Dead or a
// Redrive; 0 where there is none.
func Other(r Record) uint32 {
	var other uint32
	switch r := r.(type) {
	case *Dead:
		other = r.Into
	case *Redrive:
		other = r.To
	}
	if other == r.Header().Topic {
		return 0
	}
	return other
}
