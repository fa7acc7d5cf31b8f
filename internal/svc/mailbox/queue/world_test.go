// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

var testRef = TopicRef{Tenant: macronode.TenantID{15: 9}, Name: "orders"}

func testConfig() Config {
	return Config{Retention: time.Hour, DeadRetention: 2 * time.Hour, ReplayWindow: 5 * time.Minute, Visibility: 10 * time.Second,
		MaxAttempts: 3, MaxDepth: 1000, MaxBytes: 1 << 30, MaxInFlight: 100, MaxKeys: 100}
}

// naive is a message as the reference sees it: a list of them, looked through from the beginning each time.
type naive struct {
	seq, at, lease  uint64
	owner           uint64
	id              ID
	key             string
	bytes           int64
	sent, first     Time
	until, expire   Time
	leased, waiting bool
	attempts, base  int64
	why             Why
	died            Time
	num             uint64
	failures        int
}

// world is a topic, the log of what was applied to it, and the reference.
type world struct {
	t     *Topic
	log   []entry
	now   Time
	lease uint64
	pos   uint64

	cfg      Config
	live     []*naive
	dead     []*naive
	nextSeq  uint64
	nextDead uint64
	n        Counts
	idem     map[string]Time
	moved    Time // when a record was moved last
	freed    int64
	placed   int64
	receipts []record.Item // every one ever given
}

type entry struct {
	at   uint64
	data []byte
}

func newWorld(cfg Config) *world {
	w := &world{now: 1000, pos: 1 << 32, cfg: cfg, nextSeq: 1, nextDead: 1, idem: map[string]Time{}}
	put := &record.TopicPut{Head: w.head(), Ref: testRef, Config: cfg}
	w.stage(put)
	t, err := New(put, w.pos)
	if err != nil {
		panic(err)
	}
	w.t = t
	return w
}

func (w *world) head() record.Head { return record.Head{Now: w.now, Topic: 7} }

// stage writes the record into the log, now and then in a new segment.
func (w *world) stage(r Record) uint64 {
	data := r.Append(nil)
	w.pos += uint64(len(data)+15) &^ 7
	if uint32(w.pos) > 2000 {
		w.pos = (w.pos>>32 + 1) << 32
	}
	w.log = append(w.log, entry{w.pos, data})
	return w.pos
}

// apply stages what r is after a round through its encoding, and applies that.
func (w *world) apply(r Record) Effect {
	at := w.stage(r)
	back, err := record.Decode(w.log[len(w.log)-1].data)
	if err != nil {
		panic(fmt.Sprintf("%T does not decode: %v", r, err))
	}
	var e Effect
	if err := w.t.Apply(back, at, &e); err != nil {
		panic(fmt.Sprintf("%T does not apply: %v", r, err))
	}
	for _, f := range e.Freed {
		w.freed += f.Bytes
	}
	for _, f := range e.Placed {
		w.placed += f.Bytes
	}
	return e
}

func (w *world) ends(m *naive) Time {
	ends := m.sent.Add(w.cfg.Retention)
	if m.expire != 0 && m.expire < ends {
		return m.expire
	}
	return ends
}

func (w *world) over(m *naive) bool {
	return (m.leased || m.waiting) && m.attempts-m.base >= w.cfg.MaxAttempts
}

func (w *world) state(m *naive) State {
	switch {
	case m.leased && m.until > w.now:
		return Leased
	case w.over(m) || w.ends(m) <= w.now:
		return Dying
	case m.waiting && m.until > w.now:
		return Delayed
	}
	return Ready
}

func (w *world) blocked(m *naive) bool {
	if m.key == "" && !w.cfg.Ordered {
		return false
	}
	for _, e := range w.live {
		if e.key == m.key {
			return e != m
		}
	}
	return false
}

type sending struct {
	key, idem  string
	delay, ttl time.Duration
	size       int
}

