// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/netip"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
)

func from(addr string) *macronode.Call {
	c := call(nil)
	c.Token = []byte("ron1_bad")
	c.Peer.Addr = netip.MustParseAddr(addr)
	return c
}

func TestFlood(t *testing.T) {
	w := newWorld()
	a := w.start()
	for i := range floodBurst {
		if _, _, err := w.try(a, from("192.0.2.1")); macronode.KindOf(err) != macronode.TokenMalformed {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	_, _, err := w.try(a, from("192.0.2.1"))
	wantKind(t, err, macronode.AuthFlood)
	if got := macronode.AsError(err).RetryAfter; got != floodStep {
		t.Errorf("RetryAfter is %v", got)
	}
	// Before auth: a good capability has to wait as well. No capability is no
	// authentication, and other addresses are others.
	good := call(mint(t, keyOne, alice, "v1"))
	good.Peer.Addr = netip.MustParseAddr("::ffff:192.0.2.1")
	_, _, err = w.try(a, good)
	wantKind(t, err, macronode.AuthFlood)
	nobody := call(nil)
	nobody.Peer.Addr = good.Peer.Addr
	if _, _, err := w.try(a, nobody); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	_, _, err = w.try(a, from("192.0.2.2"))
	wantKind(t, err, macronode.TokenMalformed)

	w.now = w.now.Add(floodStep)
	_, _, err = w.try(a, from("192.0.2.1"))
	wantKind(t, err, macronode.TokenMalformed)
	_, _, err = w.try(a, from("192.0.2.1"))
	wantKind(t, err, macronode.AuthFlood)
	w.now = w.now.Add(floodWindow)
	if _, _, err := w.try(a, good); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if got := a.floods.len(); got != 1 { // 192.0.2.2
		t.Errorf("%d addresses are still tracked", got)
	}
}

func TestFloodSurvivesClockSetBack(t *testing.T) {
	w := newWorld()
	a := w.start()
	for range floodBurst {
		_, _, _ = w.try(a, from("192.0.2.1"))
	}
	w.now = w.now.Add(-time.Hour)
	_, _, err := w.try(a, from("192.0.2.1"))
	wantKind(t, err, macronode.AuthFlood)
	w.now = w.now.Add(floodStep)
	_, _, err = w.try(a, from("192.0.2.1"))
	wantKind(t, err, macronode.TokenMalformed)
}

func TestFloodKeys(t *testing.T) {
	peer := func(s string) *macronode.Peer { return &macronode.Peer{Addr: netip.MustParseAddr(s)} }
	same := func(a, b *macronode.Peer, want bool) {
		t.Helper()
		if got := keyOf(a) == keyOf(b); got != want {
			t.Errorf("%v and %v: same is %v", a, b, got)
		}
	}
	same(peer("192.0.2.1"), peer("::ffff:192.0.2.1"), true)
	same(peer("192.0.2.1"), peer("192.0.2.2"), false)
	same(peer("2001:db8::1"), peer("2001:db8::ffff:1"), true)
	same(peer("2001:db8::1"), peer("2001:db8:0:1::1"), false)
	same(peer("::1"), &macronode.Peer{UDS: true}, false)
	same(&macronode.Peer{UDS: true, UID: 1}, &macronode.Peer{UDS: true, UID: 2}, false)
	same(&macronode.Peer{UDS: true, UID: 1}, peer("0.0.0.1"), false)
}

// The table stays bounded, and one who fails a lot cannot be pushed out by many
// who fail once.
func TestFloodTableIsBounded(t *testing.T) {
	w := newWorld()
	f := newFloods(w.now)
	culprit := &macronode.Peer{Addr: netip.MustParseAddr("198.51.100.1")}
	for range floodBurst {
		f.failed(culprit, w.now)
	}
	for i := range 3 * floodAddresses {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 0x0a000000+uint32(i))
		f.failed(&macronode.Peer{Addr: netip.AddrFrom4(a)}, w.now)
	}
	n := 0
	for i := range f.shards {
		n += len(f.shards[i].full)
	}
	if n > floodAddresses || n != f.len() {
		t.Errorf("%d entries, %d counted", n, f.len())
	}
	if f.wait(culprit, w.now) == 0 {
		t.Error("the culprit was forgotten")
	}
}

// Two tokens of one hash, should they ever meet, are still two tokens.
func TestCacheComparesTokens(t *testing.T) {
	c := newCache()
	e := &entry{token: "ron1_one", chain: &capability.Verified{}}
	c.put(e)
	other := []byte("ron1_two")
	h := maphash.Bytes(c.seed, other)
	s := c.shard(h)
	s.mu.Lock()
	s.m[h] = e // as if both had it
	s.mu.Unlock()
	if c.get(&macronode.Call{Token: other}) != nil {
		t.Error("another token is taken for the one that was verified")
	}
	proofs := []string{"ron1_a"}
	h = c.sum([]byte(e.token), proofs)
	s = c.shard(h)
	s.mu.Lock()
	s.m[h] = e
	s.mu.Unlock()
	if c.get(&macronode.Call{Token: []byte(e.token), Discharges: proofs}) != nil {
		t.Error("other discharges are taken for those that were verified")
	}
	if c.get(&macronode.Call{Token: []byte(e.token)}) != e {
		t.Error("the token itself is not found")
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache()
	put := func(i, size int) *entry {
		e := &entry{token: fmt.Sprintf("%*d", size, i), chain: &capability.Verified{}}
		c.put(e)
		return e
	}
	hot := put(-1, 300)
	for i := range 3 * cacheEntries {
		put(i, 300)
		if c.get(&macronode.Call{Token: []byte(hot.token)}) != hot {
			t.Fatalf("an entry in use was pushed out after %d others", i)
		}
	}
	if n := c.len(); n > cacheEntries || n < cacheEntries*9/10 {
		t.Errorf("%d entries", n)
	}
	for i := range cacheEntries {
		put(i, capability.MaxTextBytes)
	}
	total := 0
	for i := range c.shards {
		s := &c.shards[i]
		sum := 0
		for slot, e := range s.ring {
			if e.slot != slot || s.m[e.hash] != e {
				t.Fatal("the ring and the map disagree")
			}
			sum += len(e.token)
		}
		if sum != s.bytes || len(s.m) != len(s.ring) {
			t.Fatalf("counted %d bytes, there are %d", s.bytes, sum)
		}
		total += sum
	}
	if total > cacheBytes {
		t.Errorf("%d bytes", total)
	}
	c.drop(hot)
	c.drop(hot)
	if c.get(&macronode.Call{Token: []byte(hot.token)}) != nil {
		t.Error("a dropped entry is still there")
	}
}

func benchCall(b *testing.B) *macronode.Call {
	b.Helper()
	return call(mint(b, keyOne, alice, "v1",
		capability.OnActions("object:get", "object:put"), capability.OnResources("object/*"), capability.ExpiresAt(2_000_000_000),
		capability.AtMostBytes(1<<20), capability.FromNets(netip.MustParsePrefix("192.0.2.0/24"))))
}

func BenchmarkWarm(b *testing.B) {
	w := newWorld()
	a := w.start()
	a.now = time.Now
	c := benchCall(b)
	if _, _, err := w.try(a, c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = w.try(a, c)
	}
}

func BenchmarkWarmParallel(b *testing.B) {
	w := newWorld()
	a := w.start()
	a.now = time.Now
	c := benchCall(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _, _ = w.try(a, c)
		}
	})
}

