// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tree

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/tlog"
)

// holed is a log in which some records are not what they were.
type holed struct {
	store.Log
	hurt func(seq uint64, entry []byte) []byte // nil: it cannot be read
}

func (h holed) Scan(from store.Pos, f func(store.Pos, []byte) error, damaged func(store.Pos, int64)) error {
	return h.Log.Scan(from, func(p store.Pos, entry []byte) error {
		r, err := tlog.Parse(entry)
		if err != nil {
			return err
		}
		if entry = h.hurt(r.Seq, bytes.Clone(entry)); entry == nil {
			damaged(p, 1)
			return nil
		}
		return f(p, entry)
	}, damaged)
}

// exported is an export of what is left, as of now.
func (b *bench) exported(t tb) []byte {
	t.Helper()
	var out bytes.Buffer
	c := b.Published()
	h, err := b.Head(context.Background(), c.Size)
	must(t, err)
	x, err := tlog.NewExporter(&out, h)
	must(t, err)
	for seq := h.First; seq < c.Size; seq++ {
		must(t, x.Add(b.entries[seq]))
	}
	must(t, x.Close(c.Note))
	return out.Bytes()
}

func lost(from, to uint64) func(uint64, []byte) []byte {
	return func(seq uint64, entry []byte) []byte {
		if seq >= from && seq < to {
			return nil
		}
		return entry
	}
}

func TestRestore(t *testing.T) {
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32))
	otherKey := tlog.Key{Name: origin, Type: tlog.Ed25519, Public: other.Public().(ed25519.PublicKey)}
	swapped := func(seq uint64, entry []byte) []byte {
		if seq == 700 {
			return bytes.Replace(entry, []byte(`"kind":"k"`), []byte(`"kind":"x"`), 1)
		}
		return entry
	}
	for name, c := range map[string]struct {
		hurt   func(uint64, []byte) []byte
		export func(early, late []byte) []byte
		prune  bool
		keys   [][]tlog.Key
		why    string // of the refusal; "": it is restored
		kept   uint64
	}{
		"damage within the export":  {hurt: lost(100, 200), kept: 700},
		"a changed record":          {hurt: swapped, kept: 700},
		"everything is gone":        {hurt: lost(0, math.MaxUint64), export: func(_, late []byte) []byte { return late }},
		"a pruned log":              {hurt: lost(1100, 1200), prune: true, kept: 700},
		"damage behind the export":  {hurt: lost(1900, 1901), why: "records 1900 to 1999 are signed for, and are neither"},
		"the end is gone":           {hurt: lost(1990, 3000), why: "records 1990 to 1999"},
		"a changed export":          {hurt: lost(1, 2), export: func(e, _ []byte) []byte { return bytes.Replace(e, []byte(`"n":7}`), []byte(`"n":8}`), 1) }, why: "record 7"},
		"a cut export":              {hurt: lost(1, 2), export: func(e, _ []byte) []byte { return e[:len(e)/2] }, why: "it ends in the middle"},
		"another's signature":       {hurt: lost(1, 2), keys: [][]tlog.Key{{otherKey}}, why: "does not verify"},
		"an export of another log":  {hurt: lost(1, 2), export: func(e, _ []byte) []byte { return foreign(t, e) }, why: "the first 2000 records is not the one"},
		"an older version's export": {hurt: lost(100, 200), keys: [][]tlog.Key{{otherKey}, {key()}}, kept: 700},
	} {
		t.Run(name, func(t *testing.T) {
			b := small(t)
			b.fill(t, 1300)
			early := b.exported(t)
			b.fill(t, 700)
			if c.prune {
				b.cutAt(t, 1290)
				if b.First() == 0 {
					t.Fatal("nothing was cut off")
				}
			}
			export := early
			if c.export != nil {
				export = c.export(early, b.exported(t))
			}
			r := Restore{KV: b.cfg.KV, Old: holed{b.cfg.Log, c.hurt}, New: mem.NewLog(4 << 20), Versions: c.keys, Export: bytes.NewReader(export)}
			if c.keys == nil {
				r.Versions = [][]tlog.Key{{key()}}
			}
			got, err := r.Build(t.Context())
			if c.why != "" {
				if !errors.Is(err, ErrNotRestored) || !strings.Contains(err.Error(), c.why) {
					t.Fatalf("%v", err)
				}
				b.open(t) // nothing was changed
				b.whole(t)
				return
			}
			must(t, err)
			if got.Size != 2000 || got.First != b.First() || got.Kept != c.kept || got.Exported != 2000-c.kept-got.First {
				t.Errorf("%+v", got)
			}
			must(t, r.Commit(t.Context()))
			// A start before the new log is in its place finds the damage again.
			cfg := b.cfg
			cfg.Log = r.Old
			if _, _, err := Open(t.Context(), cfg, key()); !errors.Is(err, ErrDamaged) {
				t.Errorf("the damaged log opens: %v", err)
			}
			b.cfg.Log = r.New
			b.open(t)
			must(t, b.Flush(t.Context()))
			b.whole(t)
			b.fill(t, 300)
			b.whole(t)
		})
	}
}

// foreign is an export whose records were written anew and signed by the same key.
func foreign(t *testing.T, export []byte) []byte {
	t.Helper()
	b := small(t)
	b.fill(t, 2000)
	v, err := tlog.VerifyExport(bytes.NewReader(export), []tlog.Key{key()}, nil)
	must(t, err)
	var out bytes.Buffer
	x, err := tlog.NewExporter(&out, tlog.Head{Origin: v.Head.Origin, Writer: writer, Size: 2000})
	must(t, err)
	chain, front := map[string]*tlog.Record{}, tlog.Frontier{}
	for i := range uint64(2000) {
		r := &tlog.Record{V: tlog.Version, Writer: writer, Seq: i, Stream: "node", Kind: "invented"}
		prev := tlog.Genesis
		if chain["node"] != nil {
			prev = chain["node"].Hash
		}
		entry, err := r.Seal(prev)
		must(t, err)
		chain["node"] = r
		front.Add(tlog.LeafHash(entry), nil)
		must(t, x.Add(entry))
	}
	note, err := sign(t.Context(), tlog.Checkpoint{Origin: origin, Size: 2000, Root: front.Root()}.Text())
	must(t, err)
	must(t, x.Close(note))
	return out.Bytes()
}
