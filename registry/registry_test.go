// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
)

func TestQuorum(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		who  []string
		want error
	}{
		{nil, ErrQuorum},
		{[]string{"a#v1"}, ErrQuorum},
		{[]string{"c#v1"}, ErrQuorum},
		{ab, nil},
		{bc, nil},
		{[]string{"a#v1", "b#v1", "c#v1"}, nil},
	} {
		if _, err := w.try(c.who, w.put(node("n1"))); !errors.Is(err, c.want) {
			t.Errorf("approved by %v: %v, want %v", c.who, err, c.want)
		}
	}
}

// TestHalfAKey: of a hybrid key both halves must be there.
func TestHalfAKey(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	full := w.sign(p, Approve, "a#v1", "b#v1")
	for i, sig := range full {
		if !strings.HasPrefix(sig.KeyID, "a#v1") {
			continue
		}
		half := append(append([]Signature{}, full[:i]...), full[i+1:]...)
		if _, _, err := w.state.Next(p, half, w.ms); !errors.Is(err, ErrQuorum) {
			t.Errorf("without %s: %v", sig.KeyID, err)
		}
		bad := append([]Signature{}, full...)
		bad[i].Sig = bytes.Clone(sig.Sig)
		bad[i].Sig[3] ^= 1
		if _, _, err := w.state.Next(p, bad, w.ms); !errors.Is(err, ErrSignature) {
			t.Errorf("%s flipped: %v", sig.KeyID, err)
		}
	}
}

// TestStatementsAreApart: a signature counts for its registry, proposal and decision alone.
func TestStatementsAreApart(t *testing.T) {
	w := newWorld(t)
	p, q := w.proposal(w.put(node("n1"))), w.proposal(w.put(node("n2")))
	if _, _, err := w.state.Next(q, w.sign(p, Approve, ab...), w.ms); !errors.Is(err, ErrSignature) {
		t.Errorf("another proposal's: %v", err)
	}
	if _, _, err := w.state.Next(p, w.sign(p, Reject, ab...), w.ms); !errors.Is(err, ErrSignature) {
		t.Errorf("rejections as approvals: %v", err)
	}
	id, _ := p.Addr()
	var other []Signature
	for _, n := range ab {
		s, err := Sign(b3.Sum([]byte("elsewhere")), id, Approve, w.keys[n].Halves()...)
		if err != nil {
			t.Fatal(err)
		}
		other = append(other, s...)
	}
	SortSignatures(other)
	if _, _, err := w.state.Next(p, other, w.ms); !errors.Is(err, ErrSignature) {
		t.Errorf("another registry's: %v", err)
	}
	elsewhere := *p
	elsewhere.Registry = b3.Sum([]byte("elsewhere")).String()
	if err := w.state.Try(&elsewhere); !errors.Is(err, ErrRule) {
		t.Errorf("a proposal for another registry: %v", err)
	}
}

// TestRotation: new keys show that they are held; old ones never count again.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	next := signers(2, writerID, w.key("a", 1, true), w.key("c", 1, false), w.key("d", 1, true))
	if _, err := w.try(ab, w.put(next)); !errors.Is(err, ErrQuorum) {
		t.Fatalf("a key that did not sign was registered: %v", err)
	}
	if _, err := w.try([]string{"a#v1", "d#v1"}, w.put(next)); !errors.Is(err, ErrQuorum) {
		t.Fatalf("a key counted before it was registered: %v", err)
	}
	pending := w.proposal(w.put(node("n1")))
	early := w.sign(pending, Approve, "b#v1")
	w.commit([]string{"a#v1", "b#v1", "d#v1"}, w.put(next))

	tally, err := w.state.Count(pending, Approve, append(early, w.sign(pending, Approve, "c#v1")...))
	if err != nil || len(tally.Names) != 1 || tally.Done() {
		t.Errorf("an approval of a signer that was taken out counts: %+v, %v", tally, err)
	}
	if _, err := w.try(bc, w.put(node("n1"))); !errors.Is(err, ErrQuorum) {
		t.Errorf("a signer that was taken out approves: %v", err)
	}
	// The entry with its signature in it is refused too, not only passed over.
	p := w.proposal(w.put(node("n1")))
	e, _, err := w.state.Next(p, w.sign(p, Approve, "a#v1", "c#v1"), w.ms)
	if err != nil {
		t.Fatal(err)
	}
	e.Signatures = w.sign(p, Approve, "a#v1", "b#v1", "c#v1")
	if _, err := w.state.Apply(e); !errors.Is(err, ErrQuorum) {
		t.Errorf("an entry that carries a stranger's signature: %v", err)
	}
	back := signers(2, writerID, w.key("a", 1, true), w.key("b", 1, false), w.key("c", 1, false))
	if _, err := w.try([]string{"a#v1", "b#v1", "c#v1"}, w.put(back)); !errors.Is(err, ErrRule) {
		t.Errorf("a retired key was registered again: %v", err)
	}
	renamed := *w.keys["b#v1"]
	renamed.Name, renamed.Version = "e", 9
	w.keys["e#v9"] = &renamed
	if _, err := w.try([]string{"a#v1", "e#v9", "c#v1"}, w.put(signers(1, writerID, w.key("a", 1, true), &renamed))); !errors.Is(err, ErrRule) {
		t.Errorf("a retired key was registered under another name: %v", err)
	}
	fresh := w.key("b", 2, false)
	other := *fresh
	other.Version = 1
	w.keys["b#v1"] = &other
	if _, err := w.try([]string{"a#v1", "b#v1", "c#v1"}, w.put(signers(2, writerID, w.key("a", 1, true), &other))); !errors.Is(err, ErrRule) {
		t.Errorf("a retired name and version was given to another key: %v", err)
	}
	w.commit([]string{"a#v1", "c#v1", "b#v2"}, w.put(signers(2, writerID, w.key("a", 1, true), fresh)))
	w.commit([]string{"a#v1", "b#v2"}, w.put(node("n1")))
}

