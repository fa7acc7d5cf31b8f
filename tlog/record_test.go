// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/gowebpki/jcs"
	"pgregory.net/rapid"

	"github.com/rustyonions/macronode/b3"
)

var update = flag.Bool("update", false, "rewrite golden files")

const writer = "b3:1111111111111111111111111111111111111111111111111111111111111111"

// golden is a log of two streams with everything that canonical JSON can get
// wrong.
func golden() []*Record {
	const tenant = "tenant/01ARZ3NDEKTSV4RRFFQ69G5FAV"
	rs := []*Record{
		{Stream: "node", Kind: "config.apply", Actor: "node", Subject: "node/", Attrs: Attrs{"version": int64(12), "bundle_hash": "blake3:00"}},
		{Stream: tenant, Kind: "refusal", Actor: "anonymous", Subject: "object/", Reason: "unauthenticated"},
		{Stream: tenant, Kind: "object.put", Actor: "cap:000102030405060708090a0b0c0d0e0f", Subject: "object/" + writer, Attrs: Attrs{"bytes": int64(MaxInteger), "neg": int64(-MaxInteger), "zero": int64(0)}},
		{Stream: "node", Kind: "escapes", Subject: "\x00\x01\b\t\n\v\f\r\x1f\"\\/\x7f\u0080\u2028\u2029<>&é😀", Attrs: Attrs{"": "", "\"": "q"}},
		{Stream: "node", Kind: "order", Attrs: Attrs{"\U0001F600": "surrogates d83d", "\ue000": "after them", "\ufb33": "and this", "a": "first", "\r": "controls first", "\U0001F601": "second"}},
		{Stream: "", Kind: "", Attrs: Attrs{}},
	}
	heads := map[string]b3.Addr{}
	for i, r := range rs {
		r.V, r.Writer, r.Seq, r.TSMilli = Version, writer, uint64(i), 1767225600000+int64(i)
		if _, err := r.Seal(heads[r.Stream]); err != nil {
			panic(err)
		}
		heads[r.Stream] = r.Hash
	}
	return rs
}

