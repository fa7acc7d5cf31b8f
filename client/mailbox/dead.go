// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"net/url"
	"time"

	"github.com/rustyonions/macronode/b3"
)

// Dead is a dead letter: a message that is not delivered any more.
type Dead struct {
	MsgID     string            `json:"msg_id"`
	Reason    string            `json:"reason"` // max_attempts, integrity, expired or rejected
	Attempts  int               `json:"attempts"`
	LastError string            `json:"last_error,omitempty"` // what the last nack said
	Time      time.Time         `json:"ts"`                   // when it was sent
	Died      time.Time         `json:"died"`
	Bytes     int64             `json:"bytes"`
	Key       string            `json:"key,omitempty"`
	Attrs     map[string]string `json:"attrs,omitempty"`
	CorrID    string            `json:"corr_id,omitempty"`
	Hash      b3.Addr           `json:"payload_hash,omitzero"`
	// Payload and History come with Dead alone, not in lists. Where Damaged, the
	// node could not read the payload, or it is not what its hash says: none comes.
	Payload []byte    `json:"payload,omitempty"`
	Damaged bool      `json:"damaged,omitempty"`
	History []Attempt `json:"history,omitempty"`
}

// Attempt is one delivery of a message that died.
type Attempt struct {
	Time  time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // what its nack said; "": nothing was heard of it
}

// DeadFilter chooses dead letters; the zero value all.
type DeadFilter struct {
	Reason   string   `json:"reason,omitempty"`
	BeforeMS int64    `json:"before_ms,omitempty"` // died before, unix milliseconds
	AfterMS  int64    `json:"after_ms,omitempty"`  // died then or after
	MsgIDs   []string `json:"msg_ids,omitempty"`
}

// DeadLetters returns a page of the topic's dead letters, oldest first, and the
// next page's cursor. reason "" is any.
func (t *Topic) DeadLetters(ctx context.Context, reason, cursor string, limit int) ([]Dead, string, error) {
	q := url.Values{}
	setText(q, "reason", reason)
	setText(q, "cursor", cursor)
	setInt(q, "limit", int64(limit))
	var out struct {
		Messages []Dead `json:"messages"`
		Cursor   string `json:"cursor"`
	}
	err := t.admin(ctx, "GET", "/dlq", q, nil, &out)
	return out.Messages, out.Cursor, err
}

// DeadLetter returns one with its payload and history.
func (t *Topic) DeadLetter(ctx context.Context, msgID string) (Dead, error) {
	var out Dead
	err := t.admin(ctx, "GET", "/dlq/"+url.PathEscape(msgID), nil, nil, &out)
	return out, err
}

// DeleteDead deletes one dead letter.
func (t *Topic) DeleteDead(ctx context.Context, msgID string) error {
	return t.admin(ctx, "DELETE", "/dlq/"+url.PathEscape(msgID), nil, nil, nil)
}

// DeleteDeadLetters deletes those that f chooses, and returns how many.
func (t *Topic) DeleteDeadLetters(ctx context.Context, f DeadFilter) (int64, error) {
	var out struct {
		Deleted int64 `json:"deleted"`
	}
	in := struct {
		Filter DeadFilter `json:"filter"`
	}{f}
	err := t.admin(ctx, "POST", "/dlq/delete", nil, in, &out)
	return out.Deleted, err
}

// Redrive says which dead letters are to be delivered again.
type Redrive struct {
	Filter     DeadFilter `json:"filter"`
	RatePerSec int64      `json:"rate_per_s,omitempty"` // 0: as fast as it goes
	DryRun     bool       `json:"dry_run,omitempty"`    // count them, and move nothing
	To         string     `json:"to,omitempty"`         // topic; "": where they came from
}

// Job is a redrive, which goes on at the node, over restarts too.
type Job struct {
	ID         string     `json:"id"`
	State      string     `json:"state"` // running, done or stopped
	Matched    int64      `json:"matched"`
	Moved      int64      `json:"moved"`
	Failed     int64      `json:"failed"`
	DryRun     bool       `json:"dry_run"`
	RatePerSec int64      `json:"rate_per_s"`
	To         string     `json:"to"`
	Filter     DeadFilter `json:"filter"`
	Started    string     `json:"started"` // RFC 3339
	Ended      string     `json:"ended"`   // "": it runs
}

// jobAnswer is the answer about one job.
type jobAnswer struct {
	Job Job `json:"job"`
}

// Redrive begins to deliver dead letters again, with their attempts counted anew.
// The job is under way when it returns, a dry run too: Job says what it came to.
func (t *Topic) Redrive(ctx context.Context, r Redrive) (Job, error) {
	var out jobAnswer
	err := t.admin(ctx, "POST", "/dlq/redrive", nil, r, &out)
	return out.Job, err
}

// Jobs returns the topic's redrives, those that ended lately too.
func (t *Topic) Jobs(ctx context.Context) ([]Job, error) {
	var out struct {
		Jobs []Job `json:"jobs"`
	}
	err := t.admin(ctx, "GET", "/dlq/redrive", nil, nil, &out)
	return out.Jobs, err
}

// Job returns how far a redrive is.
func (t *Topic) Job(ctx context.Context, id string) (Job, error) {
	var out jobAnswer
	err := t.admin(ctx, "GET", "/dlq/redrive/"+url.PathEscape(id), nil, nil, &out)
	return out.Job, err
}

// StopJob ends a redrive where it is.
func (t *Topic) StopJob(ctx context.Context, id string) (Job, error) {
	var out jobAnswer
	err := t.admin(ctx, "DELETE", "/dlq/redrive/"+url.PathEscape(id), nil, nil, &out)
	return out.Job, err
}
