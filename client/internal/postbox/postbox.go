// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package postbox is a mailbox in memory, for tests: topics, leases, attempts, dead
// letters and idempotency keys as a node has them, without durability and without
// bounds. It is as simple as it can be, and slow where there is much.
package postbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client/mailbox"
)

// Defaults of topics.
const (
	visibility  = 30 * time.Second
	retention   = 14 * 24 * time.Hour
	window      = 5 * time.Minute
	maxAttempts = 5
	maxBatch    = 1000
)

// Box is the mailbox. It is safe for concurrent use.
type Box struct {
	now func() time.Time

	mu      sync.Mutex
	topics  map[string]*topic
	changed chan struct{} // closed with every change
	number  uint64        // of messages and leases
}

// New returns an empty mailbox with this clock.
func New(now func() time.Time) *Box {
	return &Box{now: now, topics: map[string]*topic{}, changed: make(chan struct{})}
}

type topic struct {
	name   string
	conf   mailbox.Config
	live   []*message // in the order of delivery
	dead   []*message
	keys   map[string]keyed
	counts map[string]int64
	jobs   []mailbox.Job
}

type message struct {
	mailbox.Message
	id, corr   string
	number     uint64
	sent       time.Time
	after, end time.Time // not received before; expired from then on
	attempt    int
	base       int // attempts before it was redriven
	lease      uint64
	until      time.Time // of the lease
	reason     string    // of its death
	died       time.Time
	last       string // what the last nack said
	history    []mailbox.Attempt
}

type keyed struct {
	of    [32]byte
	id    string
	until time.Time
}

// change tells who waits. Its caller holds mu.
func (b *Box) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// find returns a topic as it is now. Its caller holds mu.
func (b *Box) find(name string) (*topic, error) {
	t := b.topics[name]
	if t == nil {
		return nil, macronode.Errorf(macronode.NotFound, "no such topic")
	}
	now := b.now()
	if t.pass(now) {
		b.change()
	}
	return t, nil
}

// make returns a topic, a new one where there is none. Its caller holds mu.
func (b *Box) make(name string) *topic {
	if t, err := b.find(name); err == nil {
		return t
	}
	no := false
	t := &topic{name: name, keys: map[string]keyed{}, counts: map[string]int64{}, conf: mailbox.Config{
		Retention: mailbox.Millis(retention), DLQRetention: mailbox.Millis(retention), ReplayWindow: mailbox.Millis(window),
		Visibility: mailbox.Millis(visibility), MaxAttempts: maxAttempts, MaxDepth: 1 << 20, MaxBytes: 1 << 30, MaxInFlight: 1 << 16, MaxKeys: 1 << 20,
		Ordered: &no, ExpiredToDead: &no}}
	b.topics[name] = t
	return t
}

// pass does what became due: leases that end, messages that expire.
func (t *topic) pass(now time.Time) (changed bool) {
	for _, m := range slices.Clone(t.live) {
		switch {
		case m.lease != 0 && !m.until.After(now):
			changed = true
			t.back(m, "", m.until, m.until)
		case m.lease == 0 && !m.end.After(now):
			changed = true
			t.counts["expired"]++
			if *t.conf.ExpiredToDead {
				t.die(m, "expired", now)
			} else {
				t.drop(m)
			}
		}
	}
	return changed
}

func (t *topic) drop(m *message) {
	t.live = slices.DeleteFunc(t.live, func(o *message) bool { return o == m })
}

// back ends m's lease: it is received again after a time, or was received too often.
func (t *topic) back(m *message, why string, now, after time.Time) {
	m.lease, m.after = 0, after
	m.history = append(m.history, mailbox.Attempt{Time: now, Error: why})
	if why != "" {
		m.last = why
	}
	if int64(m.attempt-m.base) >= t.conf.MaxAttempts {
		t.die(m, "max_attempts", now)
	}
}

func (t *topic) die(m *message, reason string, now time.Time) {
	t.drop(m)
	m.reason, m.died = reason, now
	t.dead = append(t.dead, m)
}

