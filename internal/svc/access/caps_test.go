// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
)

// minted reads a mint's answer and verifies the token in it.
func (r *rig) minted(as *macronode.Admitted, body string) (*capability.Token, Minted) {
	r.t.Helper()
	var m Minted
	reply := r.ok(as, "cap.mint", body, &m)
	if reply.Status != 201 || reply.Header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("got %d %v", reply.Status, reply.Header)
	}
	tok, err := capability.Parse(m.Token)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := r.MintKey(tok.Tenant(), tok.KeyID())
	if err != nil || key == nil {
		r.t.Fatal("no key", err)
	}
	v, err := tok.Verify(key)
	if err != nil {
		r.t.Fatal(err)
	}
	if v.RootID().String() != m.RootID || v.LeafID().String() != m.LeafID || tok.KeyID() != m.KID || tok.Tenant().String() != m.Tenant {
		r.t.Errorf("got %+v", m)
	}
	return tok, m
}

func caveats(tok *capability.Token) string {
	var out []string
	for _, c := range tok.Caveats() {
		out = append(out, c.String())
	}
	return strings.Join(out, "; ")
}

func TestMint(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	tok, _ := r.minted(r.operator, `{"tenant":"acme","actions":["object:*"],"resources":["object/*"],"methods":["GET"],"confine":["svc-storage"],
		"ipnets":["10.0.0.0/8"],"expires_s":60,"not_before":5,"max_bytes":9,"rate":{"per_s":2,"burst":4}}`)
	want := fmt.Sprintf(`nbf = 5; exp = %d; actions in ["object:*"]; resources in ["object/*"]; methods in ["GET"]; confine in ["svc-storage"]; `+
		`ipnets in ["10.0.0.0/8"]; max_bytes = 9; rate = 2/s, burst 4`, r.now.Unix()+60)
	if got := caveats(tok); got != want || tok.Tenant() != acme {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if plain, _ := r.minted(r.operator, `{}`); plain.Tenant() != macronode.SystemTenant || caveats(plain) != "" {
		t.Errorf("got %v", plain)
	}
	// The audit record names ids and no token, and is there before the answer.
	last := r.log.events[len(r.log.events)-1]
	if last.Kind != "cap.mint" || !strings.HasPrefix(last.Actor, "cap:") || strings.Contains(fmt.Sprint(last), "ron1_") {
		t.Errorf("got %+v", last)
	}
}

func TestMintNeverWidens(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	r.tenant("other")
	narrow := r.mintTok(acme, capability.OnActions("cap:mint", "object:get"), capability.FromNets(netip.MustParsePrefix("10.0.0.0/8")))
	own := caveats(narrow)
	tok, _ := r.minted(r.as(narrow), `{"actions":["*"]}`)
	if got := caveats(tok); got != own+`; actions in ["*"]` {
		t.Errorf("got %s", got)
	}
	for _, name := range []string{"acme", acme.String()} {
		if tok, _ := r.minted(r.as(narrow), `{"tenant":"`+name+`"}`); caveats(tok) != own {
			t.Errorf("got %s", caveats(tok))
		}
	}
	// Over OAP/1 the token came as CBOR.
	oap := r.as(narrow)
	oap.Wire, oap.Token = macronode.WireOAP, narrow.CBOR()
	if tok, _ := r.minted(oap, `{}`); caveats(tok) != own {
		t.Errorf("got %s", caveats(tok))
	}
	// An operator within system is no wider than what it shows, either.
	op := r.as(r.mintTok(macronode.SystemTenant, capability.OnActions("cap:*")))
	if tok, _ := r.minted(op, `{}`); caveats(tok) != `actions in ["cap:*"]` {
		t.Errorf("got %s", caveats(tok))
	}
	if tok, _ := r.minted(op, `{"tenant":"acme"}`); caveats(tok) != "" {
		t.Errorf("got %s", caveats(tok))
	}
	// Another tenant and none at all look the same.
	a := r.refused(macronode.TenantMismatch, r.as(narrow), "cap.mint", `{"tenant":"other"}`)
	b := r.refused(macronode.TenantMismatch, r.as(narrow), "cap.mint", `{"tenant":"nobody"}`)
	if a.Error() != b.Error() {
		t.Errorf("%v, %v", a, b)
	}
	// Many tokens would be many buckets.
	r.refused(macronode.CaveatDenied, r.as(r.mintTok(acme, capability.AtRate(1, 1))), "cap.mint", `{}`)
	// What a discharge narrows would be lost with it.
	guarded := capability.Other(capability.ThirdParty, []byte{0x84, 0x61, 'l', 0x61, 'k', 0x41, 1, 0x41, 2})
	tok, err := r.mintTok(acme).Attenuate(guarded)
	if err != nil {
		t.Fatal(err)
	}
	with := r.as(r.mintTok(acme))
	with.Token, with.Principal.LeafID = []byte(tok.Text()), tok.LeafID()
	r.refused(macronode.CaveatDenied, with, "cap.mint", `{}`)
	// A principal that is not the token's is no principal.
	mixed := r.as(narrow)
	mixed.Call = r.as(r.mintTok(acme)).Call
	r.refused(macronode.Denied, mixed, "cap.mint", `{}`)
	mixed.Token = nil
	r.refused(macronode.Denied, mixed, "cap.mint", `{}`)
	r.refused(macronode.Denied, nobody(r), "cap.mint", `{}`)
}

func TestMintRefusals(t *testing.T) {
	r := newRig(t)
	for _, tc := range []struct {
		body string
		want macronode.Kind
	}{
		{`{"tenant":"nobody"}`, macronode.NotFound},
		{`{"tenant":"anonymous"}`, macronode.Invalid},
		{`{"actions":[]}`, macronode.Invalid},
		{`{"actions":[""]}`, macronode.Invalid},
		{`{"actions":["a*b"]}`, macronode.Invalid},
		{`{"methods":["get"]}`, macronode.Invalid},
		{`{"ipnets":["10.0.0.1/8"]}`, macronode.Invalid},
		{`{"ipnets":["10.0.0.1"]}`, macronode.Invalid},
		{`{"ipnets":[]}`, macronode.Invalid},
		{`{"expires_s":0}`, macronode.Invalid},
		{`{"expires_s":-5}`, macronode.Invalid},
		{`{"expires_s":9223372036854775807}`, macronode.Invalid},
		{`{"not_before":-1}`, macronode.Invalid},
		{`{"max_bytes":-1}`, macronode.Invalid},
		{`{"rate":{"per_s":-1,"burst":1}}`, macronode.Invalid},
		{`{"resources":["` + strings.Repeat("a", 5000) + `"]}`, macronode.Invalid},
		{`{"expires_s":"1h"}`, macronode.Malformed},
		{`{"action":["x"]}`, macronode.Malformed},
	} {
		r.refused(tc.want, r.operator, "cap.mint", tc.body)
	}
	r.keys.fail = errors.New("sealed")
	r.keys.epoch.Add(1)
	if err := r.refused(macronode.Unavailable, r.operator, "cap.mint", `{}`); strings.Contains(macronode.AsError(err).Detail, "sealed") {
		t.Error("the cause is shown")
	}
}

func TestRevoke(t *testing.T) {
	r := newRig(t)
	acme, other := r.tenant("acme"), r.tenant("other")
	tokA, tokB := r.mintTok(acme), r.mintTok(other)
	body := func(tok *capability.Token) string { return `{"id":"` + tok.LeafID().String() + `"}` }
	gen := r.RevocationGeneration()
	var first, again Revoked
	r.ok(r.as(tokA), "cap.revoke", body(tokA), &first)
	if !r.Revoked(acme, tokA.LeafID()) || r.RevocationGeneration() == gen {
		t.Error("not in effect")
	}
	r.now = r.now.Add(1e9)
	r.ok(r.as(tokA), "cap.revoke", body(tokA), &again)
	if !reflect.DeepEqual(again, first) || first.ID != tokA.LeafID().String() {
		t.Errorf("first %+v, then %+v", first, again)
	}
	// A tenant's revocation binds its own alone; the operator's everyone's.
	r.ok(r.as(tokA), "cap.revoke", body(tokB), nil)
	if r.Revoked(other, tokB.LeafID()) {
		t.Error("a tenant revoked another's capability")
	}
	r.ok(r.operator, "cap.revoke", body(tokB), nil)
	if !r.Revoked(other, tokB.LeafID()) {
		t.Error("the operator's revocation has no effect")
	}
	r.restart()
	if !r.Revoked(acme, tokA.LeafID()) || !r.Revoked(other, tokB.LeafID()) || r.Revoked(other, tokA.LeafID()) {
		t.Error("lost by a restart")
	}
	r.sameAsStored()
	if err := r.Service.Revoke(context.Background(), macronode.CapID{9}, "peer:x"); err != nil || !r.Revoked(acme, macronode.CapID{9}) {
		t.Errorf("by a peer: %v", err)
	}
	for _, bad := range []string{`{}`, `{"id":"xx"}`, `{"id":"` + strings.Repeat("0A", 16) + `"}`, `{"id":"` + strings.Repeat("0a", 17) + `"}`} {
		r.refused(macronode.Invalid, r.operator, "cap.revoke", bad)
	}
	r.refused(macronode.Denied, nobody(r), "cap.revoke", body(tokA))
	r.refused(macronode.Denied, nobody(r), "cap.revocations", nil)
}

func TestRevocationPages(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	who := r.as(r.mintTok(acme))
	for i := range 5 {
		r.ok(who, "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, i), nil)
		r.ok(r.operator, "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, 100+i), nil)
	}
	walk := func(as *macronode.Admitted) (ids []string) {
		cursor := ""
		for {
			var page RevocationList
			r.ok(as, "cap.revocations", nil, &page, "limit", "2", "cursor", cursor)
			for _, v := range page.Revocations {
				want := "" // the operator's ids begin at 100
				if v.ID < fmt.Sprintf("%032x", 100) {
					want = acme.String()
				}
				if v.By == "" || v.RevokedMS != r.now.UnixMilli() || v.Tenant != want {
					t.Errorf("got %+v", v)
				}
				ids = append(ids, v.ID)
			}
			if cursor = page.Cursor; cursor == "" {
				return ids
			}
		}
	}
	if ids := walk(who); len(ids) != 5 || !slices.IsSorted(ids) {
		t.Errorf("the tenant sees %v", ids)
	}
	if ids := walk(r.operator); len(ids) != 10 {
		t.Errorf("the operator sees %v", ids)
	}
	var page RevocationList
	r.ok(r.operator, "cap.revocations", nil, &page, "limit", "1")
	r.refused(macronode.Malformed, who, "cap.revocations", nil, "cursor", page.Cursor) // another list's
	r.refused(macronode.Malformed, who, "cap.revocations", nil, "cursor", "00")
}

func TestTenantsRevocationsAreBounded(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	who := r.as(r.mintTok(acme))
	r.revoked.mu.Lock()
	r.revoked.count = map[macronode.TenantID]int{acme: maxRevocations}
	r.revoked.own = map[scoped]int64{}
	r.revoked.mu.Unlock()
	r.refused(macronode.QuotaObjects, who, "cap.revoke", `{"id":"`+strings.Repeat("0a", 16)+`"}`)
	r.ok(r.operator, "cap.revoke", `{"id":"`+strings.Repeat("0a", 16)+`"}`, nil)
}

func TestKeyRotation(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	name := MintKeyName(acme)
	toks := []*capability.Token{r.mintTok(acme)}
	gen := r.KeyGeneration()
	r.tenant("other")
	r.mintTok(r.Find("other").ID) // a change of other keys
	if r.KeyGeneration() != gen {
		t.Error("another key's change counts as this one's")
	}
	for range 4 {
		r.keys.rotate(name)
		toks = append(toks, r.mintTok(acme)) // notices at once
		next := r.KeyGeneration()
		if next == gen {
			t.Fatal("the generation did not change")
		}
		gen = next
	}
	for i, tok := range toks {
		if want := fmt.Sprintf("v%d", i+1); tok.KeyID() != want {
			t.Fatalf("token %d has kid %s", i, tok.KeyID())
		}
		key, err := r.MintKey(acme, tok.KeyID())
		if good := i >= len(toks)-mintkeys.Good; (key != nil) != good || err != nil {
			t.Errorf("%s: key %v, %v", tok.KeyID(), key, err)
		} else if good {
			if _, err := tok.Verify(key); err != nil {
				t.Error(err)
			}
		}
	}
	for _, kid := range []string{"", "v0", "v05", "v6", "V5", "v-1", "v18446744073709551621"} {
		if key, err := r.MintKey(acme, kid); key != nil || err != nil {
			t.Errorf("kid %q: %v, %v", kid, key, err)
		}
	}
	// Keys that are held are not read again, and keys of nobody not at all.
	reads := r.keys.reads
	for range 10 {
		_, _ = r.MintKey(acme, "v5")
		_, _ = r.MintKey(acme, "v99")
		_, _ = r.MintKey(macronode.TenantID{1, 2, 3}, "v1")
	}
	if r.keys.reads != reads {
		t.Errorf("%d reads", r.keys.reads-reads)
	}
	// A version that is gone does not take the others with it.
	r.keys.mu.Lock()
	r.keys.keys[name][3] = nil
	r.keys.epoch.Add(1)
	r.keys.mu.Unlock()
	r.restart()
	if k4, _ := r.MintKey(acme, "v4"); k4 != nil {
		t.Error("a version that is gone is good")
	}
	if k3, _ := r.MintKey(acme, "v3"); k3 == nil {
		t.Error("v3 went with v4")
	}
	r.Wipe()
	if key, err := r.MintKey(acme, "v5"); key == nil || err != nil {
		t.Errorf("after Wipe: %v, %v", key, err) // read again
	}
}

// Keys that were read while they were rotated are read again: held as they
// were, nothing would ever tell that they are old.
func TestRotationDuringRead(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	name := MintKeyName(acme)
	for range 3 {
		r.keys.rotate(name)
	}
	r.keys.during = func() {
		r.keys.rotate(name)
		r.Service.keys.Compare() // finds nothing that is held
	}
	if key, err := r.MintKey(acme, "v1"); key != nil || err != nil {
		t.Errorf("v1 is good beside v4: %v", err)
	}
	if key, err := r.MintKey(acme, "v4"); key == nil || err != nil {
		t.Errorf("v4 is not good: %v", err)
	}
}

// A rotation is noticed without anyone minting: by a token of the new version at
// once, by those of a version that is too old soon.
func TestRotationIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		acme, idle := r.tenant("acme"), r.tenant("idle")
		r.mintTok(acme)
		r.mintTok(idle)
		stop := r.serving()
		defer stop()
		name := MintKeyName(acme)
		gen := r.KeyGeneration()
		r.keys.rotate(name)
		if key, err := r.MintKey(acme, "v2"); key == nil || err != nil || r.KeyGeneration() == gen {
			t.Errorf("v2: %v, %v", key, err)
		}
		for range 5 {
			gen = r.KeyGeneration()
			r.keys.rotate(name)
			pass(2 * mintkeys.ComparePeriod)
			if r.KeyGeneration() == gen {
				t.Error("not noticed")
			}
			_, _ = r.MintKey(acme, "v2") // hold it again
		}
		if key, _ := r.MintKey(acme, "v4"); key != nil {
			t.Error("v4 is good beside v7")
		}
		// The count changes first, the key somewhat later.
		r.keys.epoch.Add(1)
		pass(mintkeys.ComparePeriod + mintkeys.ComparePeriod/2)
		r.keys.mu.Lock()
		r.keys.addVersion(name)
		r.keys.epoch.Add(^uint64(0))
		r.keys.mu.Unlock()
		gen = r.KeyGeneration()
		pass(mintkeys.CompareAgain * mintkeys.ComparePeriod)
		if r.KeyGeneration() == gen {
			t.Error("a change after its count was not noticed")
		}
		// And without any count, in the end.
		_, _ = r.MintKey(idle, "v1")
		gen = r.KeyGeneration()
		r.keys.mu.Lock()
		r.keys.addVersion(MintKeyName(idle))
		r.keys.epoch.Add(^uint64(0))
		r.keys.mu.Unlock()
		pass(mintkeys.CompareAlways * mintkeys.ComparePeriod)
		if r.KeyGeneration() == gen {
			t.Error("a change without a count was not noticed")
		}
	})
}

