// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"io"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/block"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/seen"
)

// maxChunks bounds the span of seqs in a snapshot: the first and the last message are at most that many chunks apart.
const maxChunks = 1 << 24

// loading is a snapshot being read.
type loading struct {
	block.Reader
	t       *Topic
	version byte
	span    uint64 // chunks from the first to the last, at most
	last    byte   // kind of the block before
	chunk   *chunk
	base    uint64 // seq of the chunk's first slot
	loaded  [4]uint64
	decoder record.Decoder
}

// Restore reads one topic's snapshot, and no byte more. ErrSnapshot for whatever is wrong with it.
func Restore(r io.Reader) (*Topic, error) { return restore(r, maxChunks) }

func restore(r io.Reader, span uint64) (*Topic, error) {
	l := &loading{Reader: block.Reader{R: r}, span: span}
	for {
		kind, err := l.Next()
		if err != nil {
			return nil, err
		}
		if (kind == blockTopic) != (l.t == nil) || !l.load(kind) || len(l.B) != 0 && kind != blockEnd {
			return nil, fmt.Errorf("%w: block of kind %d", ErrSnapshot, kind)
		}
		if kind == blockEnd {
			break
		}
		l.last = kind
	}
	if len(l.B) != 0 {
		return nil, fmt.Errorf("%w: something is missing", ErrSnapshot)
	}
	l.t.rebuild()
	return l.t, nil
}

// load takes a block in. It leaves nothing of l.B, unless it is wrong.
func (l *loading) load(kind byte) bool {
	switch kind {
	case blockTopic:
		return l.topic()
	case blockChunk:
		return l.slots()
	case blockExtras:
		for ok := true; ok && len(l.B) > 0; {
			if ok = l.extra(); !ok {
				return false
			}
		}
		return true
	case blockLetters:
		for len(l.B) > 0 {
			if !l.letter() {
				return false
			}
		}
		return true
	case blockJob:
		return l.job()
	case blockMarks:
		return l.marks()
	case blockKeys:
		for ; len(l.B) >= keyBytes; l.loaded[3]++ {
			if print, at := l.U64(), l.U64(); at == 0 || !l.t.seen.LoadKey(print, at) {
				return false
			}
		}
		return true
	case blockEnd:
		return l.Has(32) && l.U64() == l.loaded[0] && l.U64() == l.loaded[1] && l.U64() == l.loaded[2] && l.U64() == l.loaded[3]
	}
	return false
}

func (l *loading) topic() bool {
	if !l.Has(1 + 12*8 + 1) {
		return false
	}
	if l.version = l.U8(); l.version < 1 || l.version > snapshotVersion {
		return false
	}
	var n [12]uint64
	for i := range n {
		if n[i] = l.U64(); i > 0 && n[i] >= 1<<62 {
			return false
		}
	}
	deleted := l.U8()
	r, err := record.Decode(l.B)
	put, ok := r.(*record.TopicPut)
	if err != nil || !ok || deleted > 1 || n[0] == 0 || n[3] == 0 || n[4] == 0 {
		return false
	}
	t, err := New(put, n[0])
	if err != nil {
		return false
	}
	t.latest, t.clock, t.lease, t.next, t.dead.Next, t.deleted = Time(n[1]), Time(n[1]), n[2], n[3], n[4], deleted == 1
	t.n = Counts{Sent: int64(n[5]), Acked: int64(n[6]), Expired: int64(n[7]), Purged: int64(n[8]), Deleted: int64(n[9]), MovedIn: int64(n[10]), MovedOut: int64(n[11])}
	l.t, l.B = t, nil
	return true
}

