// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

var (
	h    = Head{Now: 0x1122334455, Topic: 7}
	ref1 = TopicRef{Tenant: macronode.TenantID{1, 2}, Name: "a.b-c_9"}
)

// samples has each kind, with everything in it.
func samples() []Record {
	items := []Item{{1, 2}, {3, 4}}
	events := []Event{{At: 5, Attempt: 1, Reason: []byte("no")}, {At: 6, Attempt: 2, Lapsed: true, Reason: []byte{}}}
	return []Record{
		&Send{Head: h, Seq: 9, ID: ID{1}, Ref: ref1, Wall: -5, NotBefore: 10, Expire: 11, Request: [32]byte{2}, Hash: [32]byte{3},
			Key: []byte("key"), Idem: []byte("idem"), Corr: []byte("corr"), Attrs: []Attr{{[]byte("n"), []byte("v")}}, Payload: []byte("payload")},
		&Lease{Head: h, Until: 12, Items: items},
		&Ack{Head: h, Items: items},
		&Nack{Head: h, Reason: []byte("why"), Items: []NackItem{{Item{1, 2}, 3}}},
		&Extend{Head: h, Until: 13, Items: items},
		&Dead{Head: h, Seq: 1, ID: ID{2}, Why: WhyIntegrity, Into: 7, At: 99, Size: 100, Attempts: 3, Base: 1, First: 4, Key: 5, Detail: []byte("d"), History: events},
		&Expire{Head: h, Cut: 4, Seqs: []uint64{5, 6}},
		&TopicPut{Head: h, Ref: ref1, Config: Config{Retention: time.Hour, DeadRetention: 2 * time.Hour, ReplayWindow: 3 * time.Hour, Visibility: time.Minute,
			MaxAttempts: 1, MaxDepth: 2, MaxBytes: 3, MaxInFlight: 4, MaxKeys: 5, DLQ: "other", Ordered: true, KeepExpired: true, MaxAge: time.Minute}},
		&TopicDelete{Head: h},
		&Purge{Head: h, Before: 77},
		&DeadDelete{Head: h, Expired: true, Cut: 3, Nums: []uint64{4}},
		&Redrive{Head: h, Num: 1, To: 8, Seq: 2, ID: ID{3}, At: 4, Size: 5, Attempts: 6, First: 7, Key: 8, History: events},
		&RedriveJob{Head: h, ID: ID{1}, State: JobStopped, DryRun: true, To: 9, PerSecond: 1, Started: 2, Ended: 3, Next: 4, Last: 5, Matched: 6, Moved: 7, Failed: 8,
			Filter: DeadFilter{Why: WhyExpired, After: 1, Before: 2, IDs: []ID{{4}, {5}}}},
		&Move{Head: h, Seq: 1, Send: []byte("bytes")},
		&Remember{Head: h, Old: 5, Sent: 6, ID: ID{7}, Request: [32]byte{8}, Idem: []byte("i")},
		&Tick{Head: Head{Now: 3}},
		&Lease{Head: h, Until: 12, Owner: 1 << 60, Items: items},
	}
}

// TestRoundTrip: each kind is what it was, field by field.
func TestRoundTrip(t *testing.T) {
	kinds := map[Kind]bool{}
	var d Decoder
	for _, r := range samples() {
		kinds[r.Kind()] = true
		b := r.Append(nil)
		for _, decode := range []func([]byte) (Record, error){Decode, d.Decode, d.Decode} {
			back, err := decode(b)
			if err != nil {
				t.Errorf("%T: %v", r, err)
			} else if !reflect.DeepEqual(back, r) {
				t.Errorf("%T: %+v is read as %+v", r, r, back)
			}
		}
		for n := range b {
			if _, err := Decode(b[:n]); !errors.Is(err, ErrMalformed) {
				if _, open := r.(*Send); !open {
					t.Errorf("%T cut to %d of %d bytes: %v", r, n, len(b), err)
				}
			}
		}
		if _, err := Decode(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T and a byte: %v", r, err)
		}
		b[0] = Version + 1
		if _, err := Decode(b); !errors.Is(err, ErrVersion) {
			t.Errorf("%T of the next version: %v", r, err)
		}
	}
	if len(kinds) != int(numKinds)-1 {
		t.Errorf("%d kinds of %d", len(kinds), numKinds-1)
	}
}

