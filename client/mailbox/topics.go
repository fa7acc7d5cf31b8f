// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Config is how a topic behaves. Where it is given to Put, what is zero or nil is
// not said, and the node's default holds. Durations count in whole milliseconds.
type Config struct {
	Retention     Millis `json:"retention_ms,omitempty"`     // how long a message waits at most
	DLQRetention  Millis `json:"dlq_retention_ms,omitempty"` // how long a dead letter is kept
	ReplayWindow  Millis `json:"replay_window_ms,omitempty"` // how long a repeated idempotency key is recognised
	Visibility    Millis `json:"visibility_ms,omitempty"`    // of receives that do not say
	MaxAttempts   int64  `json:"max_attempts,omitempty"`     // deliveries after which a message becomes a dead letter
	MaxDepth      int64  `json:"max_depth,omitempty"`        // messages that it holds
	MaxBytes      int64  `json:"max_bytes,omitempty"`        // of what it holds
	MaxInFlight   int64  `json:"max_in_flight,omitempty"`    // received and not settled, at a time
	MaxKeys       int64  `json:"max_keys,omitempty"`         // idempotency keys remembered
	MaxAge        Millis `json:"max_age_ms,omitempty"`       // of the oldest message without an ack: older, and sends are refused; 0: no bound
	DLQ           string `json:"dlq,omitempty"`              // topic whose dead-letter queue takes the dead; "": its own
	Ordered       *bool  `json:"ordered,omitempty"`          // messages without a key keep their order too
	ExpiredToDead *bool  `json:"keep_expired,omitempty"`     // what expires becomes a dead letter
}

// Millis is a duration that is written as a number of milliseconds.
type Millis time.Duration

// MarshalJSON writes milliseconds, rounded up.
func (m Millis) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, millis(time.Duration(m)), 10), nil
}

// UnmarshalJSON reads milliseconds.
func (m *Millis) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(b), 10, 64)
	const most = int64(1<<63-1) / int64(time.Millisecond)
	*m = Millis(time.Duration(min(max(n, -most), most)) * time.Millisecond)
	return err
}

// String is the duration's.
func (m Millis) String() string { return time.Duration(m).String() }

// Depth is what a topic holds now.
type Depth struct {
	Ready    int64 `json:"ready"`   // receivable, or behind an earlier message of its key
	Delayed  int64 `json:"delayed"` // sent with a delay, or backing off
	InFlight int64 `json:"in_flight"`
	Dead     int64 `json:"dead"`
	Bytes    int64 `json:"bytes"` // of all of them in the node's log
	Keys     int64 `json:"keys"`  // idempotency keys remembered
}

// Status is a topic and how it stands.
type Status struct {
	Topic         string           `json:"topic"`
	Config        Config           `json:"config"`
	Depth         Depth            `json:"depth"`
	OldestUnacked Millis           `json:"oldest_unacked_ms"` // age of the oldest message that is not acked
	Waiting       int              `json:"waiting"`           // receivers
	Counts        map[string]int64 `json:"counts"`            // since the topic was made: sent, acked, expired, …
}

// Topics returns a page of the tenant's topics whose name begins with prefix, by
// name, from cursor on, and the next page's cursor; "": there is none. limit 0 is
// the node's default. This and all below needs the right to administer.
func Topics(ctx context.Context, c *client.Client, prefix, cursor string, limit int) ([]Status, string, error) {
	q := url.Values{}
	setText(q, "prefix", prefix)
	setText(q, "cursor", cursor)
	setInt(q, "limit", int64(limit))
	path := "/v1/mailbox"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	var out struct {
		Topics []Status `json:"topics"`
		Cursor string   `json:"cursor"`
	}
	err := ask(ctx, c, question{method: "GET", path: path, accept: formJSON}, &out)
	return out.Topics, out.Cursor, err
}

// Status returns how the topic stands. A topic that is not there is a
// *client.Error with 404.
func (t *Topic) Status(ctx context.Context) (Status, error) {
	var out Status
	err := t.admin(ctx, "GET", "", nil, nil, &out)
	return out, err
}

// Put makes the topic, or gives it another config. To change a part of it, change
// that in the Config of its Status.
func (t *Topic) Put(ctx context.Context, c Config) (Status, error) {
	var out Status
	err := t.admin(ctx, "PUT", "", nil, c, &out)
	return out, err
}

// Delete deletes the topic with all that it holds, dead letters included.
func (t *Topic) Delete(ctx context.Context) error { return t.admin(ctx, "DELETE", "", nil, nil, nil) }

// Purge deletes the messages that wait or are in flight, and returns how many they
// were. Dead letters stay.
func (t *Topic) Purge(ctx context.Context) (int64, error) {
	var out struct {
		Purged int64 `json:"purged"`
	}
	err := t.admin(ctx, "POST", "/purge", nil, nil, &out)
	return out.Purged, err
}

// Peeked is a message as it is seen without being received.
type Peeked struct {
	MsgID    string            `json:"msg_id"`
	State    string            `json:"state"` // ready, delayed or in_flight
	Time     time.Time         `json:"ts"`
	Attempts int               `json:"attempts"` // deliveries so far
	Until    Millis            `json:"until_ms"` // until its delay or its visibility ends; 0: it is ready
	Bytes    int64             `json:"bytes"`
	Key      string            `json:"key,omitempty"`
	Attrs    map[string]string `json:"attrs,omitempty"`
	Hash     b3.Addr           `json:"payload_hash"`
}

// Peek returns a page of the messages that wait or are in flight, oldest first,
// and the next page's cursor. state "" is any. Nothing changes by it.
func (t *Topic) Peek(ctx context.Context, state, cursor string, limit int) ([]Peeked, string, error) {
	q := url.Values{}
	setText(q, "state", state)
	setText(q, "cursor", cursor)
	setInt(q, "limit", int64(limit))
	var out struct {
		Messages []Peeked `json:"messages"`
		Cursor   string   `json:"cursor"`
	}
	err := t.admin(ctx, "GET", "/messages", q, nil, &out)
	return out.Messages, out.Cursor, err
}

// admin makes one of the calls about the topic as a whole.
func (t *Topic) admin(ctx context.Context, method, rest string, q url.Values, in, out any) error {
	path, err := t.path(rest, q)
	if err != nil {
		return err
	}
	return t.ask(ctx, question{method: method, path: path, accept: formJSON, in: in}, out)
}
