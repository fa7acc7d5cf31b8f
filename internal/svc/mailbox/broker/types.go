// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package broker

import (
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/core"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// What package core speaks of, for those who use the mailbox.
type (
	Config    = core.Config
	Limits    = core.Limits
	Events    = core.Events
	Snapshots = core.Snapshots
	Found     = core.Found
	Message   = core.Message
	Sent      = core.Sent
	Want      = core.Want
	Delivery  = core.Delivery
	Outcome   = core.Outcome
)

// Outcomes that callers tell apart with errors.Is; package core says of which kind they are.
var (
	ErrNoTopic   = core.ErrNoTopic
	ErrNoMessage = core.ErrNoMessage
	ErrNoJob     = core.ErrNoJob
	ErrTopics    = core.ErrTopics
	ErrDepth     = core.ErrDepth
	ErrBytes     = core.ErrBytes
	ErrAge       = core.ErrAge
	ErrInFlight  = core.ErrInFlight
	ErrDedupFull = core.ErrDedupFull
	ErrTooLarge  = core.ErrTooLarge
	ErrMismatch  = core.ErrMismatch
	ErrLeaseLost = core.ErrLeaseLost
	ErrReceipt   = core.ErrReceipt
	ErrCursor    = core.ErrCursor
	ErrInvalid   = core.ErrInvalid
	ErrFailed    = core.ErrFailed
	ErrStopped   = core.ErrStopped
)

// State is where a message stands.
type State string

// The states that Peek tells.
const (
	StateReady   State = "ready"
	StateDelayed State = "delayed"
	StateLeased  State = "in_flight"
)

// Peeked is a message as an operator sees it: nothing is leased, and the payload
// is not shown.
type Peeked struct {
	ID      queue.ID
	State   State
	TS      time.Time
	Attempt int           // deliveries so far
	Until   time.Duration // until the delay, or the lease, ends; 0: it is ready
	Bytes   int64
	Key     string
	Attrs   map[string]string
	Hash    b3.Addr
}

// TopicStatus is a topic and how it stands.
type TopicStatus struct {
	Ref    queue.TopicRef
	Config queue.Config
	Counts queue.Counts
	// OldestUnacked is the age of the oldest message that nobody acknowledged; 0 where there is none.
	OldestUnacked time.Duration
	Waiting       int // receivers
}

// DeadFilter picks dead letters; its zero value picks all.
type DeadFilter struct {
	Reason string
	Before time.Time // died before
	After  time.Time // died at or after
	IDs    []queue.ID
}

// Dead is a dead letter. Payload and History are set by DeadGet alone.
type Dead struct {
	ID        queue.ID
	Reason    string
	Attempts  int
	LastError string
	TS        time.Time // of the send
	Died      time.Time
	Bytes     int64
	Key       string
	Attrs     map[string]string
	CorrID    string
	Hash      b3.Addr
	Payload   []byte
	// Damaged: the payload does not match Hash, or could not be read; it is not given.
	Damaged bool
	History []Attempt
}

// Attempt is one delivery of a message that died.
type Attempt struct {
	At    time.Time
	Error string // what the receiver said; "" where it said nothing
}

// RedriveSpec says which dead letters go back, where, and how fast.
type RedriveSpec struct {
	Filter     DeadFilter
	RatePerSec int    // 0: as fast as it goes
	DryRun     bool   // count, and move nothing
	To         string // topic of the same tenant; "": where it came from
}

// Job is a redrive and how far it came.
type Job struct {
	ID      string
	State   JobState
	Spec    RedriveSpec
	Matched int64
	Moved   int64
	Failed  int64
	Started time.Time
	Ended   time.Time // zero while it runs
}

// JobState says whether a job goes on.
type JobState string

// The states of a job.
const (
	JobRunning JobState = "running"
	JobDone    JobState = "done"
	JobStopped JobState = "stopped"
	JobFailed  JobState = "failed" // the topic that it sends to is gone
)
