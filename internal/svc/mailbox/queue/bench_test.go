// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// filled is a topic with n messages of 1 KiB, as if from a log of segments of 64 MiB.
func filled(tb testing.TB, n int, fill func(s *record.Send)) (*Topic, uint64) {
	cfg := testConfig()
	cfg.MaxDepth, cfg.MaxBytes, cfg.MaxInFlight, cfg.MaxKeys = 1<<40, 1<<40, 1<<40, 1<<40
	t, err := New(&record.TopicPut{Head: record.Head{Now: 1, Topic: 7}, Ref: testRef, Config: cfg}, 8)
	if err != nil {
		tb.Fatal(err)
	}
	s := &record.Send{Head: record.Head{Topic: 7}, Ref: testRef, Payload: make([]byte, 1024)}
	at := uint64(1) << 32
	var e Effect
	for i := range n {
		s.Now, s.Seq = Time(1+i/50), uint64(i+1)
		if fill != nil {
			fill(s)
		}
		if at += 1280; uint32(at) > 64<<20 {
			at = (at>>32 + 1) << 32
		}
		if err := t.Apply(s, at, &e); err != nil {
			tb.Fatal(err)
		}
		e.Reset()
	}
	return t, at
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestBytesAMessage: what a waiting message costs in memory.
func TestBytesAMessage(t *testing.T) {
	const n = 300_000
	for _, c := range []struct {
		name string
		most float64
		fill func(s *record.Send)
	}{
		{"plain", 16, nil},
		{"with a TTL", 180, func(s *record.Send) { s.Expire = s.Now.Add(30 * time.Minute) }},
		{"with an idempotency key", 64, func(s *record.Send) { s.Idem = fmt.Appendf(s.Idem[:0], "key %d", s.Seq) }},
	} {
		before := heap()
		topic, _ := filled(t, n, c.fill)
		each := float64(heap()-before) / n
		if each > c.most {
			t.Errorf("%s: %.1f bytes a message, at most %.0f are promised", c.name, each, c.most)
		}
		t.Logf("%s: %.1f bytes a message", c.name, each)
		runtime.KeepAlive(topic)
	}
}

// BenchmarkTenMillion is ten million waiting messages: memory, the time under
// the lock for a snapshot, the time to write and to read it.
func BenchmarkTenMillion(b *testing.B) {
	const n = 10_000_000
	for range b.N {
		before := heap()
		start := time.Now()
		topic, at := filled(b, n, nil)
		b.ReportMetric(float64(time.Since(start))/n, "ns/send")
		b.ReportMetric(float64(heap()-before)/n, "B/message")
		start = time.Now()
		s := topic.Freeze()
		b.ReportMetric(float64(time.Since(start).Microseconds()), "µs-locked")
		var first time.Duration
		var e Effect
		for lease := uint64(1); lease <= 1000; lease++ { // what the copies cost that follow
			begin := time.Now()
			c := topic.Receivable(topic.latest, 1, 0, nil)
			at += 64
			if err := topic.Apply(&record.Lease{Head: record.Head{Now: topic.latest, Topic: 7}, Until: topic.latest + 1000, Items: []record.Item{{Seq: c[0].Seq, Lease: lease}}}, at, &e); err != nil {
				b.Fatal(err)
			}
			first = max(first, time.Since(begin))
		}
		b.ReportMetric(float64(first.Microseconds()), "µs-first-after")
		var file bytes.Buffer
		file.Grow(150 << 20)
		start = time.Now()
		if err := s.Write(&file); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-write")
		b.ReportMetric(float64(file.Len())/n, "B/message-stored")
		topic, s = nil, nil
		runtime.GC()
		start = time.Now()
		back, err := Restore(&file)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-restore")
		start = time.Now()
		var held int64
		back.Segments(func(f Freed) { held += f.Messages })
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-segments")
		if n := back.Counts(back.latest); n.Ready != 10_000_000 || held != n.Ready {
			b.Fatalf("%+v", n)
		}
		start = time.Now()
		if err := back.Apply(&record.Purge{Head: record.Head{Now: back.latest, Topic: 7}, Before: back.NextSeq()}, at+64, &e); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-purge")
	}
}

// BenchmarkCycle is a message's way: sent, found, leased, acked. Batches share
// the records of their leases and acks; behind it, others wait or not.
func BenchmarkCycle(b *testing.B) {
	for _, batch := range []int{1, 100} {
		for _, waiting := range []int{0, 1_000_000} {
			b.Run(fmt.Sprintf("batch=%d/waiting=%d", batch, waiting), func(b *testing.B) {
				topic, at := filled(b, waiting, nil)
				cycle(b, topic, at, batch, nil)
			})
		}
	}
	b.Run("batch=100/keyed", func(b *testing.B) {
		topic, at := filled(b, 0, nil)
		var key [8]byte
		cycle(b, topic, at, 100, func(s *record.Send) {
			le.PutUint64(key[:], s.Seq%1000)
			s.Key = key[:]
		})
	})
}

func cycle(b *testing.B, topic *Topic, at uint64, batch int, fill func(s *record.Send)) {
	s := &record.Send{Head: record.Head{Topic: 7}, Ref: testRef, Payload: make([]byte, 1024)}
	lease := &record.Lease{Head: record.Head{Topic: 7}}
	ack := &record.Ack{Head: record.Head{Topic: 7}}
	var e Effect
	var found []Candidate
	number := uint64(0)
	now := topic.latest
	apply := func(r Record) {
		at += 1280
		if uint32(at) > 64<<20 {
			at = (at>>32 + 1) << 32
		}
		if err := topic.Apply(r, at, &e); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		now++
		e.Reset()
		s.Now, lease.Now, ack.Now, lease.Until = now, now, now, now+30_000
		for range batch {
			if s.Seq = topic.NextSeq(); fill != nil {
				fill(s)
			}
			apply(s)
		}
		found = topic.Receivable(now, batch, 1<<40, found[:0])
		lease.Items = lease.Items[:0]
		for _, c := range found {
			number++
			lease.Items = append(lease.Items, record.Item{Seq: c.Seq, Lease: number})
		}
		apply(lease)
		for _, i := range lease.Items {
			if _, err := topic.CheckLease(now, i.Seq, i.Lease); err != nil {
				b.Fatal(err)
			}
		}
		ack.Items = lease.Items
		apply(ack)
	}
	if e.Acked == 0 {
		b.Fatal("nothing was acked")
	}
}
