// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
)

// Limits of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

// at is what every call about one topic begins with.
func (s *Service) at(a *macronode.Admitted, args ...string) (b Broker, ref topicRef, err error) {
	if ref, err = s.ref(a); err != nil {
		return nil, ref, err
	}
	if err = a.OnlyArgs(args...); err != nil {
		return nil, ref, err
	}
	b, err = s.broker()
	return b, ref, err
}

// page is the page that a list is asked for.
func page(a *macronode.Admitted) (cursor string, limit int, err error) {
	n, err := a.NumberArg("limit", defaultPage, 1, maxPage)
	return a.Arg("cursor"), int(n), err
}

func (s *Service) listTopics(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("prefix", "cursor", "limit"); err != nil {
		return nil, err
	}
	cursor, limit, err := page(a)
	if err != nil {
		return nil, err
	}
	prefix := a.Arg("prefix")
	if prefix != "" {
		if err := form.Topic(prefix); err != nil {
			return nil, err
		}
	}
	b, err := s.broker()
	if err != nil {
		return nil, err
	}
	topics, next, err := b.Topics(ctx, a.Tenant.ID, prefix, cursor, limit)
	if err != nil {
		return nil, err
	}
	list := TopicList{Topics: make([]Topic, len(topics)), Cursor: next}
	for i := range topics {
		list.Topics[i] = topicDocument(&topics[i])
	}
	return document(a, 200, list)
}

func (s *Service) getTopic(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	t, err := b.Topic(ctx, ref)
	if err != nil {
		return nil, err
	}
	return document(a, 200, topicDocument(&t))
}

func (s *Service) putTopic(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	var in TopicConfig
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	c, err := in.over(s.settings.Load().Topic)
	if err != nil {
		return nil, err
	}
	created, err := b.PutTopic(ctx, ref, c)
	if err != nil {
		return nil, err
	}
	t, err := b.Topic(ctx, ref)
	if err != nil {
		return nil, err
	}
	status := 200
	if created {
		status = 201
	}
	return document(a, status, topicDocument(&t))
}

func (s *Service) deleteTopic(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	if err := b.DeleteTopic(ctx, ref); err != nil {
		return nil, err
	}
	return &macronode.Reply{Status: 204}, nil
}

func (s *Service) purge(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	n, err := b.Purge(ctx, ref)
	if err != nil {
		return nil, err
	}
	return document(a, 200, Purged{n})
}

func (s *Service) peek(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a, "cursor", "limit", "state")
	if err != nil {
		return nil, err
	}
	cursor, limit, err := page(a)
	if err != nil {
		return nil, err
	}
	state := a.Arg("state")
	switch state {
	case "", "ready", "delayed", "in_flight":
	default:
		return nil, macronode.Errorf(macronode.Malformed, "state is one of ready, delayed and in_flight")
	}
	all, next, err := b.Peek(ctx, ref, cursor, limit)
	if err != nil {
		return nil, err
	}
	list := PeekList{Messages: make([]Peeked, 0, len(all)), Cursor: next}
	for i := range all {
		m := &all[i]
		if state != "" && string(m.State) != state {
			continue
		}
		list.Messages = append(list.Messages, Peeked{
			MsgID: form.ID(m.ID), State: string(m.State), TS: form.Time(m.TS), Attempts: m.Attempt, UntilMS: m.Until.Milliseconds(),
			Bytes: m.Bytes, Key: m.Key, Attrs: attrsOf(m.Attrs), PayloadHash: m.Hash.String(),
		})
	}
	return document(a, 200, list)
}
