// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package core

import (
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Message is what a sender gives.
type Message struct {
	// Payload must not change until Send returns; it is not kept.
	Payload []byte
	Attrs   map[string]string
	// Key is the ordering key; "" is none.
	Key string
	// Delay hides the message for so long. DeliverAt does until a moment of the
	// wall clock, taken as a delay at the time of sending. The later counts.
	Delay     time.Duration
	DeliverAt time.Time
	// TTL is how long the message may wait before it expires; 0: the topic's retention.
	TTL time.Duration
	// IdemKey makes the send safe to repeat within the topic's replay window;
	// "" is none. Request is the hash of what was asked: the same key with
	// another is a mistake of the sender's.
	IdemKey string
	Request [32]byte
	CorrID  string
}

// Sent is the outcome for one message: its id once it is durable, or why it was
// not taken. Duplicate: the id is that of the send that this one repeats.
type Sent struct {
	ID        queue.ID
	Duplicate bool
	Err       error
}

// Want is what a receiver asks for. Zero values take defaults: one message, no
// bound on bytes but the broker's, the topic's visibility, no wait.
type Want struct {
	Max        int
	MaxBytes   int64
	Visibility time.Duration
	Wait       time.Duration
	Owner      uint64 // the subscription that asks, for Held; 0 is none
}

// Delivery is one message under a lease.
type Delivery struct {
	ID      queue.ID
	Receipt string
	Lease   uint64    // grows from one to the next, over all topics
	TS      time.Time // of the send, wall clock, UTC
	Attempt int       // from 1
	Attrs   map[string]string
	Key     string
	CorrID  string
	Hash    b3.Addr // of Payload, which was checked against it
	Payload []byte
}

// Outcome is what became of one receipt: nil, ErrLeaseLost or ErrReceipt.
type Outcome struct {
	Receipt string
	ID      queue.ID // zero with ErrReceipt
	Err     error
}

// Limits bound what one tenant and one call may take. Zero values take defaults.
type Limits struct {
	MaxTopics       int   // of a tenant
	MaxMessageBytes int64 // payload and attributes of one message
	MaxBatch        int   // messages in a send or receive, receipts in an ack
	MaxWait         time.Duration
}

// Found is what start-up found.
type Found struct {
	Topics   int
	Messages int64
	Dead     int64
	// Records were read from the log's tail; Snapshot says whether one was there.
	Records  int64
	Snapshot bool
	// SnapshotsRefused were damaged, and an older one was taken.
	SnapshotsRefused int
	// DamagedRecords in the log could not be read, DamagedBytes is their extent.
	DamagedRecords int64
	DamagedBytes   int64
	// TopicsRemade were made again with the default config, for their own records
	// are among what is damaged.
	TopicsRemade int
	Took         time.Duration
}
