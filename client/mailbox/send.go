// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode/client"
)

// Message is one to send.
type Message struct {
	Payload []byte
	// Attrs go with it: at most MaxAttrs.
	Attrs map[string]string
	// Key orders: messages of a topic with the same key are delivered one after
	// the other, in the order in which they were sent. "": no order is promised.
	Key string
	// Delay hides the message for so long, DeliverAt until then; one of the two.
	Delay     time.Duration
	DeliverAt time.Time
	// TTL is how long it is worth delivering; after that it expires. 0: as long
	// as the topic keeps messages.
	TTL time.Duration
	// IdempotencyKey makes a repeated send store the message once, within the
	// topic's replay window, also if the program was started again in between.
	// "": one is made for this call, unless Unkeyed.
	IdempotencyKey string
	// Unkeyed sends it without a key: what breaks off without an answer is an
	// error then, and is not tried again, as it may have been stored.
	Unkeyed bool
}

// Sent is what became of a message.
type Sent struct {
	MsgID string // a ULID
	// Duplicate says that the node had the message already, under the same key:
	// from an earlier send, or from an earlier try of this one.
	Duplicate bool
	// Err, in a batch, says that this message was refused, and why: a
	// *client.Error, whose RetryAfter says when it may be taken.
	Err error
}

var (
	errBothTimes = errors.New("a message has a Delay or a DeliverAt, not both")
	errBothKeys  = errors.New("a message is Unkeyed or has an IdempotencyKey, not both")
	errResults   = errors.New("the node's answer has another number of results")
)

// key is the message's key, made where it lacks one.
func (m *Message) key() (string, error) {
	switch {
	case m.Delay != 0 && !m.DeliverAt.IsZero():
		return "", errBothTimes
	case m.Unkeyed && m.IdempotencyKey != "":
		return "", errBothKeys
	case m.Unkeyed || m.IdempotencyKey != "":
		return m.IdempotencyKey, nil
	}
	return rand.Text(), nil
}

// Send sends one message and returns once it is durable. A refusal is a
// *client.Error; after any other error it may have been stored or not: sent again
// under the same IdempotencyKey it is stored once.
func (t *Topic) Send(ctx context.Context, m Message) (Sent, error) {
	if len(m.Attrs) > 0 { // which a query cannot say over OAP/1
		sent, err := t.SendBatch(ctx, []Message{m})
		if len(sent) != 1 {
			return Sent{}, err
		}
		return sent[0], errors.Join(sent[0].Err)
	}
	key, err := m.key()
	if err != nil {
		return Sent{}, err
	}
	q := url.Values{}
	setInt(q, "delay_ms", millis(m.Delay))
	if !m.DeliverAt.IsZero() {
		setInt(q, "deliver_at_ms", m.DeliverAt.UnixMilli())
	}
	setInt(q, "ttl_ms", millis(m.TTL))
	setText(q, "key", m.Key)
	path, err := t.path("/messages", q)
	if err != nil {
		return Sent{}, err
	}
	r := client.Request{Method: "POST", Path: path, Header: http.Header{"Accept": {formJSON}, "Content-Type": {"application/octet-stream"}}, Repeat: key != ""}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if len(m.Payload) > 0 {
		r.Body, r.Length = bytes.NewReader(m.Payload), int64(len(m.Payload))
	}
	var out struct {
		MsgID     string `json:"msg_id"`
		Duplicate bool   `json:"duplicate"`
	}
	err = do(ctx, t.c, r, &out)
	return Sent{MsgID: out.MsgID, Duplicate: out.Duplicate}, err
}

// line is a message of a batch, in CBOR and in JSON.
type line struct {
	Payload     []byte            `json:"payload"`
	Attrs       map[string]string `json:"attrs,omitempty"`
	DelayMS     int64             `json:"delay_ms,omitempty"`
	DeliverAtMS int64             `json:"deliver_at_ms,omitempty"`
	TTLMS       int64             `json:"ttl_ms,omitempty"`
	Key         string            `json:"key,omitempty"`
	IdemKey     string            `json:"idempotency_key,omitempty"`
}

