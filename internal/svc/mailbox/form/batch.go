// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

// maxMembers bounds the members of one message's object.
const maxMembers = 16

// base64Form is what payloads in JSON are written in.
var base64Form = base64.StdEncoding.Strict()

// NDJSON reads a batch, a message a line; lines of spaces alone do not count.
// The whole of b is taken over: payloads are decoded into it. The error, if any,
// names the line; nothing of the batch is good then.
func NDJSON(b []byte, most int) ([]broker.Message, error) {
	var out []broker.Message
	for n := 1; len(b) > 0; n++ {
		line := b
		if at := bytes.IndexByte(b, '\n'); at >= 0 {
			line, b = b[:at], b[at+1:]
		} else {
			b = nil
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(out) == most {
			return nil, tooMany(most)
		}
		if out == nil {
			out = make([]broker.Message, 0, min(most, 1+bytes.Count(b, []byte{'\n'})))
		}
		m, err := line1(line)
		if err != nil {
			return nil, in(fmt.Sprintf("line %d", n), err)
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, macronode.Errorf(macronode.Malformed, "the batch has no message")
	}
	return out, nil
}

func tooMany(most int) error {
	return macronode.Errorf(macronode.TooLarge, "a batch has at most %d messages", most)
}

// in gives what is wrong with a message its place.
func in(place string, err error) error {
	return macronode.Errorf(macronode.Malformed, "%s: %s", place, err.Error())
}

// line1 reads the message of one line.
func line1(line []byte) (m broker.Message, err error) {
	s := scanner{b: line}
	var seen members
	payloads := 0
	err = s.object(maxMembers, func(name string) error {
		if err := seen.add(name); err != nil {
			return err
		}
		switch name {
		case "payload", "text", "json":
			payloads++
			m.Payload, err = s.payload(name)
			return err
		case "attrs":
			return s.attrs(&m)
		case "delay_ms", "deliver_at_ms", "ttl_ms":
			v, err := s.integer()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return setNumber(&m, name, v)
		default: // key and idempotency_key
			v, err := s.text()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if name == "key" {
				return setKey(&m, v)
			}
			return setIdemKey(&m, v)
		}
	})
	if err == nil {
		err = s.end()
	}
	return m, finish(&m, payloads, err)
}

// finish judges a message that was read.
func finish(m *broker.Message, payloads int, err error) error {
	switch {
	case err != nil:
		return err
	case payloads != 1:
		return errPayloads
	}
	return check(m)
}

// payload is the value of one of the three members that a payload can stand in.
func (s *scanner) payload(name string) ([]byte, error) {
	if name == "json" {
		return s.raw()
	}
	if name == "text" {
		v, err := s.text()
		if err != nil {
			return nil, fmt.Errorf("text: %w", err)
		}
		return []byte(v), nil
	}
	q, err := s.quoted()
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	in := q[1 : len(q)-1]
	if !plain(in) { // some writers escape every slash
		v, err := (&scanner{b: q}).text()
		if err != nil || !plain([]byte(v)) {
			return nil, errBase64
		}
		in = []byte(v)
	}
	// In place: what is decoded is shorter than what it is decoded from.
	n, err := base64Form.Decode(in, in)
	if err != nil {
		return nil, errBase64
	}
	return in[:n:n], nil
}

var errBase64 = errors.New("payload: it is not base64")

func (s *scanner) attrs(m *broker.Message) error {
	return s.object(MaxAttrs, func(name string) error {
		v, err := s.text()
		if err != nil {
			return fmt.Errorf("attrs: %w", err)
		}
		return setAttr(m, name, v)
	})
}

// members are the names of a message's members, in the order of their bits.
var memberNames = [...]string{"payload", "text", "json", "attrs", "delay_ms", "deliver_at_ms", "ttl_ms", "key", "idempotency_key"}

// members remembers which were met.
type members uint16

func (s *members) add(name string) error {
	for i, known := range memberNames {
		if known != name {
			continue
		}
		if *s&(1<<i) != 0 {
			return errTwice
		}
		*s |= 1 << i
		return nil
	}
	return errMember
}

// cborMessage is a message of a CBOR batch.
type cborMessage struct {
	Payload   *[]byte           `cbor:"payload"`
	Text      *string           `cbor:"text"`
	Attrs     map[string]string `cbor:"attrs"`
	Delay     *int64            `cbor:"delay_ms"`
	DeliverAt *int64            `cbor:"deliver_at_ms"`
	TTL       *int64            `cbor:"ttl_ms"`
	Key       *string           `cbor:"key"`
	IdemKey   *string           `cbor:"idempotency_key"`
}

// Batches reads batches in CBOR. The zero value is not ready.
type Batches struct{ mode cbor.DecMode }

// maxListed is the most elements that a list of a request may have, whatever the
// config says.
const maxListed = 10_000

// NewBatches returns a reader whose own limits hold for every config.
func NewBatches() (*Batches, error) {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: maxListed, MaxMapPairs: maxMembers, UTF8: cbor.UTF8RejectInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	return &Batches{mode}, err
}

// Read reads a batch: an array of maps.
func (c *Batches) Read(b []byte, most int) ([]broker.Message, error) {
	var list []cborMessage
	if n, ok := arrayLength(b); ok && n > uint64(most) {
		return nil, tooMany(most)
	}
	if err := c.mode.Unmarshal(b, &list); err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "the body is not an array of messages in CBOR of definite lengths: %s", blame(err))
	}
	if len(list) == 0 {
		return nil, macronode.Errorf(macronode.Malformed, "the batch has no message")
	}
	out := make([]broker.Message, len(list))
	for i := range list {
		if err := list[i].message(&out[i]); err != nil {
			return nil, in(fmt.Sprintf("message %d", i+1), err)
		}
	}
	return out, nil
}