func TestWhole(t *testing.T) {
	w := newWorld(t)
	region := &Descriptor{V: 1, Kind: KindRegion, Name: "eu", Region: &Region{Title: "Europe"}}
	service := &Descriptor{V: 1, Kind: KindService, Name: "search", Service: &Service{Nodes: []string{"n1"}}}
	placed := node("n1")
	placed.Node.Region = "eu"
	twin := node("n2")
	twin.Node.NodeID = placed.Node.NodeID
	for name, c := range map[string]struct {
		changes []Change
		want    error
	}{
		"region that is not there": {[]Change{w.put(placed)}, ErrRule},
		"node that is not there":   {[]Change{w.put(service)}, ErrRule},
		"two with one id":          {[]Change{w.put(region), w.put(placed), w.put(twin)}, ErrRule},
		"stale":                    {[]Change{{Op: OpPut, Descriptor: region, Prev: b3.Sum(nil).String()}}, ErrStale},
		"not there":                {[]Change{{Op: OpRemove, Kind: KindRegion, Name: "eu", Prev: b3.Sum(nil).String()}}, ErrStale},
		"all at once":              {[]Change{w.put(service), w.put(placed), w.put(region)}, nil},
	} {
		if _, err := w.try(ab, c.changes...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	w.commit(ab, w.put(region), w.put(placed), w.put(service))
	it, _ := w.state.Get(Key{KindNode, "n1"})
	revoke := Change{Op: OpRevoke, Kind: KindNode, Name: "n1", Prev: it.Addr.String()}
	if _, err := w.try(ab, revoke); !errors.Is(err, ErrRule) {
		t.Errorf("a service was left without its node: %v", err)
	}
	srv, _ := w.state.Get(Key{KindService, "search"})
	w.commit(ab, revoke, Change{Op: OpRemove, Kind: KindService, Name: "search", Prev: srv.Addr.String()})
	if !w.state.Revoked(placed.Node.NodeID) {
		t.Error("the node is not barred")
	}
	if _, err := w.try(ab, w.put(placed)); !errors.Is(err, ErrRule) {
		t.Errorf("a revoked node came back: %v", err)
	}
}

// chainOf makes a chain of a few entries, with a rotation in it.
func chainOf(t testing.TB) *world {
	w := newWorld(t)
	w.commit(ab, w.put(node("n1")))
	w.commit(bc, w.put(node("n2")))
	w.key("d", 1, false)
	w.commit([]string{"a#v1", "b#v1", "d#v1"}, w.put(signers(2, writerID, w.keys["a#v1"], w.keys["b#v1"], w.keys["d#v1"])))
	w.commit([]string{"b#v1", "d#v1"}, w.put(node("n3")))
	return w
}

func replay(texts [][]byte) (*State, error) {
	var s *State
	for _, text := range texts {
		e, err := ParseEntry(text)
		if err != nil {
			return nil, err
		}
		if s == nil {
			s, err = Begin(e)
		} else {
			s, err = s.Apply(e)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// TestTamper: whatever is done to a chain, it does not verify, or ends elsewhere.
func TestTamper(t *testing.T) {
	w := chainOf(t)
	want := w.state.Head()
	if s, err := replay(w.texts); err != nil || s.Head() != want {
		t.Fatal("the chain itself does not verify", err)
	}
	dup := func(list [][]byte) [][]byte { return append([][]byte(nil), list...) }
	check := func(name string, texts [][]byte, mayBePrefix bool) {
		t.Helper()
		s, err := replay(texts)
		if err == nil && (!mayBePrefix || s.Head() == want) {
			t.Errorf("%s verifies", name)
		}
	}
	for i := range w.texts {
		if i > 0 {
			check("drop", append(dup(w.texts[:i]), w.texts[i+1:]...), i == len(w.texts)-1)
		}
		check("insert", append(append(dup(w.texts[:i]), w.texts[i]), w.texts[i:]...), false)
		if i > 1 {
			swapped := dup(w.texts)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			check("swap", swapped, false)
		}
		if i < len(w.texts)-1 {
			check("truncate", w.texts[:i+1], true)
		}
	}
	for i, text := range w.texts {
		for at := 0; at < len(text); at += 1 + len(text)/50 {
			flipped := dup(w.texts)
			flipped[i] = bytes.Clone(text)
			flipped[i][at] ^= 1
			s, err := replay(flipped)
			// The time of the last entry is nobody's word but the head's.
			if err == nil && s.Head() == want || err == nil && i < len(w.texts)-1 {
				t.Fatalf("entry %d, byte %d flipped: it verifies", i, at)
			}
		}
	}
}

// TestFork: a quorum can sign two chains; nobody takes one for the other.
func TestFork(t *testing.T) {
	w := chainOf(t)
	fork := *w
	fork.texts, fork.entries = append([][]byte(nil), w.texts...), append([]*Entry(nil), w.entries...)
	fork.tree = w.tree.Clone()
	fork.commit(ab, fork.put(node("x")))
	w.commit(ab, w.put(node("y")))
	mixed := append(append([][]byte(nil), w.texts...), fork.texts[len(fork.texts)-1])
	if _, err := replay(mixed); err == nil {
		t.Error("an entry of the fork follows the chain")
	}
	key := newNodeKey(t)
	head, err := SignHead(HeadOf(fork.state, fork.tree), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyAny(bytes.NewReader(w.export(head, nil, 0))); !errors.Is(err, ErrHead) {
		t.Errorf("the fork's head covers the chain: %v", err)
	}
}

func TestExport(t *testing.T) {
	key := newNodeKey(t)
	w := newWorld(t)
	w.commit(ab, w.put(signers(2, key.id, w.keys["a#v1"], w.keys["b#v1"])))
	w.commit(ab, w.put(node("n1")))
	head, err := SignHead(HeadOf(w.state, w.tree), key)
	if err != nil {
		t.Fatal(err)
	}
	export := w.export(head, nil, 0)
	v, err := Verify(bytes.NewReader(export), w.state.Registry())
	if err != nil || v.Head == nil || v.State.Head() != w.state.Head() || v.State.Root() != w.state.Root() {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := Verify(bytes.NewReader(export), b3.Sum(nil)); !errors.Is(err, ErrChain) {
		t.Errorf("another registry: %v", err)
	}
	if _, err := Verify(bytes.NewReader(export), b3.Addr{}); !errors.Is(err, ErrChain) {
		t.Errorf("no registry's id: %v", err)
	}
	stranger, err := SignHead(HeadOf(w.state, w.tree), newNodeKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyAny(bytes.NewReader(w.export(stranger, nil, 0))); !errors.Is(err, ErrHead) {
		t.Errorf("a head that another node signed: %v", err)
	}
	lines := bytes.SplitAfter(export, []byte("\n"))
	cut := bytes.Join(append(lines[:2:2], lines[3:]...), nil)
	if _, err := VerifyAny(bytes.NewReader(cut)); !errors.Is(err, ErrHead) {
		t.Errorf("an export without its last entry: %v", err)
	}
}

func TestRange(t *testing.T) {
	w := chainOf(t)
	h := HeadOf(w.state, w.tree)
	size := w.state.Size()
	for from := range size {
		for to := from + 1; to <= size; to++ {
			r := Range{From: from, Size: size}
			for _, text := range w.texts[from:to] {
				r.Entries = append(r.Entries, text)
			}
			var err error
			if r.Path, err = w.tree.Prove(to-1, size); err != nil {
				t.Fatal(err)
			}
			list, err := r.Check(&h)
			if err != nil || len(list) != int(to-from) || list[0].Seq != from { //nolint:gosec // small
				t.Fatalf("[%d,%d): %v", from, to, err)
			}
			moved := r
			moved.From++
			if _, err := moved.Check(&h); err == nil {
				t.Errorf("[%d,%d): proven at another place", from, to)
			}
			if len(r.Path) > 0 {
				short := r
				short.Path = r.Path[1:]
				if _, err := short.Check(&h); err == nil {
					t.Errorf("[%d,%d): proven with a hash too few", from, to)
				}
			}
			if to-from > 2 {
				other := r
				other.Entries = append([]json.RawMessage(nil), r.Entries...)
				other.Entries[1] = bytes.Replace(r.Entries[1], []byte(`"title":"t"`), []byte(`"title":"u"`), 1)
				if _, err := other.Check(&h); !errors.Is(err, ErrProof) {
					t.Errorf("[%d,%d): proven with another entry in its midst: %v", from, to, err)
				}
				gap := r
				gap.Entries = append(append([]json.RawMessage(nil), r.Entries[:1]...), r.Entries[2:]...)
				if _, err := gap.Check(&h); err == nil {
					t.Errorf("[%d,%d): proven with an entry missing", from, to)
				}
			}
		}
	}
}

// baseOf is the base of w's chain at size, and what follows it.
func baseOf(t testing.TB, w *world, size int) *Base {
	t.Helper()
	s, err := replay(w.texts[:size])
	if err != nil {
		t.Fatal(err)
	}
	b := &Base{Entry: w.texts[size-1], State: s.Snapshot(), Anchors: []json.RawMessage{}}
	for i, text := range w.texts[:size] {
		l := LeafOf(text)
		b.Leaves = append(b.Leaves, l[:]...)
		if i > 0 && w.entries[i].Proposal.signers() != nil {
			b.Anchors = append(b.Anchors, text)
		}
	}
	return b
}

// TestCompaction: a chain without its older entries verifies where the signers vouched
// for them, and nowhere else.
func TestCompaction(t *testing.T) {
	w := chainOf(t)
	const at = 5
	w.commit(ab, w.put(node("n4")))
	hash, err := w.entries[at-1].Hash()
	if err != nil {
		t.Fatal(err)
	}
	base := baseOf(t, w, at)
	if _, err := VerifyAny(bytes.NewReader(w.export(nil, base, at))); !errors.Is(err, ErrChain) {
		t.Fatalf("nobody vouched for the base: %v", err)
	}
	w.commit(ab, Change{Op: OpCheckpoint, Size: at, Head: hash.String()})
	v, err := Verify(bytes.NewReader(w.export(nil, base, at)), w.state.Registry())
	if err != nil || v.First != at || v.State.Head() != w.state.Head() || v.State.Root() != w.state.Root() {
		t.Fatalf("%+v, %v", v, err)
	}
	for name, spoil := range map[string]func(*Base){
		"an anchor is missing":     func(b *Base) { b.Anchors = b.Anchors[:0] },
		"a descriptor is missing":  func(b *Base) { b.State.Items = b.State.Items[1:] },
		"a descriptor is another":  func(b *Base) { b.State.Items[0].Descriptor.Labels = map[string]string{"x": "y"} },
		"it vouches for itself":    func(b *Base) { b.State.Marked, b.State.Mark = at, hash.String() },
		"a retired key is missing": func(b *Base) { b.State.Retired = b.State.Retired[1:] },
		"a leaf is another":        func(b *Base) { b.Leaves[len(b.Leaves)-1] ^= 1 },
		"it is another entry":      func(b *Base) { b.Entry = w.texts[at-2] },
	} {
		b := baseOf(t, w, at)
		spoil(b)
		if _, err := VerifyAny(bytes.NewReader(w.export(nil, b, at))); err == nil {
			t.Errorf("%s, and it verifies", name)
		}
	}
	// A base that is made up from end to end, and says that it was vouched for.
	forged, err := replay(w.texts[:at])
	if err != nil {
		t.Fatal(err)
	}
	forged, err = forged.changed(w.proposal(w.put(node("forged"))), at-1)
	if err != nil {
		t.Fatal(err)
	}
	forged.marked, forged.markHead = at, hash
	last := *w.entries[at-1]
	last.State = forged.Root().String()
	own := baseOf(t, w, at)
	if own.Entry, err = last.Encode(); err != nil {
		t.Fatal(err)
	}
	own.State = forged.Snapshot()
	l := LeafOf(own.Entry)
	copy(own.Leaves[len(own.Leaves)-len(l):], l[:])
	if _, err := VerifyAny(bytes.NewReader(w.export(nil, own, len(w.texts)))); !errors.Is(err, ErrMalformed) {
		t.Errorf("a base vouches for itself: %v", err)
	}
	for name, c := range map[string]Change{
		"the same again":  {Op: OpCheckpoint, Size: at, Head: hash.String()},
		"another's hash":  {Op: OpCheckpoint, Size: at + 1, Head: hash.String()},
		"beyond the end":  {Op: OpCheckpoint, Size: w.state.Size() + 1, Head: hash.String()},
		"below the other": {Op: OpCheckpoint, Size: at - 1, Head: w.entries[at-1].Prev},
	} {
		if _, err := w.try(ab, c); !errors.Is(err, ErrStale) && !errors.Is(err, ErrRule) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEntryState: an entry says what it leads to, and nothing else.
func TestEntryState(t *testing.T) {
	w := newWorld(t)
	e, err := w.try(ab, w.put(node("n1")))
	if err != nil {
		t.Fatal(err)
	}
	e.State = w.state.Root().String()
	if _, err := w.state.Apply(e); !errors.Is(err, ErrChain) {
		t.Errorf("it says another state: %v", err)
	}
}

func TestExpired(t *testing.T) {
	w := newWorld(t)
	p := w.proposal(w.put(node("n1")))
	if _, _, err := w.state.Next(p, w.sign(p, Approve, ab...), p.ExpiresMS+1); !errors.Is(err, ErrExpired) {
		t.Errorf("committed after its time: %v", err)
	}
}

func TestOneForm(t *testing.T) {
	d, err := node("n1").Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"white space":         strings.Replace(string(d), ":", " : ", 1),
		"another order":       `{"v":1,` + strings.Replace(string(d)[1:], `,"v":1`, "", 1),
		"canonical":           string(d),
		"-unknown member":     strings.Replace(string(d), `"v":1`, `"v":1,"w":2`, 1),
		"-empty member":       strings.Replace(string(d), `"addr"`, `"region":"","addr"`, 1),
		"-another case":       strings.Replace(string(d), `"addr"`, `"Addr"`, 1),
		"-null":               strings.Replace(string(d), `"v":1`, `"labels":null,"v":1`, 1),
		"-float":              strings.Replace(string(d), `"v":1`, `"v":1.0`, 1),
		"-twice":              strings.Replace(string(d), `"v":1`, `"v":1,"v":1`, 1),
		"-no port":            strings.Replace(string(d), `:34000`, ``, 1),
		"-all addresses":      strings.Replace(string(d), `127.0.0.1`, `0.0.0.0`, 1),
		"-member of a region": strings.Replace(string(d), `"v":1`, `"v":1,"region":{}`, 1),
		"-other format":       strings.Replace(string(d), `"v":1`, `"v":2`, 1),
	} {
		got, err := ParseDescriptor([]byte(text))
		if bad := strings.HasPrefix(name, "-"); bad != (err != nil) {
			t.Errorf("%s: %v", name, err)
		} else if bad && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v is not ErrMalformed", name, err)
		} else if !bad {
			again, _ := got.Encode()
			if !bytes.Equal(again, d) {
				t.Errorf("%s: it has another address", name)
			}
		}
	}
	e, err := newWorld(t).entries[0].Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseEntry(append([]byte(" "), e...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("an entry that is not canonical: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	w := newWorld(t)
	k := w.key("z", 3, true)
	text, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePrivateKey(text, "", 0)
	if err != nil || !sameKey(ptr(again.Anchor()), ptr(k.Anchor())) {
		t.Fatal(err)
	}
	const pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"
	if k, err := ParsePrivateKey([]byte(pem), "ann", 1); err != nil || len(k.Halves()) != 1 || k.Name != "ann" {
		t.Fatalf("PEM: %v", err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(string(text), `"v": 1`, `"v": 9`, 1), strings.Replace(pem, "MC4C", "MC4D", 1)} {
		_, err := ParsePrivateKey([]byte(bad), "ann", 1)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%v", err)
		}
		if err != nil && strings.Contains(err.Error(), "J1hsZ3v") {
			t.Error("the error repeats the file")
		}
	}
}

func ptr(a bundle.Anchor) *bundle.Anchor { return &a }
