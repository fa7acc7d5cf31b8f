// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package announce

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

func tenant(n byte) macronode.TenantID { return macronode.TenantID{0: 1, 15: n} }

func addr(n int) b3.Addr { return b3.Sum(binary.BigEndian.AppendUint32(nil, uint32(n))) }

const hexA = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func secretsOf(t testing.TB, text string) *Secrets {
	t.Helper()
	s, err := ParseSecrets([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecrets(t *testing.T) {
	hexB := strings.Repeat("ab", 31) + "cd"
	one := tenant(1).String()
	for text, want := range map[string]string{
		"* " + hexA: "",
		"# a\n\n" + one + "\t" + hexB + "\n* " + hexA: "",
		"":                              "there is none",
		"# nothing\n":                   "there is none",
		"*":                             "line 1",
		"* " + hexA[2:]:                 "line 1",
		"* " + hexA[2:] + "zz":          "not 64 hex digits",
		"* " + strings.Repeat("00", 32): "repeated",
		"* " + hexA + " x":              "line 1",
		"* " + hexA + "\n* " + hexB:     "line 2",
		one + " " + hexA + "\n" + one + " " + hexB: "line 2",
		"acme " + hexA:                        "not a ULID",
		strings.Repeat("#", MaxSecretBytes+1): "more than",
	} {
		_, err := ParseSecrets([]byte(text))
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), hexA[2:20]) {
			t.Errorf("%.40q: the error shows a secret", text)
		}
	}
}

func TestKeys(t *testing.T) {
	every := secretsOf(t, "* "+hexA)
	own := secretsOf(t, tenant(1).String()+" "+hexA)
	a1, ok1 := every.Key(tenant(1))
	a2, ok2 := every.Key(tenant(2))
	o1, ok3 := own.Key(tenant(1))
	if !ok1 || !ok2 || !ok3 || a1 == a2 || a1 != o1 {
		t.Error("a tenant's key depends on its secret and its id, and on nothing else")
	}
	for _, s := range []*Secrets{own, nil} {
		if _, ok := s.Key(tenant(2)); ok {
			t.Error("a tenant without a secret has a key")
		}
	}
	if _, ok := every.Key(macronode.TenantID{}); ok {
		t.Error("no tenant has a key")
	}
	if a1.Tag(addr(1)) == a2.Tag(addr(1)) || a1.Tag(addr(1)) == a1.Tag(addr(2)) {
		t.Error("a tag is of one tenant and one address")
	}
	base := a1.Proof("x", "y", addr(1))
	for what, p := range map[string]Proof{
		"tenant": a2.Proof("x", "y", addr(1)), "direction": a1.Proof("y", "x", addr(1)), "address": a1.Proof("x", "y", addr(2)),
		"border": a1.Proof("xy", "", addr(1)), "asker": a1.Proof("z", "y", addr(1)), "holder": a1.Proof("x", "z", addr(1)),
	} {
		if p.Equal(&base) {
			t.Errorf("a proof holds for another %s", what)
		}
	}
	if again := a1.Proof("x", "y", addr(1)); !again.Equal(&base) {
		t.Error("a proof does not equal itself")
	}
}

// next returns the message that waits.
func next(t testing.TB, b *Book) []byte {
	t.Helper()
	m, err := b.Next(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Another node knows what is announced, whatever messages get lost, come twice or
// late, and whenever summaries are taken.
func TestKnownFollowsBook(t *testing.T) {
	s := secretsOf(t, "* "+hexA)
	rapid.Check(t, func(t *rapid.T) {
		b, k := NewBook(s, rapid.SampledFrom([]int{5, 40, 0}).Draw(t, "max")), NewKnown(time.Hour, nil)
		var queue [][]byte
		var summary []byte
		var asked uint64
		stale := true
		k.Join("a")
		take := func() {
			for more := true; more; {
				var m []byte
				if m, more = b.take(); m != nil {
					queue = append(queue, m)
				}
			}
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2:
				b.Stored(tenant(byte(rapid.IntRange(1, 3).Draw(t, "tenant"))), addr(rapid.IntRange(0, 30).Draw(t, "addr")))
			case 3, 4:
				b.Dropped(tenant(byte(rapid.IntRange(1, 3).Draw(t, "tenant"))), addr(rapid.IntRange(0, 30).Draw(t, "addr")))
			case 5:
				take()
			case 6, 7:
				take()
				if len(queue) > 0 {
					i := rapid.IntRange(0, len(queue)-1).Draw(t, "message")
					late, err := k.Heard("a", queue[i])
					if err != nil {
						t.Fatal(err)
					}
					stale = stale || late
					if rapid.Bool().Draw(t, "once") {
						queue = append(queue[:i:i], queue[i+1:]...)
					}
				}
			case 8:
				if n := k.Ask("a"); n != 0 {
					asked = n
					var buf bytes.Buffer
					if _, err := b.Summary().WriteTo(&buf); err != nil {
						t.Fatal(err)
					}
					summary = buf.Bytes()
				}
			case 9:
				if summary != nil {
					late, err := k.Answered("a", asked, bytes.NewReader(summary), nil)
					if err != nil {
						t.Fatal(err)
					}
					stale, summary = late, nil
				}
			}
		}
		// All that is on its way arrives; who knows that it missed something asks.
		take()
		if summary != nil {
			stale, _ = k.Answered("a", asked, bytes.NewReader(summary), nil)
		}
		for _, m := range queue {
			late, _ := k.Heard("a", m)
			stale = stale || late
		}
		// An empty change shows a gap to who does not know of it yet.
		b.Stored(tenant(1), addr(1000))
		take()
		late, _ := k.Heard("a", queue[len(queue)-1])
		if stale || late {
			asked := k.Ask("a")
			var buf bytes.Buffer
			if _, err := b.Summary().WriteTo(&buf); err != nil {
				t.Fatal(err)
			}
			if again, err := k.Answered("a", asked, &buf, nil); again || err != nil {
				t.Fatal(again, err)
			}
		}
		if b.Len() != k.Len() {
			t.Fatalf("%d are announced, %d known", b.Len(), k.Len())
		}
		for n := byte(1); n <= 3; n++ {
			key, _ := s.Key(tenant(n))
			for i := range 31 {
				tag := key.Tag(addr(i))
				_, there := b.shelves[tenant(n)]
				if there {
					_, there = b.shelves[tenant(n)].tags[tag]
				}
				if known := len(k.Holders(tag)) > 0; known != there {
					t.Fatalf("tenant %d, object %d: announced %v, known %v", n, i, there, known)
				}
			}
		}
	})
}

func TestBookIsBoundedFairly(t *testing.T) {
	s := secretsOf(t, "* "+hexA)
	b := NewBook(s, 100)
	for i := range 10 {
		b.Stored(tenant(2), addr(i))
	}
	for i := range 5000 {
		b.Stored(tenant(1), addr(i))
	}
	key1, _ := s.Key(tenant(1))
	if b.Len() != 100 || len(b.shelves[tenant(2)].tags) != 10 {
		t.Errorf("%d announced, %d of the small tenant", b.Len(), len(b.shelves[tenant(2)].tags))
	}
	if _, newest := b.shelves[tenant(1)].tags[key1.Tag(addr(4999))]; !newest {
		t.Error("the newest is not announced")
	}
	if len(b.pending) > maxPending {
		t.Errorf("%d changes wait", len(b.pending))
	}
	for i := range 5000 {
		b.Stored(tenant(3), addr(i%7))
		b.Dropped(tenant(3), addr(i%7))
	}
	if b.shelves[tenant(3)] != nil {
		t.Error("a tenant without objects keeps a place")
	}
	for i := range 10_000 {
		b.Stored(tenant(2), addr(i%20))
		b.Dropped(tenant(2), addr((i+3)%20))
	}
	if q := b.shelves[tenant(2)].queue; len(q) > 2*100+64 {
		t.Errorf("a queue of %d for %d objects", len(q), len(b.shelves[tenant(2)].tags))
	}
}

// Without a secret nothing is announced, and nothing shows that something is stored.
func TestBookWithoutSecrets(t *testing.T) {
	for _, s := range []*Secrets{nil, secretsOf(t, tenant(9).String()+" "+hexA)} {
		b := NewBook(s, 0)
		b.Stored(tenant(1), addr(1))
		if m, _ := b.take(); m != nil || b.Len() != 0 {
			t.Error("an object of a tenant without a secret is announced")
		}
	}
}

func TestRebuild(t *testing.T) {
	s := secretsOf(t, "* "+hexA)
	b := NewBook(s, 0)
	b.Stored(tenant(1), addr(1))
	b.Stored(tenant(1), addr(2))
	next(t, b)
	epoch := b.epoch
	each := func(list ...int) func(func(macronode.TenantID, b3.Addr) bool) error {
		return func(put func(macronode.TenantID, b3.Addr) bool) error {
			for i, n := range list {
				if put(tenant(1), addr(n)); i == 0 {
					b.Stored(tenant(1), addr(50)) // amid the look
					b.Dropped(tenant(1), addr(list[len(list)-1]))
					b.Stored(tenant(1), addr(list[len(list)-1]))
				}
			}
			return nil
		}
	}
	if err := b.Rebuild(s, each(1, 2)); err != nil || b.epoch != epoch || b.Len() != 3 {
		t.Errorf("%v, %d announced, a new epoch for nothing: %v", err, b.Len(), b.epoch != epoch)
	}
	if err := b.Rebuild(s, each(1, 7)); err != nil || b.epoch == epoch || b.Len() != 3 {
		t.Errorf("%v, %d announced", err, b.Len())
	}
	broken := errors.New("broken")
	if err := b.Rebuild(s, func(func(macronode.TenantID, b3.Addr) bool) error { return broken }); err != broken || b.Len() != 3 {
		t.Errorf("a look that fails changes the book: %v, %d", err, b.Len())
	}
	if err := b.Rebuild(nil, func(put func(macronode.TenantID, b3.Addr) bool) error { put(tenant(1), addr(1)); return nil }); err != nil || b.Len() != 0 {
		t.Errorf("without secrets: %v, %d announced", err, b.Len())
	}
}

func TestKnownForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := secretsOf(t, "* "+hexA)
		key, _ := s.Key(tenant(1))
		tag := key.Tag(addr(1))
		b := NewBook(s, 0)
		b.Stored(tenant(1), addr(1))
		k := NewKnown(time.Minute, nil)
		learn := func() {
			asked := k.Ask("a")
			var buf bytes.Buffer
			_, _ = b.Summary().WriteTo(&buf)
			if _, err := k.Answered("a", asked, &buf, nil); err != nil {
				t.Fatal(err)
			}
		}
		learn() // not joined
		if len(k.Holders(tag)) != 0 {
			t.Error("a stranger is listened to")
		}
		k.Join("a")
		learn()
		if got := fmt.Sprint(k.Holders(tag)); got != "[a]" {
			t.Errorf("holders %s", got)
		}
		<-time.After(2 * time.Minute) // of the bubble's clock
		if len(k.Holders(tag)) != 0 {
			t.Error("an announcement that nobody confirmed still counts")
		}
		learn()
		k.Disown("a", tag)
		if len(k.Holders(tag)) != 0 {
			t.Error("what the holder disowned still counts")
		}
		asked := k.Ask("a")
		var buf bytes.Buffer
		_, _ = b.Summary().WriteTo(&buf)
		k.Disown("a", tag)
		if _, err := k.Answered("a", asked, &buf, nil); err != nil || len(k.Holders(tag)) != 0 {
			t.Errorf("a summary from before brings back what was disowned: %v", err)
		}
		learn()
		if len(k.Holders(tag)) != 1 {
			t.Error("a new announcement does not count")
		}
		k.Leave("a")
		if len(k.Holders(tag)) != 0 || k.Len() != 0 {
			t.Error("who left is still a holder")
		}
		// What was asked for before the node left says nothing of the session after.
		k.Join("a")
		early := k.Ask("a")
		k.Leave("a")
		k.Join("a")
		asked = k.Ask("a")
		if _, err := k.Answered("a", early, bytes.NewReader(nil), io.ErrUnexpectedEOF); err == nil {
			t.Error("a failure was swallowed")
		}
		if k.Ask("a") != 0 {
			t.Error("an answer of the session before ended the question of this one")
		}
		if _, err := k.Answered("a", asked, bytes.NewReader(summaryOf(t, b)), nil); err != nil || len(k.Holders(tag)) != 1 {
			t.Errorf("the answer of this session does not count: %v", err)
		}
	})
}