// A generation that was read before a look-up does not outlive the keys that
// the look-up gave.
func TestKeysUnderRotation(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	r.mintTok(acme)
	name := MintKeyName(acme)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range 500 {
				newest, _ := r.keys.NewestMint(name)
				r.Service.keys.Compare() // from here on at least newest is known
				gen := r.KeyGeneration()
				old := fmt.Sprintf("v%d", max(0, int64(newest)-mintkeys.Good))
				if key, err := r.MintKey(acme, old); key != nil || err != nil {
					t.Errorf("%s under generation %d: %v", old, gen, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			r.keys.rotate(name)
		}
	})
	wg.Wait()
}

// Whatever is done, memory is what the store would load.
func TestMemoryFollowsStore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRig(t)
		labels := []string{"a", "b", "c"}
		steps := rapid.SliceOfN(rapid.IntRange(0, 6), 1, 25).Draw(rt, "steps")
		for _, step := range steps {
			label := rapid.SampledFrom(labels).Draw(rt, "label")
			switch step {
			case 0, 1:
				_, _ = r.call(r.operator, "tenant.create", `{"label":"`+label+`"}`)
			case 2:
				_, _ = r.call(r.operator, "tenant.suspend", nil, "tenant", label)
			case 3:
				_, _ = r.call(r.operator, "tenant.quota", `{"weight":7}`, "tenant", label)
			case 4:
				_, _ = r.call(r.operator, "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, rapid.IntRange(0, 3).Draw(rt, "id")))
			case 5:
				torn := errors.New("torn")
				r.kv.fail.Store(&torn)
				_, _ = r.call(r.operator, "tenant.resume", nil, "tenant", label)
				_, _ = r.call(r.operator, "tenant.create", `{"label":"`+label+`"}`)
				r.kv.fail.Store(nil)
			case 6:
				if x := r.Find(label); x != nil {
					if _, err := r.Delete(context.Background(), "node", x.ID); err != nil {
						rt.Fatal(err)
					}
					if err := r.finish(context.Background(), r.tenants.get(x.ID)); err != nil {
						rt.Fatal(err)
					}
				}
			}
			r.sameAsStored()
		}
	})
}

