// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
)

var (
	root = keystore.Root{Kind: keystore.KeyFile, Path: "/d/root.key"}
	ctx  = context.Background()
)

const dir = "/d/keystore"

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

func openOn(t testing.TB, f *disk.FS, o kms.Options) *kms.Store {
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
	return s
}

func newStore(t testing.TB) *kms.Store { return openOn(t, memDisk(t), kms.Options{}) }

func create(t testing.TB, s *kms.Store, name string, alg kms.Algorithm, p kms.Purpose) kms.KeyInfo {
	t.Helper()
	info, _, err := s.Create(ctx, kms.Spec{Name: name, Alg: alg, Purpose: p})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func wantKind(t testing.TB, err error, want macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != want {
		t.Fatalf("%v; want %s", err, want)
	}
}

var signing = []kms.Algorithm{kms.Ed25519, kms.P256, kms.MLDSA44, kms.MLDSA65, kms.Ed25519MLDSA44, kms.Ed25519MLDSA65, kms.MAC256}

func TestRotationKeepsOldVersionsWorking(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	message := []byte("message")
	sigs := map[kms.Algorithm][]kms.Signature{}
	for _, alg := range signing {
		name := "k." + strings.ReplaceAll(string(alg), "+", "-")
		create(t, s, name, alg, kms.PurposeApp)
		for n := uint64(1); n <= 3; n++ {
			sig, err := s.Sign(ctx, name, kms.PurposeApp, message)
			if err != nil || sig.Version != n {
				t.Fatal(alg, sig.Version, err)
			}
			sigs[alg] = append(sigs[alg], sig)
			if _, number, _, err := s.Rotate(ctx, kms.Spec{Name: name}); err != nil || number != n+1 {
				t.Fatal(number, err)
			}
		}
	}
	check := func(s *kms.Store) {
		t.Helper()
		for alg, list := range sigs {
			name := "k." + strings.ReplaceAll(string(alg), "+", "-")
			for i, sig := range list {
				if ok, err := s.Verify(ctx, name, kms.PurposeApp, message, sig); !ok || err != nil {
					t.Errorf("%s version %d: %v, %v", alg, sig.Version, ok, err)
				}
				if ok, _ := s.Verify(ctx, name, kms.PurposeApp, []byte("another"), sig); ok {
					t.Errorf("%s verifies another message", alg)
				}
				sig.Version = list[(i+1)%len(list)].Version
				if ok, _ := s.Verify(ctx, name, kms.PurposeApp, message, sig); ok {
					t.Errorf("%s verifies as another version", alg)
				}
				for _, v := range []uint64{0, 99} {
					sig.Version = v
					if ok, err := s.Verify(ctx, name, kms.PurposeApp, message, sig); ok || err != nil {
						t.Errorf("%s version %d: %v, %v", alg, v, ok, err)
					}
				}
			}
		}
	}
	check(s)
	_ = s.Close()
	check(openOn(t, f, kms.Options{}))
}

// Either half of a hybrid's signature, alone, doubled or changed, is not enough.
func TestHybridNeedsBothHalves(t *testing.T) {
	s := newStore(t)
	for _, alg := range []kms.Algorithm{kms.Ed25519MLDSA44, kms.Ed25519MLDSA65} {
		name := "h" + string(alg[len(alg)-2:])
		create(t, s, name, alg, kms.PurposeApp)
		message := []byte("both")
		good, err := s.Sign(ctx, name, kms.PurposeApp, message)
		if err != nil {
			t.Fatal(err)
		}
		verify := func(halves ...kms.HalfSignature) bool {
			ok, err := s.Verify(ctx, name, kms.PurposeApp, message, kms.Signature{Version: 1, Halves: halves})
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		flip := func(h kms.HalfSignature) kms.HalfSignature {
			h.Sig = bytes.Clone(h.Sig)
			h.Sig[len(h.Sig)/2] ^= 1
			return h
		}
		a, b := good.Halves[0], good.Halves[1]
		if !verify(a, b) {
			t.Fatal("the good one does not verify")
		}
		for i, halves := range [][]kms.HalfSignature{nil, {a}, {b}, {a, a}, {b, b}, {b, a}, {flip(a), b}, {a, flip(b)}, {a, b, b},
			{a, {Component: b.Component}}, {{Component: a.Component}, b}} {
			if verify(halves...) {
				t.Errorf("%s: case %d verifies", alg, i)
			}
		}
	}
}

func TestPurposesAreKeptApart(t *testing.T) {
	s := newStore(t)
	create(t, s, "ops-release", kms.Ed25519MLDSA65, kms.PurposeBundle)
	create(t, s, "audit", kms.Ed25519MLDSA44, kms.PurposeAudit)
	create(t, s, "node", kms.P256, kms.PurposeNode)
	create(t, s, "tls", kms.P256, kms.PurposeTLS)
	create(t, s, "mint-x", kms.MAC256, kms.PurposeMint)
	create(t, s, "app-wrap", kms.AES256GCM, kms.PurposeApp)
	for _, name := range []string{"ops-release", "audit", "node", "tls", "mint-x"} {
		_, err := s.Sign(ctx, name, kms.PurposeApp, []byte("x"))
		wantKind(t, err, macronode.Denied)
		_, err = s.Verify(ctx, name, kms.PurposeApp, []byte("x"), kms.Signature{Version: 1})
		wantKind(t, err, macronode.Denied)
		_, err = s.Wrap(ctx, name, kms.PurposeApp, []byte("x"), nil)
		wantKind(t, err, macronode.Denied)
		_, err = s.Unwrap(ctx, name, kms.PurposeApp, make([]byte, 99), nil)
		wantKind(t, err, macronode.Denied)
	}
	_, err := s.Sign(ctx, "app-wrap", kms.PurposeApp, nil)
	wantKind(t, err, macronode.Denied)
	_, err = s.Signers(kms.Ref{Kind: "key", Name: "audit"}, kms.PurposeBundle)
	wantKind(t, err, macronode.Denied)
	_, err = s.CryptoSigner(kms.Ref{Kind: "key", Name: "tls"}, kms.PurposeNode)
	wantKind(t, err, macronode.Denied)
	_, err = s.CryptoSigner(kms.Ref{Kind: "key", Name: "ops-release"}, kms.PurposeBundle)
	wantKind(t, err, macronode.Denied)
	never := func([]byte) error { t.Error("a secret was shown"); return nil }
	wantKind(t, s.WithSecret("mint-x", 0, kms.PurposeApp, never), macronode.Denied)
	wantKind(t, s.WithSecret("app-wrap", 0, kms.PurposeApp, never), macronode.Denied)
	wantKind(t, s.WithSecret("mint-y", 0, kms.PurposeMint, never), macronode.NotFound)
	wantKind(t, s.WithSecret("mint-x", 2, kms.PurposeMint, never), macronode.NotFound)
	for _, bad := range []kms.Spec{
		{Name: "x", Alg: kms.P256, Purpose: kms.PurposeMint}, {Name: "x", Alg: kms.MAC256, Purpose: kms.PurposeTLS},
		{Name: "x", Alg: "rsa", Purpose: kms.PurposeApp}, {Name: "x", Alg: kms.Ed25519, Purpose: "all"}, {Name: "x", Alg: kms.Ed25519},
		{Name: "../x", Alg: kms.Ed25519, Purpose: kms.PurposeApp}, {Name: "", Alg: kms.Ed25519, Purpose: kms.PurposeApp},
	} {
		_, _, err := s.Create(ctx, bad)
		wantKind(t, err, macronode.Invalid)
	}
}

func TestCreateIsIdempotentUnderRace(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	made, raws := 0, map[string]bool{}
	for range 8 {
		wg.Go(func() {
			info, m, err := s.Create(ctx, kms.Spec{Name: "k", Alg: kms.Ed25519, Purpose: kms.PurposeApp})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if m {
				made++
			}
			raws[string(info.Newest().Public[0].Raw)] = true
		})
	}
	wg.Wait()
	if made != 1 || len(raws) != 1 {
		t.Fatalf("made %d times, %d keys", made, len(raws))
	}
	_, _, err := s.Create(ctx, kms.Spec{Name: "k", Alg: kms.P256, Purpose: kms.PurposeApp})
	wantKind(t, err, macronode.Conflict)
	_, _, err = s.Create(ctx, kms.Spec{Name: "k", Alg: kms.Ed25519, Purpose: kms.PurposeTLS})
	wantKind(t, err, macronode.Conflict)
}

// The structural contract of bundle.Signer, and signatures that it accepts.
func TestSignersMakeBundleSignatures(t *testing.T) {
	s := newStore(t)
	info := create(t, s, "ops-release", kms.Ed25519MLDSA65, kms.PurposeBundle)
	if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "ops-release"}); err != nil {
		t.Fatal(err)
	}
	ref, err := kms.ParseRef("KMS:key/ops-release@v1")
	if err != nil {
		t.Fatal(err)
	}
	signers, err := s.Signers(ref, kms.PurposeBundle)
	if err != nil || len(signers) != 2 {
		t.Fatal(len(signers), err)
	}
	list := make([]bundle.Signer, len(signers))
	for i, g := range signers {
		list[i] = g
	}
	e, err := bundle.Sign("application/test", []byte("payload"), list...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"ops-release#v1/ed25519", "ops-release#v1/ml-dsa-65"} {
		if e.Signatures[i].KeyID != want || info.Versions[0].Public[i].KeyID != want {
			t.Errorf("keyid %q, public %q; want %q", e.Signatures[i].KeyID, info.Versions[0].Public[i].KeyID, want)
		}
	}
	if !ed25519.Verify(info.Versions[0].Public[0].Raw, bundle.PAE("application/test", []byte("payload")), e.Signatures[0].Sig) {
		t.Error("the Ed25519 half does not verify with the standard library")
	}
	if newest, _ := s.Signers(kms.Ref{Kind: "key", Name: "ops-release"}, kms.PurposeBundle); newest[0].KeyID() != "ops-release#v2/ed25519" {
		t.Errorf("the newest is %s", newest[0].KeyID())
	}
	if err := s.Delete(ctx, "ops-release"); err != nil {
		t.Fatal(err)
	}
	if _, err := signers[0].Sign([]byte("x")); err == nil {
		t.Error("a deleted key signs")
	}
	_ = s.Close()
	_, err = signers[1].Sign([]byte("x"))
	wantKind(t, err, macronode.Unavailable)
}

