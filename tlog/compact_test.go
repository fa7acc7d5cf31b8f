// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// provedReceipt is a receipt of the middle one of some records, and the log's keys.
func provedReceipt(t testing.TB, size int) (*Receipt, []Key) {
	t.Helper()
	ed, pq := signers("log.example", 1)
	tiles, front, chain := memTiles{}, &Frontier{}, map[string]*Record{}
	var entries [][]byte
	for i := range size {
		r := &Record{V: Version, TSMilli: int64(i), Writer: "w", Seq: uint64(i), Stream: "node", Kind: "k", Attrs: Attrs{"n": int64(i)}}
		var prev = Genesis
		if last := chain["node"]; last != nil {
			prev = last.Hash
		}
		entry, err := r.Seal(prev)
		if err != nil {
			t.Fatal(err)
		}
		chain["node"] = r
		entries = append(entries, entry)
		front.Add(LeafHash(entry), func(level int, n uint64, h Hash) { tiles.set(level, n, h) })
	}
	c := Checkpoint{"log.example", front.Size(), front.Root()}
	in, err := ProveInclusion(uint64(size/2), c.Size, tiles)
	if err != nil {
		t.Fatal(err)
	}
	return &Receipt{Record: entries[size/2], Inclusion: in, Checkpoint: string(signed(c.Text(), 1700000000, ed, pq))}, []Key{ed.key, pq.key}
}

// memTiles holds the hashes of whole tiles by level and place.
type memTiles map[Tile][]byte

func (m memTiles) set(level int, n uint64, h Hash) {
	if level%8 == 0 {
		name := Tile{Level: level / 8, Index: n / TileWidth}
		m[name] = append(m[name], h[:]...)
	}
}

func (m memTiles) ReadTile(name Tile) ([]byte, error) {
	return m[Tile{Level: name.Level, Index: name.Index}][:name.Width*len(Hash{})], nil
}

// A compact receipt is the receipt, verifies, and fits a header field.
func TestCompact(t *testing.T) {
	p, keys := provedReceipt(t, 700)
	text, err := p.Compact()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 6<<10 {
		t.Errorf("%d characters", len(text))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Error("it holds more than visible ASCII")
	}
	got, err := ParseCompact(text)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Fatalf("read again it is another receipt: %v", err)
	}
	r, s, err := got.Verify(keys)
	if err != nil || r.Seq != 350 || s.Size != 700 {
		t.Fatalf("%v", err)
	}
	// A witness's line keeps its own name.
	w, _ := signers("witness.example", 2)
	w.key.Type = Ed25519Cos
	c, _, _ := strings.Cut(p.Checkpoint, "\n\n")
	p.Checkpoint += strings.SplitN(string(signed(c+"\n", 9, w)), "\n\n", 2)[1]
	if text, err = p.Compact(); err != nil {
		t.Fatal(err)
	}
	if got, err := ParseCompact(text); err != nil || got.Checkpoint != p.Checkpoint {
		t.Errorf("a checkpoint with a cosignature: %v", err)
	}
}

// Any byte of a compact receipt that is changed makes it worth nothing.
func TestCompactTampered(t *testing.T) {
	p, keys := provedReceipt(t, 5)
	text, err := p.Compact()
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(text)
	for i := range raw {
		raw[i] ^= 1
		got, err := ParseCompact(base64.RawURLEncoding.EncodeToString(raw))
		raw[i] ^= 1
		if err != nil {
			continue
		}
		if _, _, err := got.Verify(keys); err == nil {
			t.Errorf("byte %d of %d may be anything", i, len(raw))
		}
	}
	for n := range len(text) {
		if got, err := ParseCompact(text[:n]); err == nil {
			if _, _, err := got.Verify(keys); err == nil {
				t.Errorf("it verifies when cut to %d", n)
			}
		}
	}
}

func TestCompactRefuses(t *testing.T) {
	for _, text := range []string{"", "A", "====", "AAAA", "Ag", strings.Repeat("A", MaxCompactBytes+1)} {
		if _, err := ParseCompact(text); !errors.Is(err, ErrReceipt) {
			t.Errorf("%.10q: %v", text, err)
		}
	}
	for _, note := range []string{"", "no lines\n", "text\n\nnot a line\n", "text\n\n— name AAAA", "text\n\n— name =\n"} {
		p := Receipt{Record: []byte("{}"), Checkpoint: note}
		if _, err := p.Compact(); !errors.Is(err, ErrReceipt) {
			t.Errorf("%q: %v", note, err)
		}
	}
}

func FuzzParseCompact(f *testing.F) {
	p, keys := provedReceipt(f, 3)
	text, err := p.Compact()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("AQAA")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseCompact(text)
		if err != nil {
			return
		}
		if _, _, err := p.Verify(keys); err != nil {
			return
		}
		again, err := p.Compact()
		if err != nil {
			t.Fatalf("one that verifies cannot be written: %v", err)
		}
		if q, err := ParseCompact(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatal("written and read it is another")
		}
	})
}