// Send stores messages.
func (b *Box) Send(name string, ms []mailbox.Message, corr string) ([]mailbox.Sent, error) {
	if len(ms) > maxBatch {
		return nil, macronode.Errorf(macronode.TooLarge, "a batch has at most %d messages", maxBatch)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t, now := b.make(name), b.now()
	sent := make([]mailbox.Sent, len(ms))
	for i := range ms {
		m := &message{Message: ms[i], id: ulid.Make().String(), corr: corr, sent: now, after: now.Add(ms[i].Delay), end: now.Add(time.Duration(t.conf.Retention))}
		m.Payload = slices.Clone(m.Payload)
		if m.DeliverAt.After(m.after) {
			m.after = m.DeliverAt
		}
		if m.TTL > 0 {
			m.end = now.Add(m.TTL)
		}
		if key := m.IdempotencyKey; key != "" {
			of := fingerprint(m.Message)
			before, ok := t.keys[key]
			switch {
			case ok && before.until.After(now) && before.of != of:
				sent[i].Err = macronode.Errorf(macronode.IdempotencyMismatch, "")
				continue
			case ok && before.until.After(now):
				sent[i] = mailbox.Sent{MsgID: before.id, Duplicate: true}
				continue
			}
			t.keys[key] = keyed{of, m.id, now.Add(time.Duration(t.conf.ReplayWindow))}
		}
		b.number++
		m.number = b.number
		t.counts["sent"]++
		t.live = append(t.live, m)
		sent[i].MsgID = m.id
	}
	b.change()
	return sent, nil
}

func fingerprint(m mailbox.Message) [32]byte {
	m.IdempotencyKey = ""
	text, _ := json.Marshal(m)
	return sha256.Sum256(text)
}

// Receive waits for messages as long as w says.
func (b *Box) Receive(ctx context.Context, name string, w mailbox.Want) ([]mailbox.Delivery, error) {
	end := time.NewTimer(w.Wait)
	defer end.Stop()
	for {
		got, next, changed, err := b.receive(name, w)
		if err != nil || len(got) > 0 || w.Wait <= 0 {
			return got, err
		}
		again := time.NewTimer(next)
		select {
		case <-changed:
		case <-again.C:
		case <-end.C:
			w.Wait = 0
		case <-ctx.Done():
			w.Wait = 0
		}
		again.Stop()
		if ctx.Err() != nil {
			return nil, nil
		}
	}
}

// receive takes what is there, or says when there may be something.
func (b *Box) receive(name string, w mailbox.Want) (got []mailbox.Delivery, next time.Duration, changed chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, 0, nil, err
	}
	now := b.now()
	next = time.Hour
	blocked := map[string]bool{}
	var bytes int64
	for _, m := range t.live {
		key := m.Key
		if *t.conf.Ordered {
			key = "all"
		}
		free := m.lease == 0 && !m.after.After(now)
		switch {
		case key != "" && blocked[key]:
			continue
		case !free:
			if m.lease != 0 {
				next = min(next, m.until.Sub(now))
			} else {
				next = min(next, m.after.Sub(now))
			}
		case len(got) >= max(w.Max, 1), len(got) > 0 && w.MaxBytes > 0 && bytes+int64(len(m.Payload)) > w.MaxBytes:
			return got, 0, b.changed, nil
		default:
			bytes += int64(len(m.Payload))
			got = append(got, b.lease(t, m, w.Visibility, now))
		}
		blocked[key] = true
	}
	return got, max(next, time.Millisecond), b.changed, nil
}

// lease gives m to somebody.
func (b *Box) lease(t *topic, m *message, d time.Duration, now time.Time) mailbox.Delivery {
	if d <= 0 {
		d = time.Duration(t.conf.Visibility)
	}
	b.number++
	m.lease, m.until = b.number, now.Add(d)
	m.attempt++
	return mailbox.Delivery{MsgID: m.id, Receipt: receipt(t.name, m), Topic: t.name, Time: m.sent.UTC().Truncate(time.Millisecond), Attempt: m.attempt,
		Attrs: m.Attrs, Key: m.Key, CorrID: m.corr, Hash: b3.Sum(m.Payload), Payload: m.Payload}
}

func receipt(topic string, m *message) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d %d", topic, m.number, m.lease))
}

// settle calls do with every message whose lease a receipt is of.
func (b *Box) settle(name string, receipts []string, do func(t *topic, m *message, now time.Time)) ([]mailbox.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, err
	}
	out := make([]mailbox.Outcome, len(receipts))
	for i, r := range receipts {
		out[i].Receipt = r
		text, err := base64.RawURLEncoding.DecodeString(r)
		if err != nil || !strings.HasPrefix(string(text), name+" ") {
			out[i].Err = mailbox.ErrReceipt
			continue
		}
		at := slices.IndexFunc(t.live, func(m *message) bool { return m.lease != 0 && receipt(name, m) == r })
		if at < 0 {
			out[i].Err = mailbox.ErrLeaseLost
			continue
		}
		out[i].MsgID = t.live[at].id
		do(t, t.live[at], b.now())
	}
	b.change()
	return out, nil
}

// Ack is done with messages.
func (b *Box) Ack(name string, receipts []string) ([]mailbox.Outcome, error) {
	return b.settle(name, receipts, func(t *topic, m *message, _ time.Time) {
		t.drop(m)
		t.counts["acked"]++
	})
}

// Nack gives messages back.
func (b *Box) Nack(name string, receipts []string, delay *time.Duration, reason string) ([]mailbox.Outcome, error) {
	return b.settle(name, receipts, func(t *topic, m *message, now time.Time) {
		d := rand.N(min(100*time.Millisecond<<min(max(m.attempt-1, 0), 16), time.Minute))
		if delay != nil {
			d = *delay
		}
		t.back(m, reason, now, now.Add(d))
	})
}

// Extend hides messages for so long from now on.
func (b *Box) Extend(name string, receipts []string, d time.Duration) ([]mailbox.Outcome, error) {
	return b.settle(name, receipts, func(_ *topic, m *message, now time.Time) { m.until = now.Add(d) })
}

// Held returns those of the receipts whose leases are in force, and what is closed
// when that may have changed.
func (b *Box) Held(name string, receipts []string) (held []string, changed chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, err := b.find(name)
	if err != nil {
		return nil, b.changed
	}
	for _, m := range t.live {
		if r := receipt(name, m); m.lease != 0 && slices.Contains(receipts, r) {
			held = append(held, r)
		}
	}
	return held, b.changed
}