// TestGolden pins the format: these bytes, whose hashes b3sum confirms, never
// change.
func TestGolden(t *testing.T) {
	const file = "testdata/records.ndjson"
	var b bytes.Buffer
	for _, r := range golden() {
		e, err := r.Entry()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(e)
		b.WriteByte('\n')
	}
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("got\n%s\nwant\n%s", b.Bytes(), want)
	}
	c := Chain{Whole: true}
	for i, line := range bytes.Split(bytes.TrimSuffix(want, []byte("\n")), []byte("\n")) {
		r, err := Parse(line)
		if err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		if err := c.Add(r); err != nil {
			t.Fatalf("line %d: %v", i, err)
		}
		// The hash once more, by the letter of the format.
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "hash")
		bare, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if bare, err = jcs.Transform(bare); err != nil {
			t.Fatal(err)
		}
		if b3.Sum(bare) != r.Hash {
			t.Errorf("line %d: the hash is not of the canonical JSON without it", i)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good, err := golden()[2].Entry()
	if err != nil {
		t.Fatal(err)
	}
	sub := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the record has no %s", old)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	tests := map[string]struct {
		entry []byte
		err   error
	}{
		"good":             {good, nil},
		"empty":            {nil, ErrInvalid},
		"not JSON":         {[]byte("{"), ErrInvalid},
		"null":             {[]byte("null"), ErrInvalid},
		"array":            {[]byte("[]"), ErrInvalid},
		"two":              {append(bytes.Clone(good), good...), ErrInvalid},
		"newline":          {append(bytes.Clone(good), '\n'), ErrCanonical},
		"space":            {sub(`,"kind"`, `, "kind"`), ErrCanonical},
		"duplicate":        {sub(`"kind":`, `"kind":"object.put","kind":`), ErrCanonical},
		"unknown member":   {sub(`"kind":`, `"kinb":1,"kind":`), ErrInvalid},
		"missing member":   {sub(`"reason":"",`, ``), ErrCanonical},
		"upper-case name":  {sub(`"kind":`, `"KIND":`), ErrCanonical},
		"other order":      {sub(`"reason":"","seq":2`, `"seq":2,"reason":""`), ErrCanonical},
		"escaped slash":    {sub(`object/`, `object\/`), ErrCanonical},
		"escaped letter":   {sub(`object.put`, `\u006fbject.put`), ErrCanonical},
		"float":            {sub(`"zero":0`, `"zero":0.0`), ErrInvalid},
		"exponent":         {sub(`"zero":0`, `"zero":0e0`), ErrInvalid},
		"minus zero":       {sub(`"zero":0`, `"zero":-0`), ErrCanonical},
		"beyond 2^53":      {sub(`9007199254740991`, `9007199254740992`), ErrInvalid},
		"bool attribute":   {sub(`"zero":0`, `"zero":true`), ErrInvalid},
		"null attribute":   {sub(`"zero":0`, `"zero":null`), ErrInvalid},
		"nested attribute": {sub(`"zero":0`, `"zero":{}`), ErrInvalid},
		"attrs null":       {sub(`"attrs":{"bytes":9007199254740991,"neg":-9007199254740991,"zero":0}`, `"attrs":null`), ErrCanonical},
		"kind null":        {sub(`"kind":"object.put"`, `"kind":null`), ErrCanonical},
		"version 2":        {sub(`"v":1`, `"v":2`), ErrInvalid},
		"negative seq":     {sub(`"seq":2`, `"seq":-2`), ErrInvalid},
		"huge seq":         {sub(`"seq":2`, `"seq":9007199254740992`), ErrInvalid},
		"bad address":      {sub(`"prev":"b3:`, `"prev":"B3:`), ErrInvalid},
		"invalid UTF-8":    {sub(`object.put`, "object\xffput"), ErrCanonical},
		"lone surrogate":   {sub(`object.put`, `\ud800`), ErrCanonical},
		"other actor":      {sub(`cap:0001`, `cap:0002`), ErrHash},
		"other time":       {sub(`"ts_ms":17`, `"ts_ms":18`), ErrHash},
		"other prev":       {sub(`"prev":"b3:`+golden()[2].Prev.String()[3:6], `"prev":"b3:fff`), ErrHash},
		"too large":        {append(bytes.Clone(good), bytes.Repeat([]byte(" "), MaxRecordBytes)...), ErrTooLarge},
	}
	for name, tt := range tests {
		if _, err := Parse(tt.entry); !errors.Is(err, tt.err) || tt.err == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	big := map[string]any{}
	for _, c := range strings.Repeat("x", 3000) {
		big[strings.Repeat(string(c), len(big)+1)] = 1
		if len(big) == 1500 {
			break
		}
	}
	tests := map[string]struct {
		r   Record
		err error
	}{
		"no version":       {Record{}, ErrInvalid},
		"not UTF-8":        {Record{V: 1, Kind: "\xff"}, ErrInvalid},
		"key not UTF-8":    {Record{V: 1, Attrs: Attrs{"\xff": "x"}}, ErrInvalid},
		"float":            {Record{V: 1, Attrs: Attrs{"a": 1.5}}, ErrInvalid},
		"bool":             {Record{V: 1, Attrs: Attrs{"a": true}}, ErrInvalid},
		"nil":              {Record{V: 1, Attrs: Attrs{"a": nil}}, ErrInvalid},
		"large uint":       {Record{V: 1, Attrs: Attrs{"a": uint64(1) << 63}}, ErrInvalid},
		"large int":        {Record{V: 1, Attrs: Attrs{"a": MaxInteger + 1}}, ErrInvalid},
		"time":             {Record{V: 1, TSMilli: -MaxInteger - 1}, ErrInvalid},
		"seq":              {Record{V: 1, Seq: MaxInteger + 1}, ErrInvalid},
		"long text":        {Record{V: 1, Subject: strings.Repeat("x", 1<<20)}, ErrTooLarge},
		"long by escapes":  {Record{V: 1, Subject: strings.Repeat("\x01", 1000)}, ErrTooLarge},
		"many attributes":  {Record{V: 1, Attrs: big}, ErrTooLarge},
		"just over":        {Record{V: 1, Subject: strings.Repeat("x", room()+1)}, ErrTooLarge},
		"exactly the size": {Record{V: 1, Subject: strings.Repeat("x", room())}, nil},
	}
	for name, tt := range tests {
		e, err := tt.r.Seal(Genesis)
		if !errors.Is(err, tt.err) || tt.err == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
		if tt.err == nil && len(e) != MaxRecordBytes {
			t.Errorf("%s: %d bytes", name, len(e))
		}
	}
}

