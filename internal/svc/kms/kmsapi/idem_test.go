// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/kmsapi"
)

// newKeeper keeps answers in a metadata store of its own.
func newKeeper(t testing.TB, now func() time.Time) *idem.Keeper {
	kv := mem.NewKV(mem.KVConfig{})
	t.Cleanup(func() { _ = kv.Close() })
	return idem.New(idem.Config{KV: kv, Now: now})
}

func wantReplay(t *testing.T, first, again *macronode.Reply) {
	t.Helper()
	if again.Status != first.Status || !bytes.Equal(first.Body, again.Body) {
		t.Fatalf("first %d %s\nagain %d %s", first.Status, first.Body, again.Status, again.Body)
	}
	if again.Header.Get("Idempotency-Replayed") != "true" || first.Header.Get("Idempotency-Replayed") != "" {
		t.Fatalf("marks: %v, %v", first.Header, again.Header)
	}
}

// A change that is repeated answers byte for byte as it first did: at once, after
// a restart, and where the process ended between the key and its answer.
func TestChangesReplay(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	f := memDisk(t)
	store, _ := openOn(t, f, kms.Options{Now: clock})
	keeper := newKeeper(t, clock)
	c := newCaller(t, kmsapi.New(store, keeper, clock))
	body := map[string]any{"name": "k", "alg": "ed25519", "purpose": "app"}
	created := c.get("kms.create", nil, "key-1", body, nil)
	rotated := c.get("kms.rotate", args{"key": "k"}, "key-1", nil, nil) // another operation: another key
	if created.Status != 201 {
		t.Fatal(created.Status)
	}
	check := func(c *caller) {
		t.Helper()
		wantReplay(t, created, c.get("kms.create", nil, "key-1", body, nil))
		wantReplay(t, rotated, c.get("kms.rotate", args{"key": "k"}, "key-1", nil, nil))
		if k, err := store.Key("k"); err != nil || len(k.Versions) != 2 {
			t.Fatalf("%+v, %v", k, err)
		}
	}
	check(c)
	_, err := c.call("kms.create", nil, "key-1", map[string]any{"name": "k2", "alg": "ed25519", "purpose": "app"})
	wantKind(t, err, macronode.IdempotencyMismatch)
	_, err = c.call("kms.rotate", args{"key": "k3"}, "key-1", nil)
	wantKind(t, err, macronode.IdempotencyMismatch)

	_ = store.Close()
	store, _ = openOn(t, f, kms.Options{Now: clock})
	check(newCaller(t, kmsapi.New(store, keeper, clock)))
	// The answers were never kept: the key itself knows who made it.
	check(newCaller(t, kmsapi.New(store, newKeeper(t, clock), clock)))

	dropped := callerOf(t, store, keeper, clock).get("kms.version.delete", args{"key": "k", "version": "1"}, "key-9", nil, nil)
	wantReplay(t, dropped, callerOf(t, store, keeper, clock).get("kms.version.delete", args{"key": "k", "version": "1"}, "key-9", nil, nil))
	_, err = callerOf(t, store, keeper, clock).call("kms.version.delete", args{"key": "k", "version": "1"}, "", nil)
	wantKind(t, err, macronode.NotFound)
}

func callerOf(t *testing.T, s *kms.Store, k *idem.Keeper, now func() time.Time) *caller {
	return newCaller(t, kmsapi.New(s, k, now))
}

// Sign, wrap and put answer again what they answered, though both would come out
// different; a refusal frees the key, and the window ends.
func TestUsesReplay(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	store, _ := openOn(t, memDisk(t), kms.Options{Now: clock})
	c := newCaller(t, kmsapi.New(store, newKeeper(t, clock), clock))
	create(t, store, "s", kms.P256, kms.PurposeApp)
	create(t, store, "w", kms.AES256GCM, kms.PurposeApp)
	for _, x := range []struct {
		op          macronode.Op
		in          args
		body, other any
	}{
		{"kms.sign", args{"key": "s"}, map[string]any{"message": []byte("m")}, map[string]any{"message": []byte("n")}},
		{"kms.wrap", args{"key": "w"}, map[string]any{"plaintext": []byte("p")}, map[string]any{"plaintext": []byte("q")}},
		{"kms.object.put", args{"object": "o"}, "bytes", "others"},
	} {
		first := c.get(x.op, x.in, "key", x.body, nil)
		wantReplay(t, first, c.get(x.op, x.in, "key", x.body, nil))
		_, err := c.call(x.op, x.in, "key", x.other)
		wantKind(t, err, macronode.IdempotencyMismatch)
		if fresh := c.get(x.op, x.in, "key-2", x.body, nil); x.op != "kms.object.put" && bytes.Equal(fresh.Body, first.Body) {
			t.Errorf("%s: another key got the first answer", x.op)
		}
	}
	_, err := c.call("kms.sign", args{"key": "none"}, "free", map[string]any{"message": []byte("m")})
	wantKind(t, err, macronode.NotFound)
	c.get("kms.sign", args{"key": "s"}, "free", map[string]any{"message": []byte("m")}, nil)
	first := c.get("kms.sign", args{"key": "s"}, "key-3", map[string]any{"message": []byte("m")}, nil)
	now = now.Add(25 * time.Hour)
	if again := c.get("kms.sign", args{"key": "s"}, "key-3", map[string]any{"message": []byte("m")}, nil); bytes.Equal(first.Body, again.Body) {
		t.Error("the window does not end")
	}
}

// What is remembered has a bound: the oldest answers go, and their keys work anew.
func TestReplaysAreBounded(t *testing.T) {
	store := newStore(t)
	c := newCaller(t, kmsapi.New(store, newKeeper(t, nil), nil))
	create(t, store, "w", kms.AES256GCM, kms.PurposeApp)
	body := map[string]any{"plaintext": make([]byte, kms.MaxWrapBytes)}
	first := c.get("kms.wrap", args{"key": "w"}, "key-0", body, nil)
	for i := 1; i*len(first.Body) < 9<<20; i++ {
		c.get("kms.wrap", args{"key": "w"}, fmt.Sprint("key-", i), body, nil)
	}
	if again := c.get("kms.wrap", args{"key": "w"}, "key-0", body, nil); bytes.Equal(first.Body, again.Body) {
		t.Error("more than the bound is remembered")
	}
}
