// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"

	"github.com/rustyonions/macronode/bundle"
)

// seedText is the example of the project's first runbook, verbatim, with only
// version, hashes and signature filled in.
func seedText(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/seed.toml")
	if err != nil {
		t.Fatal(err)
	}
	// The policy's hash is an input; the bundle's own follows from the document.
	i := bytes.LastIndex(text, []byte(`"blake3:..."`))
	filled := append(bytes.Clone(text[:i]), []byte(`"`+policyHash+`"`)...)
	return append(filled, text[i+len(`"blake3:..."`):]...)
}

const policyHash = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"

type half struct {
	id   bundle.KeyID
	sign func([]byte) []byte
}

func (h half) KeyID() string                 { return h.id.String() }
func (h half) Alg() string                   { return h.id.Alg }
func (h half) Sign(m []byte) ([]byte, error) { return h.sign(m), nil }

// keyOf makes a hybrid key from its name.
func keyOf(name string, version uint64) (bundle.Anchor, []bundle.Signer) {
	seed := bundle.Sum([]byte(name))
	ed := ed25519.NewKeyFromSeed(seed[:])
	pub, priv := mldsa65.NewKeyFromSeed((*[32]byte)(&seed))
	id := bundle.KeyID{Name: name, Version: version, Alg: bundle.AlgEd25519}
	ml := id
	ml.Alg = bundle.AlgMLDSA65
	return bundle.Anchor{Name: name, Version: version, Ed25519: ed.Public().(ed25519.PublicKey), MLDSA65: pub.Bytes()},
		[]bundle.Signer{
			half{id, func(m []byte) []byte { return ed25519.Sign(ed, m) }},
			half{ml, func(m []byte) []byte {
				sig := make([]byte, mldsa65.SignatureSize)
				if err := mldsa65.SignTo(priv, m, nil, false, sig); err != nil {
					panic(err)
				}
				return sig
			}},
		}
}

// release is the key that the tests' node trusts.
func release() (*bundle.Trust, []bundle.Signer) {
	anchor, signers := keyOf("ops-release", 1)
	policy, _ := keyOf("policy", 1)
	return &bundle.Trust{
		V:      1,
		Config: bundle.Role{Threshold: 1, Anchors: []bundle.Anchor{anchor}},
		Policy: bundle.Role{Threshold: 1, Anchors: []bundle.Anchor{policy}},
	}, signers
}

