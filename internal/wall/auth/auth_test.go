// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/wall"
)

var _ wall.Authenticator = (*Authenticator)(nil)

// world is everything an Authenticator asks, in memory.
type world struct {
	mu       sync.RWMutex
	keys     map[string]*capability.Key // by kid, of any tenant but stranger
	keyErr   error
	tenants  map[macronode.TenantID]*macronode.Tenant
	revoked  map[macronode.CapID]bool
	deadKeys map[string]bool
	keyGen   atomic.Uint64
	revGen   atomic.Uint64
	digest   [32]byte
	now      time.Time
	lookups  int // of keys
}

func (w *world) MintKey(_ macronode.TenantID, kid string) (*capability.Key, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lookups++
	return w.keys[kid], w.keyErr
}

func (w *world) KeyGeneration() uint64 { return w.keyGen.Load() }

func (w *world) Tenant(id macronode.TenantID) *macronode.Tenant {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.tenants[id]
}

func (w *world) Revoked(_ macronode.TenantID, id macronode.CapID) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.revoked[id]
}

func (w *world) KeyRevoked(_ macronode.TenantID, kid string) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.deadKeys[kid]
}

func (w *world) RevocationGeneration() uint64 { return w.revGen.Load() }

func (w *world) revoke(id macronode.CapID) {
	w.mu.Lock()
	w.revoked[id] = true
	w.mu.Unlock()
	w.revGen.Add(1)
}

var (
	alice   = macronode.TenantID{0: 1, 15: 1}
	mallory = macronode.TenantID{0: 1, 15: 9} // no tenant
	keyOne  = capability.NewKey(&[32]byte{1})
	keyTwo  = capability.NewKey(&[32]byte{2})
)

func newWorld() *world {
	return &world{
		keys: map[string]*capability.Key{"v1": keyOne},
		tenants: map[macronode.TenantID]*macronode.Tenant{
			alice:                     {ID: alice, Label: "alice"},
			macronode.AnonymousTenant: {ID: macronode.AnonymousTenant, Label: "anonymous"},
		},
		revoked: map[macronode.CapID]bool{},
		now:     time.Unix(1_000_000, 0),
	}
}

func (w *world) start() *Authenticator {
	return New(Config{
		Keys: w, Tenants: w, Revocations: w, NodeID: "b3:node", Metrics: metrics.New(false),
		PolicyDigest: func() [32]byte { return w.digest }, Now: func() time.Time { return w.now },
	})
}