// TestForm: the bytes on disk do not change.
func TestForm(t *testing.T) {
	for want, r := range map[string]Record{
		"0102554433221100000007000000" + "0c00000000000000" + "0200" + "0100000000000000" + "0200000000000000" + "0300000000000000" + "0400000000000000":                      samples()[1],
		"0104554433221100000007000000" + "0300776879" + "0100" + "0100000000000000" + "0200000000000000" + "0300000000000000":                                                 samples()[3],
		"0111554433221100000007000000" + "0c00000000000000" + "0000000000000010" + "0200" + "0100000000000000" + "0200000000000000" + "0300000000000000" + "0400000000000000": samples()[16],
		"0110130000000000000000000000": &Tick{Head: Head{Now: 0x13}},
	} {
		if got := hex.EncodeToString(r.Append(nil)); got != want {
			t.Errorf("%T is\n%s, it was\n%s", r, got, want)
		}
	}
	s := samples()[0].(*Send)
	b := s.AppendHead(nil)
	if s.Len() != len(b)+len(s.Payload) || !bytes.Equal(append(b, s.Payload...), s.Append(nil)) {
		t.Error("a Send is not its head and its payload")
	}
	if m := samples()[13].(*Move); m.Len() != len(m.Append(nil)) {
		t.Error("the length of a Move")
	}
}

// TestLimits: what is over a limit does not decode, and what is at it does.
func TestLimits(t *testing.T) {
	send := func(change func(s *Send)) Record {
		s := samples()[0].(*Send)
		change(s)
		return s
	}
	fill := func(n int) []byte { return bytes.Repeat([]byte("x"), n) }
	attrs := func(n int) (s []Attr) {
		for range n {
			s = append(s, Attr{fill(MaxAttrName), fill(MaxAttrValue)})
		}
		return s
	}
	many := func(n int) []Item { return make([]Item, n) }
	for name, c := range map[string]struct {
		r  Record
		ok bool
	}{
		"key":            {send(func(s *Send) { s.Key = fill(MaxKeyBytes) }), true},
		"key+":           {send(func(s *Send) { s.Key = fill(MaxKeyBytes + 1) }), false},
		"idem":           {send(func(s *Send) { s.Idem = fill(MaxIdemBytes) }), true},
		"idem+":          {send(func(s *Send) { s.Idem = fill(MaxIdemBytes + 1) }), false},
		"corr+":          {send(func(s *Send) { s.Corr = fill(MaxCorrBytes + 1) }), false},
		"attrs":          {send(func(s *Send) { s.Attrs = attrs(MaxAttrs) }), true},
		"attrs+":         {send(func(s *Send) { s.Attrs = attrs(MaxAttrs + 1) }), false},
		"no name":        {send(func(s *Send) { s.Attrs = []Attr{{nil, []byte("v")}} }), false},
		"name+":          {send(func(s *Send) { s.Attrs = []Attr{{fill(MaxAttrName + 1), nil}} }), false},
		"value+":         {send(func(s *Send) { s.Attrs = []Attr{{fill(1), fill(MaxAttrValue + 1)}} }), false},
		"payload":        {send(func(s *Send) { s.Payload = fill(MaxPayload) }), true},
		"payload+":       {send(func(s *Send) { s.Payload = fill(MaxPayload + 1) }), false},
		"no seq":         {send(func(s *Send) { s.Seq = 0 }), false},
		"no topic":       {send(func(s *Send) { s.Topic = 0 }), false},
		"topic name":     {send(func(s *Send) { s.Ref.Name = "A" }), false},
		"topic name+":    {send(func(s *Send) { s.Ref.Name = strings.Repeat("a", MaxTopicBytes+1) }), false},
		"before":         {send(func(s *Send) { s.NotBefore = -1 }), false},
		"items":          {&Ack{Head: h, Items: many(MaxItems)}, true},
		"items+":         {&Ack{Head: h, Items: many(MaxItems + 1)}, false},
		"events+":        {&Dead{Head: h, Seq: 1, Why: WhyExpired, Into: 1, History: make([]Event, MaxEvents+1)}, false},
		"no why":         {&Dead{Head: h, Seq: 1, Into: 1}, false},
		"tick of topic":  {&Tick{Head: h}, false},
		"move of both":   {&Move{Head: h, Seq: 1, Num: 1}, false},
		"move of none":   {&Move{Head: h}, false},
		"config":         {&TopicPut{Head: h, Ref: ref1}, false},
		"job ids+":       {&RedriveJob{Head: h, Filter: DeadFilter{IDs: make([]ID, MaxJobIDs+1)}}, false},
		"redrive to":     {&Redrive{Head: h, Num: 1, Seq: 1}, false},
		"reason+":        {&Nack{Head: h, Reason: fill(MaxReasonBytes + 1)}, false},
		"deleted twice?": {&DeadDelete{Head: h}, true},
	} {
		b := c.r.Append(nil)
		if _, err := Decode(b); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValidate(t *testing.T) {
	good := *samples()[7].(*TopicPut)
	if err := good.Config.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"retention": func(c *Config) { c.Retention = 0 }, "dead-letter retention": func(c *Config) { c.DeadRetention = MaxRetention + time.Millisecond },
		"replay window": func(c *Config) { c.ReplayWindow = time.Hour + time.Microsecond }, "visibility": func(c *Config) { c.Visibility = MaxLease + 1 },
		"max attempts": func(c *Config) { c.MaxAttempts = 0 }, "max depth": func(c *Config) { c.MaxDepth = -1 }, "max bytes": func(c *Config) { c.MaxBytes = 0 },
		"max in flight": func(c *Config) { c.MaxInFlight = 0 }, "max keys": func(c *Config) { c.MaxKeys = maxCount + 1 }, "dead-letter target": func(c *Config) { c.DLQ = ".a" },
	} {
		c := good.Config
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCutReason(t *testing.T) {
	for _, c := range []struct{ in, out string }{{"abc", "abc"}, {"abcdef", "abcd"}, {"abcé", "abc"}, {"ab€€", "ab"}, {"\x80\x80\x80\x80\x80", ""}} {
		if got := string(CutReason([]byte(c.in), 4)); got != c.out {
			t.Errorf("%q is cut to %q, want %q", c.in, got, c.out)
		}
	}
}

func TestWhy(t *testing.T) {
	for w := WhyMaxAttempts; w < numWhy; w++ {
		if back, ok := ParseWhy(w.String()); !ok || back != w {
			t.Errorf("%v", w)
		}
	}
	if _, ok := ParseWhy(""); ok || Why(200).String() != "unknown" {
		t.Error("what is no reason")
	}
}

// FuzzDecode: what decodes, encodes to the same bytes, and nothing that does
// not fit in the input is made room for.
func FuzzDecode(f *testing.F) {
	for _, r := range samples() {
		f.Add(r.Append(nil))
	}
	var d Decoder
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := d.Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Fatal(err)
			}
			return
		}
		if back := r.Append(nil); !bytes.Equal(back, b) {
			t.Fatalf("%T: %x becomes %x", r, b, back)
		}
		Judge(r, []byte("idem"), new([32]byte))
	})
}

