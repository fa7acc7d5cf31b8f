// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
	"github.com/rustyonions/macronode/revocation"
)

// good reports whether the auth stage would take tok.
func (r *rig) good(tok *capability.Token) bool {
	r.t.Helper()
	key, err := r.MintKey(tok.Tenant(), tok.KeyID())
	if err != nil {
		r.t.Fatal(err)
	}
	if key == nil || r.KeyRevoked(tok.Tenant(), tok.KeyID()) {
		return false
	}
	v, err := tok.Verify(key)
	if err != nil {
		r.t.Fatal(err)
	}
	return !slices.ContainsFunc(v.IDs, func(id macronode.CapID) bool { return r.Revoked(tok.Tenant(), id) })
}

func (r *rig) wantGood(what string, toks map[*capability.Token]bool) {
	r.t.Helper()
	for tok, want := range toks {
		if r.good(tok) != want {
			r.t.Errorf("%s: a capability of %v, kid %s, good: %v", what, tok.Tenant(), tok.KeyID(), !want)
		}
	}
}

func TestRevokeKey(t *testing.T) {
	r := newRig(t)
	acme, other := r.tenant("acme"), r.tenant("other")
	one, two := r.mintTok(acme), r.mintTok(acme)
	r.keys.rotate(MintKeyName(acme))
	three, foreign := r.mintTok(acme), r.mintTok(other)
	gen := r.RevocationGeneration()
	var got Revoked
	r.ok(r.as(three), "cap.revoke", `{"kid":"v1"}`, &got)
	if got.Tenant != acme.String() || !slices.Equal(got.KIDs, []string{"v1"}) || r.RevocationGeneration() == gen {
		t.Errorf("got %+v", got)
	}
	want := map[*capability.Token]bool{one: false, two: false, three: true, foreign: true}
	r.wantGood("by key", want)
	r.restart()
	r.wantGood("after a restart", want)
	r.sameAsStored()
	if tok := r.mintTok(acme); tok.KeyID() != "v2" || !r.good(tok) {
		t.Errorf("minted with %s", tok.KeyID())
	}
	// The newest: another is made first, so that minting goes on.
	r.ok(r.operator, "cap.revoke", `{"tenant":"acme","kid":"v2"}`, nil)
	want[three] = false
	r.wantGood("the newest", want)
	if tok := r.mintTok(acme); tok.KeyID() != "v3" || !r.good(tok) {
		t.Errorf("minted with %s", tok.KeyID())
	}
	// Once more is no change, and no new key.
	r.now = r.now.Add(1e9)
	var again Revoked
	r.ok(r.operator, "cap.revoke", `{"tenant":"acme","kid":"v1"}`, &again)
	if again.RevokedMS != got.RevokedMS {
		t.Errorf("first %+v, then %+v", got, again)
	}
	if tok := r.mintTok(acme); tok.KeyID() != "v3" {
		t.Errorf("an old kid made a new key: %s", tok.KeyID())
	}
	var page RevocationList
	r.ok(r.operator, "cap.revocations", nil, &page)
	if len(page.Revocations) != 2 || page.Revocations[0].KID != "v1" || page.Revocations[0].ID != "" || page.Revocations[0].Tenant != acme.String() {
		t.Errorf("listed: %+v", page.Revocations)
	}
}

