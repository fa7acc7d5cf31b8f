// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/binary"
	"time"
)

// Version is the first byte of every record.
const Version = 1

const (
	headBytes  = 2 + 8 + 4
	eventBytes = 8 + 4 + 1 + 1
	hasMaxAge  = 2 // beside KeepExpired
)

var le = binary.LittleEndian

func head(b []byte, k Kind, h Head) []byte {
	b = append(b, Version, byte(k))
	b = le.AppendUint64(b, uint64(h.Now))
	return le.AppendUint32(b, h.Topic)
}

func short(b, s []byte) []byte { // up to 255 bytes
	b = append(b, byte(len(s)))
	return append(b, s...)
}

func long(b, s []byte) []byte { // up to 65535
	b = le.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func flag(b []byte, on bool) []byte {
	if on {
		return append(b, 1)
	}
	return append(b, 0)
}

func ref(b []byte, r TopicRef) []byte {
	b = append(b, r.Tenant[:]...)
	b = append(b, byte(len(r.Name)))
	return append(b, r.Name...)
}

// Kind returns KindSend.
func (r *Send) Kind() Kind { return KindSend }

// AppendHead appends all of the record but the payload, which follows it in the log.
func (r *Send) AppendHead(b []byte) []byte {
	b = head(b, KindSend, r.Head)
	b = le.AppendUint64(b, r.Seq)
	b = append(b, r.ID[:]...)
	b = ref(b, r.Ref)
	b = le.AppendUint64(b, uint64(r.Wall))
	b = le.AppendUint64(b, uint64(r.NotBefore))
	b = le.AppendUint64(b, uint64(r.Expire))
	b = append(b, r.Request[:]...)
	b = append(b, r.Hash[:]...)
	b = long(b, r.Key)
	b = short(b, r.Idem)
	b = short(b, r.Corr)
	b = append(b, byte(len(r.Attrs)))
	for _, a := range r.Attrs {
		b = short(b, a.Name)
		b = long(b, a.Value)
	}
	return le.AppendUint32(b, uint32(len(r.Payload)))
}

// Append implements Record.
func (r *Send) Append(b []byte) []byte { return append(r.AppendHead(b), r.Payload...) }

// Len returns the length of the encoding.
func (r *Send) Len() int {
	n := headBytes + 8 + 16 + 16 + 1 + len(r.Ref.Name) + 24 + 64 + 2 + len(r.Key) + 1 + len(r.Idem) + 1 + len(r.Corr) + 1 + 4 + len(r.Payload)
	for _, a := range r.Attrs {
		n += 3 + len(a.Name) + len(a.Value)
	}
	return n
}

func items(b []byte, s []Item) []byte {
	b = le.AppendUint16(b, uint16(len(s)))
	for _, i := range s {
		b = le.AppendUint64(b, i.Seq)
		b = le.AppendUint64(b, i.Lease)
	}
	return b
}

// Kind returns KindLease, or KindLeaseOwned where it has an owner.
func (r *Lease) Kind() Kind {
	if r.Owner != 0 {
		return KindLeaseOwned
	}
	return KindLease
}

// Append implements Record.
func (r *Lease) Append(b []byte) []byte {
	b = head(b, r.Kind(), r.Head)
	b = le.AppendUint64(b, uint64(r.Until))
	if r.Owner != 0 {
		b = le.AppendUint64(b, r.Owner)
	}
	return items(b, r.Items)
}

// Kind returns KindAck.
func (r *Ack) Kind() Kind { return KindAck }

// Append implements Record.
func (r *Ack) Append(b []byte) []byte { return items(head(b, KindAck, r.Head), r.Items) }

// Kind returns KindNack.
func (r *Nack) Kind() Kind { return KindNack }

// Append implements Record.
func (r *Nack) Append(b []byte) []byte {
	b = head(b, KindNack, r.Head)
	b = long(b, r.Reason)
	b = le.AppendUint16(b, uint16(len(r.Items)))
	for _, i := range r.Items {
		b = le.AppendUint64(b, i.Seq)
		b = le.AppendUint64(b, i.Lease)
		b = le.AppendUint64(b, uint64(i.NotBefore))
	}
	return b
}

// Kind returns KindExtend.
func (r *Extend) Kind() Kind { return KindExtend }

// Append implements Record.
func (r *Extend) Append(b []byte) []byte {
	b = head(b, KindExtend, r.Head)
	b = le.AppendUint64(b, uint64(r.Until))
	return items(b, r.Items)
}

// AppendEvents appends a history in the form that it has in records.
func AppendEvents(b []byte, s []Event) []byte {
	b = append(b, byte(len(s)))
	for _, e := range s {
		b = le.AppendUint64(b, uint64(e.At))
		b = le.AppendUint32(b, e.Attempt)
		b = flag(b, e.Lapsed)
		b = short(b, e.Reason)
	}
	return b
}

// Kind returns KindDead.
func (r *Dead) Kind() Kind { return KindDead }

// Append implements Record.
func (r *Dead) Append(b []byte) []byte {
	b = head(b, KindDead, r.Head)
	b = le.AppendUint64(b, r.Seq)
	b = append(b, r.ID[:]...)
	b = append(b, byte(r.Why))
	b = le.AppendUint32(b, r.Into)
	b = le.AppendUint64(b, r.At)
	b = le.AppendUint32(b, r.Size)
	b = le.AppendUint32(b, r.Attempts)
	b = le.AppendUint32(b, r.Base)
	b = le.AppendUint64(b, uint64(r.First))
	b = le.AppendUint64(b, r.Key)
	b = long(b, r.Detail)
	return AppendEvents(b, r.History)
}

func numbers(b []byte, s []uint64) []byte {
	b = le.AppendUint16(b, uint16(len(s)))
	for _, n := range s {
		b = le.AppendUint64(b, n)
	}
	return b
}

// Kind returns KindExpire.
func (r *Expire) Kind() Kind { return KindExpire }

// Append implements Record.
func (r *Expire) Append(b []byte) []byte {
	b = head(b, KindExpire, r.Head)
	b = le.AppendUint64(b, r.Cut)
	return numbers(b, r.Seqs)
}

// Kind returns KindTopicPut.
func (r *TopicPut) Kind() Kind { return KindTopicPut }

// Append implements Record.
func (r *TopicPut) Append(b []byte) []byte {
	b = head(b, KindTopicPut, r.Head)
	b = ref(b, r.Ref)
	c := &r.Config
	for _, d := range []time.Duration{c.Retention, c.DeadRetention, c.ReplayWindow, c.Visibility} {
		b = le.AppendUint64(b, uint64(d.Milliseconds()))
	}
	for _, n := range []int64{c.MaxAttempts, c.MaxDepth, c.MaxBytes, c.MaxInFlight, c.MaxKeys} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = append(b, byte(len(c.DLQ)))
	b = append(b, c.DLQ...)
	b = flag(b, c.Ordered)
	b = flag(b, c.KeepExpired)
	if c.MaxAge != 0 { // records of before it was have none
		b[len(b)-1] |= hasMaxAge
		b = le.AppendUint64(b, uint64(c.MaxAge.Milliseconds()))
	}
	return b
}

// Kind returns KindTopicDelete.
func (r *TopicDelete) Kind() Kind { return KindTopicDelete }

// Append implements Record.
func (r *TopicDelete) Append(b []byte) []byte { return head(b, KindTopicDelete, r.Head) }

// Kind returns KindPurge.
func (r *Purge) Kind() Kind { return KindPurge }

// Append implements Record.
func (r *Purge) Append(b []byte) []byte {
	return le.AppendUint64(head(b, KindPurge, r.Head), r.Before)
}

// Kind returns KindDeadDelete.
func (r *DeadDelete) Kind() Kind { return KindDeadDelete }

// Append implements Record.
func (r *DeadDelete) Append(b []byte) []byte {
	b = flag(head(b, KindDeadDelete, r.Head), r.Expired)
	b = le.AppendUint64(b, r.Cut)
	return numbers(b, r.Nums)
}

// Kind returns KindRedrive.
func (r *Redrive) Kind() Kind { return KindRedrive }

// Append implements Record.
func (r *Redrive) Append(b []byte) []byte {
	b = head(b, KindRedrive, r.Head)
	b = le.AppendUint64(b, r.Num)
	b = le.AppendUint32(b, r.To)
	b = le.AppendUint64(b, r.Seq)
	b = append(b, r.ID[:]...)
	b = le.AppendUint64(b, r.At)
	b = le.AppendUint32(b, r.Size)
	b = le.AppendUint32(b, r.Attempts)
	b = le.AppendUint64(b, uint64(r.First))
	b = le.AppendUint64(b, r.Key)
	return AppendEvents(b, r.History)
}

// Kind returns KindRedriveJob.
func (r *RedriveJob) Kind() Kind { return KindRedriveJob }

// Append implements Record.
func (r *RedriveJob) Append(b []byte) []byte {
	b = head(b, KindRedriveJob, r.Head)
	b = append(b, r.ID[:]...)
	b = append(b, byte(r.State))
	b = flag(b, r.DryRun)
	b = le.AppendUint32(b, r.To)
	for _, n := range []int64{r.PerSecond, r.Started, r.Ended, int64(r.Next), int64(r.Last), r.Matched, r.Moved, r.Failed} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = append(b, byte(r.Filter.Why))
	b = le.AppendUint64(b, uint64(r.Filter.After))
	b = le.AppendUint64(b, uint64(r.Filter.Before))
	b = le.AppendUint16(b, uint16(len(r.Filter.IDs)))
	for _, id := range r.Filter.IDs {
		b = append(b, id[:]...)
	}
	return b
}

// Kind returns KindMove.
func (r *Move) Kind() Kind { return KindMove }

// Append implements Record.
func (r *Move) Append(b []byte) []byte {
	b = head(b, KindMove, r.Head)
	b = le.AppendUint64(b, r.Seq)
	b = le.AppendUint64(b, r.Num)
	b = le.AppendUint32(b, uint32(len(r.Send)))
	return append(b, r.Send...)
}

// Len returns the length of the encoding.
func (r *Move) Len() int { return headBytes + 8 + 8 + 4 + len(r.Send) }

// Kind returns KindRemember.
func (r *Remember) Kind() Kind { return KindRemember }

// Append implements Record.
func (r *Remember) Append(b []byte) []byte {
	b = head(b, KindRemember, r.Head)
	b = le.AppendUint64(b, r.Old)
	b = le.AppendUint64(b, uint64(r.Sent))
	b = append(b, r.ID[:]...)
	b = append(b, r.Request[:]...)
	return short(b, r.Idem)
}

// Kind returns KindTick.
func (r *Tick) Kind() Kind { return KindTick }

// Append implements Record.
func (r *Tick) Append(b []byte) []byte { return head(b, KindTick, r.Head) }
