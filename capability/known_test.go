// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
)

// However tokens follow each other, forged ones among them, and however keys
// change, Known says what Verify says.
func TestKnownAgreesWithVerify(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		k := NewKnown()
		gen, key := uint64(0), NewKey(testKey(1))
		var toks []*Token
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			var tok *Token
			switch pick := rapid.IntRange(0, 6).Draw(rt, "step"); {
			case pick == 0:
				gen++
				key = NewKey(testKey(rapid.ByteRange(1, 2).Draw(rt, "key")))
				continue
			case pick == 1 || len(toks) == 0:
				nonce := [16]byte{rapid.ByteRange(0, 1).Draw(rt, "nonce")}
				var err error
				if tok, err = Mint(NewKey(testKey(1)), testTenant, "v1", nonce, rapid.SliceOfN(genCaveat(), 0, 2).Draw(rt, "minted")...); err != nil {
					rt.Fatal(err)
				}
			case pick == 2: // forged: a tag or a caveat of one that is known is changed
				raw := rapid.SampledFrom(toks).Draw(rt, "forged").CBOR()
				at := rapid.IntRange(len(raw)/2, len(raw)-1).Draw(rt, "byte")
				raw[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
				var err error
				if tok, err = Decode(raw); err != nil {
					continue
				}
			case pick == 3: // forged: a caveat is taken away
				from := rapid.SampledFrom(toks).Draw(rt, "widened")
				n := len(from.caveats)
				if n == 0 {
					continue
				}
				var err error
				if tok, err = assemble([]byte(from.raw[:from.rootEnd]), from.tag, from.caveats[:rapid.IntRange(0, n-1).Draw(rt, "left")], nil); err != nil {
					rt.Fatal(err)
				}
			default:
				var err error
				from := rapid.SampledFrom(toks).Draw(rt, "from")
				if tok, err = from.Attenuate(rapid.SliceOfN(genCaveat(), 0, 2).Draw(rt, "added")...); err != nil {
					continue // too many
				}
			}
			toks = append(toks, tok)
			want, wantErr := tok.Verify(key)
			got, gotErr := k.Verify(tok, &Attempt{Key: key, Generation: gen, Keep: rapid.Bool().Draw(rt, "keep")})
			if macronode.KindOf(gotErr) != macronode.KindOf(wantErr) || !reflect.DeepEqual(got, want) {
				rt.Fatalf("known: %v, %v; verified: %v, %v", got, gotErr, want, wantErr)
			}
		}
	})
}

// What is not verified to the end is not remembered.
func TestKnownKeepsTheVerifiedAlone(t *testing.T) {
	k, key := NewKnown(), NewKey(testKey(1))
	party := partied(t, nil)
	for name, a := range map[string]struct {
		tok *Token
		Attempt
	}{
		"forged":        {mint(t), Attempt{Key: NewKey(testKey(2)), Keep: true}},
		"not to keep":   {mint(t), Attempt{Key: key}},
		"no discharge":  {party, Attempt{Key: key, Keep: true}},
		"one too many":  {mint(t), Attempt{Key: key, Keep: true, Discharges: 1}},
		"bad discharge": {party, Attempt{Key: key, Keep: true, Discharges: 1, Load: func() ([]*Token, error) { return []*Token{party}, nil }}},
	} {
		_, err := k.Verify(a.tok, &a.Attempt)
		if (err == nil) != (name == "not to keep") || k.Len() != 0 {
			t.Errorf("%s: %v; %d are known", name, err, k.Len())
		}
	}
	// A forged token is refused before a byte of its discharges is read.
	_, err := k.Verify(party, &Attempt{Key: NewKey(testKey(2)), Discharges: 1, Load: func() ([]*Token, error) { t.Error("discharges of a forged token are read"); return nil, nil }})
	if macronode.KindOf(err) != macronode.TokenForged {
		t.Errorf("forged with a discharge: %v", err)
	}
	ds := bound(t, party, discharges(t, party)...)
	for range 2 {
		v, err := k.Verify(party, &Attempt{Key: key, Keep: true, Discharges: 1, Load: func() ([]*Token, error) { return ds, nil }})
		if err != nil || len(v.Discharged) != 2 || k.Len() != 1 {
			t.Errorf("with its discharge: %v; %d are known", err, k.Len())
		}
	}
	_, err = k.Verify(party, &Attempt{Key: key, Keep: true})
	wantDischarge(t, err, isMissing)
}

