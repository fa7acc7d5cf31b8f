// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// TopicConfig is how a topic behaves. In a request every member may be missing:
// the node's default holds then.
type TopicConfig struct {
	RetentionMS    *int64  `json:"retention_ms,omitempty"`     // how long a message waits at most
	ReplayWindowMS *int64  `json:"replay_window_ms,omitempty"` // how long a repeated idempotency key is recognised
	VisibilityMS   *int64  `json:"visibility_ms,omitempty"`    // how long a received message is hidden
	MaxAttempts    *int64  `json:"max_attempts,omitempty"`     // deliveries after which a message is dead
	MaxDepth       *int64  `json:"max_depth,omitempty"`        // messages, dead ones too
	MaxBytes       *int64  `json:"max_bytes,omitempty"`        // of them, as stored
	MaxInFlight    *int64  `json:"max_in_flight,omitempty"`    // received and not yet acknowledged
	MaxKeys        *int64  `json:"max_keys,omitempty"`         // idempotency keys remembered
	MaxAgeMS       *int64  `json:"max_age_ms,omitempty"`       // of the oldest message without an ack: older, and sends are refused; 0: no bound
	DLQ            *string `json:"dlq,omitempty"`              // topic whose dead-letter queue takes the dead; "": its own
	DLQRetentionMS *int64  `json:"dlq_retention_ms,omitempty"` // how long a dead letter is kept
	Ordered        *bool   `json:"ordered,omitempty"`          // all messages in order, as if they had one key
	KeepExpired    *bool   `json:"keep_expired,omitempty"`     // what expires becomes a dead letter
}

// Depth is what a topic holds now.
type Depth struct {
	Ready    int64 `json:"ready"`
	Delayed  int64 `json:"delayed"`
	InFlight int64 `json:"in_flight"`
	Dead     int64 `json:"dead"`
	Bytes    int64 `json:"bytes"`
	Keys     int64 `json:"keys"` // idempotency keys remembered
}

// Totals is what became of everything that came into a topic. Sent and moved in
// are ready, delayed, in flight, dead, acked, expired, purged, deleted and moved
// out together.
type Totals struct {
	Sent     int64 `json:"sent"`
	Acked    int64 `json:"acked"`
	Expired  int64 `json:"expired"`
	Purged   int64 `json:"purged"`
	Deleted  int64 `json:"deleted"`
	MovedIn  int64 `json:"moved_in"`
	MovedOut int64 `json:"moved_out"`
}

// Topic is a topic and how it stands.
type Topic struct {
	Topic           string      `json:"topic"`
	Config          TopicConfig `json:"config"`
	Depth           Depth       `json:"depth"`
	OldestUnackedMS int64       `json:"oldest_unacked_ms"` // age; 0: there is none
	Waiting         int         `json:"waiting"`           // receivers
	Counts          Totals      `json:"counts"`
}

// TopicList is a page of topics by name. An empty cursor says that it is the last.
type TopicList struct {
	Topics []Topic `json:"topics"`
	Cursor string  `json:"cursor"`
}

// Sent is the answer to one message.
type Sent struct {
	MsgID     string `json:"msg_id"`
	Duplicate bool   `json:"duplicate"` // an earlier send with this key stored it
}

// ReceiveRequest asks for messages. Every member may be missing.
type ReceiveRequest struct {
	MaxMessages  int64 `json:"max_messages,omitempty"`  // at most; 1 where missing
	MaxBytes     int64 `json:"max_bytes,omitempty"`     // of payloads, though one message comes at least
	VisibilityMS int64 `json:"visibility_ms,omitempty"` // the topic's where missing
	WaitMS       int64 `json:"wait_ms,omitempty"`       // for the first message, at most
}

// Message is one that was received.
type Message struct {
	MsgID       string            `json:"msg_id"`
	Receipt     string            `json:"receipt"`
	Topic       string            `json:"topic"`
	TS          string            `json:"ts"` // of the send
	Attempt     int               `json:"attempt"`
	Attrs       map[string]string `json:"attrs"`
	Key         string            `json:"key"`
	PayloadHash string            `json:"payload_hash"`
	CorrID      string            `json:"corr_id"`
	Cursor      string            `json:"cursor,omitempty"` // of a subscription
	Payload     []byte            `json:"payload"`
}

