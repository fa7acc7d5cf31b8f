// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"golang.org/x/mod/sumdb/note"
)

// signer signs checkpoints as a log or a witness does.
type signer struct {
	key  Key
	sign func(msg []byte) []byte
}

func signers(name string, seed byte) (ed, pq signer) {
	s := bytes.Repeat([]byte{seed}, 32)
	priv := ed25519.NewKeyFromSeed(s)
	ed = signer{Key{name, Ed25519, priv.Public().(ed25519.PublicKey)}, func(m []byte) []byte { return ed25519.Sign(priv, m) }}
	pub, sec := mldsa44.NewKeyFromSeed((*[32]byte)(s))
	pq = signer{Key{name, MLDSA44, pub.Bytes()}, func(m []byte) []byte {
		sig := make([]byte, mldsa44.SignatureSize)
		if err := mldsa44.SignTo(sec, m, nil, false, sig); err != nil {
			panic(err)
		}
		return sig
	}}
	return ed, pq
}

func signed(text string, unix uint64, by ...signer) []byte {
	out := text + "\n"
	for _, s := range by {
		msg, err := s.key.Message(text, unix)
		if err != nil {
			panic(err)
		}
		out += Line(s.key, s.key.Seal(s.sign(msg), unix))
	}
	return []byte(out)
}

func TestCheckpoint(t *testing.T) {
	c := Checkpoint{"log.example", 42, EmptyRoot}
	ed, pq := signers("log.example", 1)
	wed, wpq := signers("witness.example", 2)
	wed.key.Type = Ed25519Cos
	whole := signed(c.Text(), 1700000000, ed, pq, wed, wpq)

	s, err := OpenLog(whole, []Key{ed.key, pq.key}, wed.key, wpq.key)
	if err != nil || s.Checkpoint != c || len(s.By) != 4 || !s.Has(wpq.key) {
		t.Fatalf("%v, %+v", err, s)
	}
	// What has been in use for years reads the Ed25519 line.
	old, err := note.NewVerifier(ed.key.String())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := note.Open(whole, note.VerifierList(old)); err != nil || n.Text != c.Text() {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct {
		note []byte
		log  []Key
	}{
		"no key":               {whole, nil},
		"unsigned":             {[]byte(c.Text() + "\n"), []Key{ed.key}},
		"one half alone":       {signed(c.Text(), 1, ed), []Key{ed.key, pq.key}},
		"the other half":       {signed(c.Text(), 1, pq), []Key{ed.key, pq.key}},
		"another origin":       {signed(Checkpoint{"other.example", 42, EmptyRoot}.Text(), 1, ed, pq), []Key{ed.key, pq.key}},
		"a witness is no log":  {signed(c.Text(), 1, wed), []Key{ed.key}},
		"another size":         {bytes.Replace(whole, []byte("\n42\n"), []byte("\n43\n"), 1), []Key{ed.key, pq.key}},
		"too large":            {append(bytes.Clone(whole), make([]byte, MaxCheckpointBytes)...), []Key{ed.key}},
		"another's signatures": {bytes.ReplaceAll(whole, []byte("— log"), []byte("— lag")), []Key{ed.key}},
	} {
		if _, err := OpenLog(bad.note, bad.log); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Each bit of either signature counts.
	lines := strings.Split(string(whole), "\n")
	for i := 4; i <= 5; i++ {
		head, b64, _ := strings.Cut(strings.TrimPrefix(lines[i], "— "), " ")
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			t.Fatal(err)
		}
		for at := 4; at < len(raw); at += 97 {
			raw[at] ^= 1
			bad := strings.Replace(string(whole), lines[i], "— "+head+" "+base64.StdEncoding.EncodeToString(raw), 1)
			if _, err := OpenLog([]byte(bad), []Key{ed.key, pq.key}); !errors.Is(err, ErrCheckpoint) {
				t.Fatalf("line %d, byte %d: %v", i, at, err)
			}
			raw[at] ^= 1
		}
	}
}

func TestParseCheckpoint(t *testing.T) {
	root := base64.StdEncoding.EncodeToString(EmptyRoot[:])
	for _, text := range []string{"o\n0\n" + root + "\n", "o\n7\n" + root + "\nextension\n"} {
		if _, err := ParseCheckpoint(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "o\n", "o\n1\n", "o\n1\n" + root, "\n1\n" + root + "\n", "o\n01\n" + root + "\n", "o\n-1\n" + root + "\n", "o\n+1\n" + root + "\n", "o\n18446744073709551616\n" + root + "\n",
		"o\n9999999999999999999\n" + root + "\n", "o\n1\n" + root[:40] + "\n", "o\n1\n" + root + "=\n", "o\n1\n" + root + "\nopen",
	} {
		if c, err := ParseCheckpoint(text); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	}
}

func TestKeys(t *testing.T) {
	ed, pq := signers("log.example/a", 3)
	cos := ed.key
	cos.Type = Ed25519Cos
	ids := map[uint32]bool{}
	for _, k := range []Key{ed.key, pq.key, cos} {
		got, err := ParseKey(k.String() + "\n")
		if err != nil || !got.same(k) {
			t.Errorf("%s: %v", k.Type, err)
		}
		ids[k.ID()] = true
	}
	if len(ids) != 3 {
		t.Error("two types of one key have one id")
	}
	want, err := note.NewEd25519VerifierKey(ed.key.Name, ed.key.Public)
	if err != nil || want != ed.key.String() {
		t.Errorf("%s, elsewhere %s", ed.key, want)
	}
	text := ed.key.String()
	for _, bad := range []string{"", "a", "a+b", "a+00000000+AQ==", text[:len(text)-4], strings.Replace(text, "log.", "lag.", 1), strings.Replace(text, "log.", "l g.", 1), strings.Replace(text, "+", "+0", 1)} {
		if _, err := ParseKey(bad); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (Key{"n", MLDSA44, ed.key.Public}).Check() == nil || (Key{"", Ed25519, ed.key.Public}).Check() == nil || (Key{"a\nb", Ed25519, ed.key.Public}).Check() == nil {
		t.Error("a bad key")
	}
	if ed.key.Verify("text", nil) || pq.key.Verify("text", make([]byte, 8)) || (Key{}).Verify("text", nil) {
		t.Error("verified")
	}
}

func FuzzOpen(f *testing.F) {
	c := Checkpoint{"log.example", 42, EmptyRoot}
	ed, pq := signers("log.example", 1)
	f.Add(signed(c.Text(), 7, ed, pq))
	f.Add([]byte(c.Text()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenLog(b, []Key{ed.key, pq.key})
		if err == nil && s.Checkpoint != c {
			t.Errorf("signed: %+v", s.Checkpoint)
		}
	})
}

func FuzzKey(f *testing.F) {
	ed, _ := signers("log.example", 1)
	f.Add(ed.key.String())
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != strings.TrimSpace(s) {
			t.Errorf("%q is %q", s, k)
		}
	})
}