func BenchmarkCold(b *testing.B) {
	w := newWorld()
	a := w.start()
	a.now = time.Now
	c := benchCall(b)
	b.ReportAllocs()
	for b.Loop() {
		w.keyGen.Add(1) // nothing cached is good any more
		if _, _, err := w.try(a, c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkForged(b *testing.B) {
	w := newWorld()
	a := w.start()
	c := benchCall(b)
	w.keys["v1"] = keyTwo
	b.ReportAllocs()
	for b.Loop() {
		a.floods.tracked.Store(0) // or it would be the flood's refusal
		_, _, _ = w.try(a, c)
	}
}

func BenchmarkFlood(b *testing.B) {
	w := newWorld()
	a := w.start()
	for range floodBurst {
		_, _, _ = w.try(a, from("192.0.2.1"))
	}
	c := from("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = w.try(a, c)
	}
}

func BenchmarkAnonymous(b *testing.B) {
	w := newWorld()
	a := w.start()
	c := call(nil)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = w.try(a, c)
	}
}

func TestWarmPathAllocatesNothing(t *testing.T) {
	w := newWorld()
	a := w.start()
	c := call(mint(t, keyOne, alice, "v1", capability.OnActions("object:*"), capability.OnResources("object/b3:abc"), capability.ExpiresAt(2_000_000),
		capability.FromNets(netip.MustParsePrefix("192.0.2.0/24")), capability.AtRate(1, 1)))
	if n := testing.AllocsPerRun(200, func() {
		if _, _, err := w.try(a, c); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