// A chain that is known is not hashed again: with another key, under the same
// generation, it still verifies. So it is the generation that must change.
func TestKnownHashesWhatIsNewAlone(t *testing.T) {
	k, key, other := NewKnown(), NewKey(testKey(1)), NewKey(testKey(2))
	base := mint(t, ExpiresAt(2_000_000))
	narrow, err := base.Attenuate(AtMostBytes(5))
	if err != nil {
		t.Fatal(err)
	}
	side, err := base.Attenuate(AtMostBytes(6), InAmnesia())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(narrow, &Attempt{Key: key, Keep: true}); err != nil {
		t.Fatal(err)
	}
	for name, tok := range map[string]*Token{"itself": narrow, "what it was narrowed from": base, "a sibling": side, "its root": mint(t)} {
		v, err := k.Verify(tok, &Attempt{Key: other})
		want, _ := tok.Verify(key)
		if err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("%s is hashed from its beginning: %v", name, err)
		}
	}
	for _, gen := range []uint64{1, 2} {
		if _, err := k.Verify(narrow, &Attempt{Key: other, Generation: gen}); macronode.KindOf(err) != macronode.TokenForged {
			t.Errorf("after a change of keys: %v", err)
		}
	}
	if _, err := k.Verify(side, &Attempt{Key: key, Generation: 7, Keep: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(narrow, &Attempt{Key: key, Generation: 6, Keep: true}); err != nil || k.Len() != 1 {
		t.Errorf("a chain of older keys: %v; %d are known", err, k.Len())
	}
	k.Forget()
	if _, err := k.Verify(side, &Attempt{Key: other, Generation: 7}); macronode.KindOf(err) != macronode.TokenForged || k.Len() != 0 {
		t.Errorf("after Forget: %v", err)
	}
}

// Hashes of prefixes find; bytes decide.
func TestKnownCompares(t *testing.T) {
	k, key := NewKnown(), NewKey(testKey(1))
	tok, other := mint(t, AtMostBytes(1)), mint(t, AtMostBytes(2))
	if _, err := k.Verify(tok, &Attempt{Key: key, Keep: true}); err != nil {
		t.Fatal(err)
	}
	var of, want [MaxCaveats + 1]uint64
	s := k.prefixes(tok, &of)
	k.prefixes(other, &want)
	s.m[want[1]] = s.m[of[1]] // as if both had it
	v, err := k.Verify(other, &Attempt{Key: key})
	if err != nil || v.LeafID() != other.LeafID() {
		t.Errorf("another chain is taken for the one that is known: %v", err)
	}
}

// Eviction and Forget overwrite tags, and the bounds hold.
func TestKnownIsBounded(t *testing.T) {
	k, key := NewKnown(), NewKey(testKey(1))
	hot := mint(t)
	chains := map[*knownChain]bool{}
	for i := range 3 * knownTokens {
		tok, err := hot.Attenuate(AtMostBytes(int64(i)), ForNode(string(make([]byte, 1000))))
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if tok, err = Mint(key, testTenant, "v1", [16]byte{byte(i), byte(i >> 8)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := k.Verify(tok, &Attempt{Key: key, Keep: true}); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			for j := range k.shards {
				for _, c := range k.shards[j].ring {
					chains[c] = true
				}
			}
		}
	}
	total := 0
	for i := range k.shards {
		s := &k.shards[i]
		links := 0
		for _, c := range s.ring {
			total += c.size
			links += len(c.sums)
			delete(chains, c)
		}
		if len(s.m) > links || len(s.ring) > knownTokens/knownShards || s.bytes > knownBytes/knownShards {
			t.Errorf("shard %d: %d links, %d tokens, %d bytes", i, len(s.m), len(s.ring), s.bytes)
		}
		s.clear()
		for c := range s.ring {
			t.Errorf("%d is left", c)
		}
	}
	if total == 0 || total > knownBytes {
		t.Errorf("%d bytes", total)
	}
	for c := range chains {
		for _, w := range c.tags {
			if w != (words{}) {
				t.Fatal("a tag outlives its eviction")
			}
		}
	}
	if _, err := k.Verify(hot, &Attempt{Key: key, Keep: true}); err != nil {
		t.Error(err)
	}
}

func TestKnownConcurrently(t *testing.T) {
	k, key := NewKnown(), NewKey(testKey(1))
	base := mint(t, ExpiresAt(2_000_000))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 300 {
				tok, err := base.Attenuate(AtMostBytes(int64(i % 50)))
				if err != nil {
					t.Error(err)
					return
				}
				if v, err := k.Verify(tok, &Attempt{Key: key, Generation: uint64(i / 100), Keep: true}); err != nil || v.LeafID() != tok.LeafID() {
					t.Errorf("goroutine %d: %v", g, err)
				}
				if i%77 == 0 {
					k.Forget()
				}
			}
		})
	}
	wg.Wait()
}

// Narrowing a known capability costs a hash for each new caveat and little else.
func BenchmarkNarrowed(b *testing.B) {
	k, key := NewKnown(), NewKey(testKey(1))
	base := mint(b, benchCaveats()...)
	toks := make([]*Token, 1024)
	for i := range toks {
		var err error
		if toks[i], err = base.Attenuate(AtMostBytes(int64(1<<20 + i))); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := k.Verify(base, &Attempt{Key: key, Keep: true}); err != nil {
		b.Fatal(err)
	}
	a := Attempt{Key: key}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := k.Verify(toks[i%len(toks)], &a); err != nil {
			b.Fatal(err)
		}
	}
}
