// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package mailbox uses the topics of a node's mailbox: durable queues with
// at-least-once delivery.
//
//	jobs := mailbox.New(c, "jobs")
//	sent, err := jobs.Send(ctx, mailbox.Message{Payload: []byte("resize 17")})
//
//	worker := mailbox.Consumer{From: jobs, Handle: func(ctx context.Context, m *mailbox.Delivery) error {
//		return resize(ctx, m.Payload) // nil acks; an error or a panic nacks
//	}}
//	err = worker.Run(ctx) // until ctx ends, then gracefully
//
// A message that was sent is durable. One that was received is hidden from others
// until its visibility ends, and comes again then unless it was acked: whoever
// handles messages must bear to see one twice. A receipt stands for one delivery:
// once the message was given to another, the older receipt changes nothing and is
// told so (ErrLeaseLost).
//
// Calls are repeated as package client does, where doing them twice is doing them
// once: a send has an Idempotency-Key for that, which is made here unless the
// message brings one; acks, nacks and extensions are fenced by their receipts.
package mailbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client"
)

// Limits of topics and messages that every node has. What else is bounded, such
// as a message's bytes, is in the node's config.
const (
	MaxTopicBytes     = 128 // of a topic's name: a-z, 0-9, ".", "_", "-", beginning with a letter or digit
	MaxAttrs          = 16
	MaxAttrNameBytes  = 64
	MaxAttrValueBytes = 256
)

// maxAnswerBytes bounds an answer that is read whole.
const maxAnswerBytes = 256 << 20

// The forms of bodies.
const (
	formJSON  = "application/json"
	formLines = "application/x-ndjson"
	formCBOR  = "application/cbor"
)

var (
	// ErrTopicName: what a Topic was made with is no name of a topic.
	ErrTopicName = errors.New("a topic's name is 1 to 128 of a-z, 0-9, \".\", \"_\" and \"-\", and begins with a letter or digit")
	// ErrLeaseLost: the receipt is no longer the message's. It was acked, or its
	// visibility ended, or it was nacked, moved or deleted. After a call that was
	// repeated because a connection broke, it may have been that call's own doing.
	ErrLeaseLost = errors.New("the lease was lost")
	// ErrReceipt: the receipt is none of this topic.
	ErrReceipt = errors.New("no receipt of this topic")
)

// Topic is a topic of a node's mailbox. It is safe for concurrent use.
type Topic struct {
	c    *client.Client
	name string
	json bool
}

// New returns the topic of this name. Nothing is asked of the node yet; a bad name
// is told by the first call, as ErrTopicName.
func New(c *client.Client, name string) *Topic { return &Topic{c: c, name: name} }

// Name is the topic's name.
func (t *Topic) Name() string { return t.name }

// InJSON is the same topic, with batches and received messages as JSON in place of
// CBOR, which takes a third more bytes: for those who look at what is sent.
func (t *Topic) InJSON() *Topic {
	return &Topic{c: t.c, name: t.name, json: true}
}

// ValidName reports whether s can be the name of a topic.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxTopicBytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		word := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !word && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// path is where something of the topic is.
func (t *Topic) path(rest string, q url.Values) (string, error) {
	if !ValidName(t.name) {
		return "", fmt.Errorf("%.140q: %w", t.name, ErrTopicName)
	}
	path := "/v1/mailbox/" + t.name + rest
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path, nil
}

// form is the media type that messages come in.
func (t *Topic) form() string {
	if t.json {
		return formJSON
	}
	return formCBOR
}

// question is a call that has an answer to decode.
type question struct {
	method, path string
	accept       string
	in           any // as JSON; nil: none
	repeat       bool
}

// ask makes a call and decodes its answer into out (nil: it is dropped).
func (t *Topic) ask(ctx context.Context, q question, out any) error { return ask(ctx, t.c, q, out) }

func ask(ctx context.Context, c *client.Client, q question, out any) error {
	r := client.Request{Method: q.method, Path: q.path, Repeat: q.repeat, Header: http.Header{}}
	if q.accept != "" {
		r.Header.Set("Accept", q.accept)
	}
	if q.in != nil {
		body, err := json.Marshal(q.in)
		if err != nil {
			return err
		}
		r.Body, r.Length = bytes.NewReader(body), int64(len(body))
		r.Header.Set("Content-Type", formJSON)
	}
	return do(ctx, c, r, out)
}

// do makes the call r and decodes its answer.
func do(ctx context.Context, c *client.Client, r client.Request, out any) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxAnswerBytes:
		return fmt.Errorf("the answer is longer than %d bytes", maxAnswerBytes)
	case out == nil || resp.StatusCode == http.StatusNoContent:
		return nil
	}
	if err := decode(resp.Header.Get("Content-Type"), text, out); err != nil {
		return fmt.Errorf("%s %s: the answer cannot be read: %w", r.Method, strings.SplitN(r.Path, "?", 2)[0], err)
	}
	return nil
}

// decoding is how CBOR is read: as strictly as JSON is.
func decoding() (cbor.DecMode, error) {
	return cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, TextUnmarshaler: cbor.TextUnmarshalerTextString,
		MaxNestedLevels: 16, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 16}.DecMode()
}

// decode reads text of a media type.
func decode(mediaType string, text []byte, out any) error {
	if mediaType, _, _ = strings.Cut(mediaType, ";"); mediaType != formCBOR {
		return json.Unmarshal(text, out)
	}
	mode, err := decoding()
	if err != nil {
		return err
	}
	return mode.Unmarshal(text, out)
}

// refusalJSON is a refusal of one of many.
type refusalJSON struct {
	Code         string `json:"code"`
	Detail       string `json:"detail"`
	RetryAfterMS int64  `json:"retry_after_ms"`
}

// err is the refusal as the whole call's would be; nil: it is none.
func (r *refusalJSON) err() error {
	switch r.Code {
	case "":
		return nil
	case macronode.LeaseLost.String():
		return ErrLeaseLost
	case "bad_receipt":
		return ErrReceipt
	}
	e := &client.Error{Problem: macronode.Problem{Status: http.StatusInternalServerError, Title: "Refused", Code: r.Code, Detail: r.Detail}}
	for k := range macronode.NumKinds {
		if info := k.Info(); info.Code == r.Code {
			e.Status, e.Title, e.Reason, e.Retryable = info.Status, info.Title, info.Reason, info.Retryable
			break
		}
	}
	e.RetryAfterMS = min(max(r.RetryAfterMS, 0), int64(24*time.Hour/time.Millisecond))
	e.RetryAfter = time.Duration(e.RetryAfterMS) * time.Millisecond
	return e
}

// millis is d in milliseconds, rounded up: what is to wait waits long enough.
func millis(d time.Duration) int64 {
	if d <= 0 {
		return d.Milliseconds()
	}
	return (d - 1).Milliseconds() + 1
}

func setInt(q url.Values, name string, n int64) {
	if n != 0 {
		q.Set(name, strconv.FormatInt(n, 10))
	}
}

func setText(q url.Values, name, s string) {
	if s != "" {
		q.Set(name, s)
	}
}
