// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// book is a log with its export.
type book struct {
	*forest
	entries [][]byte
	records []*Record
	heads   []map[string]b3.Addr // before each record
}

const origin = "macronode/1111"

// write makes a log of n records; other is what its 300th says.
func write(t testing.TB, n int, other string) *book {
	b := &book{forest: newForest()}
	heads := map[string]b3.Addr{}
	for i := range n {
		r := &Record{
			V: Version, Seq: uint64(i), TSMilli: 1767225600000 + int64(i), Writer: writer, Stream: []string{"node", "tenant/01ARZ3NDEKTSV4RRFFQ69G5FAV"}[i%3/2],
			Kind: "object.put", Actor: "cap:000102030405060708090a0b0c0d0e0f", Subject: "object/abc", Attrs: Attrs{"bytes": int64(i)},
		}
		if i == 300 {
			r.Reason = other
		}
		copied := map[string]b3.Addr{}
		for k, v := range heads {
			copied[k] = v
		}
		e, err := r.Seal(heads[r.Stream])
		if err != nil {
			t.Fatal(err)
		}
		heads[r.Stream] = r.Hash
		b.entries, b.records, b.heads = append(b.entries, e), append(b.records, r), append(b.heads, copied)
		b.add(e)
	}
	b.heads = append(b.heads, heads)
	return b
}

func (b *book) checkpoint(size int) []byte {
	ed, pq := signers(origin, 1)
	return signed(Checkpoint{origin, uint64(size), b.roots[size]}.Text(), 0, ed, pq)
}

