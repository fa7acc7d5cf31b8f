// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// identity: what is accepted has one form, which is accepted again as itself.
func identity(t *testing.T, err error, encode func() ([]byte, error), parse func([]byte) error) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v is not ErrMalformed", err)
		}
		return
	}
	text, err := encode()
	if err != nil {
		t.Fatalf("it was read and cannot be written: %v", err)
	}
	if err := parse(text); err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
}

func FuzzDescriptor(f *testing.F) {
	w := newWorld(f)
	for _, d := range []*Descriptor{node("n1"), w.state.Items()[0].Desc, {V: 1, Kind: KindRegion, Name: "eu", Region: &Region{}},
		{V: 1, Kind: KindService, Name: "s", Service: &Service{Nodes: []string{"a", "b"}}, Labels: map[string]string{"x": "y"}}} {
		text, err := d.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ParseDescriptor(text)
		identity(t, err, func() ([]byte, error) { return d.Encode() }, func(b []byte) error {
			again, err := ParseDescriptor(b)
			if err != nil {
				return err
			}
			one, _ := d.Addr()
			two, _ := again.Addr()
			if one != two {
				return errors.New("it has another address")
			}
			return nil
		})
	})
}

func FuzzProposal(f *testing.F) {
	w := newWorld(f)
	for _, p := range []*Proposal{w.proposal(w.put(node("n1"))), w.proposal(Change{Op: OpCheckpoint, Size: 1, Head: w.state.Head().String()}),
		w.proposal(Change{Op: OpRevoke, Kind: KindNode, Name: "n", Prev: b3.Sum(nil).String()})} {
		text, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProposal(text)
		identity(t, err, func() ([]byte, error) { return p.Encode() }, func(b []byte) error { _, err := ParseProposal(b); return err })
		if err == nil {
			_ = w.state.Try(p)
		}
	})
}

func FuzzEntry(f *testing.F) {
	w := chainOf(f)
	for _, text := range w.texts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := ParseEntry(text)
		identity(t, err, func() ([]byte, error) { return e.Encode() }, func(b []byte) error { _, err := ParseEntry(b); return err })
		if err != nil {
			return
		}
		if _, err := w.state.Apply(e); err == nil {
			t.Fatal("an entry that nobody approved follows")
		}
	})
}

func FuzzHead(f *testing.F) {
	w := chainOf(f)
	text, err := SignHead(HeadOf(w.state, w.tree), newNodeKey(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := ParseHead(text); err != nil && !errors.Is(err, ErrHead) && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzExport(f *testing.F) {
	w := chainOf(f)
	f.Add(w.export(nil, nil, 0))
	f.Add(w.export(nil, baseOf(f, w, 3), 3))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := Verify(bytes.NewReader(text), w.state.Registry())
		if err != nil {
			return
		}
		// Whatever verifies is a beginning of the one chain.
		if n := v.State.Size(); n > uint64(len(w.texts)) || v.State.Head() != b3.Sum(w.texts[n-1]) {
			t.Fatal("another chain verifies")
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	k := newWorld(f).key("z", 1, true)
	text, err := k.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParsePrivateKey(text, "a", 1)
		identity(t, err, func() ([]byte, error) { return k.Encode() }, func(b []byte) error { _, err := ParsePrivateKey(b, "", 0); return err })
	})
}
