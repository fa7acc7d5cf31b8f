// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"math"
	"time"
)

// Decoder decodes records into itself, so that reading a log allocates
// little: what Decode returned last is overwritten by the next.
type Decoder struct {
	send     Send
	lease    Lease
	ack      Ack
	nack     Nack
	extend   Extend
	dead     Dead
	expire   Expire
	purge    Purge
	deadDel  DeadDelete
	redrive  Redrive
	move     Move
	remember Remember
	tick     Tick
}

// Decode decodes one record, which must be all of b. Byte fields of the
// result point into b. ErrMalformed, ErrVersion.
func Decode(b []byte) (Record, error) { return new(Decoder).Decode(b) }

// Decode is Decode, into the Decoder: valid until the next call.
func (d *Decoder) Decode(b []byte) (Record, error) {
	if len(b) < headBytes || len(b) > MaxRecordBytes {
		return nil, ErrMalformed
	}
	if b[0] != Version {
		if b[0] > Version {
			return nil, ErrVersion
		}
		return nil, ErrMalformed
	}
	r := reader{b: b[2:]}
	h := Head{Now: r.time(), Topic: r.u32()}
	kind := Kind(b[1])
	if (h.Topic == 0) != (kind == KindTick) {
		return nil, ErrMalformed
	}
	out := d.body(kind, h, &r)
	if out == nil || r.bad || len(r.b) != 0 {
		return nil, ErrMalformed
	}
	return out, nil
}

func (d *Decoder) body(kind Kind, h Head, r *reader) Record {
	switch kind {
	case KindSend:
		return d.decodeSend(h, r)
	case KindLease:
		d.lease = Lease{Head: h, Until: r.time(), Items: r.items(d.lease.Items[:0])}
		return &d.lease
	case KindLeaseOwned:
		d.lease = Lease{Head: h, Until: r.time(), Owner: r.u64(), Items: r.items(d.lease.Items[:0])}
		if d.lease.Owner == 0 {
			return nil
		}
		return &d.lease
	case KindAck:
		d.ack = Ack{Head: h, Items: r.items(d.ack.Items[:0])}
		return &d.ack
	case KindNack:
		d.nack = Nack{Head: h, Reason: r.long(MaxReasonBytes), Items: r.nackItems(d.nack.Items[:0])}
		return &d.nack
	case KindExtend:
		d.extend = Extend{Head: h, Until: r.time(), Items: r.items(d.extend.Items[:0])}
		return &d.extend
	case KindDead:
		return d.decodeDead(h, r)
	case KindExpire:
		d.expire = Expire{Head: h, Cut: r.u64(), Seqs: r.numbers(d.expire.Seqs[:0])}
		return &d.expire
	case KindTopicPut:
		return decodeTopicPut(h, r)
	case KindTopicDelete:
		return &TopicDelete{Head: h}
	case KindPurge:
		d.purge = Purge{Head: h, Before: r.u64()}
		return &d.purge
	case KindDeadDelete:
		d.deadDel = DeadDelete{Head: h, Expired: r.flag(), Cut: r.u64(), Nums: r.numbers(d.deadDel.Nums[:0])}
		return &d.deadDel
	case KindRedrive:
		return d.decodeRedrive(h, r)
	case KindRedriveJob:
		return decodeRedriveJob(h, r)
	case KindMove:
		d.move = Move{Head: h, Seq: r.u64(), Num: r.u64(), Send: r.take(r.count32(MaxRecordBytes))}
		if (d.move.Seq == 0) == (d.move.Num == 0) {
			return nil
		}
		return &d.move
	case KindRemember:
		d.remember = Remember{Head: h, Old: r.u64(), Sent: r.time(), ID: r.id(), Request: r.hash(), Idem: r.short(MaxIdemBytes)}
		return &d.remember
	case KindTick:
		d.tick = Tick{Head: h}
		return &d.tick
	}
	return nil
}

func (d *Decoder) decodeSend(h Head, r *reader) Record {
	s := &d.send
	*s = Send{Head: h, Seq: r.u64(), ID: r.id(), Ref: r.ref(s.Ref.Name), Wall: int64(r.u64()), NotBefore: r.time(), Expire: r.time(),
		Request: r.hash(), Hash: r.hash(), Key: r.long(MaxKeyBytes), Idem: r.short(MaxIdemBytes), Corr: r.short(MaxCorrBytes), Attrs: s.Attrs[:0]}
	n := int(r.u8())
	if n > MaxAttrs || s.Seq == 0 {
		return nil
	}
	for range n {
		a := Attr{Name: r.short(MaxAttrName), Value: r.long(MaxAttrValue)}
		if len(a.Name) == 0 {
			return nil
		}
		s.Attrs = append(s.Attrs, a)
	}
	s.Payload = r.take(r.count32(MaxPayload))
	return s
}

func (d *Decoder) decodeDead(h Head, r *reader) Record {
	x := &d.dead
	*x = Dead{Head: h, Seq: r.u64(), ID: r.id(), Why: Why(r.u8()), Into: r.u32(), At: r.u64(), Size: r.u32(), Attempts: r.u32(), Base: r.u32(),
		First: r.time(), Key: r.u64(), Detail: r.long(MaxReasonBytes), History: r.events(x.History[:0])}
	if x.Seq == 0 || x.Why == WhyNone || x.Why >= numWhy || x.Into == 0 || x.Size > MaxRecordBytes {
		return nil
	}
	return x
}