func (b *book) export(t testing.TB, first, size int) []byte {
	edge, err := EdgeOf(uint64(first), b)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e, err := NewExporter(&out, Head{Origin: origin, Writer: writer, First: uint64(first), Size: uint64(size), Peaks: edge.Peaks(), Heads: b.heads[first]})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range b.entries[first:size] {
		if err := e.Add(entry); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Close(b.checkpoint(size)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func keys() []Key {
	ed, pq := signers(origin, 1)
	return []Key{ed.key, pq.key}
}

func TestExport(t *testing.T) {
	b := write(t, 700, "")
	for _, c := range [][2]int{{0, 0}, {0, 1}, {0, 256}, {0, 700}, {256, 700}, {300, 513}, {700, 700}} {
		var seen uint64
		v, err := VerifyExport(bytes.NewReader(b.export(t, c[0], c[1])), keys(), func(*Record) error { seen++; return nil })
		if err != nil || seen != uint64(c[1]-c[0]) || v.Records != seen || v.Signed.Size != uint64(c[1]) {
			t.Errorf("%v: %d records, %v", c, seen, err)
		}
	}
}

// TestSignedAndWrong: a record that was signed as it is, and is not its own hash's, is
// bad all the same, whether anybody wants the records or not.
func TestSignedAndWrong(t *testing.T) {
	b := write(t, 5, "")
	bad := &book{forest: newForest(), heads: b.heads}
	for i, e := range b.entries {
		if i == 4 {
			e = bytes.Replace(e, []byte(`"bytes":4`), []byte(`"bytes":5`), 1)
		}
		bad.entries = append(bad.entries, e)
		bad.add(e)
	}
	for _, each := range []func(*Record) error{nil, func(*Record) error { return nil }} {
		if _, err := VerifyExport(bytes.NewReader(b.export(t, 0, 5)), keys(), each); err != nil {
			t.Error(err)
		}
		if _, err := VerifyExport(bytes.NewReader(bad.export(t, 0, 5)), keys(), each); !errors.Is(err, ErrHash) || !strings.Contains(err.Error(), "record 4") {
			t.Errorf("%v", err)
		}
	}
}

// TestTampering: whatever is done to an export is noticed, and the first bad
// record is named.
func TestTampering(t *testing.T) {
	b := write(t, 700, "")
	whole := string(b.export(t, 0, 700))
	lines := strings.SplitAfter(whole, "\n")
	// at is the line of a record: two before all, one before each 256.
	at := func(seq int) int { return 2 + seq + seq/256 + 1 }
	if !strings.Contains(lines[at(300)], `"seq":300,`) {
		t.Fatal("the test does not know the form")
	}
	join := func(edit func(l []string) []string) string { return strings.Join(edit(slices.Clone(lines)), "") }
	forged := write(t, 700, "denied")
	for name, c := range map[string]struct{ export, says string }{
		"a byte is flipped":     {strings.Replace(whole, `"bytes":301`, `"bytes":300`, 1), "record 301"},
		"a record is dropped":   {join(func(l []string) []string { return slices.Delete(l, at(300), at(300)+1) }), "record 300"},
		"a record comes twice":  {join(func(l []string) []string { return slices.Insert(l, at(300), l[at(300)]) }), "record 301"},
		"two change places":     {join(func(l []string) []string { l[at(300)], l[at(301)] = l[at(301)], l[at(300)]; return l }), "record 300"},
		"the end is cut":        {join(func(l []string) []string { return slices.Delete(l, at(600), at(699)+1) }), "record 600"},
		"cut in a line":         {whole[:len(whole)/2], "in the middle"},
		"a hash is flipped":     {join(func(l []string) []string { l[at(256)-1] = flip(l[at(256)-1], 50); return l }), "record 25"},
		"another leaf and root": {join(func(l []string) []string { l[at(0)-1] = flip(l[at(0)-1], 9); return l }), "record 0"},
		"written anew":          {string(forged.export(t, 0, 300)[:len(forged.export(t, 0, 300))-len(forged.checkpoint(300))]) + string(b.checkpoint(300)), ""},
		"forged from 300 on":    {swapTail(t, forged, b), "written anew"},
		"rehashed, old leaves":  {oldLeaves(t, forged, b), "record 300"},
		"an old checkpoint":     {strings.Replace(whole, string(b.checkpoint(700)), string(b.checkpoint(650)), 1), "650 records"},
		"an earlier beginning":  {strings.Replace(whole, `"first":0`, `"first":1`, 1), "edge"},
		"an unknown member":     {strings.Replace(whole, `"first":0`, `"first":0,"more":1`, 1), "more"},
		"another log's name":    {strings.Replace(whole, `"origin":"`+origin, `"origin":"other`, 1), "other"},
	} {
		_, err := VerifyExport(strings.NewReader(c.export), keys(), nil)
		if name == "written anew" {
			// Up to 300 both logs are one: this is no forgery.
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ed, pq := signers(origin, 9)
	if _, err := VerifyExport(strings.NewReader(whole), []Key{ed.key, pq.key}, nil); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("by another key: %v", err)
	}
	if _, err := VerifyExport(strings.NewReader(whole), nil, nil); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("without a key: %v", err)
	}
}

// flip changes one digit of base64.
func flip(s string, at int) string {
	c := byte('A')
	if s[at] == c {
		c = 'B'
	}
	return s[:at] + string(c) + s[at+1:]
}

// swapTail is a forged log whole in itself, under the true log's checkpoint.
func swapTail(t testing.TB, forged, b *book) string {
	return strings.Replace(string(forged.export(t, 0, 700)), string(forged.checkpoint(700)), string(b.checkpoint(700)), 1)
}

// oldLeaves are forged records, chained anew, among the true log's leaf hashes.
func oldLeaves(t testing.TB, forged, b *book) string {
	f, l := strings.SplitAfter(string(forged.export(t, 0, 700)), "\n"), strings.SplitAfter(string(b.export(t, 0, 700)), "\n")
	for i := range f {
		if strings.HasPrefix(f[i], "#") {
			f[i] = l[i]
		}
	}
	return strings.Replace(strings.Join(f, ""), string(forged.checkpoint(700)), string(b.checkpoint(700)), 1)
}

func TestReceipt(t *testing.T) {
	b := write(t, 400, "")
	in, err := ProveInclusion(300, 400, b)
	if err != nil {
		t.Fatal(err)
	}
	p := Receipt{Record: b.entries[300], Inclusion: in, Checkpoint: string(b.checkpoint(400))}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var again Receipt
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	r, s, err := again.Verify(keys())
	if err != nil || r.Seq != 300 || s.Size != 400 {
		t.Fatalf("%v", err)
	}
	for name, bad := range map[string]Receipt{
		"another record":     {b.entries[301], in, p.Checkpoint},
		"another checkpoint": {b.entries[300], in, string(b.checkpoint(399))},
		"no proof":           {b.entries[300], Inclusion{Seq: 300, Size: 400}, p.Checkpoint},
		"no record":          {[]byte("{}"), in, p.Checkpoint},
		"no checkpoint":      {b.entries[300], in, ""},
	} {
		if _, _, err := bad.Verify(keys()); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

// TestScanIsParse: the quick reader takes what the strict one takes, and reads
// the same.
func TestScanIsParse(t *testing.T) {
	for _, r := range golden() {
		e, err := r.Entry()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, e)
		got, ok := scan(e)
		if !ok {
			t.Errorf("%q is not taken", r.Kind)
			continue
		}
		if again, err := got.Entry(); err != nil || !bytes.Equal(again, e) {
			t.Errorf("%q is read as another", r.Kind)
		}
		for i := range e {
			for _, c := range []byte{0, ' ', '0', '"', '\\', e[i] ^ 1, 0xff} {
				bad := bytes.Clone(e)
				bad[i] = c
				compare(t, bad)
			}
			compare(t, e[:i])
		}
	}
}

func compare(t testing.TB, entry []byte) {
	if len(entry) > MaxRecordBytes {
		return
	}
	got, ok := scan(entry)
	want, err := parse(entry)
	if ok != (err == nil) {
		t.Fatalf("scan: %v, parse: %v of %q", ok, err, entry)
	}
	if ok && fmt.Sprint(*got) != fmt.Sprint(*want) {
		t.Fatalf("scan: %+v\nparse: %+v", got, want)
	}
}

func FuzzScan(f *testing.F) {
	for _, r := range golden() {
		e, err := r.Entry()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, b []byte) { compare(t, b) })
}

func FuzzExport(f *testing.F) {
	b := write(f, 3, "")
	whole := b.export(f, 0, 3)
	f.Add(whole)
	f.Add(b.export(f, 2, 3))
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := VerifyExport(bytes.NewReader(in), keys(), nil)
		if err == nil && v.Signed.Root != b.roots[v.Signed.Size] {
			t.Error("another log is verified")
		}
	})
}

// BenchmarkVerify reports records a second of an export of 300-byte records.
func BenchmarkVerify(b *testing.B) {
	k := write(b, 20000, "")
	text := k.export(b, 0, 20000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := VerifyExport(bytes.NewReader(text), keys(), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
