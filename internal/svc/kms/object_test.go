// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package kms_test

import (
	"bytes"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

func object(t testing.TB, s *kms.Store, ref string) ([]byte, kms.ObjectInfo, error) {
	t.Helper()
	r, err := kms.ParseRef(ref)
	if err != nil {
		t.Fatal(err)
	}
	return s.Object(r)
}

func TestObjectVersions(t *testing.T) {
	f := memDisk(t)
	s := openOn(t, f, kms.Options{})
	for _, step := range []struct {
		version uint64
		data    string
		want    uint64
		made    bool
		kind    macronode.Kind
	}{
		{0, "one", 1, true, 0},
		{0, "one", 1, false, 0}, // the newest has it
		{0, "two", 2, true, 0},
		{0, "one", 3, true, 0}, // an older one does not count
		{10, "ten", 10, true, 0},
		{10, "ten", 10, false, 0},
		{10, "other", 0, false, macronode.Conflict},
		{4, "four", 0, false, macronode.Conflict},
		{2, "two", 2, false, 0}, // this very version, again
		{1 << 60, "x", 0, false, macronode.Invalid},
		{0, "", 11, true, 0},
	} {
		info, made, err := s.PutObject(ctx, "o", step.version, []byte(step.data))
		if step.kind != 0 {
			wantKind(t, err, step.kind)
			continue
		}
		if err != nil || info.Version != step.want || made != step.made {
			t.Fatalf("%+v: %+v, %v, %v", step, info, made, err)
		}
	}
	check := func(s *kms.Store) {
		t.Helper()
		for ref, want := range map[string]string{"KMS:obj/o": "", "KMS:obj/o@v1": "one", "KMS:obj/o@v2": "two", "KMS:obj/o@v10": "ten"} {
			if got, info, err := object(t, s, ref); err != nil || string(got) != want || info.Size != int64(len(want)) {
				t.Errorf("%s: %q, %+v, %v", ref, got, info, err)
			}
		}
		for _, ref := range []string{"KMS:obj/o@v4", "KMS:obj/none", "KMS:obj/none@v1"} {
			_, _, err := object(t, s, ref)
			wantKind(t, err, macronode.NotFound)
		}
		_, _, err := object(t, s, "KMS:key/o")
		wantKind(t, err, macronode.Invalid)
		list, err := s.Objects()
		if err != nil || len(list) != 5 || list[4].Version != 11 {
			t.Errorf("%+v, %v", list, err)
		}
	}
	check(s)
	_ = s.Close()
	s = openOn(t, f, kms.Options{})
	check(s)
	drop := func(v uint64) error { return s.DropObject(ctx, kms.Ref{Kind: "obj", Name: "o", Version: v}) }
	wantKind(t, drop(11), macronode.Conflict)
	wantKind(t, drop(0), macronode.Invalid)
	wantKind(t, drop(5), macronode.NotFound)
	if err := drop(2); err != nil {
		t.Fatal(err)
	}
	_, _, err := object(t, s, "KMS:obj/o@v2")
	wantKind(t, err, macronode.NotFound)
	if _, _, err := s.PutObject(ctx, "big", 0, make([]byte, kms.MaxObjectBytes)); err != nil {
		t.Fatal(err)
	}
	if got, _, err := object(t, s, "KMS:obj/big"); err != nil || len(got) != kms.MaxObjectBytes {
		t.Fatal(len(got), err)
	}
	_, _, err = s.PutObject(ctx, "big", 0, make([]byte, kms.MaxObjectBytes+1))
	wantKind(t, err, macronode.TooLarge)
	_, _, err = s.PutObject(ctx, "No", 0, nil)
	wantKind(t, err, macronode.Invalid)
}

// A key and an object of one name have nothing to do with each other.
func TestKeyAndObjectOfOneName(t *testing.T) {
	s := newStore(t)
	create(t, s, "same", kms.Ed25519, kms.PurposeApp)
	if _, _, err := s.PutObject(ctx, "same", 0, []byte("bytes")); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(ctx, "same"); err != nil {
		t.Fatal(err)
	}
	if got, _, err := object(t, s, "KMS:obj/same"); err != nil || !bytes.Equal(got, []byte("bytes")) {
		t.Fatal(got, err)
	}
}

func TestObjectBytesAreTheCallers(t *testing.T) {
	s := newStore(t)
	if _, _, err := s.PutObject(ctx, "o", 0, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	got, _, _ := object(t, s, "KMS:obj/o")
	got[0] = 'X'
	if again, _, _ := object(t, s, "KMS:obj/o"); string(again) != "abc" {
		t.Fatalf("%q", again)
	}
}
