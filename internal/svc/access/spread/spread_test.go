// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package spread

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
	"github.com/rustyonions/macronode/revocation"
)

// mints is minting keys in memory.
type mints struct {
	mu   sync.Mutex
	keys map[string][][]byte
}

func (m *mints) CreateMint(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[name] == nil {
		m.keys[name] = [][]byte{[]byte(strings.Repeat("k", 31) + fmt.Sprint(len(m.keys)))}
	}
	return nil
}

func (m *mints) NewestMint(name string) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keys[name] == nil {
		return 0, macronode.Errorf(macronode.NotFound, "no such key")
	}
	return uint64(len(m.keys[name])), nil
}

func (m *mints) RotateMint(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[name] = append(m.keys[name], []byte(strings.Repeat("r", 31)+fmt.Sprint(len(m.keys[name]))))
	return nil
}

func (m *mints) WithMint(name string, version uint64, f func([]byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version == 0 || version > uint64(len(m.keys[name])) {
		return macronode.Errorf(macronode.NotFound, "no such version")
	}
	return f(m.keys[name][version-1])
}

func (m *mints) DeleteMint(context.Context, string) error { return nil }
func (m *mints) Epoch() uint64                            { return 1 }

// records counts audit events by kind and actor.
type records struct {
	mu   sync.Mutex
	list []string
}

func (r *records) Record(macronode.AuditEvent) {}
func (r *records) Append(_ context.Context, e macronode.AuditEvent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e.Kind+" "+e.Actor)
	return nil
}

type side struct {
	*Book
	access *access.Service
	mints  *mints
	audit  *records
	kv     *mem.KV
	told   []revocation.Entry
}

func newSide(t *testing.T, m *mints) *side {
	t.Helper()
	s := &side{mints: m, audit: &records{}, kv: mem.NewKV(mem.KVConfig{})}
	s.open(t)
	return s
}

// open makes the service over what is stored, as a start does.
func (s *side) open(t *testing.T) {
	t.Helper()
	var err error
	s.access, err = access.New(t.Context(), access.Config{KV: s.kv, Keys: s.mints, Audit: s.audit, Idem: idem.New(idem.Config{KV: s.kv}),
		Told: func(list []revocation.Entry) { s.told = append(s.told, list...) }})
	if err != nil {
		t.Fatal(err)
	}
	s.Book = New(s.access, s.mints)
}

func capID(i int) macronode.CapID { return macronode.CapID{byte(i), byte(i >> 8), 7} }

var tenant = macronode.TenantID{0: 1, 15: 9}

// exchange gives b what a holds and b may lack, as a comparison does.
func exchange(t *testing.T, a, b *side, limit int) (told, added int) {
	t.Helper()
	cursor := ""
	theirs := b.Summary()
	for range 1000 {
		items, next, err := a.Lacking(t.Context(), theirs, cursor, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) > limit {
			t.Fatalf("%d items in a page of %d", len(items), limit)
		}
		told += len(items)
		list, _, err := b.Adopt(t.Context(), items, "peer:b3:x")
		if err != nil {
			t.Fatal(err)
		}
		added += len(list)
		if cursor = next; cursor == "" {
			return told, added
		}
	}
	t.Fatal("the list does not end")
	return 0, 0
}

func TestExchange(t *testing.T) {
	a, b := newSide(t, &mints{keys: map[string][][]byte{}}), newSide(t, &mints{keys: map[string][][]byte{}})
	for i := range 300 {
		if err := a.access.Revoke(t.Context(), capID(i), "node"); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.told) != 300 || len(a.Items(a.told)) != 300 {
		t.Fatalf("told of %d", len(a.told))
	}
	if told, added := exchange(t, a, b, 7); told != 300 || added != 300 {
		t.Errorf("%d told, %d added", told, added)
	}
	if *a.Summary() != *b.Summary() {
		t.Error("they hold the same and do not see it")
	}
	if told, _ := exchange(t, a, b, 7); told != 0 {
		t.Errorf("%d are told again", told)
	}
	if err := a.access.Revoke(t.Context(), capID(1000), "node"); err != nil {
		t.Fatal(err)
	}
	if told, added := exchange(t, a, b, 100); told > 20 || added != 1 {
		t.Errorf("for one that is new %d are told, %d added", told, added)
	}
	if !b.access.Revoked(macronode.TenantID{}, capID(1000)) || len(b.told) != 0 {
		t.Errorf("what a peer said does not hold, or is told as one's own (%d)", len(b.told))
	}
	b.audit.mu.Lock()
	if n := len(b.audit.list); n == 0 || b.audit.list[n-1] != "cap.import peer:b3:x" {
		t.Errorf("on record: %v", b.audit.list)
	}
	before := len(b.audit.list)
	b.audit.mu.Unlock()
	if list, _, err := b.Adopt(t.Context(), b.Items(a.told), "peer:b3:x"); err != nil || len(list) != 0 || len(b.audit.list) != before {
		t.Errorf("what is known is adopted again: %d, %v", len(list), err)
	}
	b.open(t) // a start
	if !b.access.Revoked(macronode.TenantID{}, capID(1000)) || *a.Summary() != *b.Summary() {
		t.Error("what a peer said does not outlast a restart")
	}
}

// A key's name means the key that has the hash: another of that name stays good.
func TestKeysByHash(t *testing.T) {
	shared := &mints{keys: map[string][][]byte{}}
	a, twin, other := newSide(t, shared), newSide(t, shared), newSide(t, &mints{keys: map[string][][]byte{mintkeys.Name(tenant): {[]byte(strings.Repeat("x", 32))}}})
	if err := shared.CreateMint(t.Context(), mintkeys.Name(tenant)); err != nil {
		t.Fatal(err)
	}
	items := a.Items([]revocation.Entry{{KID: "v1", Tenant: tenant.String()}, {KID: "v2", Tenant: tenant.String()}, {KID: "nonsense", Tenant: tenant.String()}})
	if len(items) != 1 || len(items[0].KeyHash) != 32 || strings.Contains(items[0].KeyHash, "6b6b") {
		t.Fatalf("%+v", items)
	}
	if list, foreign, err := twin.Adopt(t.Context(), items, "peer:a"); err != nil || len(list) != 1 || foreign != 0 || list[0].KeyHash != items[0].KeyHash || !twin.access.KeyRevoked(tenant, "v1") {
		t.Errorf("the same key: %v %d %v", list, foreign, err)
	}
	if list, foreign, err := other.Adopt(t.Context(), items, "peer:a"); err != nil || len(list) != 0 || foreign != 1 || other.access.KeyRevoked(tenant, "v1") {
		t.Errorf("another key of that name: %v %d %v", list, foreign, err)
	}
	nobody := newSide(t, &mints{keys: map[string][][]byte{}})
	if list, foreign, err := nobody.Adopt(t.Context(), items, "peer:a"); err != nil || len(list) != 0 || foreign != 1 {
		t.Errorf("no key of that name: %v %d %v", list, foreign, err)
	}
	// A hash of nothing matches no missing key.
	items[0].KeyHash = ""
	if list, _, _ := nobody.Adopt(t.Context(), items, "peer:a"); len(list) != 0 {
		t.Error("an empty hash matches a key that is not there")
	}
}
