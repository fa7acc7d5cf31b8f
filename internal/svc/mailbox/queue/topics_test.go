// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"errors"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// pair is two topics with one log.
type pair struct {
	a, b *Topic
	at   uint64
	now  Time
	log  []entry
}

func (p *pair) apply(t *testing.T, r Record) (e Effect) {
	t.Helper()
	p.at += 4096
	p.log = append(p.log, entry{p.at, r.Append(nil)})
	for _, topic := range []*Topic{p.a, p.b} {
		if n := topic.Number(); n == r.Header().Topic || n == record.Other(r) {
			if err := topic.Apply(r, p.at, &e); err != nil {
				t.Fatalf("%T: %v", r, err)
			}
		}
	}
	return e
}

func (p *pair) conserved(t *testing.T) {
	t.Helper()
	for _, topic := range []*Topic{p.a, p.b} {
		n := topic.Counts(p.now)
		if n.Sent+n.MovedIn != n.Ready+n.Delayed+n.Leased+n.Dead+n.Acked+n.Expired+n.Purged+n.Deleted+n.MovedOut {
			t.Errorf("topic %d: not conserved: %+v", topic.Number(), n)
		}
	}
}

func newPair(t *testing.T) *pair {
	p := &pair{at: 1 << 32, now: 5000}
	ref := testRef
	for i, into := range []**Topic{&p.a, &p.b} {
		put := &record.TopicPut{Head: record.Head{Now: p.now, Topic: uint32(i + 1)}, Ref: ref, Config: testConfig()}
		ref.Name = "failures"
		p.at += 4096
		p.log = append(p.log, entry{p.at, put.Append(nil)})
		var err error
		if *into, err = New(put, p.at); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *pair) send(t *testing.T, n int) {
	t.Helper()
	for range n {
		p.apply(t, &record.Send{Head: record.Head{Now: p.now, Topic: 1}, Seq: p.a.NextSeq(), ID: ID{byte(p.a.NextSeq())}, Ref: testRef, Key: []byte("k"), Payload: make([]byte, 99)})
	}
}

// TestAnotherTopicsDeadLetters: a topic may name another whose dead-letter
// queue takes its dead; a redrive sends them to any. Nothing is lost or made
// between them, and either topic's snapshot may be of another time.
func TestAnotherTopicsDeadLetters(t *testing.T) {
	p := newPair(t)
	p.send(t, 3)
	frozen := []*Snapshot{p.a.Freeze(), p.b.Freeze()}
	for seq := uint64(1); seq <= 2; seq++ {
		r, ok := p.a.Kill(p.now, seq, ID{byte(seq)}, record.WhyRejected, 2, "it said no")
		if !ok {
			t.Fatal("not killed")
		}
		e := p.apply(t, &r)
		if e.Died != 1 || len(e.Freed) != 1 || len(e.Placed) != 1 || e.Freed[0] != e.Placed[0] {
			t.Errorf("%+v", e)
		}
		p.conserved(t)
	}
	a, b := p.a.Counts(p.now), p.b.Counts(p.now)
	if a.Ready != 1 || a.Dead != 0 || a.MovedOut != 2 || b.Dead != 2 || b.MovedIn != 2 || b.Bytes == 0 {
		t.Errorf("%+v %+v", a, b)
	}
	d, err := p.b.DeadByID(ID{1})
	if err != nil || d.From != 1 || d.Detail != "it said no" || d.Key != KeyHash([]byte("k")) {
		t.Errorf("%+v %v", d, err)
	}
	frozen = append(frozen, p.b.Freeze())
	back, err := p.b.Revive(p.now, 1, p.a)
	if err != nil {
		t.Fatal(err)
	}
	p.apply(t, &back)
	here, err := p.b.Revive(p.now, 2, p.b)
	if err != nil {
		t.Fatal(err)
	}
	p.apply(t, &here)
	if _, err := p.b.Revive(p.now, 2, p.b); !errors.Is(err, ErrNotDead) {
		t.Errorf("a second time: %v", err)
	}
	p.conserved(t)
	a, b = p.a.Counts(p.now), p.b.Counts(p.now)
	if a.Ready != 2 || a.MovedIn != 1 || b.Ready != 1 || b.Dead != 0 || b.MovedOut != 1 {
		t.Errorf("%+v %+v", a, b)
	}
	if got := p.a.Receivable(p.now, 9, 1<<20, nil); len(got) != 1 || got[0].Seq != 3 {
		t.Errorf("the redriven one is not behind the others of its key: %+v", got)
	}
	for i, s := range frozen {
		topic, err := thaw(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range p.log {
			r, _ := record.Decode(l.data)
			if n := topic.Number(); n == r.Header().Topic || n == record.Other(r) {
				if err := topic.Apply(r, l.at, new(Effect)); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := p.a
		if topic.Number() == 2 {
			want = p.b
		}
		if got, want := dump(topic, p.now), dump(want, p.now); got != want {
			t.Errorf("snapshot %d and the tail:\n%s\nit was\n%s", i, got, want)
		}
	}
}

// TestFullTarget: a redrive does not fill another topic beyond its bounds; one to its own needs no room.
func TestFullTarget(t *testing.T) {
	p := newPair(t)
	p.send(t, 1)
	r, _ := p.a.Kill(p.now, 1, ID{1}, record.WhyRejected, 1, "")
	p.apply(t, &r)
	for _, limit := range []struct {
		set  func(c *Config)
		want error
	}{{func(c *Config) { c.MaxDepth = 1 }, ErrDepth}, {func(c *Config) { c.MaxBytes = 100 }, ErrBytes}} {
		cfg := testConfig()
		limit.set(&cfg)
		ref := testRef
		ref.Name = "failures"
		p.apply(t, &record.TopicPut{Head: record.Head{Now: p.now, Topic: 2}, Ref: ref, Config: cfg})
		if p.b.NextSeq() == 1 {
			p.apply(t, &record.Send{Head: record.Head{Now: p.now, Topic: 2}, Seq: 1, Ref: ref})
		}
		if _, err := p.a.Revive(p.now, 1, p.b); !errors.Is(err, limit.want) {
			t.Errorf("%v, want %v", err, limit.want)
		}
		if _, err := p.a.Revive(p.now, 1, p.a); err != nil {
			t.Error(err)
		}
	}
}

// TestAdmit: the bounds of a topic, to the message and to the byte.
func TestAdmit(t *testing.T) {
	cfg := testConfig()
	cfg.MaxDepth = 2
	w := newWorld(cfg)
	r := &record.Send{Head: w.head(), Ref: testRef}
	for _, c := range []struct {
		notBefore, expire Time
		want              error
	}{
		{0, 0, nil}, {w.now.Add(cfg.Retention), 0, ErrExpires}, {w.now.Add(cfg.Retention) - 1, 0, nil},
		{0, w.now, ErrExpires}, {0, w.now + 1, nil}, {w.now + 5, w.now + 5, ErrExpires}, {w.now + 4, w.now + 5, nil},
	} {
		r.NotBefore, r.Expire = c.notBefore, c.expire
		if err := w.t.Admit(w.now, r); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for i := range 3 {
		if err := w.send(sending{}); (err == nil) != (i < 2) || err != nil && !errors.Is(err, ErrDepth) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	w.kill(1, record.WhyRejected)
	if !errors.Is(w.send(sending{}), ErrDepth) {
		t.Error("the dead make room")
	}
	w.deleteDead(1)
	cfg.MaxBytes = 2 * w.live[0].bytes
	w.configure(cfg)
	if err := w.send(sending{size: 8}); !errors.Is(err, ErrBytes) {
		t.Error("bytes:", err)
	}
	if err := w.send(sending{}); err != nil {
		t.Error("to the byte:", err)
	}
	big := &record.Send{Head: w.head(), Ref: testRef, Payload: make([]byte, record.MaxRecordBytes)}
	if err := w.t.Admit(w.now, big); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// TestJobs: the latest state of a job counts; of those that are over the last few stay.
func TestJobs(t *testing.T) {
	w := newWorld(testConfig())
	put := func(id byte, s record.JobState, moved int64) {
		w.apply(&record.RedriveJob{Head: w.head(), ID: ID{id}, State: s, To: 7, Moved: moved, Filter: record.DeadFilter{IDs: []ID{{id}, {1}}}})
	}
	put(200, record.JobRunning, 0)
	for id := byte(1); id <= 20; id++ {
		put(id, record.JobRunning, 1)
		put(id, record.JobDone, 2)
	}
	restored, err := thaw(w.t.Freeze())
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []*Topic{w.t, restored} {
		jobs := topic.Jobs(nil)
		if len(jobs) != keptJobs+1 || jobs[0].ID != (ID{200}) || jobs[1].ID != (ID{5}) || jobs[1].Moved != 2 || jobs[1].Filter.IDs[0] != (ID{5}) {
			t.Errorf("%+v", jobs)
		}
	}
}

// TestTopicDelete: everything is given back, and what comes after changes nothing.
func TestTopicDelete(t *testing.T) {
	w := newWorld(testConfig())
	for range 3 {
		_ = w.send(sending{idem: "a", size: 10})
		_ = w.send(sending{key: "a"})
	}
	w.receive(2, 1<<20, time.Minute, 0)
	w.kill(3, record.WhyRejected)
	e := w.apply(&record.TopicDelete{Head: w.head()})
	if n := w.t.Counts(w.now); e.Deleted != 4 || n.Deleted != 4 || n.Bytes != 0 || n.Keys != 0 || w.placed != w.freed {
		t.Errorf("%+v %+v, %d placed, %d freed", e, n, w.placed, w.freed)
	}
	if e := w.apply(&record.Send{Head: w.head(), Seq: w.t.NextSeq(), Ref: testRef}); e.Stale != 1 || e.Sent != 0 {
		t.Errorf("%+v", e)
	}
	if restored, err := thaw(w.t.Freeze()); err != nil || dump(restored, w.now) != dump(w.t, w.now) {
		t.Error("a deleted topic does not come back as it was:", err)
	}
}

// TestFarPlaces: what does not fit a slot is kept all the same.
func TestFarPlaces(t *testing.T) {
	w := newWorld(testConfig())
	_ = w.send(sending{})
	for _, at := range []uint64{1<<32 + 4, 1<<32 + 1<<31, (1<<32 - 8) << 32, 5 << 32} {
		var e Effect
		send := w.log[1].data
		w.t.applied = 0 // places may come in any order here
		if err := w.t.Apply(&record.Move{Head: w.head(), Seq: 1, Send: send}, at, &e); err != nil {
			t.Fatal(err)
		}
		restored, err := thaw(w.t.Freeze())
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range []*Topic{w.t, restored} {
			if got := topic.Receivable(w.now, 1, 0, nil); len(got) != 1 || got[0].At != at || got[0].Sent != w.now {
				t.Errorf("at %x: %+v", at, got)
			}
		}
	}
	w.now += 1 << 30 // longer than a slot can say
	cfg := testConfig()
	cfg.Retention = 300 * 24 * time.Hour
	w.t.applied = 0
	w.configure(cfg)
	_ = w.send(sending{})
	if got := w.t.Receivable(w.now, 2, 1<<20, nil); len(got) != 2 || got[1].Sent != w.now || got[1].At != w.pos {
		t.Errorf("%+v", got)
	}
}

// TestFrozenPlaces: a snapshot that is written after messages were moved says where they were.
func TestFrozenPlaces(t *testing.T) {
	w := newWorld(testConfig())
	_ = w.send(sending{})
	_ = w.send(sending{})
	before := dump(w.t, w.now)
	s := w.t.Freeze()
	w.move(1, 0)
	restored, err := thaw(s)
	if err != nil {
		t.Fatal(err)
	}
	if after := dump(restored, w.now); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}