// arrayLength reads the head of an array.
func arrayLength(b []byte) (uint64, bool) {
	if len(b) == 0 || b[0]>>5 != 4 {
		return 0, false
	}
	n := uint64(b[0] & 31)
	if n < 24 {
		return n, true
	}
	size := 1 << (n - 24)
	if n > 27 || len(b) < 1+size {
		return 0, false
	}
	n = 0
	for _, c := range b[1 : 1+size] {
		n = n<<8 | uint64(c)
	}
	return n, true
}

// blame is the part of a decoder's error that a caller can do something about,
// and that repeats nothing of the body.
func blame(err error) string {
	var unknown *cbor.UnknownFieldError
	var twice *cbor.DupMapKeyError
	var typed *cbor.UnmarshalTypeError
	switch {
	case errors.As(err, &unknown):
		return errMember.Error()
	case errors.As(err, &twice):
		return errTwice.Error()
	case errors.As(err, &typed):
		return "a member has another type than it must have"
	}
	return "it is malformed, or beyond the limits of one"
}

func (c *cborMessage) message(m *broker.Message) error {
	payloads := 0
	if c.Payload != nil {
		payloads, m.Payload = 1, *c.Payload
	}
	if c.Text != nil {
		payloads, m.Payload = payloads+1, []byte(*c.Text)
	}
	if len(c.Attrs) > MaxAttrs {
		return fmt.Errorf("a message has at most %d attributes", MaxAttrs)
	}
	for name, value := range c.Attrs {
		if err := setAttr(m, name, value); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		v    *int64
	}{{"delay_ms", c.Delay}, {"deliver_at_ms", c.DeliverAt}, {"ttl_ms", c.TTL}} {
		if f.v == nil {
			continue
		}
		if err := setNumber(m, f.name, *f.v); err != nil {
			return err
		}
	}
	if c.Key != nil {
		if err := setKey(m, *c.Key); err != nil {
			return err
		}
	}
	if c.IdemKey != nil {
		if err := setIdemKey(m, *c.IdemKey); err != nil {
			return err
		}
	}
	return finish(m, payloads, nil)
}

// Raw makes a message of a body that is the payload and of the arguments of its
// call. each calls back with every argument that is not part of the path.
func Raw(body []byte, each func(f func(name, value string) error) error) (broker.Message, error) {
	m := broker.Message{Payload: body}
	var seen members
	err := each(func(name, value string) error {
		switch name {
		case "attr":
			at, v, ok := cut(value)
			if !ok {
				return errors.New("attr is NAME:VALUE")
			}
			return setAttr(&m, at, v)
		case "payload", "text", "json", "idempotency_key":
			return errMember
		}
		if err := seen.add(name); err != nil {
			return err
		}
		switch name {
		case "attrs":
			if !utf8.ValidString(value) {
				return errUTF8
			}
			s := scanner{b: []byte(value)}
			if err := s.attrs(&m); err != nil {
				return err
			}
			return s.end()
		case "key":
			return setKey(&m, value)
		}
		s := scanner{b: []byte(value)}
		v, err := s.integer()
		if err == nil {
			err = s.end()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, errNumber)
		}
		return setNumber(&m, name, v)
	})
	if err == nil {
		err = check(&m)
	}
	if err != nil {
		return m, in("the arguments", err)
	}
	return m, nil
}

// cut parts NAME:VALUE at the first colon.
func cut(s string) (name, value string, ok bool) {
	for i := range len(s) {
		if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}