// SendBatch sends messages in one call and returns once all that were taken are
// durable. What became of each is in the results, in order; there are none where
// the call as a whole failed. The error is nil where every message was taken, else
// the first one's, or the call's. Messages are refused one by one, except where a
// batch is longer than the node takes, one of its messages is none, or all are
// refused for the same reason: that is the call's failure then.
func (t *Topic) SendBatch(ctx context.Context, ms []Message) ([]Sent, error) {
	path, err := t.path("/messages", nil)
	if err != nil {
		return nil, err
	}
	lines := make([]line, len(ms))
	repeat := true
	for i := range ms {
		m := &ms[i]
		key, err := m.key()
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i+1, err)
		}
		repeat = repeat && key != ""
		lines[i] = line{Payload: m.Payload, Attrs: m.Attrs, DelayMS: millis(m.Delay), TTLMS: millis(m.TTL), Key: m.Key, IdemKey: key}
		if lines[i].Payload == nil {
			lines[i].Payload = []byte{} // nil would be null
		}
		if !m.DeliverAt.IsZero() {
			lines[i].DeliverAtMS = m.DeliverAt.UnixMilli()
		}
	}
	body, form, err := t.encode(lines)
	if err != nil {
		return nil, err
	}
	var out struct {
		Results []struct {
			MsgID     string `json:"msg_id"`
			Duplicate bool   `json:"duplicate"`
			refusalJSON
		} `json:"results"`
	}
	err = do(ctx, t.c, client.Request{Method: "POST", Path: path, Body: bytes.NewReader(body), Length: int64(len(body)), Repeat: repeat,
		Header: http.Header{"Accept": {t.form()}, "Content-Type": {form}}}, &out)
	if err != nil {
		return nil, err
	}
	if len(out.Results) != len(ms) {
		return nil, errResults
	}
	sent := make([]Sent, len(ms))
	refused := 0
	for i, r := range out.Results {
		sent[i] = Sent{MsgID: r.MsgID, Duplicate: r.Duplicate, Err: r.err()}
		if sent[i].Err != nil {
			if refused++; refused == 1 {
				err = sent[i].Err
			}
		}
	}
	if refused > 0 {
		err = fmt.Errorf("%d of %d messages were refused, the first: %w", refused, len(ms), err)
	}
	return sent, err
}

// encode writes a batch.
func (t *Topic) encode(lines []line) (body []byte, form string, err error) {
	if !t.json {
		body, err = cbor.Marshal(lines)
		return body, formCBOR, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for i := range lines {
		if err := e.Encode(&lines[i]); err != nil {
			return nil, "", err
		}
	}
	return b.Bytes(), formLines, nil
}

// ParseLine reads a message from a line of NDJSON, in the form that nodes take:
// one of payload (base64), text and json, and attrs, delay_ms, deliver_at_ms,
// ttl_ms, key, idempotency_key. Members that are not known are an error.
func ParseLine(b []byte) (m Message, err error) {
	var l struct {
		line
		Payload *[]byte         `json:"payload"`
		Text    *string         `json:"text"`
		JSON    json.RawMessage `json:"json"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return m, err
	}
	if d.More() {
		return m, errors.New("more than one document in a line")
	}
	payloads := 0
	if l.Payload != nil {
		payloads, m.Payload = payloads+1, *l.Payload
	}
	if l.Text != nil {
		payloads, m.Payload = payloads+1, []byte(*l.Text)
	}
	if l.JSON != nil {
		payloads, m.Payload = payloads+1, l.JSON
	}
	if payloads != 1 {
		return m, errors.New("a message has one of payload, text and json")
	}
	m.Attrs, m.Key, m.IdempotencyKey = l.Attrs, l.Key, l.IdemKey
	m.Delay, m.TTL = time.Duration(l.DelayMS)*time.Millisecond, time.Duration(l.TTLMS)*time.Millisecond
	if l.DeliverAtMS != 0 {
		m.DeliverAt = time.UnixMilli(l.DeliverAtMS)
	}
	return m, nil
}
