// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// Media types of bodies.
const (
	JSON        = "application/json"
	Lines       = "application/x-ndjson"
	CBOR        = "application/cbor"
	CBORSeq     = "application/cbor-seq"
	EventStream = "text/event-stream"
)

// TimeLayout is how times are written: UTC, to the millisecond.
const TimeLayout = "2006-01-02T15:04:05.000Z"

// Wants reports whether an Accept field asks for the media type before JSON.
func Wants(accept, media string) bool {
	at := strings.Index(accept, media)
	if at < 0 || at+len(media) < len(accept) && !strings.ContainsRune(",; \t", rune(accept[at+len(media)])) {
		return false
	}
	j := strings.Index(accept, JSON)
	return j < 0 || at < j
}

// AppendID appends a message's id.
func AppendID(b []byte, id queue.ID) []byte {
	var text [26]byte
	_ = ulid.ULID(id).MarshalTextTo(text[:]) // it fails for another length alone
	return append(b, text[:]...)
}

// ID is a message's id as callers see it.
func ID(id queue.ID) string { return ulid.ULID(id).String() }

// ParseID reads a message's id in its one form.
func ParseID(s string) (queue.ID, bool) {
	u, err := ulid.ParseStrict(s)
	return queue.ID(u), err == nil && u.String() == s
}

// Time is t as callers see it; the zero time is "".
func Time(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(TimeLayout)
}

// AppendText appends s as a JSON string.
func AppendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...) // a string always marshals
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendAttrs(b []byte, attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return append(b, "{}"...)
	}
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(attrs)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendText(b, name)
		b = append(b, ':')
		b = AppendText(b, attrs[name])
	}
	return append(b, '}')
}

// hashText is the address of a payload.
func appendHash(b []byte, h b3.Addr) []byte {
	const digits = "0123456789abcdef"
	b = append(b, "b3:"...)
	for _, c := range h {
		b = append(b, digits[c>>4], digits[c&15])
	}
	return b
}

// overhead is more than a message takes in either form beside its texts.
const overhead = 400

// Size bounds what AppendMessage or AppendMessageCBOR append for d.
func Size(d *broker.Delivery, asCBOR bool) int {
	n := overhead + len(d.Receipt) + 2*len(d.Key) + 2*len(d.CorrID)
	for name, value := range d.Attrs {
		n += 2*len(name) + 2*len(value) + 8
	}
	if asCBOR {
		return n + len(d.Payload)
	}
	return n + base64.StdEncoding.EncodedLen(len(d.Payload))
}

// AppendMessage appends a received message in JSON. cursor is that of a
// subscription; "" leaves it out.
func AppendMessage(b []byte, topic, cursor string, d *broker.Delivery) []byte {
	b = append(b, `{"msg_id":"`...)
	b = AppendID(b, d.ID)
	b = append(b, `","receipt":`...)
	b = AppendText(b, d.Receipt)
	b = append(b, `,"topic":`...)
	b = AppendText(b, topic)
	b = append(b, `,"ts":"`...)
	b = d.TS.UTC().AppendFormat(b, TimeLayout)
	b = append(b, `","attempt":`...)
	b = strconv.AppendInt(b, int64(d.Attempt), 10)
	b = append(b, `,"attrs":`...)
	b = appendAttrs(b, d.Attrs)
	b = append(b, `,"key":`...)
	b = AppendText(b, d.Key)
	b = append(b, `,"payload_hash":"`...)
	b = appendHash(b, d.Hash)
	b = append(b, `","corr_id":`...)
	b = AppendText(b, d.CorrID)
	if cursor != "" {
		b = append(b, `,"cursor":`...)
		b = AppendText(b, cursor)
	}
	b = append(b, `,"payload":"`...)
	b = base64.StdEncoding.AppendEncode(b, d.Payload)
	return append(b, `"}`...)
}

// Messages is the answer to a receive.
func Messages(topic string, all []broker.Delivery, asCBOR bool) []byte {
	n := 32
	for i := range all {
		n += Size(&all[i], asCBOR) + len(topic)
	}
	b := make([]byte, 0, n)
	if asCBOR {
		b = appendHead(b, cborMap, 1)
		b = appendCBORText(b, "messages")
		b = appendHead(b, cborArray, uint64(len(all)))
		for i := range all {
			b = AppendMessageCBOR(b, topic, "", &all[i])
		}
		return b
	}
	b = append(b, `{"messages":[`...)
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendMessage(b, topic, "", &all[i])
	}
	return append(b, "]}"...)
}

// Refusal is why one of many was not done.
type Refusal struct {
	Code         string `json:"code,omitempty"`
	Detail       string `json:"detail,omitempty"`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

// AppendSent is the answer to one message sent alone.
func AppendSent(b []byte, id queue.ID, duplicate bool) []byte {
	b = append(b, `{"msg_id":"`...)
	b = AppendID(b, id)
	b = append(b, `","duplicate":`...)
	b = strconv.AppendBool(b, duplicate)
	return append(b, '}')
}

// Sent is the answer to a batch. refusal says of a message that was refused why.
func Sent(all []broker.Sent, refusal func(error) Refusal, asCBOR bool) []byte {
	if asCBOR {
		return sentCBOR(all, refusal)
	}
	b := make([]byte, 0, 32+len(all)*64)
	b = append(b, `{"results":[`...)
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		if all[i].Err == nil {
			b = AppendSent(b, all[i].ID, all[i].Duplicate)
			continue
		}
		r := refusal(all[i].Err)
		b = append(b, `{"code":`...)
		b = AppendText(b, r.Code)
		b = append(b, `,"detail":`...)
		b = AppendText(b, r.Detail)
		if r.RetryAfterMS > 0 {
			b = append(b, `,"retry_after_ms":`...)
			b = strconv.AppendInt(b, r.RetryAfterMS, 10)
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

// Outcomes is the answer to an ack, nack or extend. code names what is wrong with
// a receipt.
func Outcomes(all []broker.Outcome, code func(error) string) []byte {
	b := make([]byte, 0, 32+len(all)*144)
	b = append(b, `{"results":[`...)
	for i := range all {
		o := &all[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"receipt":`...)
		b = AppendText(b, o.Receipt)
		if o.Err == nil {
			b = append(b, `,"msg_id":"`...)
			b = AppendID(b, o.ID)
			b = append(b, `","ok":true}`...)
			continue
		}
		b = append(b, `,"ok":false,"code":`...)
		b = AppendText(b, code(o.Err))
		b = append(b, '}')
	}
	return append(b, "]}"...)
}