func (l *loading) slots() bool {
	if !l.Has(chunkHead + chunkWords*8) {
		return false
	}
	num := l.U64()
	c := &chunk{segment: l.U32(), sent: Time(l.U64())}
	n := l.U16()
	live := 0
	for i := range c.lives {
		c.lives[i] = l.U64()
	}
	for i, ok := c.lives.next(0); ok; i, ok = c.lives.next(i + 1) {
		if live++; i >= n {
			return false
		}
	}
	tb := &l.t.table
	if n > chunkLen || len(l.B) != live*slotBytes || num > l.t.next>>chunkBits || num<<chunkBits+uint64(n) > l.t.next || c.sent < 0 {
		return false
	}
	if len(tb.list) == 0 {
		tb.first = num &^ 63
	}
	if num < tb.first+uint64(len(tb.list)) || num-tb.first >= l.span {
		return false
	}
	for tb.first+uint64(len(tb.list)) <= num {
		tb.grow()
	}
	room := n
	if n > 64 {
		room = chunkLen
	}
	c.slots = make([]slot, n, room)
	for i, ok := c.lives.next(0); ok; i, ok = c.lives.next(i + 1) {
		s := slot{le.Uint32(l.B), le.Uint32(l.B[4:]), le.Uint32(l.B[8:])}
		c.slots[i] = s
		l.B = l.B[slotBytes:]
		l.t.n.Bytes += int64(s.b&(1<<sizeBits-1)) * 8
	}
	c.live = int32(live)
	tb.list[num-tb.first] = c
	if live > 0 {
		tb.alive[(num-tb.first)>>6] |= 1 << ((num - tb.first) & 63)
	}
	l.chunk, l.base = c, num<<chunkBits
	l.loaded[0]++
	return true
}

func (l *loading) extra() bool {
	size := extraBytes
	if l.version == 1 {
		size -= ownerBytes
	}
	if !l.Has(size) || l.chunk == nil || l.last != blockChunk && l.last != blockExtras {
		return false
	}
	seq := l.U64()
	i := int(seq & (chunkLen - 1))
	if seq-uint64(i) != l.base || !l.chunk.lives.has(i) || l.chunk.extra(i) != 0 {
		return false
	}
	h, x := l.t.extras.alloc(seq)
	l.chunk.setExtra(i, h)
	x.key, x.lease = l.U64(), l.U64()
	if l.version > 1 {
		x.owner = l.U64()
	}
	x.until, x.expire, x.first = Time(l.U64()), Time(l.U64()), Time(l.U64())
	x.wide.at, x.wide.sent = l.U64(), Time(l.U64())
	x.wide.units, x.attempts, x.base = l.U32(), l.U32(), l.U32()
	x.state = l.U8()
	wide := l.U8()
	x.isWide = wide == 1
	hist := l.U16()
	if x.state > stLeased || wide > 1 || !l.Has(hist) || !x.isWide && x.wide != (place{}) || x.base > x.attempts ||
		x.until < 0 || x.expire < 0 || x.first < 0 || x.wide.sent < 0 || x.wide.units > record.MaxRecordBytes/8 {
		return false
	}
	if hist > 0 {
		if _, err := record.DecodeEvents(l.B[:hist]); err != nil {
			return false
		}
		l.t.extras.setHistory(h, append([]byte(nil), l.B[:hist]...))
		l.B = l.B[hist:]
	}
	if x.isWide {
		l.t.n.Bytes += x.wide.bytes() - l.chunk.unpack(l.chunk.slots[i]).bytes()
	}
	if x.key != 0 {
		l.t.chain(x)
	}
	l.loaded[1]++
	return true
}

func (l *loading) letter() bool {
	if !l.Has(4) {
		return false
	}
	n := l.U32()
	if uint64(n) > uint64(len(l.B)) {
		return false
	}
	r, err := l.decoder.Decode(l.B[:n])
	l.B = l.B[n:]
	d, ok := r.(*record.Dead)
	if err != nil || !ok || d.Into != l.t.num || d.Seq >= l.t.dead.Next {
		return false
	}
	if _, twice := l.t.dead.Number(d.ID); twice || len(l.t.dead.From(d.Seq)) > 0 {
		return false
	}
	t := l.t
	next, latest := t.dead.Next, t.latest
	t.dead.Next, t.latest = d.Seq, d.Now // bury takes them from there
	t.bury(d)
	t.dead.Next, t.latest = next, latest
	l.loaded[2]++
	return true
}

func (l *loading) job() bool {
	r, err := record.Decode(l.B)
	j, ok := r.(*record.RedriveJob)
	if err != nil || !ok || j.Topic != l.t.num {
		return false
	}
	l.t.jobs = append(l.t.jobs, *j)
	l.B = nil
	return true
}

func (l *loading) marks() bool {
	var marks []seen.Mark
	for len(l.B) >= markBytes {
		m := seen.Mark{Begin: Time(l.U64()), Last: Time(l.U64()), At: l.U64(), Keys: int64(l.U64())}
		if n := len(marks); n > 0 && (m.At <= marks[n-1].At || m.Begin < marks[n-1].Last) || m.Last < m.Begin || m.Begin < 0 || m.Keys < 0 {
			return false
		}
		marks = append(marks, m)
	}
	l.t.seen.Load(marks)
	return true
}
