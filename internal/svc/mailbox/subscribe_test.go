// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// source is a fake with messages to push.
type source struct {
	*fake
	*log
	mu    sync.Mutex
	ready []broker.Delivery
	more  chan struct{}
	wants []broker.Want
	out   map[string]holding // by receipt: leased, and not settled
}

type holding struct {
	owner, lease uint64
	until        time.Time
}

func newSource(n int) *source {
	f, l := recorder()
	s := &source{fake: f, log: l, ready: deliveries(1, n), more: make(chan struct{}, 1), out: make(map[string]holding)}
	settle := f.settle
	f.settle = func(verb string, ref queue.TopicRef, receipts []string, d *time.Duration, reason string) ([]broker.Outcome, error) {
		s.mu.Lock()
		for _, r := range receipts {
			if h := s.out[r]; verb == "extend" {
				h.until = time.Now().Add(*d)
				s.out[r] = h
			} else {
				delete(s.out, r)
			}
		}
		s.mu.Unlock()
		return settle(verb, ref, receipts, d, reason)
	}
	f.held = func(ref queue.TopicRef, owner uint64) (all []broker.Holding) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for r, h := range s.out {
			if left := time.Until(h.until); ref.Name == "jobs" && h.owner == owner && left > 0 {
				all = append(all, broker.Holding{Receipt: r, Lease: h.lease, Left: left})
			}
		}
		return all
	}
	f.topic = broker.TopicStatus{Ref: queue.TopicRef{Name: "jobs"}, Config: queue.Config{Visibility: time.Minute}}
	f.receive = func(ctx context.Context, _ queue.TopicRef, w broker.Want) ([]broker.Delivery, error) {
		deadline := time.NewTimer(w.Wait)
		defer deadline.Stop()
		for {
			s.mu.Lock()
			s.wants = append(s.wants, w)
			n := min(w.Max, len(s.ready))
			out := s.ready[:n:n]
			s.ready = s.ready[n:]
			for _, d := range out {
				s.out[d.Receipt] = holding{w.Owner, d.Lease, time.Now().Add(w.Visibility)}
			}
			s.mu.Unlock()
			if n > 0 {
				return out, nil
			}
			select {
			case <-s.more:
			case <-deadline.C:
				return nil, nil
			case <-ctx.Done():
				return nil, macronode.Wrap(macronode.ClientGone, "", ctx.Err())
			}
		}
	}
	return s
}

func (s *source) add(from, n int) {
	s.mu.Lock()
	s.ready = append(s.ready, deliveries(from, n)...)
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// stream is a subscription being read.
type stream struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	fail   bool
	cancel context.CancelFunc
	done   chan error
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return 0, io.ErrClosedPipe
	}
	return s.buf.Write(p)
}

func (s *stream) breaks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = true
}

func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// cursors are those of the messages that came, receipts which.
func (s *stream) cursors() (all []string) {
	for line := range strings.Lines(s.text()) {
		if c, ok := strings.CutPrefix(line, "id: "); ok {
			all = append(all, strings.TrimSpace(c))
		}
	}
	return all
}

func (s *stream) payloads() (n int) { return strings.Count(s.text(), "event: message") }

// open begins a subscription.
func (d *driver) open(r request) *stream {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	r.op = "mailbox.subscribe"
	reply, err := d.reply(ctx, r)
	if err != nil {
		cancel()
		d.t.Fatal(err)
	}
	s := &stream{cancel: cancel, done: make(chan error, 1)}
	go func() {
		_, err := reply.Stream.WriteTo(s)
		reply.Stream.Close()
		s.done <- err
	}()
	return s
}

func (s *stream) end() error {
	s.cancel()
	return <-s.done
}