// TestNothingBeforeItIsThere: a count of ten thousand without the things costs no memory.
func TestNothingBeforeItIsThere(t *testing.T) {
	b := (&Ack{Head: h}).Append(nil)
	b[len(b)-2], b[len(b)-1] = MaxItems&0xff, MaxItems>>8
	var d Decoder
	if _, err := d.Decode(b); err == nil || cap(d.ack.Items) > 0 {
		t.Errorf("room for %d items, %v", cap(d.ack.Items), err)
	}
}

// TestJudge: the key is compared, not its fingerprint; a Move speaks for the message in it.
func TestJudge(t *testing.T) {
	send := samples()[0].(*Send)
	request := [32]byte{2}
	for name, c := range map[string]struct {
		r       Record
		key     string
		request [32]byte
		want    Verdict
	}{
		"same":          {send, "idem", request, Duplicate},
		"other request": {send, "idem", [32]byte{}, Mismatch},
		"other key":     {send, "meid", request, Unrelated},
		"no key":        {&Send{Head: h}, "", [32]byte{}, Unrelated},
		"moved":         {&Move{Head: h, Seq: 1, Send: send.Append(nil)}, "idem", request, Duplicate},
		"moved badly":   {samples()[13], "idem", request, Unrelated},
		"moved other":   {&Move{Head: h, Seq: 1, Send: (&Tick{}).Append(nil)}, "idem", request, Unrelated},
		"remembered":    {&Remember{ID: send.ID, Request: request, Idem: []byte("idem")}, "idem", request, Duplicate},
		"something":     {&Tick{}, "idem", request, Unrelated},
	} {
		got, id := Judge(c.r, []byte(c.key), &c.request)
		if got != c.want || (got != Unrelated) != (id == send.ID) {
			t.Errorf("%s: %v %v", name, got, id)
		}
	}
}