// Received is the answer to a receive.
type Received struct {
	Messages []Message `json:"messages"`
}

// AckRequest names messages that are done with.
type AckRequest struct {
	Receipts []string `json:"receipts"`
}

// NackRequest gives messages back.
type NackRequest struct {
	Receipts []string `json:"receipts"`
	DelayMS  *int64   `json:"delay_ms,omitempty"` // missing: a back-off that grows with the attempts
	Reason   string   `json:"reason,omitempty"`   // kept with the message
}

// ExtendRequest hides messages for longer, or for less long.
type ExtendRequest struct {
	Receipts     []string `json:"receipts"`
	VisibilityMS int64    `json:"visibility_ms"` // from now on
}

// Outcome is what became of one receipt.
type Outcome struct {
	Receipt string `json:"receipt"`
	MsgID   string `json:"msg_id,omitempty"`
	OK      bool   `json:"ok"`
	Code    string `json:"code,omitempty"` // lease_lost or bad_receipt
}

// Outcomes are in the order of the receipts.
type Outcomes struct {
	Results []Outcome `json:"results"`
}

// Peeked is a message as an operator sees it.
type Peeked struct {
	MsgID       string            `json:"msg_id"`
	State       string            `json:"state"` // ready, delayed or in_flight
	TS          string            `json:"ts"`
	Attempts    int               `json:"attempts"`
	UntilMS     int64             `json:"until_ms"` // until the delay or the lease ends
	Bytes       int64             `json:"bytes"`
	Key         string            `json:"key"`
	Attrs       map[string]string `json:"attrs"`
	PayloadHash string            `json:"payload_hash"`
}

// PeekList is a page of messages, oldest first.
type PeekList struct {
	Messages []Peeked `json:"messages"`
	Cursor   string   `json:"cursor"`
}

// Purged is the answer to a purge.
type Purged struct {
	Purged int64 `json:"purged"`
}

// Dead is a dead letter.
type Dead struct {
	MsgID       string            `json:"msg_id"`
	Reason      string            `json:"reason"` // max_attempts, integrity, expired or rejected
	Attempts    int               `json:"attempts"`
	LastError   string            `json:"last_error"`
	TS          string            `json:"ts"`
	Died        string            `json:"died"`
	Bytes       int64             `json:"bytes"`
	Key         string            `json:"key"`
	Attrs       map[string]string `json:"attrs"`
	PayloadHash string            `json:"payload_hash"`
	CorrID      string            `json:"corr_id"`
	Damaged     bool              `json:"damaged"`
}

// DeadList is a page of dead letters, oldest first.
type DeadList struct {
	Messages []Dead `json:"messages"`
	Cursor   string `json:"cursor"`
}

// DeadLetter is one with its payload, unless that is damaged, and what went wrong.
type DeadLetter struct {
	Dead
	Payload *[]byte   `json:"payload,omitempty"`
	History []Attempt `json:"history"`
}

// Attempt is one delivery that came to nothing.
type Attempt struct {
	At    string `json:"at"`
	Error string `json:"error"`
}

// DeadFilter picks dead letters: those that fit every member that is there.
type DeadFilter struct {
	Reason   string   `json:"reason,omitempty"`
	BeforeMS *int64   `json:"before_ms,omitempty"` // died before
	AfterMS  *int64   `json:"after_ms,omitempty"`  // died at or after
	MsgIDs   []string `json:"msg_ids,omitempty"`
}

// DeadDeleteRequest names what to delete; {} as filter is everything.
type DeadDeleteRequest struct {
	Filter *DeadFilter `json:"filter"`
}

// Deleted is the answer to it.
type Deleted struct {
	Deleted int64 `json:"deleted"`
}

