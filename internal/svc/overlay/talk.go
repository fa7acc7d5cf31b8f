// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/overlay/gossip"
	"github.com/rustyonions/macronode/revocation"
)

// Operations that peers ask of each other.
const (
	OpGossip      macronode.Op = "overlay.gossip"
	OpRevocations macronode.Op = "overlay.revocations"
)

const (
	callLimit = 5 * time.Second // of one call between nodes
	// refusedWait is the pause after a peer refused a batch, doubled to
	// refusedMost by each that follows.
	refusedWait = 250 * time.Millisecond
	refusedMost = 30 * time.Second
	// comparePause is the least time between two comparisons.
	comparePause = 200 * time.Millisecond
	// maxPages bounds a comparison.
	maxPages = 1000
	// maxListBytes is the most that a page of news has, in its envelope.
	maxListBytes = 1 << 20
	// newsItems is how many revocations one message tells of.
	newsItems = 100
	// tellAtMost is how many are told; where there are more, lists are compared.
	tellAtMost = 2000
)

// call runs an operation of the peer's through its gate. What it answered, a
// refusal too, says that it is there.
func (p *peer) call(l *live, op macronode.Op, args []macronode.Arg, body []byte, limit int) ([]byte, error) {
	leave, err := p.gate.Enter()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.ctx, callLimit)
	defer cancel()
	out, err := l.Call(ctx, op, args, body, limit)
	var refusal *macronode.Error
	switch {
	case err == nil, errors.As(err, &refusal):
		leave(nil)
	case l.ctx.Err() != nil || ended(l):
		leave(context.Canceled) // the session ended, which is known elsewhere
	default:
		leave(err)
	}
	p.s.conf.Metrics.bytes.WithLabelValues("out").Add(float64(len(body)))
	p.s.conf.Metrics.bytes.WithLabelValues("in").Add(float64(len(out)))
	return out, err
}

func ended(l *live) bool {
	select {
	case <-l.Done():
		return true
	default:
		return false
	}
}

// talk says what waits to be said. What was on its way when a session ended is
// said again on the next.
func (p *peer) talk(l *live) {
	pause := refusedWait
	for {
		batch, err := p.out.Next(l.ctx)
		if err != nil {
			return
		}
		var refusal *macronode.Error
		switch _, err := p.call(l, OpGossip, nil, batch, 0); {
		case err == nil:
			p.out.Sent()
			pause = refusedWait
		case l.ctx.Err() != nil || ended(l):
			return
		case errors.As(err, &refusal) && !refusal.Kind.Info().Retryable:
			p.s.conf.Log.Warn("a peer refuses gossip", "event", "peer_gossip", "node", p.id, "error", err)
			p.out.Failed()
			wait(l.ctx, pause)
			pause = min(2*pause, refusedMost)
		case errors.As(err, &refusal):
			// It comes again, unless newer messages push it out.
			wait(l.ctx, max(refusedWait, refusal.RetryAfter))
		default:
			p.drop(l, fmt.Errorf("gossip: %w", err))
			return
		}
	}
}

// wait ends with ctx.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// compares finds what the peer holds and this node lacks: when a session begins,
// when either side lost something, and now and then.
func (p *peer) compares(l *live) {
	for {
		if err := p.compare(l); err != nil && l.ctx.Err() == nil {
			p.s.conf.Log.Warn("revocations could not be compared", "event", "peer_compare", "node", p.id, "error", err)
		}
		wait(l.ctx, comparePause)
		every := p.s.conf.CompareEvery
		t := time.NewTimer(every*3/4 + rand.N(every/2))
		select {
		case <-t.C:
		case <-p.behind:
		case <-l.ctx.Done():
		}
		t.Stop()
		if l.ctx.Err() != nil {
			return
		}
	}
}

func (p *peer) compare(l *live) error {
	summary := p.s.conf.Revocations.Summary().Bytes()
	cursor := ""
	for range maxPages {
		var args []macronode.Arg
		if cursor != "" {
			args = []macronode.Arg{{Name: "cursor", Value: cursor}}
		}
		text, err := p.call(l, OpRevocations, args, summary, maxListBytes)
		if err != nil {
			return err
		}
		news, err := revocation.ParseNews(text)
		if err != nil {
			return err
		}
		if news.NodeID != p.id {
			return errors.New("the list is another node's")
		}
		if len(news.Items) > 0 {
			added, _, err := p.s.adopt(l.ctx, news.Items, "peer:"+p.id)
			if err != nil {
				return err
			}
			p.s.Revoked(added)
		}
		if cursor = news.Cursor; cursor == "" {
			return nil
		}
	}
	return errors.New("the list does not end")
}

// compareWith asks for a comparison with a peer.
func (s *Service) compareWith(node string) {
	if p := s.peer(node); p != nil {
		select {
		case p.behind <- struct{}{}:
		default: // it is asked for
		}
	}
}

// adopt makes revocations hold here.
func (s *Service) adopt(ctx context.Context, items []revocation.Item, by string) ([]revocation.Item, int, error) {
	added, foreign, err := s.conf.Revocations.Adopt(ctx, items, by)
	s.conf.Metrics.adopted.Add(float64(len(added)))
	return added, foreign, err
}

// news takes a message about revocations. It holds because its signature is good
// for the node that it names and a peer brought it.
func (s *Service) news(ctx context.Context, from string, m *gossip.Message) error {
	news, err := revocation.ParseNews(m.Payload)
	if err == nil && news.NodeID != m.Origin.String() {
		err = errors.New("the message names another node")
	}
	if err != nil {
		s.conf.Log.Warn("a peer brings revocations that do not verify", "event", "peer_news", "node", from, "error", err)
		return err
	}
	by := "peer:" + news.NodeID
	added, foreign, err := s.adopt(ctx, news.Items, by)
	switch {
	case err != nil:
		s.conf.Log.Warn("revocations of a peer cannot be kept now", "event", "peer_news", "node", from, "error", err)
		return fmt.Errorf("%w: %w", gossip.ErrLater, err)
	case len(added)+foreign == 0:
		return gossip.ErrKnown
	}
	return nil
}

// Revoked tells the peers of revocations that hold here since just now. It waits
// for nobody.
func (s *Service) Revoked(items []revocation.Item) {
	if len(items) > tellAtMost {
		s.exchange.Compare()
		return
	}
	for len(items) > 0 {
		n := min(len(items), newsItems)
		text, err := s.conf.Sign(items[:n], "")
		if err != nil || !s.exchange.Publish(gossip.Revocations, "", macronode.TenantID{}, text) {
			s.conf.Log.Error("a revocation cannot be told to peers; they find it when lists are compared", "event", "peer_news", "error", err)
			s.exchange.Compare()
			return
		}
		items = items[n:]
	}
}
