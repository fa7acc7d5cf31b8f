// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"io"
	"slices"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/block"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/letters"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/seen"
)

// Kinds of blocks, and sizes within.
const (
	snapshotVersion = 2 // 1 had no owners of leases

	blockTopic   = 1 // first: version, counters, TopicPut
	blockChunk   = 2
	blockExtras  = 3 // of the chunk before
	blockLetters = 4
	blockJob     = 5
	blockMarks   = 6
	blockKeys    = 7
	blockEnd     = 8 // last: how many chunks, extras, letters and keys there were

	slotBytes  = 12
	markBytes  = 32
	keyBytes   = 16
	chunkHead  = 8 + 4 + 8 + 2
	extraBytes = 9*8 + 4*3 + 2 + 2
	ownerBytes = 8
)

var le = binary.LittleEndian

// Snapshot is a topic's state at one place in the log.
type Snapshot struct {
	topic   record.TopicPut
	applied uint64
	latest  Time
	lease   uint64
	next    uint64
	n       Counts
	deleted bool
	first   uint64
	chunks  []*chunk
	pages   []*page
	dead    []letters.Numbered
	num     uint64
	jobs    []record.RedriveJob
	seen    *seen.Table
}

// Freeze takes a snapshot. What it costs under the lock is lists of pointers;
// it is written without the lock, while the topic changes: what it shares with
// the topic is copied before it is changed. It is dropped by forgetting it.
func (t *Topic) Freeze() *Snapshot {
	t.table.epoch++
	t.extras.epoch++
	return &Snapshot{
		topic:   record.TopicPut{Head: record.Head{Now: t.latest, Topic: t.num}, Ref: t.ref, Config: t.cfg},
		applied: t.applied, latest: t.latest, lease: t.lease, next: t.next, n: t.n, deleted: t.deleted,
		first: t.table.first, chunks: slices.Clone(t.table.list), pages: slices.Clone(t.extras.pages),
		dead: t.dead.Freeze(), num: t.dead.Next, jobs: slices.Clone(t.jobs), seen: t.seen.Freeze(),
	}
}

// Applied returns the place of the last record that the snapshot holds.
func (s *Snapshot) Applied() uint64 { return s.applied }

// Write writes the snapshot: blocks, each with its checksum, in one Write each.
func (s *Snapshot) Write(w io.Writer) error {
	b := &block.Writer{W: w}
	b.Begin(blockTopic)
	b.B = append(b.B, snapshotVersion)
	b.U64(s.applied, uint64(s.latest), s.lease, s.next, s.num)
	b.U64(uint64(s.n.Sent), uint64(s.n.Acked), uint64(s.n.Expired), uint64(s.n.Purged), uint64(s.n.Deleted), uint64(s.n.MovedIn), uint64(s.n.MovedOut))
	b.Flag(s.deleted)
	b.B = s.topic.Append(b.B)
	b.End()
	var chunks, extras uint64
	for n, c := range s.chunks {
		if c == nil {
			continue
		}
		chunks++
		s.writeChunk(b, s.first+uint64(n), c)
		extras += s.writeExtras(b, c)
	}
	dead := s.writeLetters(b)
	for i := range s.jobs {
		b.Begin(blockJob)
		b.B = s.jobs[i].Append(b.B)
		b.End()
	}
	keys := s.writeSeen(b)
	b.Begin(blockEnd)
	b.U64(chunks, extras, dead, keys)
	b.End()
	return b.Err
}

func (s *Snapshot) writeChunk(b *block.Writer, num uint64, c *chunk) {
	b.Begin(blockChunk)
	b.U64(num)
	b.U32(c.segment)
	b.U64(uint64(c.sent))
	b.B = le.AppendUint16(b.B, uint16(len(c.slots)))
	b.U64(c.lives[:]...)
	for i, ok := c.lives.next(0); ok; i, ok = c.lives.next(i + 1) {
		v := &c.slots[i]
		b.B = le.AppendUint32(le.AppendUint32(le.AppendUint32(b.B, v.a), v.b), v.c)
	}
	b.End()
}

func (s *Snapshot) writeExtras(b *block.Writer, c *chunk) (n uint64) {
	for _, h := range c.ext {
		if h == 0 {
			continue
		}
		if n == 0 {
			b.Begin(blockExtras)
		}
		b.Full(blockExtras)
		n++
		p := s.pages[(h-1)/pageLen]
		x := &p.recs[(h-1)%pageLen]
		b.U64(x.seq, x.key, x.lease, x.owner, uint64(x.until), uint64(x.expire), uint64(x.first), x.wide.at, uint64(x.wide.sent))
		b.U32(x.wide.units, x.attempts, x.base)
		b.B = append(b.B, x.state)
		b.Flag(x.isWide)
		var hist []byte
		if p.hist != nil {
			hist = p.hist[(h-1)%pageLen]
		}
		b.B = le.AppendUint16(b.B, uint16(len(hist)))
		b.B = append(b.B, hist...)
	}
	if n > 0 {
		b.End()
	}
	return n
}

// writeLetters writes each as its number, when it died, and the record that buried it.
func (s *Snapshot) writeLetters(b *block.Writer) (n uint64) {
	var d record.Dead
	for _, e := range s.dead {
		if e.L == nil {
			continue
		}
		if n == 0 {
			b.Begin(blockLetters)
		}
		b.Full(blockLetters)
		n++
		l := e.L
		d = record.Dead{Head: record.Head{Now: l.Died, Topic: l.From}, Seq: l.Num, ID: l.ID, Why: l.Why, Into: s.topic.Topic, At: l.At, Size: uint32(l.Bytes),
			Attempts: l.Attempts, Base: l.Base, First: l.First, Key: l.Key, Detail: []byte(l.Detail), History: l.History}
		at := len(b.B)
		b.B = le.AppendUint32(b.B, 0)
		b.B = d.Append(b.B)
		le.PutUint32(b.B[at:], uint32(len(b.B)-at-4))
	}
	if n > 0 {
		b.End()
	}
	return n
}

func (s *Snapshot) writeSeen(b *block.Writer) (n uint64) {
	b.Begin(blockMarks)
	for _, m := range s.seen.Marks() {
		b.U64(uint64(m.Begin), uint64(m.Last), m.At, uint64(m.Keys))
	}
	b.End()
	b.Begin(blockKeys)
	s.seen.Each(func(print, at uint64) {
		b.Full(blockKeys)
		b.U64(print, at)
		n++
	})
	b.End()
	return n
}