func mint(t testing.TB, key *capability.Key, tenant macronode.TenantID, kid string, cs ...capability.Caveat) *capability.Token {
	t.Helper()
	tok, err := capability.Mint(key, tenant, kid, [16]byte{7}, cs...)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func call(tok *capability.Token) *macronode.Call {
	c := &macronode.Call{Peer: macronode.Peer{Addr: netip.MustParseAddr("192.0.2.7")}}
	if tok != nil {
		c.Token = []byte(tok.Text())
	}
	return c
}

var (
	binding  = &macronode.Binding{Op: "object.get", Service: "svc-storage", Method: "GET", Action: "object:get", Resource: macronode.ObjectResource}
	resource = macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:abc"}
)

func (w *world) try(a *Authenticator, c *macronode.Call) (*macronode.Principal, *macronode.Tenant, error) {
	return a.Authenticate(context.Background(), c, binding, resource)
}

func wantKind(t *testing.T, err error, want macronode.Kind) {
	t.Helper()
	if err == nil {
		t.Fatalf("admitted; want %v", want)
	}
	if got := macronode.KindOf(err); got != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestAnonymous(t *testing.T) {
	w := newWorld()
	a := w.start()
	p, tenant, err := w.try(a, call(nil))
	if err != nil || p.Kind != macronode.Anonymous || tenant.ID != macronode.AnonymousTenant || p.MaxBytes != macronode.NoLimit {
		t.Fatalf("got %+v, %+v, %v", p, tenant, err)
	}
	// A certificate, a node id and a Unix user grant nothing.
	c := call(nil)
	c.Peer = macronode.Peer{TLS: true, UDS: true, CertHash: [32]byte{1}, NodeID: "b3:node", Subject: "CN=root"}
	if p, _, err := w.try(a, c); err != nil || p.Kind != macronode.Anonymous {
		t.Fatalf("got %+v, %v", p, err)
	}
	c = call(nil)
	c.ClaimedTenant = alice
	_, _, err = w.try(a, c)
	wantKind(t, err, macronode.Unauthenticated)
}

func TestGoodCapability(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok := mint(t, keyOne, alice, "v1", capability.OnActions("object:*"))
	tok, err := tok.Attenuate(capability.AtMostBytes(9), capability.AtRate(3, 5), capability.ExpiresAt(2_000_000))
	if err != nil {
		t.Fatal(err)
	}
	oap := call(nil)
	oap.Wire, oap.Token = macronode.WireOAP, tok.CBOR()
	for i, c := range []*macronode.Call{call(tok), call(tok), oap, oap} {
		p, tenant, err := w.try(a, c)
		if err != nil {
			t.Fatal(i, err)
		}
		if p.Kind != macronode.Capability || p.Tenant != alice || tenant.Label != "alice" || p.MaxBytes != 9 || p.Expires != 2_000_000 ||
			len(p.Rates) != 1 || p.Rates[0].PerSec != 3 || p.LeafID != tok.LeafID() || p.RootID != mint(t, keyOne, alice, "v1").LeafID() {
			t.Errorf("%d: got %+v", i, p)
		}
	}
	if w.lookups != 2 {
		t.Errorf("%d chains verified, want one a wire", w.lookups)
	}
	// Text is not accepted where CBOR is due, nor the other way round, even
	// once the same bytes are known from the other wire.
	oap.Token = []byte(tok.Text())
	_, _, err = w.try(a, oap)
	wantKind(t, err, macronode.TokenMalformed)
	c := call(tok)
	c.Token = tok.CBOR()
	_, _, err = w.try(a, c)
	wantKind(t, err, macronode.TokenMalformed)
}

func TestRefusals(t *testing.T) {
	third := capability.Other(capability.ThirdParty, []byte{0x84, 0x60, 0x60, 0x40, 0x40})
	bad := func(c *macronode.Call) { c.BadAuth = true }
	for _, tc := range []struct {
		name   string
		tok    *capability.Token
		change func(*macronode.Call)
		want   macronode.Kind
	}{
		{"not bearer", nil, bad, macronode.TokenMalformed},
		{"not bearer, with a token", mint(t, keyOne, alice, "v1"), bad, macronode.TokenMalformed},
		{"garbage", nil, func(c *macronode.Call) { c.Token = []byte("ron1_AAAA") }, macronode.TokenMalformed},
		{"huge", nil, func(c *macronode.Call) { c.Token = []byte(strings.Repeat("A", 1<<20)) }, macronode.TokenMalformed},
		{"wrong key", mint(t, keyTwo, alice, "v1"), nil, macronode.TokenForged},
		{"unknown kid", mint(t, keyOne, alice, "v7"), nil, macronode.TokenForged},
		{"unknown tenant", mint(t, keyOne, mallory, "v1"), nil, macronode.TokenForged},
		{"the decoy's own", mint(t, capability.DerivedKey(&[32]byte{}), mallory, "v1"), nil, macronode.TokenForged},
		{"third party", mint(t, keyOne, alice, "v1", third), nil, macronode.TokenDischarge},
		{"expired", mint(t, keyOne, alice, "v1", capability.ExpiresAt(1_000_000-60)), nil, macronode.TokenExpired},
		{"early", mint(t, keyOne, alice, "v1", capability.NotBefore(1_000_061)), nil, macronode.TokenNotYetValid},
		{"audience", mint(t, keyOne, alice, "v1", capability.ForNode("b3:other")), nil, macronode.TokenAudience},
		{"address", mint(t, keyOne, alice, "v1", capability.FromNets(netip.MustParsePrefix("10.0.0.0/8"))), nil, macronode.TokenAddress},
		{"certificate", mint(t, keyOne, alice, "v1", capability.WithClientCert([32]byte{1})), nil, macronode.TokenClientCert},
		{"action", mint(t, keyOne, alice, "v1", capability.OnActions("object:put")), nil, macronode.CaveatDenied},
		{"resource", mint(t, keyOne, alice, "v1", capability.OnResources("object/b3:ab")), nil, macronode.CaveatDenied},
		{"method", mint(t, keyOne, alice, "v1", capability.ByMethods("PUT")), nil, macronode.CaveatDenied},
		{"service", mint(t, keyOne, alice, "v1", capability.ConfinedTo("svc-mailbox")), nil, macronode.CaveatDenied},
		{"amnesia", mint(t, keyOne, alice, "v1", capability.InAmnesia()), nil, macronode.CaveatDenied},
		{"policy", mint(t, keyOne, alice, "v1", capability.UnderPolicy([32]byte{1})), nil, macronode.CaveatDenied},
		{"unknown caveat", mint(t, keyOne, alice, "v1", capability.Other(5000, []byte{0})), nil, macronode.CaveatDenied},
		{"claimed tenant", mint(t, keyOne, alice, "v1"), func(c *macronode.Call) { c.ClaimedTenant = mallory }, macronode.TenantMismatch},
		{"claimed tenant, expired", mint(t, keyOne, alice, "v1", capability.ExpiresAt(1)),
			func(c *macronode.Call) { c.ClaimedTenant = mallory }, macronode.TokenExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			a := w.start()
			for range 2 { // cold, and warm where it was cached
				c := call(tc.tok)
				if tc.change != nil {
					tc.change(c)
				}
				_, _, err := w.try(a, c)
				wantKind(t, err, tc.want)
			}
			var m dto.Metric
			if err := a.results.byKind[tc.want].Write(&m); err != nil {
				t.Fatal(err)
			}
			if got := m.GetCounter().GetValue(); got != 2 {
				t.Errorf("auth_verify_total is %v", got)
			}
			if cached := a.cache.len() > 0; cached && tc.want.Info().Status == 401 {
				t.Error("a bad token was cached")
			}
		})
	}
}

// A stranger sees no difference between a tenant that is not there, a key that
// is not there, and a wrong tag.
func TestStrangerLearnsNothing(t *testing.T) {
	w := newWorld()
	w.tenants[alice].Suspended = true
	a := w.start()
	var errs []error
	for _, tok := range []*capability.Token{
		mint(t, keyTwo, alice, "v1"), mint(t, keyTwo, alice, "v9"), mint(t, keyTwo, mallory, "v1"),
	} {
		c := call(tok)
		c.ClaimedTenant = macronode.SystemTenant
		_, _, err := w.try(a, c)
		errs = append(errs, err)
	}
	for _, err := range errs {
		if !reflect.DeepEqual(err, errs[0]) {
			t.Errorf("%#v differs from %#v", err, errs[0])
		}
	}
}

func TestSuspended(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok := mint(t, keyOne, alice, "v1")
	expired := mint(t, keyOne, alice, "v1", capability.ExpiresAt(1))
	if _, _, err := w.try(a, call(tok)); err != nil {
		t.Fatal(err)
	}
	w.tenants[alice] = &macronode.Tenant{ID: alice, Suspended: true}
	_, _, err := w.try(a, call(tok))
	wantKind(t, err, macronode.TenantSuspended)
	_, _, err = w.try(a, call(expired))
	wantKind(t, err, macronode.TokenExpired)
	w.tenants[alice] = &macronode.Tenant{ID: alice}
	if _, _, err := w.try(a, call(tok)); err != nil {
		t.Fatal(err)
	}
	delete(w.tenants, alice)
	_, _, err = w.try(a, call(tok))
	wantKind(t, err, macronode.TokenForged)
	if a.cache.len() != 0 {
		t.Error("a deleted tenant's capability is still cached")
	}
}

// Revoking any link kills it and what descends from it, cached or not, and
// nothing else.
func TestRevocation(t *testing.T) {
	root := mint(t, keyOne, alice, "v1")
	chain := []*capability.Token{root}
	for i := range 3 {
		next, err := chain[i].Attenuate(capability.AtMostBytes(int64(100 - i)))
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, next)
	}
	sibling, err := root.Attenuate(capability.AtMostBytes(7))
	if err != nil {
		t.Fatal(err)
	}
	for dead := range chain {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprint(dead, warm), func(t *testing.T) {
				w := newWorld()
				a := w.start()
				if warm {
					for _, tok := range append(chain, sibling) {
						if _, _, err := w.try(a, call(tok)); err != nil {
							t.Fatal(err)
						}
					}
				}
				w.revoke(chain[dead].LeafID())
				for i, tok := range chain {
					_, _, err := w.try(a, call(tok))
					if i < dead && err != nil {
						t.Errorf("link %d: %v", i, err)
					}
					if i >= dead {
						wantKind(t, err, macronode.TokenRevoked)
					}
				}
				if _, _, err := w.try(a, call(sibling)); (err != nil) != (dead == 0) {
					t.Errorf("sibling: %v", err)
				}
			})
		}
	}
}