func TestWrap(t *testing.T) {
	s := newStore(t)
	create(t, s, "w", kms.AES256GCM, kms.PurposeApp)
	create(t, s, "w2", kms.AES256GCM, kms.PurposeApp)
	first, err := s.Wrap(ctx, "w", kms.PurposeApp, []byte("plain"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "w"}); err != nil {
		t.Fatal(err)
	}
	second, err := s.Wrap(ctx, "w", kms.PurposeApp, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Unwrap(ctx, "w", kms.PurposeApp, first, []byte("ad")); err != nil || string(got) != "plain" {
		t.Fatalf("%q, %v", got, err)
	}
	if got, err := s.Unwrap(ctx, "w", kms.PurposeApp, second, nil); err != nil || len(got) != 0 || got == nil {
		t.Fatalf("%q, %v", got, err)
	}
	for i := range first {
		bad := bytes.Clone(first)
		bad[i] ^= 1
		_, err := s.Unwrap(ctx, "w", kms.PurposeApp, bad, []byte("ad"))
		wantKind(t, err, macronode.Invalid)
	}
	for n := range first {
		_, err := s.Unwrap(ctx, "w", kms.PurposeApp, first[:n], []byte("ad"))
		wantKind(t, err, macronode.Invalid)
	}
	_, err = s.Unwrap(ctx, "w", kms.PurposeApp, first, []byte("da"))
	wantKind(t, err, macronode.Invalid)
	_, err = s.Unwrap(ctx, "w2", kms.PurposeApp, first, []byte("ad"))
	wantKind(t, err, macronode.Invalid)
	_, err = s.Wrap(ctx, "w", kms.PurposeApp, make([]byte, kms.MaxWrapBytes+1), nil)
	wantKind(t, err, macronode.TooLarge)
}

func TestMintSecretByVersion(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	create(t, s, "mint-x", kms.MAC256, kms.PurposeMint)
	secret := func(s *kms.Store, v uint64) (out string) {
		if err := s.WithSecret("mint-x", v, kms.PurposeMint, func(b []byte) error { out = string(b); return nil }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	one := secret(s, 0)
	if _, _, _, err := s.Rotate(ctx, kms.Spec{Name: "mint-x"}); err != nil {
		t.Fatal(err)
	}
	two := secret(s, 0)
	if len(one) != 32 || one == two || secret(s, 1) != one {
		t.Fatal("versions are mixed up")
	}
	_ = s.Close()
	s = openOn(t, f, kms.Options{})
	if secret(s, 1) != one || secret(s, 2) != two {
		t.Fatal("another secret after opening again")
	}
	mine := errors.New("mine")
	if err := s.WithSecret("mint-x", 0, kms.PurposeMint, func([]byte) error { return mine }); !errors.Is(err, mine) {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "mint-x"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, s.Delete(ctx, "mint-x"), macronode.NotFound)
}

func TestRotateRepeatedByOneRequest(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	create(t, s, "k", kms.Ed25519, kms.PurposeApp)
	p := kms.Spec{Name: "k", Replay: [32]byte{1}}
	if _, n, made, err := s.Rotate(ctx, p); n != 2 || !made || err != nil {
		t.Fatal(n, made, err)
	}
	_ = s.Close()
	s = openOn(t, f, kms.Options{})
	if _, n, made, err := s.Rotate(ctx, p); n != 2 || made || err != nil {
		t.Fatal(n, made, err)
	}
}