func (d *Decoder) decodeRedrive(h Head, r *reader) Record {
	x := &d.redrive
	*x = Redrive{Head: h, Num: r.u64(), To: r.u32(), Seq: r.u64(), ID: r.id(), At: r.u64(), Size: r.u32(), Attempts: r.u32(),
		First: r.time(), Key: r.u64(), History: r.events(x.History[:0])}
	if x.Num == 0 || x.To == 0 || x.Seq == 0 || x.Size > MaxRecordBytes {
		return nil
	}
	return x
}

func decodeTopicPut(h Head, r *reader) Record {
	x := &TopicPut{Head: h, Ref: r.ref("")}
	c := &x.Config
	for _, d := range []*time.Duration{&c.Retention, &c.DeadRetention, &c.ReplayWindow, &c.Visibility} {
		ms := r.u64()
		if ms > uint64(MaxRetention/time.Millisecond) {
			return nil
		}
		*d = time.Duration(ms) * time.Millisecond
	}
	for _, n := range []*int64{&c.MaxAttempts, &c.MaxDepth, &c.MaxBytes, &c.MaxInFlight, &c.MaxKeys} {
		*n = int64(r.u64())
	}
	c.DLQ = string(r.short(MaxTopicBytes))
	c.Ordered = r.flag()
	last := r.u8()
	if c.KeepExpired = last&1 != 0; last > 1|hasMaxAge {
		return nil
	}
	if last&hasMaxAge != 0 {
		ms := r.u64()
		if ms == 0 || ms > uint64(MaxRetention/time.Millisecond) {
			return nil
		}
		c.MaxAge = time.Duration(ms) * time.Millisecond
	}
	if r.bad || c.Validate() != nil {
		return nil
	}
	return x
}

func decodeRedriveJob(h Head, r *reader) Record {
	x := &RedriveJob{Head: h, ID: r.id(), State: JobState(r.u8()), DryRun: r.flag(), To: r.u32()}
	var n [8]int64
	for i := range n {
		n[i] = int64(r.u64())
	}
	x.PerSecond, x.Started, x.Ended, x.Next, x.Last, x.Matched, x.Moved, x.Failed = n[0], n[1], n[2], uint64(n[3]), uint64(n[4]), n[5], n[6], n[7]
	x.Filter.Why = Why(r.u8())
	x.Filter.After, x.Filter.Before = r.time(), r.time()
	ids := int(r.u16())
	if ids > MaxJobIDs || ids*16 != len(r.b) || x.State >= numJobStates || x.Filter.Why >= numWhy {
		return nil
	}
	for range ids {
		x.Filter.IDs = append(x.Filter.IDs, r.id())
	}
	return x
}

// DecodeEvents decodes what AppendEvents wrote.
func DecodeEvents(b []byte) ([]Event, error) {
	r := reader{b: b}
	out := r.events(nil)
	if r.bad || len(r.b) != 0 {
		return nil, ErrMalformed
	}
	return out, nil
}

// reader takes fields off the front of b. After the first that is not there, everything is zero and bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) || r.bad {
		r.bad = true
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8() uint8 {
	if s := r.take(1); s != nil {
		return s[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if s := r.take(2); s != nil {
		return le.Uint16(s)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if s := r.take(4); s != nil {
		return le.Uint32(s)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if s := r.take(8); s != nil {
		return le.Uint64(s)
	}
	return 0
}

// time takes a time that is none or after the beginning.
func (r *reader) time() Time {
	n := r.u64()
	if n > math.MaxInt64/2 {
		r.bad = true
		return 0
	}
	return Time(n)
}

func (r *reader) flag() bool {
	n := r.u8()
	if n > 1 {
		r.bad = true
	}
	return n == 1
}

func (r *reader) id() (id ID) {
	copy(id[:], r.take(len(id)))
	return id
}

func (r *reader) hash() (h [32]byte) {
	copy(h[:], r.take(len(h)))
	return h
}

func (r *reader) short(limit int) []byte {
	n := int(r.u8())
	if n > limit {
		r.bad = true
	}
	return r.take(n)
}

func (r *reader) long(limit int) []byte {
	n := int(r.u16())
	if n > limit {
		r.bad = true
	}
	return r.take(n)
}

func (r *reader) count32(limit int) int {
	n := r.u32()
	if n > uint32(limit) {
		r.bad = true
		return -1
	}
	return int(n)
}

// ref takes a topic's name. was is the last one: a log mostly repeats it.
func (r *reader) ref(was string) (t TopicRef) {
	copy(t.Tenant[:], r.take(len(t.Tenant)))
	name := r.short(MaxTopicBytes)
	if t.Name = was; string(name) != was {
		t.Name = string(name)
	}
	if !ValidName(t.Name) {
		r.bad = true
	}
	return t
}

// counted takes a count of things of that size, and checks that they are there before anything is made for them.
func (r *reader) counted(size int) int {
	n := int(r.u16())
	if n > MaxItems || n*size > len(r.b) {
		r.bad = true
		return 0
	}
	return n
}

func (r *reader) items(into []Item) []Item {
	for range r.counted(16) {
		into = append(into, Item{Seq: r.u64(), Lease: r.u64()})
	}
	return into
}

func (r *reader) nackItems(into []NackItem) []NackItem {
	for range r.counted(24) {
		into = append(into, NackItem{Item: Item{Seq: r.u64(), Lease: r.u64()}, NotBefore: r.time()})
	}
	return into
}

func (r *reader) numbers(into []uint64) []uint64 {
	for range r.counted(8) {
		into = append(into, r.u64())
	}
	return into
}

func (r *reader) events(into []Event) []Event {
	n := int(r.u8())
	if n > MaxEvents {
		r.bad = true
		return into
	}
	for range n {
		into = append(into, Event{At: r.time(), Attempt: r.u32(), Lapsed: r.flag(), Reason: r.short(MaxEventReason)})
	}
	return into
}