func (w *world) send(s sending) error {
	r := &record.Send{Head: w.head(), Seq: w.t.NextSeq(), Ref: testRef, Key: []byte(s.key), Idem: []byte(s.idem), Payload: make([]byte, s.size)}
	r.ID[15], r.ID[14] = byte(r.Seq), byte(r.Seq>>8)
	if s.delay > 0 {
		r.NotBefore = w.now.Add(s.delay)
	}
	if s.ttl > 0 {
		r.Expire = w.now.Add(s.ttl)
	}
	if err := w.t.Admit(w.now, r); err != nil {
		return err
	}
	if s.idem != "" && len(w.t.Seen(w.now, []byte(s.idem), nil)) > 0 {
		return nil // a duplicate
	}
	w.apply(r)
	m := &naive{seq: r.Seq, at: w.pos, id: r.ID, key: s.key, bytes: int64(r.Len()+7) &^ 7, sent: w.now, first: w.now, until: r.NotBefore, waiting: s.delay > 0, expire: r.Expire}
	w.live = append(w.live, m)
	w.nextSeq++
	w.n.Sent++
	if s.idem != "" {
		w.idem[s.idem] = w.now
	}
	return nil
}

func (w *world) want(max int, maxBytes int64) (out []*naive) {
	inFlight := int64(0)
	for _, m := range w.live {
		if s := w.state(m); s == Leased || s == Dying && m.leased {
			inFlight++
		}
	}
	max = min(max, int(w.cfg.MaxInFlight-inFlight))
	for _, m := range w.live {
		if len(out) >= max {
			break
		}
		if w.state(m) != Ready || w.blocked(m) {
			continue
		}
		if len(out) > 0 && m.bytes > maxBytes {
			break
		}
		maxBytes -= m.bytes
		out = append(out, m)
	}
	return out
}

// receive leases what is receivable; skip leaves out the first of it, as a broker may.
func (w *world) receive(max int, maxBytes int64, visibility time.Duration, skip int) {
	got := w.t.Receivable(w.now, max, maxBytes, nil)
	if skip < len(got) {
		got = got[skip:]
	}
	if len(got) == 0 {
		return
	}
	r := &record.Lease{Head: w.head(), Until: w.now.Add(visibility), Owner: uint64(len(w.receipts) % 3)}
	for _, c := range got {
		w.lease++
		r.Items = append(r.Items, record.Item{Seq: c.Seq, Lease: w.lease})
		m := w.find(c.Seq)
		if m.leased {
			m.failures++
		}
		m.leased, m.waiting, m.until, m.lease, m.owner = true, false, r.Until, w.lease, r.Owner
		m.attempts++
	}
	w.receipts = append(w.receipts, r.Items...)
	w.apply(r)
}

func (w *world) find(seq uint64) *naive {
	for _, m := range w.live {
		if m.seq == seq {
			return m
		}
	}
	return nil
}

// held is what the reference thinks of a receipt.
func (w *world) held(i record.Item) *naive {
	if m := w.find(i.Seq); m != nil && m.leased && m.lease == i.Lease && m.until > w.now {
		return m
	}
	return nil
}

func (w *world) take(m *naive) {
	w.live = slices.DeleteFunc(w.live, func(o *naive) bool { return o == m })
}

func (w *world) ack(i record.Item) {
	if _, err := w.t.CheckLease(w.now, i.Seq, i.Lease); err != nil {
		return
	}
	w.apply(&record.Ack{Head: w.head(), Items: []record.Item{i}})
	w.take(w.held(i))
	w.n.Acked++
}

func (w *world) nack(i record.Item, delay time.Duration) {
	if _, err := w.t.CheckLease(w.now, i.Seq, i.Lease); err != nil {
		return
	}
	m := w.held(i)
	m.leased, m.waiting, m.until = false, true, w.now.Add(delay)
	m.failures++
	w.apply(&record.Nack{Head: w.head(), Reason: []byte("no"), Items: []record.NackItem{{Item: i, NotBefore: m.until}}})
}

func (w *world) extend(i record.Item, visibility time.Duration) {
	if _, err := w.t.CheckLease(w.now, i.Seq, i.Lease); err != nil {
		return
	}
	w.held(i).until = w.now.Add(visibility)
	w.apply(&record.Extend{Head: w.head(), Until: w.now.Add(visibility), Items: []record.Item{i}})
}

func (w *world) kill(seq uint64, why Why) {
	m := w.find(seq)
	r, ok := w.t.Kill(w.now, seq, m.id, why, 7, "")
	if !ok {
		panic("a live message cannot be killed")
	}
	w.apply(&r)
	w.take(m)
	m.why, m.died, m.num = why, w.now, w.nextDead
	if m.leased && m.until <= w.now {
		m.failures++
	}
	w.nextDead++
	w.dead = append(w.dead, m)
}