func TestConcurrentChanges(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				q := macronode.UnlimitedQuota()
				q.Weight = int64(i*25 + j + 1)
				if err := r.SetQuota(context.Background(), acme, q); err != nil {
					t.Error(err)
				}
				if err := r.Service.Revoke(context.Background(), macronode.CapID{byte(i), byte(j)}, "node"); err != nil {
					t.Error(err)
				}
				_, _ = r.Ensure(context.Background(), macronode.TenantID{}, fmt.Sprintf("t%d", j), q)
			}
		})
	}
	wg.Wait()
	r.sameAsStored()
	if r.tenants.len() != 3+25 || r.revoked.len() != 200 {
		t.Errorf("%d tenants, %d revocations", r.tenants.len(), r.revoked.len())
	}
}

func BenchmarkTenant(b *testing.B) {
	var ts tenants
	for i := range 10_000 {
		ts.put(&tenant{Tenant: macronode.Tenant{ID: macronode.TenantID{13: byte(i >> 8), 15: byte(i)}, Label: fmt.Sprint(i)}})
	}
	id := macronode.TenantID{13: 3, 15: 9}
	b.ReportAllocs()
	for b.Loop() {
		if ts.get(id) == nil {
			b.Fatal("not found")
		}
	}
}

func BenchmarkRevoked(b *testing.B) {
	var rs revocations
	for i := range 10_000 {
		rs.add(dead{scoped: scoped{tenant: macronode.TenantID{byte(i)}, id: macronode.CapID{byte(i >> 8), byte(i)}}})
	}
	b.ReportAllocs()
	for b.Loop() {
		rs.has(macronode.TenantID{1}, macronode.CapID{9, 9})
	}
}