// RedriveRequest asks for dead letters to be delivered again, by the topic that
// they came from: who may administer one topic does not thereby send to another.
type RedriveRequest struct {
	Filter  *DeadFilter `json:"filter,omitempty"` // missing: everything
	RatePer int64       `json:"rate_per_s,omitempty"`
	DryRun  bool        `json:"dry_run,omitempty"` // count, and move nothing
}

// Job is a redrive and how far it came.
type Job struct {
	ID      string     `json:"id"`
	State   string     `json:"state"` // running, done or stopped
	Matched int64      `json:"matched"`
	Moved   int64      `json:"moved"`
	Failed  int64      `json:"failed"`
	DryRun  bool       `json:"dry_run"`
	RatePer int64      `json:"rate_per_s"`
	Filter  DeadFilter `json:"filter"`
	Started string     `json:"started"`
	Ended   string     `json:"ended"`
}

// JobReply is the answer about one job, JobList that about all of a topic.
type JobReply struct {
	Job Job `json:"job"`
}

// JobList is the jobs of a topic, newest first.
type JobList struct {
	Jobs []Job `json:"jobs"`
}

// minReplayWindow is the shortest replay window that a topic may have.
const minReplayWindow = 300 * time.Second

// over is the config that c makes of the node's defaults.
func (c *TopicConfig) over(d queue.Config) (queue.Config, error) {
	for _, f := range []struct {
		in  *int64
		out *time.Duration
	}{{c.RetentionMS, &d.Retention}, {c.ReplayWindowMS, &d.ReplayWindow}, {c.VisibilityMS, &d.Visibility}, {c.DLQRetentionMS, &d.DeadRetention}, {c.MaxAgeMS, &d.MaxAge}} {
		if f.in != nil {
			// What does not fit a duration is out of every range.
			*f.out = time.Duration(min(max(*f.in, -1), int64(2*form.MaxDelay/time.Millisecond))) * time.Millisecond
		}
	}
	for _, f := range []struct {
		in  *int64
		out *int64
	}{{c.MaxAttempts, &d.MaxAttempts}, {c.MaxDepth, &d.MaxDepth}, {c.MaxBytes, &d.MaxBytes}, {c.MaxInFlight, &d.MaxInFlight}, {c.MaxKeys, &d.MaxKeys}} {
		if f.in != nil {
			*f.out = *f.in
		}
	}
	if c.DLQ != nil {
		d.DLQ = *c.DLQ
	}
	if c.Ordered != nil {
		d.Ordered = *c.Ordered
	}
	if c.KeepExpired != nil {
		d.KeepExpired = *c.KeepExpired
	}
	if d.ReplayWindow < minReplayWindow {
		return d, macronode.Errorf(macronode.Invalid, "replay_window_ms is at least %d", minReplayWindow.Milliseconds())
	}
	if err := d.Validate(); err != nil {
		return d, macronode.Errorf(macronode.Invalid, "%s", err.Error())
	}
	return d, nil
}

func configDocument(c *queue.Config) TopicConfig {
	ms := func(d time.Duration) *int64 { return new(d.Milliseconds()) }
	return TopicConfig{
		RetentionMS: ms(c.Retention), ReplayWindowMS: ms(c.ReplayWindow), VisibilityMS: ms(c.Visibility), DLQRetentionMS: ms(c.DeadRetention), MaxAgeMS: ms(c.MaxAge),
		MaxAttempts: &c.MaxAttempts, MaxDepth: &c.MaxDepth, MaxBytes: &c.MaxBytes, MaxInFlight: &c.MaxInFlight, MaxKeys: &c.MaxKeys,
		DLQ: &c.DLQ, Ordered: &c.Ordered, KeepExpired: &c.KeepExpired,
	}
}