// TestCredit: at most so many messages are out and not acknowledged; each ack, nack
// or lapse lets the next one out.
func TestCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(10)
		d := drive(t, src.fake)
		s := d.open(request{query: "credit=3"})
		synctest.Wait()
		if s.payloads() != 3 || !strings.HasPrefix(s.text(), "retry: 1000\n\nid: ") {
			t.Fatalf("%d messages with a credit of 3:\n%s", s.payloads(), s.text())
		}
		d.ask(request{op: "mailbox.ack", body: `{"receipts":["r1","r2","unknown"]}`}, nil)
		synctest.Wait()
		if s.payloads() != 5 {
			t.Errorf("%d messages after two acks", s.payloads())
		}
		d.ask(request{op: "mailbox.nack", body: `{"receipts":["r3"]}`}, nil)
		synctest.Wait()
		if s.payloads() != 6 {
			t.Errorf("%d messages after a nack", s.payloads())
		}
		// r4, r5 and r6 are out; r4 is extended, and the others lapse.
		d.ask(request{op: "mailbox.extend", body: `{"receipts":["r4"],"visibility_ms":600000}`}, nil)
		<-time.After(time.Minute + time.Second)
		synctest.Wait()
		if s.payloads() != 8 {
			t.Errorf("%d messages after two lapsed", s.payloads())
		}
		if !strings.Contains(s.text(), ": still here\n\n") {
			t.Error("a quiet stream says nothing")
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
		if all := src.all(); strings.Contains(all, notSent) {
			t.Errorf("something was given back: %s", all)
		}
		if src.wants[0].Visibility != time.Minute || src.wants[0].Max != 3 {
			t.Errorf("%+v", src.wants[0])
		}
	})
}

// TestResume: what a broken stream had delivered up to the cursor stays leased and
// counts; what came after it never arrived, and is given back.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(5)
		d := drive(t, src.fake)
		s := d.open(request{query: "credit=5&visibility_ms=60000"})
		synctest.Wait()
		cursors := s.cursors()
		if len(cursors) != 5 {
			t.Fatalf("%d messages", len(cursors))
		}
		s.end()
		src.add(6, 5)
		s = d.open(request{query: "credit=5", header: macronode.Header{"Last-Event-Id": {cursors[1]}}})
		synctest.Wait()
		if got := src.all(); !strings.HasPrefix(got, "nack jobs ") || !strings.HasSuffix(got, " 0s ("+notSent+")") {
			t.Fatalf("given back: %q", got)
		}
		for r, back := range map[string]bool{"r1": false, "r2": false, "r3": true, "r4": true, "r5": true} {
			if strings.Contains(src.all(), r) != back {
				t.Errorf("%s given back: %v", r, !back)
			}
		}
		if s.payloads() != 3 {
			t.Errorf("%d messages beside two that are still out", s.payloads())
		}
		// An ack of a message of the stream before counts for this one.
		d.ask(request{op: "mailbox.ack", body: `{"receipts":["r1"]}`}, nil)
		synctest.Wait()
		if s.payloads() != 4 {
			t.Errorf("%d messages after an ack", s.payloads())
		}
		// The client comes back before its stream was seen to end, over OAP/1.
		next := d.open(request{args: []macronode.Arg{{Name: "cursor", Value: s.cursors()[3]}, {Name: "credit", Value: "6"}}})
		if err := <-s.done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if next.payloads() != 1 {
			t.Errorf("%d messages", next.payloads())
		}
		next.end()
		// Another topic's cursor, or that of a node before, names nobody.
		for _, r := range []request{{topic: "other", query: "cursor=" + cursors[0]}, {query: "cursor=AAAAAAAAAAE.1"}} {
			was := src.all()
			s := d.open(r)
			synctest.Wait()
			if src.all() != was {
				t.Error("a stranger's cursor gives leases back")
			}
			s.end()
		}
	})
}

// TestForeignCursor: the cursor of a stream of another topic does not end that stream.
func TestForeignCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(1)
		d := drive(t, src.fake)
		mine := d.open(request{})
		synctest.Wait()
		other := d.open(request{topic: "other", query: "cursor=" + mine.cursors()[0]})
		synctest.Wait()
		select {
		case err := <-mine.done:
			t.Fatalf("a cursor ended a stream of another topic: %v", err)
		default:
		}
		other.end()
		mine.end()
	})
}

// TestPushBroken: what could not be written is given back, and forgotten.
func TestPushBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(1)
		d := drive(t, src.fake)
		s := d.open(request{})
		synctest.Wait()
		s.breaks()
		src.add(2, 2)
		if err := <-s.done; err == nil {
			t.Error("a broken stream ends well")
		}
		if src.all() != "nack jobs r2,r3 0s ("+notSent+")" {
			t.Errorf("given back: %q", src.all())
		}
		if n := d.s.subs.held.Load(); n != 0 {
			t.Errorf("%d leases of a stream that ended are remembered", n)
		}
	})
}