func TestBookOverflow(t *testing.T) {
	b := NewBook(secretsOf(t, "* "+hexA), 0)
	k := NewKnown(time.Hour, nil)
	k.Join("a")
	if _, err := k.Answered("a", k.Ask("a"), bytes.NewReader(summaryOf(t, b)), nil); err != nil {
		t.Fatal(err)
	}
	for i := range maxPending + 1 {
		b.Stored(tenant(1), addr(i))
	}
	if stale, err := k.Heard("a", next(t, b)); err != nil || !stale {
		t.Errorf("more changes than can wait, and the other does not know: %v %v", stale, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Next(ctx, 0); err == nil {
		t.Error("there is nothing left to tell")
	}
}

func summaryOf(t testing.TB, b *Book) []byte {
	t.Helper()
	var buf bytes.Buffer
	s := b.Summary()
	if n, err := s.WriteTo(&buf); err != nil || n != s.Bytes() || n != int64(buf.Len()) {
		t.Fatalf("%d bytes of %d: %v", n, s.Bytes(), err)
	}
	return buf.Bytes()
}

func TestSummaryForms(t *testing.T) {
	b := NewBook(secretsOf(t, "* "+hexA), 0)
	for i := range 10_000 {
		b.Stored(tenant(1), addr(i))
	}
	good := summaryOf(t, b)
	if s, err := readSummary(bytes.NewReader(good)); err != nil || len(s.tags) != 10_000 {
		t.Fatal(err)
	}
	many := append([]byte(nil), good[:summaryHead]...)
	binary.BigEndian.PutUint32(many[17:], MaxTags+1)
	version := append([]byte(nil), good...)
	version[0]++
	for what, bad := range map[string][]byte{
		"nothing": nil, "half": good[:len(good)/2], "a byte less": good[:len(good)-1], "a byte more": append(bytes.Clone(good), 0),
		"too many": many, "version": version,
	} {
		if _, err := readSummary(bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if _, err := readSummary(bytes.NewReader(many)); !errors.Is(err, errForm) {
		t.Errorf("more than may be announced is read: %v", err)
	}
	broken := errors.New("broken")
	if _, err := readSummary(io.MultiReader(bytes.NewReader(good), errReader{broken})); err != broken {
		t.Errorf("a summary that broke off: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzMessage(f *testing.F) {
	m := message{epoch: 1, at: 2, changes: []change{{tag: 3}, {tag: 4, gone: true}}}
	f.Add(m.append(nil))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMessage(b); err == nil && !bytes.Equal(m.append(nil), b) {
			t.Error("read otherwise than written")
		}
	})
}

func FuzzSecrets(f *testing.F) {
	f.Add([]byte("* " + hexA))
	f.Add([]byte(tenant(1).String() + " " + hexA + "\n#\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSecrets(b); err == nil && s.every == nil && len(s.own) == 0 {
			t.Error("an empty document was taken")
		}
	})
}

func FuzzSummary(f *testing.F) {
	f.Add([]byte{1})
	f.Add((&Summary{epoch: 1, at: 2, tags: []Tag{3}}).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := readSummary(bytes.NewReader(b)); err == nil && !bytes.Equal(s.bytes(), b) {
			t.Error("read otherwise than written")
		}
	})
}

func (s *Summary) bytes() []byte {
	var buf bytes.Buffer
	_, _ = s.WriteTo(&buf)
	return buf.Bytes()
}
