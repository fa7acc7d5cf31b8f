// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/mailbox"
)

// Limits of the mailbox in memory.
const (
	maxMailBytes  = 24 << 20
	defaultCredit = 32
	mailBeat      = 15 * time.Second
)

// mailActions are what calls of the mailbox need; those that are not here need
// mailbox:admin.
var mailActions = map[macronode.Op]macronode.Action{
	"mailbox.send": "mailbox:send", "mailbox.receive": "mailbox:receive", "mailbox.subscribe": "mailbox:receive",
	"mailbox.ack": "mailbox:ack", "mailbox.nack": "mailbox:ack", "mailbox.extend": "mailbox:ack",
}

// Send puts messages into a topic, as a call would, and returns their ids.
func (n *Node) Send(topic string, ms ...mailbox.Message) []string {
	sent, err := n.box.Send(topic, ms, "")
	if err != nil {
		panic(fmt.Sprintf("clienttest: %v", err))
	}
	ids := make([]string, len(sent))
	for i, s := range sent {
		ids[i] = s.MsgID
	}
	return ids
}

// Topic returns how a topic stands.
func (n *Node) Topic(name string) (s mailbox.Status, ok bool) {
	s, err := n.box.Topic(name)
	return s, err == nil
}

// isMail reports whether an operation is the mailbox's.
func isMail(op macronode.Op) bool { return strings.HasPrefix(string(op), "mailbox.") }

// mail answers a call of the mailbox.
func (x *exchange) mail() error {
	topic := x.arg("topic")
	if x.op != "mailbox.topics" && !mailbox.ValidName(topic) {
		return macronode.Errorf(macronode.Malformed, "no name of a topic")
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxMailBytes+1))
	switch {
	case err != nil:
		return macronode.Wrap(macronode.ClientGone, "", err)
	case len(body) > maxMailBytes:
		return macronode.Errorf(macronode.TooLarge, "")
	}
	box := x.n.box
	switch x.op {
	case "mailbox.send":
		return x.mailSend(topic, body)
	case "mailbox.receive":
		return x.mailReceive(topic, body)
	case "mailbox.ack", "mailbox.nack", "mailbox.extend":
		return x.mailSettle(topic, body)
	case "mailbox.subscribe":
		return x.mailSubscribe(topic)
	case "mailbox.topics":
		_, limit, err := x.page()
		if err != nil {
			return err
		}
		topics, cursor := box.Topics(x.arg("prefix"), x.arg("cursor"), limit)
		return x.document(200, map[string]any{"topics": topics, "cursor": cursor})
	case "mailbox.topic":
		s, err := box.Topic(topic)
		return x.found(s, err)
	case "mailbox.topic.put":
		var c mailbox.Config
		if err := strict(body, &c); err != nil {
			return err
		}
		s, created, err := box.Put(topic, c)
		if created && err == nil {
			return x.document(201, s)
		}
		return x.found(s, err)
	case "mailbox.topic.delete":
		return x.gone(box.Delete(topic))
	case "mailbox.purge":
		n, err := box.Purge(topic)
		return x.found(map[string]int64{"purged": n}, err)
	case "mailbox.peek":
		cursor, limit, err := x.page()
		if err != nil {
			return err
		}
		all, next, err := box.Peek(topic, x.arg("state"), cursor, limit)
		return x.found(map[string]any{"messages": all, "cursor": next}, err)
	}
	return x.mailDead(topic, body)
}

// mailDead answers what is about dead letters.
func (x *exchange) mailDead(topic string, body []byte) error {
	box, id := x.n.box, x.arg("msg_id")
	switch x.op {
	case "mailbox.dlq":
		cursor, limit, err := x.page()
		if err != nil {
			return err
		}
		all, next, err := box.DeadLetters(topic, mailbox.DeadFilter{Reason: x.arg("reason")}, cursor, limit)
		return x.found(map[string]any{"messages": all, "cursor": next}, err)
	case "mailbox.dlq.get":
		d, err := box.DeadLetter(topic, id)
		return x.found(d, err)
	case "mailbox.dlq.delete":
		n, err := box.DeleteDead(topic, mailbox.DeadFilter{MsgIDs: []string{id}})
		if err == nil && n == 0 {
			err = macronode.Errorf(macronode.NotFound, "no such message")
		}
		return x.gone(err)
	case "mailbox.dlq.purge":
		var in struct {
			Filter *mailbox.DeadFilter `json:"filter"`
		}
		if err := strict(body, &in); err != nil {
			return err
		}
		if in.Filter == nil {
			return macronode.Errorf(macronode.Malformed, "no filter")
		}
		n, err := box.DeleteDead(topic, *in.Filter)
		return x.found(map[string]int64{"deleted": n}, err)
	case "mailbox.redrive":
		var in mailbox.Redrive
		if err := strict(body, &in); err != nil {
			return err
		}
		j, err := box.Redrive(topic, in)
		return x.found(map[string]any{"job": j}, err)
	case "mailbox.redrive.list":
		all, err := box.Jobs(topic)
		return x.found(map[string]any{"jobs": all}, err)
	case "mailbox.redrive.get", "mailbox.redrive.stop":
		j, err := box.Job(topic, x.arg("job"))
		return x.found(map[string]any{"job": j}, err)
	}
	return macronode.Errorf(macronode.Unimplemented, "the node in memory has no %s", x.op)
}