func seal(t testing.TB, text []byte, version uint64) []byte {
	t.Helper()
	out, err := Seal(text, version, "")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sign(t testing.TB, text []byte, signers ...bundle.Signer) []byte {
	t.Helper()
	e, err := bundle.Sign(bundle.ConfigType, text, signers...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const fileName = "macronode.bundle.toml"

func TestSeedLoads(t *testing.T) {
	trust, signers := release()
	text := seal(t, seedText(t), 0)
	l, err := Load(text, fileName, sign(t, text, signers...), Options{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	c := &l.Config
	if l.Version != 12 || c.Server.Bind != "0.0.0.0:8080" || c.OAP.ChunkBytes != 65536 || c.Policy.CacheTTLMS != 250 ||
		c.Policy.BundleKMS.String() != "KMS:obj/policy-bundle@v42" || len(c.Readiness.RequiredServices) != 5 || c.ZK.DomainSep != "domain:policy" {
		t.Errorf("read wrongly: %+v", c)
	}
	if len(l.Signers) != 1 || l.Signers[0].String() != "ops-release#v1" || l.RolledBack {
		t.Errorf("signers %v, rolled back %v", l.Signers, l.RolledBack)
	}
	// Sealing touched nothing but the hash.
	if got := strings.Replace(string(text), l.Hash.String(), "blake3:...", 1); got != string(seedText(t)) {
		t.Errorf("sealing changed more than the hash:\n%s", got)
	}
	// White space and comments are not part of the hash; values are.
	if h := seal(t, append([]byte("# a comment\n\n"), text...), 0); !bytes.Contains(h, []byte(l.Hash.String())) {
		t.Error("a comment changed the hash")
	}
	if h := seal(t, bytes.Replace(text, []byte("= 250"), []byte("= 251"), 1), 0); bytes.Contains(h, []byte(l.Hash.String())) {
		t.Error("another value kept the hash")
	}
}

func TestTrust(t *testing.T) {
	trust, signers := release()
	_, strangers := keyOf("stranger", 1)
	_, impostors := keyOf("impostor", 1)
	for i, s := range impostors {
		h := s.(half)
		h.id.Name = "ops-release"
		impostors[i] = h
	}
	twoAnchor, twoSigners := keyOf("second", 3)
	two := *trust
	two.Config = bundle.Role{Threshold: 2, Anchors: []bundle.Anchor{trust.Config.Anchors[0], twoAnchor}}
	either := two
	either.Config.Threshold = 1

	text := seal(t, seedText(t), 12)
	good := sign(t, text, signers...)
	l, err := Load(text, fileName, good, Options{Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	hash := l.Hash
	other := bundle.Sum([]byte("other"))
	policy, err := bundle.Sign(bundle.PolicyType, text, signers...)
	if err != nil {
		t.Fatal(err)
	}
	asPolicy, err := policy.Encode()
	if err != nil {
		t.Fatal(err)
	}
	wrongHash := bytes.Replace(text, []byte(hash.String()), []byte(other.String()), 1)
	otherSigner, err := Seal(text, 0, "KMS:key/second")
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := Seal(text, 0, "KMS:key/ops-release@v1")
	if err != nil {
		t.Fatal(err)
	}
	pinnedWrong, err := Seal(text, 0, "KMS:key/ops-release@v2")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		text []byte
		sig  []byte
		o    Options
		want error // nil: accepted
		says string
	}{
		{"accepted", text, good, Options{Trust: trust}, nil, ""},
		{"no trust", text, good, Options{}, bundle.ErrUnknownSigner, "no trust anchors"},
		{"no signature", text, nil, Options{Trust: trust}, bundle.ErrMalformed, fileName + ".sig is missing"},
		{"unreadable signature", text, []byte("{"), Options{Trust: trust}, bundle.ErrMalformed, "signature:"},
		{"wrong hash", wrongHash, sign(t, wrongHash, signers...), Options{Trust: trust}, ErrHash, `key "meta.bundle_hash": wrong hash`},
		{"stranger", text, sign(t, text, strangers...), Options{Trust: trust}, bundle.ErrUnknownSigner, "no trust anchor"},
		{"impostor", text, sign(t, text, impostors...), Options{Trust: trust}, bundle.ErrBadSignature, "ops-release#v1/ed25519"},
		{"half of a hybrid", text, sign(t, text, signers[0]), Options{Trust: trust}, bundle.ErrThreshold, "hybrid"},
		{"one of two", text, good, Options{Trust: &two}, bundle.ErrThreshold, "1 of 2"},
		{"two of two", text, sign(t, text, append(twoSigners, signers...)...), Options{Trust: &two}, nil, ""},
		{"signed as policy", text, asPolicy, Options{Trust: trust}, bundle.ErrWrongType, ""},
		{"other bytes signed", append(bytes.Clone(text), '\n'), good, Options{Trust: trust}, bundle.ErrBadSignature, "other bytes"},
		{"names a signer that did not sign", otherSigner, sign(t, otherSigner, signers...), Options{Trust: &either}, bundle.ErrUnknownSigner, "KMS:key/second did not sign; ops-release#v1 did"},
		{"names the version that signed", pinned, sign(t, pinned, signers...), Options{Trust: trust}, nil, ""},
		{"names a version that did not", pinnedWrong, sign(t, pinnedWrong, signers...), Options{Trust: trust}, bundle.ErrUnknownSigner, "did not sign"},
		{"same again", text, good, Options{Trust: trust, Applied: Applied{12, hash}}, nil, ""},
		{"higher", text, good, Options{Trust: trust, Applied: Applied{11, other}}, nil, ""},
		{"lower", text, good, Options{Trust: trust, Applied: Applied{13, other}}, ErrVersion, "version 12 is below the last applied, 13"},
		{"same version, other hash", text, good, Options{Trust: trust, Applied: Applied{12, other}}, ErrVersion, "applied with another hash"},
		{"lower, allowed", text, good, Options{Trust: trust, Applied: Applied{13, other}, AllowRollback: "12@" + hash.String()}, nil, ""},
		{"lower, allowed in short", text, good, Options{Trust: trust, Applied: Applied{13, other}, AllowRollback: "12@" + hash.String()[7:]}, nil, ""},
		{"lower, another one allowed", text, good, Options{Trust: trust, Applied: Applied{13, other}, AllowRollback: "12@" + other.String()}, ErrVersion, "names another bundle"},
		{"lower, nonsense allowed", text, good, Options{Trust: trust, Applied: Applied{13, other}, AllowRollback: "yes"}, ErrVersion, "VERSION@HASH"},
		{"rollback allowed, but not signed", text, sign(t, text, strangers...), Options{Trust: trust, Applied: Applied{13, other}, AllowRollback: "12@" + hash.String()}, bundle.ErrUnknownSigner, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := Load(c.text, fileName, c.sig, c.o)
			if c.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				if l.RolledBack != (c.o.AllowRollback != "") {
					t.Errorf("RolledBack = %v", l.RolledBack)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if e.Class != ClassTrust || e.ExitCode() != 4 {
				t.Errorf("class %v, exit %d", e.Class, e.ExitCode())
			}
			if !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), fileName+":") {
				t.Errorf("says %q, want %q in it", err, c.says)
			}
		})
	}
}

// Keys and values come first: where both are wrong, exit 3.
func TestKeysBeforeTrust(t *testing.T) {
	trust, _ := release()
	text := bytes.Replace(seedText(t), []byte("cache_ttl_ms"), []byte("cache_ttl_sm"), 1)
	_, err := Load(text, fileName, nil, Options{Trust: trust})
	var e *Error
	if !errors.As(err, &e) || e.ExitCode() != 3 || e.Class != ClassBad {
		t.Fatalf("got %v", err)
	}
	if want := fileName + `:21: key "policy.cache_ttl_sm": unknown key; did you mean "policy.cache_ttl_ms"?`; !strings.Contains(err.Error(), want) {
		t.Errorf("says\n%v\nwant\n%s", err, want)
	}
}

func TestApplied(t *testing.T) {
	a := Applied{12, bundle.Sum([]byte("x"))}
	text, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := DecodeApplied(text); err != nil || back != a {
		t.Errorf("got %v, %v", back, err)
	}
	for _, bad := range []string{"", "{}", `{"version":12}`, string(text) + "{}", strings.Replace(string(text), "12", "0", 1), strings.Replace(string(text), "version", "vers", 1), string(text[:20]), strings.Repeat(" ", 5000)} {
		if got, err := DecodeApplied([]byte(bad)); err == nil {
			t.Errorf("DecodeApplied(%q) = %v, want an error", bad, got)
		}
	}
	if _, err := (Applied{}).Encode(); err == nil {
		t.Error("nothing applied was encoded")
	}
	if back, err := ParseRollback(a.String()); err != nil || back != a {
		t.Errorf("ParseRollback: %v, %v", back, err)
	}
}
