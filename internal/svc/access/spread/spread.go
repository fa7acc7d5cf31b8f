// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package spread is ron-auth's revocations as nodes tell each other of them.
//
// The id of a capability's link is a hash that no other key makes, so a node
// believes a peer about ids. The name of a minting key is not: every node has a
// "v1" of every tenant that it knows, and of its own operator. So a revocation by
// key id travels with a hash of the key, and holds where the key is the same; a
// node that has another key of that name is not touched.
package spread

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/access/mintkeys"
	"github.com/rustyonions/macronode/revocation"
)

const (
	// maxHeld bounds what peers can make a node hold, in revocations of all sources.
	maxHeld = 1_000_000
	// scanPages bounds what one list is looked for in, in pages.
	scanPages = 20
)

// Book implements the overlay's Revocations over ron-auth.
type Book struct {
	access *access.Service
	mints  access.KeyStore

	mu      sync.Mutex
	gen     uint64 // of summary; guarded by mu
	held    int
	summary *revocation.Summary // nil: not made yet
}

// New returns a Book over ron-auth and the minting keys that it uses.
func New(a *access.Service, mints access.KeyStore) *Book { return &Book{access: a, mints: mints} }

// Summary is of all revocations that hold here.
func (b *Book) Summary() *revocation.Summary {
	s, _ := b.look()
	return s
}

// look returns the summary, which nobody changes, and how many there are.
func (b *Book) look() (*revocation.Summary, int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	gen := b.access.RevocationGeneration()
	if b.summary != nil && b.gen == gen {
		return b.summary, b.held
	}
	s, n := &revocation.Summary{}, 0
	b.access.EachRevoked(func(t macronode.TenantID, id macronode.CapID, kid string) {
		e := revocation.Entry{KID: kid}
		if kid == "" {
			e.ID = id.String()
		}
		if !t.IsZero() {
			e.Tenant = t.String()
		}
		s.Flip(&e)
		n++
	})
	b.summary, b.gen, b.held = s, gen, n
	return s, n
}

// Lacking lists what theirs may lack, in pages of at most limit. A page may be
// short, or empty, and not be the last.
func (b *Book) Lacking(ctx context.Context, theirs *revocation.Summary, cursor string, limit int) (items []revocation.Item, next string, err error) {
	mine := b.Summary()
	next = cursor
	for range scanPages {
		room := limit - len(items)
		if room == 0 {
			return items, next, nil
		}
		list, after, err := b.access.RevocationPage(ctx, macronode.TenantID{}, next, room)
		if err != nil {
			return nil, "", err
		}
		for i := range list {
			e := revocation.Entry(list[i])
			if !mine.Differs(theirs, &e) {
				continue
			}
			item, ok, err := b.item(e)
			if err != nil {
				return nil, "", err
			}
			if ok {
				items = append(items, item)
			}
		}
		if next = after; next == "" {
			break
		}
	}
	return items, next, nil
}

// Items are entries as they are told; those that mean nothing elsewhere are left
// out.
func (b *Book) Items(list []revocation.Entry) (items []revocation.Item) {
	for _, e := range list {
		if item, ok, err := b.item(e); ok && err == nil {
			items = append(items, item)
		}
	}
	return items
}

// item adds the hash of a key; ok is false where there is no such key.
func (b *Book) item(e revocation.Entry) (_ revocation.Item, ok bool, err error) {
	if e.KID == "" {
		return revocation.Item{Entry: e}, true, nil
	}
	hash, err := b.keyHash(e.Tenant, e.KID)
	return revocation.Item{Entry: e, KeyHash: hash}, hash != "", err
}

// keyHash tells keys of one name apart; "" where there is no such key.
func (b *Book) keyHash(tenant, kid string) (hash string, err error) {
	t, err := macronode.ParseTenantID(tenant)
	if err != nil {
		return "", err
	}
	version, err := strconv.ParseUint(strings.TrimPrefix(kid, "v"), 10, 64)
	if err != nil || mintkeys.KID(version) != kid {
		return "", nil
	}
	err = b.mints.WithMint(mintkeys.Name(t), version, func(secret []byte) error {
		var sum [16]byte
		blake3.DeriveKey(sum[:], "macronode revocation minting key hash v1", secret)
		hash = hex.EncodeToString(sum[:])
		return nil
	})
	if macronode.KindOf(err) == macronode.NotFound {
		return "", nil
	}
	return hash, err
}

// Adopt adds what is new and means something here, durable and in effect when it
// returns, and returns it. foreign is how many name a key that is not this node's.
func (b *Book) Adopt(ctx context.Context, items []revocation.Item, by string) (added []revocation.Item, foreign int, err error) {
	page := revocation.Page{}
	hashes := make(map[string]string)
	for i := range items {
		known, strange, err := b.judge(&items[i])
		switch {
		case err != nil:
			return nil, 0, err
		case strange:
			foreign++
		case !known:
			page.Entries = append(page.Entries, items[i].Entry)
			hashes[items[i].Tenant+"/"+items[i].KID] = items[i].KeyHash
		}
	}
	if len(page.Entries) == 0 {
		return nil, foreign, nil
	}
	if _, held := b.look(); held+len(page.Entries) > maxHeld {
		return nil, 0, macronode.Errorf(macronode.Unavailable, "this node holds %d revocations and takes no more from peers", held)
	}
	made, err := b.access.Adopt(ctx, &page, by)
	if err != nil {
		return nil, 0, err
	}
	for _, e := range made {
		item := revocation.Item{Entry: e}
		if e.KID != "" {
			item.KeyHash = hashes[e.Tenant+"/"+e.KID]
		}
		added = append(added, item)
	}
	return added, foreign, nil
}

// judge tells whether a revocation holds already, or is of a key that this node
// does not have.
func (b *Book) judge(i *revocation.Item) (known, foreign bool, err error) {
	var t macronode.TenantID
	if i.Tenant != "" {
		if t, err = macronode.ParseTenantID(i.Tenant); err != nil {
			return false, false, err
		}
	}
	if i.KID == "" {
		id, err := hex.DecodeString(i.ID)
		if err != nil || len(id) != len(macronode.CapID{}) {
			return false, false, macronode.Errorf(macronode.Invalid, "an id is 32 hex digits")
		}
		return b.access.Revoked(t, macronode.CapID(id)), false, nil
	}
	hash, err := b.keyHash(i.Tenant, i.KID)
	if err != nil || hash == "" || hash != i.KeyHash {
		return false, err == nil, err
	}
	return b.access.KeyRevoked(t, i.KID), false, nil
}