// found answers with v, where err is nil.
func (x *exchange) found(v any, err error) error {
	if err != nil {
		return err
	}
	return x.document(200, v)
}

func (x *exchange) gone(err error) error {
	if err != nil {
		return err
	}
	x.reply(recorded{status: http.StatusNoContent})
	return nil
}

// page is what part of a list is asked for.
func (x *exchange) page() (cursor string, limit int, err error) {
	if text := x.arg("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return "", 0, macronode.Errorf(macronode.Malformed, "limit is 1 to %d", maxPage)
		}
	}
	return x.arg("cursor"), limit, nil
}

// strict reads a document without members that are not known; an empty body has none.
func strict(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil || d.More() {
		return macronode.Errorf(macronode.Malformed, "the body is not the document of this route")
	}
	return nil
}

// millis reads an argument that is a number of milliseconds.
func (x *exchange) millis(name string) (time.Duration, error) {
	text := x.arg(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > int64(366*24*time.Hour/time.Millisecond) && name != "deliver_at_ms" {
		return 0, macronode.Errorf(macronode.Malformed, "%s is a number of milliseconds", name)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// mailForm answers with v in CBOR where that is asked for, else as JSON.
func (x *exchange) mailForm(v any) error {
	if x.r.Header.Get("Accept") != "application/cbor" {
		return x.document(200, v)
	}
	text, err := inCBOR(v)
	if err != nil {
		return err
	}
	x.reply(recorded{status: 200, header: http.Header{"Content-Type": {"application/cbor"}}, body: text})
	return nil
}

func inCBOR(v any) ([]byte, error) {
	mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano, TextMarshaler: cbor.TextMarshalerTextString}.EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

// mailLine is a message of a batch.
type mailLine struct {
	Payload   *[]byte           `json:"payload"`
	Text      *string           `json:"text"`
	JSON      json.RawMessage   `json:"json" cbor:"-"`
	Attrs     map[string]string `json:"attrs"`
	Delay     int64             `json:"delay_ms"`
	DeliverAt int64             `json:"deliver_at_ms"`
	TTL       int64             `json:"ttl_ms"`
	Key       string            `json:"key"`
	IdemKey   string            `json:"idempotency_key"`
}

func (l *mailLine) message() (m mailbox.Message, err error) {
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
	bad := payloads != 1 || len(l.Attrs) > mailbox.MaxAttrs || l.Delay < 0 || l.TTL < 0 || l.Delay > 0 && l.DeliverAt > 0
	for name, value := range l.Attrs {
		bad = bad || name == "" || len(name) > mailbox.MaxAttrNameBytes || len(value) > mailbox.MaxAttrValueBytes
	}
	if bad {
		return m, macronode.Errorf(macronode.Malformed, "no message")
	}
	m.Attrs, m.Key, m.IdempotencyKey = l.Attrs, l.Key, l.IdemKey
	m.Delay, m.TTL = time.Duration(l.Delay)*time.Millisecond, time.Duration(l.TTL)*time.Millisecond
	if l.DeliverAt > 0 {
		m.DeliverAt = time.UnixMilli(l.DeliverAt)
	}
	return m, nil
}

// mailLines reads a batch.
func mailLines(form string, body []byte) (lines []mailLine, err error) {
	if form == "application/cbor" {
		mode, err := cbor.DecOptions{ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
		if err == nil {
			err = mode.Unmarshal(body, &lines)
		}
		return lines, err
	}
	for line := range bytes.Lines(body) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var l mailLine
		if err := strict(line, &l); err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func (x *exchange) mailSend(topic string, body []byte) error {
	form := x.r.Header.Get("Content-Type")
	key := x.r.Header.Get("Idempotency-Key")
	if form != "application/cbor" && form != "application/x-ndjson" {
		l := mailLine{Payload: &body, Key: x.arg("key"), IdemKey: key}
		for name, to := range map[string]*int64{"delay_ms": &l.Delay, "deliver_at_ms": &l.DeliverAt, "ttl_ms": &l.TTL} {
			d, err := x.millis(name)
			if err != nil {
				return err
			}
			*to = d.Milliseconds()
		}
		m, err := l.message()
		if err != nil {
			return err
		}
		sent, err := x.n.box.Send(topic, []mailbox.Message{m}, x.corr)
		if err == nil {
			err = sent[0].Err
		}
		if err != nil {
			return err
		}
		return x.document(200, map[string]any{"msg_id": sent[0].MsgID, "duplicate": sent[0].Duplicate})
	}
	lines, err := mailLines(form, body)
	if err != nil || len(lines) == 0 {
		return macronode.Errorf(macronode.Malformed, "no batch")
	}
	ms := make([]mailbox.Message, len(lines))
	for i := range lines {
		if ms[i], err = lines[i].message(); err != nil {
			return err
		}
		if ms[i].IdempotencyKey == "" && key != "" {
			ms[i].IdempotencyKey = key + " " + strconv.Itoa(i)
		}
	}
	sent, err := x.n.box.Send(topic, ms, x.corr)
	if err != nil {
		return err
	}
	results, refused := make([]map[string]any, len(sent)), 0
	for i, s := range sent {
		if s.Err == nil {
			results[i] = map[string]any{"msg_id": s.MsgID, "duplicate": s.Duplicate}
			continue
		}
		refused++
		p := macronode.AsError(s.Err).Problem("")
		results[i] = map[string]any{"code": p.Code, "detail": p.Detail}
	}
	if refused == len(sent) {
		return sent[0].Err
	}
	return x.mailForm(map[string]any{"results": results})
}

func (x *exchange) mailReceive(topic string, body []byte) error {
	var in struct {
		Max        int   `json:"max_messages"`
		MaxBytes   int64 `json:"max_bytes"`
		Visibility int64 `json:"visibility_ms"`
		Wait       int64 `json:"wait_ms"`
	}
	if err := strict(body, &in); err != nil {
		return err
	}
	got, err := x.n.box.Receive(x.r.Context(), topic, mailbox.Want{Max: in.Max, MaxBytes: in.MaxBytes,
		Visibility: time.Duration(in.Visibility) * time.Millisecond, Wait: time.Duration(in.Wait) * time.Millisecond})
	if err != nil {
		return err
	}
	x.spoil(got)
	return x.mailForm(map[string]any{"messages": append([]mailbox.Delivery{}, got...)})
}

// spoil flips a bit of the first payload, where a fault says so.
func (x *exchange) spoil(got []mailbox.Delivery) {
	at := x.corrupt()
	if at < 0 || len(got) == 0 || at >= int64(len(got[0].Payload)) {
		return
	}
	got[0].Payload = slices.Clone(got[0].Payload)
	got[0].Payload[at] ^= 1
}

func (x *exchange) mailSettle(topic string, body []byte) error {
	var in struct {
		Receipts   []string `json:"receipts"`
		Delay      *int64   `json:"delay_ms"`
		Reason     string   `json:"reason"`
		Visibility int64    `json:"visibility_ms"`
	}
	if err := strict(body, &in); err != nil {
		return err
	}
	if len(in.Receipts) == 0 {
		return macronode.Errorf(macronode.Malformed, "receipts is a list of receipts")
	}
	var out []mailbox.Outcome
	var err error
	switch x.op {
	case "mailbox.ack":
		out, err = x.n.box.Ack(topic, in.Receipts)
	case "mailbox.nack":
		var delay *time.Duration
		if in.Delay != nil {
			delay = new(time.Duration(*in.Delay) * time.Millisecond)
		}
		out, err = x.n.box.Nack(topic, in.Receipts, delay, in.Reason)
	default:
		if in.Visibility < 1 {
			return macronode.Errorf(macronode.Malformed, "visibility_ms is a number of milliseconds")
		}
		out, err = x.n.box.Extend(topic, in.Receipts, time.Duration(in.Visibility)*time.Millisecond)
	}
	if err != nil {
		return err
	}
	lost, bad, results := 0, 0, make([]map[string]any, len(out))
	for i, o := range out {
		switch {
		case o.Err == nil:
			results[i] = map[string]any{"receipt": o.Receipt, "msg_id": o.MsgID, "ok": true}
		case errors.Is(o.Err, mailbox.ErrReceipt):
			bad++
			results[i] = map[string]any{"receipt": o.Receipt, "ok": false, "code": "bad_receipt"}
		default:
			lost++
			results[i] = map[string]any{"receipt": o.Receipt, "ok": false, "code": "lease_lost"}
		}
	}
	switch len(out) {
	case lost:
		return macronode.Errorf(macronode.LeaseLost, "")
	case bad:
		return macronode.Errorf(macronode.Malformed, "no receipt of this topic")
	}
	return x.document(200, map[string]any{"results": results})
}