// TestSequence: the same as a CBOR sequence.
func TestSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(2)
		d := drive(t, src.fake)
		s := d.open(request{header: macronode.Header{"Accept": {form.CBORSeq}}})
		<-time.After(keepAlive + time.Second)
		synctest.Wait()
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
		dec := cbor.NewDecoder(strings.NewReader(s.text()))
		var got []string
		for {
			var m *struct {
				Receipt string `cbor:"receipt"`
				Cursor  string `cbor:"cursor"`
				Payload []byte `cbor:"payload"`
			}
			err := dec.Decode(&m)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				got = append(got, "null")
				continue
			}
			if _, n, ok := parseCursor(m.Cursor); !ok || fmt.Sprint("r", n) != m.Receipt || fmt.Sprint("payload ", n) != string(m.Payload) {
				t.Errorf("%+v", m)
			}
			got = append(got, m.Receipt)
		}
		if strings.Join(got, " ") != "null r1 r2 null" {
			t.Errorf("%v", got)
		}
	})
}

func TestSubscribeRefused(t *testing.T) {
	src := newSource(0)
	d := drive(t, src.fake)
	for _, q := range []string{"credit=0", "credit=1001", "credit=x", "visibility_ms=0", "visibility_ms=43200001", "stray=1", "cursor=x", "cursor=x.1", "cursor=AAAAAAAAAAE", "cursor=AAAAAAAAAAE.-1", "cursor=AAAAAAAAAAA.1", "cursor=AAAAAAAAAAAAAAAAAAAAAA.1"} {
		d.refuse(request{op: "mailbox.subscribe", query: q}, macronode.Malformed)
	}
	d.refuse(request{op: "mailbox.subscribe", header: macronode.Header{"Last-Event-Id": {"1"}}}, macronode.Malformed)
	d.refuse(request{op: "mailbox.subscribe", topic: "NO"}, macronode.Malformed)
	src.err = macronode.Errorf(macronode.NotFound, "")
	d.refuse(request{op: "mailbox.subscribe"}, macronode.NotFound)
	if len(d.s.subs.byID) != 0 {
		t.Error("a refused subscription is remembered")
	}
}

// TestSubscribeEnds: a deleted topic ends a stream in good order, a topic that is
// at its limit makes it wait, and other errors break it off.
func TestSubscribeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(0)
		d := drive(t, src.fake)
		calls := 0
		src.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
			if calls++; calls == 1 {
				return nil, &macronode.Error{Kind: macronode.QuotaInFlight, RetryAfter: 3 * time.Second}
			}
			return nil, macronode.Errorf(macronode.NotFound, "")
		}
		start := time.Now()
		if err := <-d.open(request{}).done; err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		src.receive = func(context.Context, queue.TopicRef, broker.Want) ([]broker.Delivery, error) {
			return nil, macronode.Errorf(macronode.Unavailable, "")
		}
		if err := <-d.open(request{}).done; macronode.KindOf(err) != macronode.Unavailable {
			t.Errorf("%v", err)
		}
	})
}

// TestBrokenForgotten: nothing is kept here of streams that ended, whatever they had
// leased; and an ack that comes while a stream is taken up again counts.
func TestBrokenForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource(3)
		d := drive(t, src.fake)
		s := d.open(request{query: "credit=3"})
		synctest.Wait()
		cursor := s.cursors()[2]
		s.end()
		if n := len(d.s.subs.byID) + len(d.s.subs.owner) + int(d.s.subs.held.Load()); n != 0 {
			t.Errorf("%d things are remembered", n)
		}
		told := src.held
		src.held = func(ref queue.TopicRef, owner uint64) []broker.Holding {
			all := told(ref, owner)
			d.ask(request{op: "mailbox.ack", body: `{"receipts":["r2"]}`}, nil) // after the broker was asked
			return all
		}
		src.add(4, 3)
		s = d.open(request{query: "credit=3&cursor=" + cursor})
		synctest.Wait()
		if s.payloads() != 1 {
			t.Errorf("%d messages beside two that are out, with a credit of 3", s.payloads())
		}
		s.end()
		if len(d.s.subs.early) != 0 || d.s.subs.attaching != 0 {
			t.Errorf("%d early, %d attach", len(d.s.subs.early), d.s.subs.attaching)
		}
	})
}
