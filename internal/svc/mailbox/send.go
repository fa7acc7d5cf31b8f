// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"encoding/base64"
	"strconv"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
)

// Answers to sends, which count against the capability's max_bytes, are known to
// have room before anything is sent.
const (
	maxSentBytes     = 128 // for one message
	maxSentLineBytes = 512 // for one of a batch, which may be refused with words
)

func (s *Service) send(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	switch mediaType(a) {
	case form.Lines, form.CBOR:
		return s.sendBatch(ctx, a)
	}
	ref, err := s.ref(a)
	if err != nil {
		return nil, err
	}
	b, err := s.broker()
	if err != nil {
		return nil, err
	}
	in, err := s.read(a, s.settings.Load().MaxMessageBytes)
	if err != nil {
		return nil, err
	}
	defer s.free(&in)
	if err := answerable(a, len(in.b), maxSentBytes); err != nil {
		return nil, err
	}
	var one [1]broker.Message
	one[0], err = form.Raw(in.b, func(f func(name, value string) error) error { return eachArg(a, f) })
	if err != nil {
		return nil, err
	}
	if err := fits(&one[0], s.settings.Load()); err != nil {
		return nil, err
	}
	one[0].CorrID = a.CorrID
	if a.IdempotencyKey != "" {
		one[0].IdemKey = a.IdempotencyKey
		one[0].Request = form.Fingerprint(&one[0])
	}
	sent, err := s.sendAll(ctx, a, b, ref, one[:])
	if err != nil {
		return nil, err
	}
	if err := sent[0].Err; err != nil {
		return nil, err
	}
	return &macronode.Reply{Status: 200, ContentType: form.JSON, Body: form.AppendSent(make([]byte, 0, 64), sent[0].ID, sent[0].Duplicate)}, nil
}

func (s *Service) sendBatch(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	ref, err := s.ref(a)
	if err != nil {
		return nil, err
	}
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	b, err := s.broker()
	if err != nil {
		return nil, err
	}
	in, err := s.read(a, maxBodyBytes)
	if err != nil {
		return nil, err
	}
	defer s.free(&in)
	read := form.NDJSON
	if mediaType(a) == form.CBOR {
		read = s.batches.Read
	}
	batch, err := read(in.b, s.settings.Load().MaxBatch)
	if err != nil {
		return nil, err
	}
	if err := answerable(a, len(in.b), len(batch)*maxSentLineBytes); err != nil {
		return nil, err
	}
	for i := range batch {
		m := &batch[i]
		m.CorrID = a.CorrID
		if m.IdemKey == "" && a.IdempotencyKey != "" {
			m.IdemKey = memberKey(a.IdempotencyKey, i)
		}
		if m.IdemKey != "" {
			m.Request = form.Fingerprint(m)
		}
	}
	sent, err := s.sendFitting(ctx, a, b, ref, batch)
	if err != nil {
		return nil, err
	}
	if err := allRefused(sent); err != nil {
		return nil, err
	}
	asCBOR := form.Wants(a.Header.Get("Accept"), form.CBOR)
	return answer(a, 200, contentType(asCBOR), form.Sent(sent, refusal, asCBOR))
}

// contentType is that of answers that exist in two forms.
func contentType(asCBOR bool) string {
	if asCBOR {
		return form.CBOR
	}
	return form.JSON
}

// memberKey is the idempotency key of a batch's message, where the batch has one
// and the message has none. No key that a caller chooses has a space in it, and no
// two batches share one.
func memberKey(key string, i int) string {
	n := " " + strconv.Itoa(i)
	if len(key)+len(n) <= macronode.MaxIdempotencyKeyBytes {
		return key + n
	}
	sum := blake3.Sum256([]byte(key))
	return " " + base64.RawURLEncoding.EncodeToString(sum[:]) + n
}

// answerable refuses before anything is done what could not be answered: an answer
// counts against the capability's max_bytes as the request does.
func answerable(a *macronode.Admitted, took, reply int) error {
	if a.ReplyBytes != macronode.NoLimit && int64(took)+int64(reply) > a.ReplyBytes {
		return macronode.Errorf(macronode.TooLarge, "the answer may have %d bytes, which the capability does not allow", reply)
	}
	return nil
}

// fits refuses a message that is larger than the config allows.
func fits(m *broker.Message, st *Settings) error {
	size := int64(len(m.Payload))
	for name, value := range m.Attrs {
		size += int64(len(name) + len(value))
	}
	if size > st.MaxMessageBytes {
		return macronode.Errorf(macronode.TooLarge, "the message has %d bytes with its attributes, %d are allowed", size, st.MaxMessageBytes)
	}
	return nil
}

// sendFitting sends the messages of a batch that are not too large.
func (s *Service) sendFitting(ctx context.Context, a *macronode.Admitted, b Broker, ref topicRef, batch []broker.Message) ([]broker.Sent, error) {
	st := s.settings.Load()
	var out []broker.Sent // nil: all fit so far
	fitting := batch[:0]
	for i := range batch {
		err := fits(&batch[i], st)
		if err != nil && out == nil {
			out = make([]broker.Sent, len(batch))
		}
		if err != nil {
			out[i].Err = err
			continue
		}
		fitting = append(fitting, batch[i])
	}
	if len(fitting) == 0 {
		return out, nil
	}
	sent, err := s.sendAll(ctx, a, b, ref, fitting)
	if err != nil || out == nil {
		return sent, err
	}
	next := 0
	for i := range out {
		if out[i].Err == nil {
			out[i] = sent[next]
			next++
		}
	}
	return out, nil
}

// sendAll sends, within the tenant's queue_depth.
func (s *Service) sendAll(ctx context.Context, a *macronode.Admitted, b Broker, ref topicRef, ms []broker.Message) ([]broker.Sent, error) {
	if most := a.Tenant.Quota.QueueDepth; most != macronode.NoLimit {
		if err := s.depth.Take(s.now(), ref.Tenant, int64(len(ms)), most, b.Waiting); err != nil {
			return nil, err
		}
		var refused int64
		defer func() { s.depth.Done(ref.Tenant, int64(len(ms)), refused) }()
		sent, err := s.timed(ctx, b, ref, ms)
		for i := range sent {
			if sent[i].Err != nil || sent[i].Duplicate {
				refused++
			}
		}
		return sent, err
	}
	return s.timed(ctx, b, ref, ms)
}

func (s *Service) timed(ctx context.Context, b Broker, ref topicRef, ms []broker.Message) ([]broker.Sent, error) {
	start := s.now()
	sent, err := b.Send(ctx, ref, ms)
	s.m.sendSeconds.Observe(s.now().Sub(start).Seconds())
	return sent, err
}

// allRefused is the refusal of the first message where all were refused for the
// same reason.
func allRefused(sent []broker.Sent) error {
	if len(sent) == 0 || sent[0].Err == nil {
		return nil
	}
	kind := macronode.KindOf(sent[0].Err)
	for i := range sent {
		if sent[i].Err == nil || macronode.KindOf(sent[i].Err) != kind {
			return nil
		}
	}
	return sent[0].Err
}

// refusal is why a message of a batch was not taken, as the call's own refusal
// would say it.
func refusal(err error) form.Refusal {
	p := macronode.AsError(err).Problem("")
	return form.Refusal{Code: p.Code, Detail: p.Detail, RetryAfterMS: p.RetryAfterMS}
}