// room is how long a subject may be where all else is empty.
func room() int {
	e, err := (&Record{V: 1}).Entry()
	if err != nil {
		panic(err)
	}
	return MaxRecordBytes - len(e)
}

func TestChain(t *testing.T) {
	rs := golden()
	add := func(c *Chain, which ...int) error {
		for _, i := range which {
			if err := c.Add(rs[i]); err != nil {
				return err
			}
		}
		return nil
	}
	tests := map[string]struct {
		whole bool
		which []int
		err   error
	}{
		"whole":              {true, []int{0, 1, 2, 3, 4, 5}, nil},
		"whole with a gap":   {true, []int{0, 1, 3}, ErrChain},
		"whole from inside":  {true, []int{1}, ErrChain},
		"one stream":         {false, []int{1, 2}, nil},
		"other stream":       {false, []int{0, 3, 4}, nil},
		"broken stream":      {false, []int{0, 4}, ErrChain},
		"stream from inside": {false, []int{2}, ErrChain},
		"backwards":          {false, []int{1, 0}, ErrChain},
		"twice":              {false, []int{0, 0}, ErrChain},
	}
	for name, tt := range tests {
		if err := add(&Chain{Whole: tt.whole}, tt.which...); !errors.Is(err, tt.err) || tt.err == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
	}

	var c Chain
	c.Whole = true
	c.Resume(writer, 3, map[string]b3.Addr{"node": rs[0].Hash, rs[1].Stream: rs[2].Hash})
	if err := add(&c, 3, 4, 5); err != nil || c.Records() != 3 || c.Head("node") != rs[4].Hash || c.Head("nobody") != Genesis {
		t.Errorf("resumed: %v, %d records", err, c.Records())
	}

	changed := *rs[3]
	changed.Reason = "changed"
	if err := (&Chain{}).Add(&changed); !errors.Is(err, ErrHash) {
		t.Errorf("a changed record: %v", err)
	}
	foreign := *rs[3]
	foreign.Writer = "b3:2"
	if _, err := foreign.Seal(rs[0].Hash); err != nil {
		t.Fatal(err)
	}
	c = Chain{}
	if err := add(&c, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(&foreign); !errors.Is(err, ErrChain) {
		t.Errorf("a record of another writer: %v", err)
	}
	if err := add(&c, 3); err != nil {
		t.Errorf("a refused record changed the chain: %v", err)
	}
}

// The encoder agrees with an independent implementation of RFC 8785, and what
// it writes reads back.
func TestCanonicalAgainstJCS(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 40, 120)
		r := Record{V: Version, TSMilli: rapid.Int64Range(-MaxInteger, MaxInteger).Draw(t, "ts"), Seq: rapid.Uint64Range(0, MaxInteger).Draw(t, "seq"),
			Writer: text.Draw(t, "writer"), Stream: text.Draw(t, "stream"), Kind: text.Draw(t, "kind"),
			Actor: text.Draw(t, "actor"), Subject: text.Draw(t, "subject"), Reason: text.Draw(t, "reason"), Attrs: Attrs{}}
		for range rapid.IntRange(0, 6).Draw(t, "n") {
			if rapid.Bool().Draw(t, "text") {
				r.Attrs[text.Draw(t, "k")] = text.Draw(t, "v")
			} else {
				r.Attrs[text.Draw(t, "k")] = rapid.Int64Range(-MaxInteger, MaxInteger).Draw(t, "v")
			}
		}
		e, err := r.Seal(b3.Sum([]byte("x")))
		if errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) {
			t.Skip() // too long, or the text is not UTF-8
		}
		if err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jcs.Transform(plain)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e, want) {
			t.Fatalf("%s\nwant %s", e, want)
		}
		back, err := Parse(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, r := range golden() {
		e, err := r.Entry()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e)
	}
	f.Add([]byte(`{"attrs":{"a":[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		again, err := r.Entry()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q reads, but writes %q, %v", b, again, err)
		}
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r := golden()[2]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal(r.Prev); err != nil {
			b.Fatal(err)
		}
	}
}