func TestRevokeTenant(t *testing.T) {
	r := newRig(t)
	acme, other := r.tenant("acme"), r.tenant("other")
	var toks []*capability.Token
	for range mintkeys.Good + 1 {
		toks = append(toks, r.mintTok(acme))
		r.keys.rotate(MintKeyName(acme))
	}
	foreign := r.mintTok(other)
	var got Revoked
	r.ok(r.operator, "cap.revoke", `{"tenant":"acme"}`, &got)
	if !slices.Equal(got.KIDs, []string{"v3", "v4", "v5"}) {
		t.Errorf("revoked %v", got.KIDs)
	}
	check := func(what string) {
		t.Helper()
		for _, tok := range toks {
			r.wantGood(what, map[*capability.Token]bool{tok: false})
		}
		r.wantGood(what, map[*capability.Token]bool{foreign: true})
	}
	check("at once")
	if tok := r.mintTok(acme); !r.good(tok) || tok.KeyID() != "v6" {
		t.Error("the tenant can mint no more")
	} else if r.restart(); !r.good(tok) {
		t.Error("a capability of later is dead")
	}
	check("after a restart")
	// A tenant's own, by itself, kills the capability that asks too.
	who := r.mintTok(other)
	r.ok(r.as(who), "cap.revoke", `{"tenant":"other"}`, nil)
	r.wantGood("its own", map[*capability.Token]bool{who: false, foreign: false})
	// One that never had a capability.
	r.tenant("new")
	got = Revoked{}
	r.ok(r.operator, "cap.revoke", `{"tenant":"new"}`, &got)
	if len(got.KIDs) != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestRevokeKeyRefused(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	r.tenant("other")
	who := r.as(r.mintTok(acme))
	for _, c := range []struct {
		as   *macronode.Admitted
		body string
		want macronode.Kind
	}{
		{who, `{}`, macronode.Invalid},
		{who, `{"kid":"v2"}`, macronode.Invalid},
		{who, `{"kid":"v01"}`, macronode.Invalid},
		{who, `{"kid":"x"}`, macronode.Invalid},
		{who, `{"kid":"v0"}`, macronode.Invalid},
		{who, `{"kid":"v1","tenant":"other"}`, macronode.TenantMismatch},
		{who, `{"tenant":"other"}`, macronode.TenantMismatch},
		{who, `{"tenant":"nobody"}`, macronode.TenantMismatch},
		{who, `{"id":"00","kid":"v1"}`, macronode.Invalid},
		{who, fmt.Sprintf(`{"id":"%032x","tenant":"acme"}`, 1), macronode.Invalid},
		{r.operator, `{"kid":"v1"}`, macronode.Invalid},
		{r.operator, `{"tenant":"nobody"}`, macronode.NotFound},
		{r.operator, `{"tenant":"system"}`, macronode.Conflict},
		{r.operator, `{"tenant":"system","kid":"v1"}`, macronode.Conflict},
		{nobody(r), `{"tenant":"acme"}`, macronode.Denied},
	} {
		r.refused(c.want, c.as, "cap.revoke", c.body)
	}
	// Nothing may be revoked that is not recorded, and nothing recorded as done
	// that was not.
	tok := r.mintTok(acme)
	r.log.fail = errors.New("full")
	r.refused(macronode.Unavailable, r.operator, "cap.revoke", `{"tenant":"acme"}`)
	r.log.fail = nil
	bad := errors.New("disk")
	r.kv.fail.Store(&bad)
	if _, err := r.call(r.operator, "cap.revoke", `{"tenant":"acme"}`); err == nil {
		t.Error("answered without being durable")
	}
	r.kv.fail.Store(nil)
	if n := len(r.log.noted); n == 0 || r.log.noted[n-1].Kind != "cap.revoke" {
		t.Error("what was recorded and not done was not noted")
	}
	if r.KeyRevoked(acme, tok.KeyID()) {
		t.Error("in effect, though it failed")
	}
	// The operator moves to a new key, and revokes the old one with it.
	r.keys.rotate(MintKeyName(macronode.SystemTenant))
	next, err := r.MintFor(context.Background(), macronode.SystemTenant)
	if err != nil {
		t.Fatal(err)
	}
	r.ok(r.as(next), "cap.revoke", `{"tenant":"system","kid":"v1"}`, nil)
	if !r.KeyRevoked(macronode.SystemTenant, "v1") || r.KeyRevoked(macronode.SystemTenant, "v2") {
		t.Error("the operator's old key is good, or the new one is not")
	}
}

// A keystore from a backup makes versions again whose kid is revoked: minting
// steps over them.
func TestMintStepsOverRevokedKeys(t *testing.T) {
	r := newRig(t)
	acme := r.tenant("acme")
	r.mintTok(acme)
	for range 2 {
		r.ok(r.operator, "cap.revoke", `{"tenant":"acme"}`, nil)
	}
	r.keys.mu.Lock()
	name := MintKeyName(acme)
	r.keys.keys[name] = r.keys.keys[name][:1]
	r.keys.epoch.Add(1)
	r.keys.mu.Unlock()
	if tok := r.mintTok(acme); !r.good(tok) || tok.KeyID() != "v3" {
		t.Errorf("minted with %s, good: %v", tok.KeyID(), r.good(tok))
	}
}

// nodeKey is a node's key, in memory.
type nodeKey struct{ k *ecdsa.PrivateKey }

func (n nodeKey) KeyID() string           { return "node#v1/ecdsa-p256" }
func (n nodeKey) Public() ([]byte, error) { return x509.MarshalPKIXPublicKey(&n.k.PublicKey) }
func (n nodeKey) Sign(m []byte) ([]byte, error) {
	sum := sha256.Sum256(m)
	return ecdsa.SignASN1(rand.Reader, n.k, sum[:])
}

// sign gives the service a node's key.
func (r *rig) sign() (id string) {
	r.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	der, err := nodeKey{k}.Public()
	if err != nil {
		r.t.Fatal(err)
	}
	r.signer = func() (revocation.Signer, error) { return nodeKey{k}, nil }
	r.nodeID = revocation.NodeID(der)
	return r.nodeID
}

// export is the list as texts of its pages.
func (r *rig) export(as *macronode.Admitted, limit string) (pages [][]byte) {
	r.t.Helper()
	for cursor := ""; ; {
		reply := r.ok(as, "cap.revocations.export", nil, nil, "limit", limit, "cursor", cursor)
		p, err := revocation.Parse(reply.Body, r.nodeID)
		if err != nil {
			r.t.Fatal(err)
		}
		pages = append(pages, reply.Body)
		if cursor = p.Cursor; cursor == "" {
			return pages
		}
	}
}

func TestSignedList(t *testing.T) {
	r := newRig(t)
	r.refused(macronode.Unavailable, r.operator, "cap.revocations.export", nil)
	id := r.sign()
	acme := r.tenant("acme")
	for i := range 5 {
		r.ok(r.operator, "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, i), nil)
	}
	who := r.mintTok(acme)
	r.ok(r.as(who), "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, 9), nil)
	r.ok(r.operator, "cap.revoke", `{"tenant":"acme"}`, nil)
	for as, want := range map[*macronode.Admitted]int{r.operator: 7, r.as(who): 2} {
		pages := r.export(as, "2")
		list, err := revocation.Read(bytes.NewReader(bytes.Join(pages, nil)), id)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, p := range list {
			n += len(p.Entries)
		}
		if scope := list[0].Scope; n != want || (scope == "") != (want == 7) || scope != "" && scope != acme.String() {
			t.Errorf("%d entries of %q, want %d", n, scope, want)
		}
	}
	r.refused(macronode.Denied, nobody(r), "cap.revocations.export", nil)
	r.refused(macronode.Malformed, r.operator, "cap.revocations.export", nil, "limit", "1001")
}

// A restore loses what was revoked after its snapshot; the list brings it back,
// for good, and takes nothing away.
func TestImportAfterRestore(t *testing.T) {
	r := newRig(t)
	r.sign()
	acme := r.tenant("acme")
	tok, kept := r.mintTok(acme), r.mintTok(acme)
	leaf := fmt.Sprintf(`{"id":"%v"}`, kept.LeafID())
	r.keys.rotate(MintKeyName(acme))
	id, signer := r.nodeID, r.signer
	r.ok(r.operator, "cap.revoke", leaf, nil)
	r.ok(r.operator, "cap.revoke", `{"tenant":"acme","kid":"v1"}`, nil)
	pages := r.export(r.operator, "1")
	// The same keys, and metadata of before.
	r.kv.KV = mem.NewKV(mem.KVConfig{})
	r.restart()
	r.nodeID, r.signer = id, signer
	if err := r.store.kv.Update(context.Background(), restoreTenant(acme)); err != nil {
		t.Fatal(err)
	}
	r.restart()
	r.nodeID, r.signer = id, signer
	r.ok(r.operator, "cap.revoke", fmt.Sprintf(`{"id":"%032x"}`, 7), nil)
	r.wantGood("restored", map[*capability.Token]bool{tok: true})
	var got Imported
	for _, p := range pages {
		r.ok(r.operator, "cap.revocations.import", string(p), &got)
		if got != (Imported{1, 1}) {
			t.Errorf("got %+v", got)
		}
	}
	r.ok(r.operator, "cap.revocations.import", string(pages[0]), &got)
	if got != (Imported{1, 0}) {
		t.Errorf("again: %+v", got)
	}
	for range 2 {
		r.wantGood("imported", map[*capability.Token]bool{tok: false, kept: false})
		if !r.Revoked(acme, macronode.CapID{15: 7}) {
			t.Error("an import took a revocation away")
		}
		r.restart()
	}
	r.nodeID, r.signer = id, signer
	r.refused(macronode.Denied, r.as(r.mintTok(acme)), "cap.revocations.import", string(pages[0]))
	r.refused(macronode.Invalid, r.operator, "cap.revocations.import", string(bytes.Replace(pages[0], []byte(`"sig": "M`), []byte(`"sig": "N`), 1)))
	r.refused(macronode.Invalid, r.operator, "cap.revocations.import", `{}`)
	r.nodeID = "b3:other"
	r.refused(macronode.Invalid, r.operator, "cap.revocations.import", string(pages[0]))
}

// restoreTenant puts a tenant's record back, as a snapshot would.
func restoreTenant(id macronode.TenantID) func(store.Tx) error {
	return func(tx store.Tx) error {
		return putTenant(tx, id, &tenantRecord{Label: "acme", Quota: macronode.UnlimitedQuota()})
	}
}