// settle records all that is due.
func (w *world) settle() {
	for {
		d := w.t.Due(w.now, 2)
		if d.Empty() {
			return
		}
		for _, seq := range d.Spent {
			w.kill(seq, record.WhyMaxAttempts)
		}
		if w.cfg.KeepExpired {
			for _, seq := range d.Expired {
				w.kill(seq, record.WhyExpired)
			}
		} else if d.Cut > 0 || len(d.Expired) > 0 {
			w.apply(&record.Expire{Head: w.head(), Cut: d.Cut, Seqs: d.Expired})
			for _, m := range slices.Clone(w.live) {
				if (m.seq < d.Cut || slices.Contains(d.Expired, m.seq)) && w.state(m) == Dying && !w.over(m) {
					w.take(m)
					w.n.Expired++
				}
			}
		}
		if d.DeadCut > 0 {
			w.apply(&record.DeadDelete{Head: w.head(), Expired: true, Cut: d.DeadCut})
			w.dead = slices.DeleteFunc(w.dead, func(m *naive) bool {
				gone := m.num < d.DeadCut
				if gone {
					w.n.Expired++
				}
				return gone
			})
		}
	}
}

func (w *world) redrive(num uint64) {
	i := slices.IndexFunc(w.dead, func(m *naive) bool { return m.num == num })
	r, err := w.t.Revive(w.now, num, w.t)
	if (err == nil) != (i >= 0) {
		panic("a dead letter is not where it should be")
	}
	if err != nil {
		return
	}
	m := w.dead[i]
	w.dead = slices.Delete(w.dead, i, i+1)
	m.seq, m.sent, m.base, m.lease, m.leased, m.waiting, m.expire, m.until = w.nextSeq, w.now, m.attempts, 0, false, false, 0, 0
	w.nextSeq++
	w.live = append(w.live, m)
	w.apply(&r)
}

func (w *world) deleteDead(num uint64) {
	w.apply(&record.DeadDelete{Head: w.head(), Nums: []uint64{num}})
	w.dead = slices.DeleteFunc(w.dead, func(m *naive) bool {
		if m.num == num {
			w.n.Deleted++
		}
		return m.num == num
	})
}

func (w *world) purge() {
	w.apply(&record.Purge{Head: w.head(), Before: w.t.NextSeq()})
	w.n.Purged += int64(len(w.live))
	w.live = nil
}

// move copies a message's record to the end of the log.
func (w *world) move(seq, num uint64) {
	i := slices.IndexFunc(w.log, func(e entry) bool {
		if seq != 0 {
			return e.at == w.find(seq).at
		}
		return slices.ContainsFunc(w.dead, func(m *naive) bool { return m.num == num && m.at == e.at })
	})
	send := w.log[i].data
	if r, _ := record.Decode(send); r.Kind() == record.KindMove {
		send = r.(*record.Move).Send
	}
	w.moved = w.now
	r := &record.Move{Head: w.head(), Seq: seq, Num: num, Send: send}
	w.apply(r)
	for _, m := range append(slices.Clone(w.live), w.dead...) {
		if m.seq == seq && num == 0 && w.find(seq) == m || num != 0 && m.num == num && slices.Contains(w.dead, m) {
			m.at, m.bytes = w.pos, int64(r.Len()+7)&^7
		}
	}
}

func (w *world) configure(cfg Config) {
	w.cfg = cfg
	w.apply(&record.TopicPut{Head: w.head(), Ref: testRef, Config: cfg})
}

