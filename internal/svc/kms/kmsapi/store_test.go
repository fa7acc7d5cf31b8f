// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kmsapi_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
)

const dir = "/d/keystore"

var root = keystore.Root{Kind: keystore.KeyFile, Path: "/d/root.key"}

// memDisk is a file system in memory with an empty keystore.
func memDisk(t testing.TB) *disk.FS {
	t.Helper()
	f := disk.Crashable()
	if err := f.MkdirAllSync("/d"); err != nil {
		t.Fatal(err)
	}
	if err := keystore.WriteKeyFile(f, root.Path); err != nil {
		t.Fatal(err)
	}
	if err := keystore.Create(f, dir, root); err != nil {
		t.Fatal(err)
	}
	return f
}

// openOn opens the store, and gives the vault under it too.
func openOn(t testing.TB, f *disk.FS, o kms.Options) (*kms.Store, kms.Vault) {
	t.Helper()
	v, err := keystore.Open(f, dir, root, keystore.Options{Log: o.Log})
	if err != nil {
		t.Fatal(err)
	}
	s, err := kms.Open(v, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, v
}

func newStore(t testing.TB) *kms.Store {
	s, _ := openOn(t, memDisk(t), kms.Options{})
	return s
}

func create(t testing.TB, s *kms.Store, name string, alg kms.Algorithm, p kms.Purpose) {
	t.Helper()
	if _, _, err := s.Create(context.Background(), kms.Spec{Name: name, Alg: alg, Purpose: p}); err != nil {
		t.Fatal(err)
	}
}

// secretOf copies the secret of a key's only version: it ends the record.
func secretOf(t testing.TB, v kms.Vault, name string) []byte {
	t.Helper()
	const head = 5 + 50 // the record's, and the version's
	var secret []byte
	err := v.Load("key/"+name, func(plain []byte) error {
		secret = bytes.Clone(plain[head:])
		return nil
	})
	if err != nil || len(secret) == 0 || len(secret)%32 != 0 {
		t.Fatalf("%s: %d bytes of secret, %v", name, len(secret), err)
	}
	return secret
}

func wantKind(t testing.TB, err error, want macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != want {
		t.Fatalf("%v; want %s", err, want)
	}
}
