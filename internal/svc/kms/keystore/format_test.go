// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

func sum(b []byte) []byte {
	s := blake3.Sum256(b)
	return s[:]
}

// The format on disk is fixed: a store that was written when it was made opens.
// The files hold made-up secrets, made by testdata's own key.
func TestGoldenStore(t *testing.T) {
	f := disk.Mem()
	if err := f.MkdirAllSync(testDir); err != nil {
		t.Fatal(err)
	}
	for name, text := range golden {
		b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			t.Fatal(err)
		}
		put(t, f, f.PathJoin(testDir, name), b)
	}
	put(t, f, keyPath, []byte(goldenKey))
	s, err := Open(f, testDir, testRoot, Options{MinEpoch: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantRecord(t, s, "key/golden", "golden content")
}

func TestKeyText(t *testing.T) {
	key := bytes.Repeat([]byte{7}, keyBytes)
	text := bytes.TrimSpace(encodeKey(rootKeyPrefix, key))
	got, err := decodeKey(rootKeyPrefix, append(append([]byte("  "), text...), " \n"...), keyBytes)
	if err != nil || !bytes.Equal(got, key) {
		t.Fatal(err)
	}
	for i := len(rootKeyPrefix); i < len(text); i++ {
		bad := bytes.Clone(text)
		if bad[i]++; bad[i] == '{' {
			bad[i] = 'A'
		}
		if _, err := decodeKey(rootKeyPrefix, bad, keyBytes); err == nil {
			t.Errorf("a typing error at %d passes", i)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	h := header{kind: kindRecord, suite: suiteXChaCha, generation: 3, name: "key/a"}
	f.Add(envelope(&h, []byte("body")))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, body, err := parseEnvelope(b)
		if err != nil {
			if !errors.Is(err, errDamaged) && !errors.Is(err, errNewer) {
				t.Fatal(err)
			}
			// With its sum right, the rest is still checked.
			b = append(bytes.Clone(b), sum(b)...)
			if h, body, err = parseEnvelope(b); err != nil {
				return
			}
		}
		if !bytes.Equal(envelope(&h, body), b) {
			t.Fatal("two forms of one envelope")
		}
	})
}

func FuzzManifest(f *testing.F) {
	m := manifest{epoch: 9, records: map[string]entry{"key/a": {generation: 3}, "obj/b@v1": {generation: 9}}}
	f.Add(uint64(9), m.encode())
	f.Add(uint64(1), (&manifest{}).encode())
	f.Fuzz(func(t *testing.T, epoch uint64, b []byte) {
		m, err := decodeManifest(epoch, b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.encode(), b) {
			t.Fatal("two forms of one manifest")
		}
	})
}

func FuzzKeyText(f *testing.F) {
	f.Add([]byte(goldenKey))
	f.Add(encodeKey(recoveryPrefix, make([]byte, idBytes+keyBytes)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := decodeKey(rootKeyPrefix, b, keyBytes); err == nil && len(key) != keyBytes {
			t.Fatal("a key of another length")
		}
		_, _ = decodeKey(recoveryPrefix, recoveryLine(b), idBytes+keyBytes)
	})
}

func FuzzOpenBody(f *testing.F) {
	key := make([]byte, keyBytes)
	good, err := sealBody(key, nil, []byte("plain"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		a := locked.New(nil)
		defer a.Close()
		s, err := openBody(a, key, nil, b)
		if err == nil && string(s.Bytes()) != "plain" { // another worker's seed is as good
			t.Fatalf("forged: %x", s.Bytes())
		}
	})
}
