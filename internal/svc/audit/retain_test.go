// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/tlog"
)

// shelf is an archive in memory.
type shelf struct {
	mu    sync.Mutex
	files map[string][]byte
	spoil bool // what is written is not what is read
	fail  error
}

func (s *shelf) Keep(name string, write func(io.Writer) error, check func(io.Reader) error) error {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text := b.Bytes()
	if s.spoil {
		text = bytes.Replace(text, []byte(`"kind":"noise"`), []byte(`"kind":"noose"`), 1)
	}
	if err := errors.Join(s.fail, check(bytes.NewReader(text))); err != nil {
		return err
	}
	s.files[name] = text
	return nil
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.files)
}

// Old records are archived, recorded as such and cut off; what is left goes on.
func TestRetain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8000)
		s := &shelf{files: map[string][]byte{}}
		var least *uint64
		var mu sync.Mutex
		keys := publicKeys()
		r := NewRetainer(RetainConfig{
			Archive: s, Metrics: w.reg, Log: slog.New(slog.DiscardHandler), Now: time.Now, Record: w.Append,
			Versions: func(string) ([][]tlog.Key, error) {
				return [][]tlog.Key{{{Name: origin, Type: tlog.Ed25519, Public: bytes.Repeat([]byte{1}, 32)}}, keys}, nil
			},
			Read: func(all uint64) (uint64, bool) {
				mu.Lock()
				defer mu.Unlock()
				if least == nil {
					return 0, false
				}
				return min(all, *least), true
			},
		})
		w.cfg.Beside = []Beside{r}
		w.serve(t)
		defer func() { w.stop() }()
		pass := func(d time.Duration) { <-time.After(d) }
		for range 20 {
			for range 200 {
				w.Record(macronode.AuditEvent{Stream: "node", Kind: "noise"})
			}
			pass(time.Minute)
		}
		pass(2 * time.Hour)
		tr := w.Service.tree.Load()
		if tr.First() != 0 {
			t.Fatal("records are cut off, and nobody said how long they are kept")
		}
		r.SetKeep(time.Hour)
		pass(10 * time.Minute)
		if tr.First() != 0 || s.count() != 0 {
			t.Fatal("records are cut off, and nobody knows who has read them")
		}
		all := uint64(2000)
		mu.Lock()
		least = &all
		mu.Unlock()
		for _, hurt := range []func(bool){
			func(on bool) { s.spoil = on },
			func(on bool) {
				s.fail = nil
				if on {
					s.fail = errors.New("no room")
				}
			},
		} {
			s.mu.Lock()
			hurt(true)
			s.mu.Unlock()
			pass(10 * time.Minute)
			if tr.First() != 0 || s.count() != 0 {
				t.Fatal("records are cut off without an archive that verifies")
			}
			s.mu.Lock()
			hurt(false)
			s.mu.Unlock()
		}
		pass(10 * time.Minute)
		if first := tr.First(); first == 0 || first > 2000 {
			t.Fatalf("the log begins at %d; who reads it is at 2000", first)
		}
		mu.Lock()
		all = 1 << 40
		mu.Unlock()
		pass(10 * time.Minute)
		if tr.First() < 3000 || s.count() < 2 {
			t.Errorf("the log begins at %d, with %d archives", tr.First(), s.count())
		}
		var archived uint64
		for _, text := range s.files {
			v, err := tlog.VerifyExport(bytes.NewReader(text), keys, nil)
			if err != nil {
				t.Fatal(err)
			}
			archived = max(archived, v.Signed.Size)
		}
		if archived < tr.First() {
			t.Errorf("archived up to %d, cut off up to %d", archived, tr.First())
		}
		if p, _ := w.page(t, macronode.SystemTenant, "kind="+PruneKind); len(p) != s.count() {
			t.Errorf("%d records of %d prunings", len(p), s.count())
		}
		if _, err := w.ask(t, "audit.receipt", macronode.SystemTenant, "seq=3"); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("a record that is cut off: %v", err)
		}
		if _, err := w.ask(t, "audit.tile", macronode.SystemTenant, "level=entries&rest=000"); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("a bundle that is cut off: %v", err)
		}
		if _, err := w.ask(t, "audit.tile", macronode.SystemTenant, "level=0&rest=000"); err != nil {
			t.Errorf("a tile of hashes: %v", err)
		}
		reply, err := w.ask(t, "audit.export", macronode.SystemTenant, "")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := reply.Stream.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		if v, err := tlog.VerifyExport(&out, keys, nil); err != nil || v.Head.First != tr.First() {
			t.Errorf("what is left: %v", err)
		}
	})
}