func topicDocument(t *broker.TopicStatus) Topic {
	c := &t.Counts
	return Topic{
		Topic: t.Ref.Name, Config: configDocument(&t.Config), OldestUnackedMS: t.OldestUnacked.Milliseconds(), Waiting: t.Waiting,
		Depth:  Depth{Ready: c.Ready, Delayed: c.Delayed, InFlight: c.Leased, Dead: c.Dead, Bytes: c.Bytes, Keys: c.Keys},
		Counts: Totals{Sent: c.Sent, Acked: c.Acked, Expired: c.Expired, Purged: c.Purged, Deleted: c.Deleted, MovedIn: c.MovedIn, MovedOut: c.MovedOut},
	}
}

// attrsOf is never null.
func attrsOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func deadDocument(d *broker.Dead) Dead {
	return Dead{
		MsgID: form.ID(d.ID), Reason: d.Reason, Attempts: d.Attempts, LastError: d.LastError, TS: form.Time(d.TS), Died: form.Time(d.Died),
		Bytes: d.Bytes, Key: d.Key, Attrs: attrsOf(d.Attrs), PayloadHash: d.Hash.String(), CorrID: d.CorrID, Damaged: d.Damaged,
	}
}

func jobDocument(j *broker.Job) Job {
	f := &j.Spec.Filter
	doc := Job{
		ID: j.ID, State: string(j.State), Matched: j.Matched, Moved: j.Moved, Failed: j.Failed, DryRun: j.Spec.DryRun,
		RatePer: int64(j.Spec.RatePerSec), Started: form.Time(j.Started), Ended: form.Time(j.Ended), Filter: DeadFilter{Reason: f.Reason},
	}
	if !f.Before.IsZero() {
		doc.Filter.BeforeMS = new(f.Before.UnixMilli())
	}
	if !f.After.IsZero() {
		doc.Filter.AfterMS = new(f.After.UnixMilli())
	}
	for _, id := range f.IDs {
		doc.Filter.MsgIDs = append(doc.Filter.MsgIDs, form.ID(id))
	}
	return doc
}

// maxFilterIDs bounds the messages that a filter names.
const maxFilterIDs = 1000

// maxMillis is the last moment that a filter can name, in the year 2199: durations
// do not reach much farther.
const maxMillis = 7_258_118_399_999

// deadReasons are what a filter may ask for.
var deadReasons = [...]string{"max_attempts", "integrity", "expired", "rejected"}

func reasonArg(reason string) error {
	for _, r := range deadReasons {
		if reason == r || reason == "" {
			return nil
		}
	}
	return macronode.Errorf(macronode.Malformed, "reason is one of max_attempts, integrity, expired and rejected")
}

// filter is what f picks; nil picks all.
func (f *DeadFilter) filter() (out broker.DeadFilter, err error) {
	if f == nil {
		return out, nil
	}
	if err := reasonArg(f.Reason); err != nil {
		return out, err
	}
	out.Reason = f.Reason
	for _, m := range []struct {
		in  *int64
		out *time.Time
	}{{f.BeforeMS, &out.Before}, {f.AfterMS, &out.After}} {
		if m.in == nil {
			continue
		}
		if *m.in < 1 || *m.in > maxMillis {
			return out, macronode.Errorf(macronode.Malformed, "before_ms and after_ms are 1 to %d", int64(maxMillis))
		}
		*m.out = time.UnixMilli(*m.in)
	}
	if f.MsgIDs != nil && len(f.MsgIDs) == 0 || len(f.MsgIDs) > maxFilterIDs {
		return out, macronode.Errorf(macronode.Malformed, "msg_ids has 1 to %d ids", maxFilterIDs)
	}
	for _, text := range f.MsgIDs {
		id, ok := form.ParseID(text)
		if !ok {
			return out, macronode.Errorf(macronode.Malformed, "msg_ids holds something that is no message's id")
		}
		out.IDs = append(out.IDs, id)
	}
	return out, nil
}

// decode reads a document of an operators' route; an empty body leaves v as it is.
func decode(b []byte, v any) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return macronode.Errorf(macronode.Malformed, "the body is not the document of this route: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return macronode.Errorf(macronode.Malformed, "the body has more than one document")
	}
	return nil
}

// document answers with v as JSON.
func document(a *macronode.Admitted, status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return answer(a, status, form.JSON, b)
}