func TestKeyRotation(t *testing.T) {
	w := newWorld()
	a := w.start()
	tok := mint(t, keyOne, alice, "v1")
	for range 2 {
		if _, _, err := w.try(a, call(tok)); err != nil {
			t.Fatal(err)
		}
	}
	// v1 leaves the window.
	w.keys = map[string]*capability.Key{"v2": keyTwo}
	w.keyGen.Add(1)
	_, _, err := w.try(a, call(tok))
	wantKind(t, err, macronode.TokenForged)
	if _, _, err := w.try(a, call(mint(t, keyTwo, alice, "v2"))); err != nil {
		t.Fatal(err)
	}
	w.keyErr = errors.New("the key store is away")
	w.keyGen.Add(1)
	_, _, err = w.try(a, call(mint(t, keyTwo, alice, "v2")))
	wantKind(t, err, macronode.Unavailable)
	if strings.Contains(macronode.AsError(err).Detail, "away") {
		t.Error("the cause is shown")
	}
	if a.floods.len() != 1 { // the forged one alone
		t.Error("a failure of the node was counted against the caller")
	}
}

// Once a revocation is known, no call that begins later gets in, however many
// run beside it.
func TestRevocationIsNeverMissed(t *testing.T) {
	w := newWorld()
	a := w.start()
	for round := range 200 {
		tok := mint(t, keyOne, alice, "v1", capability.AtMostBytes(int64(round)))
		var gone atomic.Bool
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 50 {
					after := gone.Load()
					if _, _, err := w.try(a, call(tok)); err == nil && after {
						t.Error("a revoked capability got in")
					}
				}
			})
		}
		w.revoke(tok.LeafID())
		gone.Store(true)
		wg.Wait()
	}
}
