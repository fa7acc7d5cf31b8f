// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package queue

import (
	"bytes"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/queue/record"
)

// rich is a topic with a bit of everything.
func rich() *world {
	w := newWorld(testConfig())
	for i := range 12 {
		_ = w.send(sending{key: []string{"", "a"}[i%2], idem: []string{"", string(rune('a' + i))}[i/6], delay: time.Duration(i%4) * time.Second, size: i * 10})
	}
	w.receive(3, 1<<20, time.Minute, 0)
	w.ack(w.receipts[0])
	w.nack(w.receipts[1], time.Hour/2)
	w.kill(w.live[2].seq, record.WhyRejected)
	w.kill(w.live[3].seq, record.WhyIntegrity)
	w.apply(&record.RedriveJob{Head: w.head(), ID: ID{1}, To: 7})
	return w
}

func stored(t *Topic) []byte {
	var b bytes.Buffer
	_ = t.Freeze().Write(&b)
	return b.Bytes()
}

// TestDamagedSnapshot: flipped bits and cuts everywhere is noticed.
func TestDamagedSnapshot(t *testing.T) {
	w := rich()
	whole := stored(w.t)
	if _, err := Restore(bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := i % 3; bit < 8; bit += 3 {
			b := bytes.Clone(whole)
			b[i] ^= 1 << bit
			if _, err := Restore(bytes.NewReader(b)); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("bit %d of byte %d of %d: %v", bit, i, len(whole), err)
			}
		}
		if _, err := Restore(bytes.NewReader(whole[:i])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d of %d: %v", i, len(whole), err)
		}
	}
	for name, b := range map[string][]byte{"a block missing": without(whole, blockChunk), "keys missing": without(whole, blockKeys), "letters missing": without(whole, blockLetters), "extras missing": without(whole, blockExtras)} {
		if _, err := Restore(bytes.NewReader(b)); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// without leaves out all blocks of a kind; what remains has its checksums.
func without(b []byte, kind byte) (out []byte) {
	for len(b) >= 9 {
		n := int(le.Uint32(b)) + 9
		if b[4] != kind {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// sealed gives each block of b the checksum that it should have, so that what
// is behind the checksums is tried.
func sealed(b []byte) []byte {
	out := bytes.Clone(b)
	for rest := out; len(rest) >= 9; {
		n := int(le.Uint32(rest))
		if n > len(rest)-9 {
			break
		}
		le.PutUint32(rest[n+5:], crc32.Checksum(rest[4:n+5], crc32.MakeTable(crc32.Castagnoli)))
		rest = rest[n+9:]
	}
	return out
}

// FuzzRestore: whatever is read as a snapshot is a topic that works, and that
// is the same when it is stored and read again.
func FuzzRestore(f *testing.F) {
	w := rich()
	f.Add(stored(w.t))
	f.Add(stored(newWorld(testConfig()).t))
	w.purge()
	f.Add(stored(w.t))
	f.Fuzz(func(t *testing.T, b []byte) {
		topic, err := restore(bytes.NewReader(sealed(b)), 1<<10)
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Fatal(err)
			}
			return
		}
		now := topic.latest
		was := dump(topic, now)
		again, err := thaw(topic.Freeze())
		if err != nil {
			t.Fatalf("what was read is not read again: %v", err)
		}
		if is := dump(again, now); is != was {
			t.Fatalf("read\n%s\nand again\n%s", was, is)
		}
		use(t, topic)
	})
}

// use does what a broker does.
func use(t *testing.T, topic *Topic) {
	var e Effect
	h := record.Head{Now: topic.latest, Topic: topic.num}
	at := topic.applied
	for i, c := range topic.Receivable(h.Now, 10, 1<<20, nil) {
		items := []record.Item{{Seq: c.Seq, Lease: topic.lease + 1}}
		for _, r := range []Record{&record.Lease{Head: h, Until: h.Now + 10, Items: items}, &record.Ack{Head: h, Items: items}} {
			at++
			if err := topic.Apply(r, at, &e); err != nil {
				t.Fatal(err)
			}
			if i%2 == 0 {
				break
			}
		}
	}
	d := topic.Due(h.Now+1<<40, 100)
	_ = topic.Apply(&record.Expire{Head: h, Cut: d.Cut, Seqs: d.Expired}, at+1, &e)
	topic.Peek(h.Now, 0, 100, nil)
	topic.Dead(&record.DeadFilter{}, 0, 100, nil)
	topic.Segments(func(Freed) {})
	if err := topic.Apply(&record.TopicDelete{Head: h}, at+2, &e); err != nil {
		t.Fatal(err)
	}
}

// TestFirstSnapshots: a snapshot of the first version, which knew no owners of leases,
// is read as well.
func TestFirstSnapshots(t *testing.T) {
	w := rich()
	var first []byte
	extras := 0
	for rest := stored(w.t); len(rest) >= 9; {
		n := int(le.Uint32(rest)) + 9
		b := bytes.Clone(rest[:n])
		rest = rest[n:]
		switch body := b[5 : n-4]; b[4] {
		case blockTopic:
			body[0] = 1
		case blockExtras:
			var short []byte
			for len(body) > 0 {
				size := extraBytes + int(le.Uint16(body[extraBytes-2:]))
				short = append(append(short, body[:24]...), body[32:size]...)
				body = body[size:]
				extras++
			}
			b = append(append(b[:5:5], short...), 0, 0, 0, 0)
			le.PutUint32(b, uint32(len(short)))
		}
		first = append(first, b...)
	}
	back, err := Restore(bytes.NewReader(sealed(first)))
	if err != nil || extras == 0 {
		t.Fatalf("%d extras: %v", extras, err)
	}
	for owner := range uint64(3) {
		was, is := w.t.Owned(w.now, owner, nil), back.Owned(w.now, owner, nil)
		if owner != 0 && len(is) != 0 || len(was) > 0 && owner == 0 && len(is) == 0 {
			t.Errorf("%d are owned by %d", len(is), owner)
		}
	}
	if was, is := w.t.Counts(w.now), back.Counts(w.now); was != is {
		t.Errorf("counts %+v, were %+v", is, was)
	}
}