// check compares everything that can be seen with the reference.
func (w *world) check() error {
	n := w.n
	for _, m := range w.live {
		n.Bytes += m.bytes
		switch s := w.state(m); {
		case s == Ready || s == Dying && !m.leased && !m.waiting && m.expire == 0 && m.attempts == 0 && m.key == "":
			n.Ready++ // of plain ones nobody knows that they are over, until it is recorded
		case s == Leased || s == Dying && m.leased:
			n.Leased++
		default:
			n.Delayed++
		}
	}
	for _, m := range w.dead {
		n.Bytes += m.bytes
		n.Dead++
	}
	if len(w.live) > 0 {
		n.OldestUnacked = w.live[0].sent
	}
	got := w.t.Counts(w.now)
	got.Keys = 0
	if got != n {
		return fmt.Errorf("counts\n%+v, the reference has\n%+v", got, n)
	}
	if got.Sent+got.MovedIn != got.Ready+got.Delayed+got.Leased+got.Dead+got.Acked+got.Expired+got.Purged+got.Deleted+got.MovedOut {
		return fmt.Errorf("not conserved: %+v", got)
	}
	if w.placed-w.freed != n.Bytes {
		return fmt.Errorf("effects: %d bytes placed and %d freed, %d are there", w.placed, w.freed, n.Bytes)
	}
	for _, f := range []func() error{w.checkReceivable, w.checkPeek, w.checkDead, w.checkReceipts, w.checkTimes, w.checkSegments, w.checkKeys} {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) checkReceivable() error {
	for _, ask := range []struct {
		max   int
		bytes int64
	}{{1, 0}, {3, 600}, {1000, 1 << 40}} {
		var got, want []string
		for _, c := range w.t.Receivable(w.now, ask.max, ask.bytes, nil) {
			got = append(got, fmt.Sprint(c.Seq, c.At, c.Bytes, c.Attempt, c.First, c.Sent))
		}
		for _, m := range w.want(ask.max, ask.bytes) {
			want = append(want, fmt.Sprint(m.seq, m.at, m.bytes, m.attempts+1, m.first, m.sent))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("receivable %d\n%v, the reference has\n%v", ask.max, got, want)
		}
	}
	return nil
}

func (w *world) checkPeek() error {
	peeked, next := w.t.Peek(w.now, 0, 1000, nil)
	if len(peeked) != len(w.live) || next != 0 {
		return fmt.Errorf("%d messages to peek at, the reference has %d", len(peeked), len(w.live))
	}
	for i, m := range w.live {
		want := Peeked{Seq: m.seq, At: m.at, Bytes: m.bytes, State: w.state(m), Attempts: uint32(m.attempts), First: m.first, Sent: m.sent, Expires: w.ends(m)}
		if want.State == Leased || want.State == Delayed {
			want.Until = m.until
		}
		want.Blocked = want.State == Ready && w.blocked(m)
		if peeked[i] != want {
			return fmt.Errorf("peeked at\n%+v, the reference has\n%+v", peeked[i], want)
		}
	}
	return nil
}

func (w *world) checkDead() error {
	letters, next := w.t.Dead(&record.DeadFilter{}, 0, 1000, nil)
	if len(letters) != len(w.dead) || next != 0 {
		return fmt.Errorf("%d dead letters, the reference has %d", len(letters), len(w.dead))
	}
	for i, m := range w.dead {
		l := letters[i]
		if l.Num != m.num || l.ID != m.id || l.Why != m.why || l.At != m.at || l.Bytes != m.bytes || int64(l.Attempts) != m.attempts || l.First != m.first || l.Died != m.died {
			return fmt.Errorf("dead letter\n%+v, the reference has\n%+v", l, *m)
		}
		if len(l.History) != min(m.failures, record.MaxEvents) {
			return fmt.Errorf("a history of %d, the reference has %d", len(l.History), m.failures)
		}
		if byID, err := w.t.DeadByID(m.id); err != nil || byID.Num != m.num {
			return fmt.Errorf("dead letter %d is not found by its id", m.num)
		}
	}
	return nil
}

func (w *world) checkReceipts() error {
	for _, i := range w.receipts {
		_, err := w.t.CheckLease(w.now, i.Seq, i.Lease)
		if (w.held(i) == nil) != errors.Is(err, ErrLeaseLost) {
			return fmt.Errorf("lease %d of message %d: %v, the reference has %v", i.Lease, i.Seq, err, w.held(i) != nil)
		}
		if _, err := w.t.CheckLease(w.now, i.Seq, i.Lease+1000); err == nil {
			return errors.New("a lease that was never given holds")
		}
	}
	for owner := range uint64(3) {
		want := map[uint64]uint64{}
		for _, m := range w.live {
			if m.owner == owner && m.leased && m.until > w.now {
				want[m.seq] = m.lease
			}
		}
		got := w.t.Owned(w.now, owner, nil)
		for _, h := range got {
			if want[h.Seq] != h.Lease {
				return fmt.Errorf("message %d is owned by %d under lease %d, want %d", h.Seq, owner, h.Lease, want[h.Seq])
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%d messages are owned by %d, want %d", len(got), owner, len(want))
		}
	}
	return nil
}

func (w *world) checkTimes() error {
	due := false
	var next Time
	earliest := func(at Time) {
		if next == 0 || at < next {
			next = at
		}
	}
	for _, m := range w.live {
		switch w.state(m) {
		case Leased:
			earliest(m.until)
		case Delayed:
			earliest(min(m.until, w.ends(m)))
		case Ready:
			earliest(w.ends(m))
		case Dying:
			due = true
		}
	}
	for _, m := range w.dead {
		at := m.died.Add(w.cfg.DeadRetention)
		due = due || at <= w.now
		earliest(at)
	}
	d := w.t.Due(w.now, 10)
	if d.Empty() == due {
		return fmt.Errorf("due %+v, the reference has %v", d, due)
	}
	if due {
		next = w.now
	}
	if got, ok := w.t.NextChange(w.now); got != next || ok != (next != 0) {
		return fmt.Errorf("next change at %d %v, the reference has %d", got, ok, next)
	}
	return nil
}

func (w *world) checkSegments() error {
	got, want := map[uint32]Freed{}, map[uint32]Freed{}
	sum := func(into map[uint32]Freed, f Freed) {
		was := into[f.Segment]
		into[f.Segment] = Freed{f.Segment, was.Messages + f.Messages, was.Bytes + f.Bytes}
	}
	w.t.Segments(func(f Freed) { sum(got, f) })
	for _, m := range append(slices.Clone(w.live), w.dead...) {
		sum(want, Freed{uint32(m.at >> 32), 1, m.bytes})
	}
	for s := range want {
		var held int64
		for cursor, ok := uint64(0), true; ok; ok = cursor != 0 {
			var places []Place
			places, cursor = w.t.Holding(s, cursor, 2, nil)
			for _, p := range places {
				held += p.Bytes
			}
		}
		if got[s] != want[s] || held != want[s].Bytes {
			return fmt.Errorf("segment %d: %+v, %d bytes held, the reference has %+v", s, got[s], held, want[s])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d segments, the reference has %d", len(got), len(want))
	}
	return nil
}

// checkKeys allows a key to be known a part of the window longer than
// promised, and longer still where its record was moved meanwhile.
func (w *world) checkKeys() error {
	for key, at := range w.idem {
		known := len(w.t.Seen(w.now, []byte(key), nil)) > 0
		window := w.cfg.ReplayWindow
		if age := w.now.Sub(at); age < window && !known || w.now.Sub(max(at, w.moved)) > window+window/8 && known {
			return fmt.Errorf("key %q of %v ago: known %v", key, age, known)
		}
	}
	return nil
}

// dump is everything of a topic that records made, in one order.
func dump(t *Topic, now Time) string {
	var b strings.Builder
	fmt.Fprintln(&b, t.num, t.ref, t.cfg, t.applied, t.latest, t.lease, t.next, t.deleted, t.Counts(now))
	for seq := t.table.nextLive(0); seq != 0; seq = t.table.nextLive(seq + 1) {
		c, i := t.message(seq)
		fmt.Fprint(&b, seq, t.place(c, i))
		if h := c.extra(i); h != 0 {
			x := *t.extras.get(h)
			x.wide, x.isWide, x.timer = place{}, false, 0
			fmt.Fprintf(&b, " %+v %x", x, t.extras.history(h))
		}
		fmt.Fprintln(&b, c.readies.has(i))
	}
	fmt.Fprintln(&b, t.dead.Next, t.dead.Len())
	for _, e := range t.dead.From(0) {
		if e.L != nil {
			fmt.Fprintf(&b, "%+v\n", *e.L)
		}
	}
	fmt.Fprintln(&b, t.jobs, t.seen.Marks())
	var keys []string
	t.seen.Each(func(print, at uint64) { keys = append(keys, fmt.Sprint(print, at)) })
	slices.Sort(keys)
	fmt.Fprintln(&b, keys)
	return b.String()
}

func thaw(s *Snapshot) (*Topic, error) {
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		return nil, err
	}
	b.WriteString("tail")
	t, err := Restore(&b)
	if err == nil && b.Len() != 4 {
		err = fmt.Errorf("%d bytes are left of four", b.Len())
	}
	return t, err
}

// replay applies all of the log to t, or to a new topic.
func (w *world) replay(t *Topic) (*Topic, error) {
	var d record.Decoder
	var e Effect
	for _, l := range w.log {
		r, err := d.Decode(l.data)
		if err != nil {
			return nil, err
		}
		if t == nil {
			if t, err = New(r.(*record.TopicPut), l.at); err != nil {
				return nil, err
			}
		}
		if err := t.Apply(r, l.at, &e); err != nil {
			return nil, err
		}
	}
	return t, nil
}
