// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files")

// half is one half of a test key, made from a fixed seed.
type half struct {
	id   KeyID
	ed   ed25519.PrivateKey
	ml   *mldsa65.PrivateKey
	fail error
}

func (h half) KeyID() string { return h.id.String() }
func (h half) Alg() string   { return h.id.Alg }
func (h half) Sign(m []byte) ([]byte, error) {
	if h.fail != nil {
		return nil, h.fail
	}
	if h.ml == nil {
		return ed25519.Sign(h.ed, m), nil
	}
	sig := make([]byte, mldsa65.SignatureSize)
	return sig, mldsa65.SignTo(h.ml, m, nil, false, sig)
}

type testKey struct {
	anchor Anchor
	ed, ml half
}

func newKey(name string, version uint64, hybrid bool) testKey {
	seed := sha256.Sum256([]byte(KeyID{name, version, "seed"}.String()))
	ed := ed25519.NewKeyFromSeed(seed[:])
	k := testKey{anchor: Anchor{Name: name, Version: version, Ed25519: ed.Public().(ed25519.PublicKey)}}
	k.ed = half{id: KeyID{name, version, AlgEd25519}, ed: ed}
	pub, priv := mldsa65.NewKeyFromSeed(&seed)
	k.ml = half{id: KeyID{name, version, AlgMLDSA65}, ml: priv}
	if hybrid {
		k.anchor.MLDSA65 = pub.Bytes()
	}
	return k
}

func role(threshold int, keys ...testKey) Role {
	r := Role{Threshold: threshold}
	for _, k := range keys {
		r.Anchors = append(r.Anchors, k.anchor)
	}
	return r
}

func trustOf(config Role) *Trust {
	return &Trust{V: 1, Config: config, Policy: role(1, newKey("policy", 1, false))}
}

func mustSign(t testing.TB, typ string, payload []byte, signers ...Signer) *Envelope {
	t.Helper()
	e, err := Sign(typ, payload, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The vector published with DSSE (protocol.md, "Test vectors").
func TestPublishedVector(t *testing.T) {
	const text = `{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig": "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}`
	e, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	pae := PAE(e.PayloadType, e.Payload)
	if want := "DSSEv1 29 http://example.com/HelloWorld 11 hello world"; string(pae) != want {
		t.Fatalf("PAE %q, want %q", pae, want)
	}
	x, _ := new(big.Int).SetString("46950820868899156662930047687818585632848591499744589407958293238635476079160", 10)
	y, _ := new(big.Int).SetString("5640078356564379163099075877009565129882514886557779369047442380624545832820", 10)
	point := make([]byte, 65)
	point[0] = 4
	x.FillBytes(point[1:33])
	y.FillBytes(point[33:])
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(pae)
	sig := e.Signatures[0].Sig
	if !ecdsa.Verify(pub, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Fatal("the published signature does not verify over our PAE")
	}
}

func TestPAE(t *testing.T) {
	for _, c := range []struct{ typ, payload, want string }{
		{"", "", "DSSEv1 0  0 "},
		{"http://example.com/HelloWorld", "ಠ", "DSSEv1 29 http://example.com/HelloWorld 3 ಠ"},
		{"ಠ", "a b", "DSSEv1 3 ಠ 3 a b"},
	} {
		if got := string(PAE(c.typ, []byte(c.payload))); got != c.want {
			t.Errorf("PAE(%q, %q) = %q, want %q", c.typ, c.payload, got, c.want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	sig := `{"keyid":"a#v1/ed25519","sig":"AAAA"}`
	for name, text := range map[string]string{
		"empty":             "",
		"not JSON":          "{",
		"a list":            "[]",
		"text after":        `{"payloadType":"t","payload":"","signatures":[` + sig + `]} x`,
		"no signatures":     `{"payloadType":"t","payload":"","signatures":[]}`,
		"no type":           `{"payload":"","signatures":[` + sig + `]}`,
		"duplicate member":  `{"payloadType":"t","payloadType":"u","payload":"","signatures":[` + sig + `]}`,
		"duplicate by case": `{"payloadType":"t","PAYLOAD":"AAAA","payload":"","signatures":[` + sig + `]}`,
		"duplicate key id":  `{"payloadType":"t","payload":"","signatures":[` + sig + "," + sig + `]}`,
		"bad base64":        `{"payloadType":"t","payload":"*","signatures":[` + sig + `]}`,
		"mixed base64":      `{"payloadType":"t","payload":"+_==","signatures":[` + sig + `]}`,
		"line end inside":   `{"payloadType":"t","payload":"AA\nAA","signatures":[` + sig + `]}`,
		"loose base64":      `{"payloadType":"t","payload":"AB==","signatures":[` + sig + `]}`,
		"empty signature":   `{"payloadType":"t","payload":"","signatures":[{"keyid":"a","sig":""}]}`,
		"long signature":    `{"payloadType":"t","payload":"","signatures":[{"keyid":"a","sig":"` + strings.Repeat("AAAA", 4096) + `"}]}`,
		"long key id":       `{"payloadType":"t","payload":"","signatures":[{"keyid":"` + strings.Repeat("a", 129) + `","sig":"AAAA"}]}`,
		"long type":         `{"payloadType":"` + strings.Repeat("t", 257) + `","payload":"","signatures":[` + sig + `]}`,
		"many signatures":   `{"payloadType":"t","payload":"","signatures":[` + strings.Repeat(sig+",", 40) + sig + `]}`,
		"deep":              strings.Repeat("[", 100) + strings.Repeat("]", 100),
		"number type":       `{"payloadType":1,"payload":"","signatures":[` + sig + `]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Decode([]byte(text)); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
	if _, err := Decode(make([]byte, MaxEnvelopeBytes+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("over the size limit: got %v", err)
	}
}

func TestVerify(t *testing.T) {
	plain, other, third := newKey("ops-release", 1, false), newKey("second", 1, false), newKey("third", 4, false)
	hybrid, next := newKey("ops-hybrid", 2, true), newKey("ops-release", 2, false)
	impostor := newKey("impostor", 1, false)
	impostor.ed.id = plain.ed.id // another key under the anchor's id
	for _, c := range []struct {
		name    string
		trust   *Trust
		signers []Signer
		want    error
		signed  string
	}{
		{"one anchor", trustOf(role(1, plain)), []Signer{plain.ed}, nil, "ops-release#v1"},
		{"stranger", trustOf(role(1, plain)), []Signer{other.ed}, ErrUnknownSigner, ""},
		{"another version of the key", trustOf(role(1, plain)), []Signer{next.ed}, ErrUnknownSigner, ""},
		{"impostor", trustOf(role(1, plain)), []Signer{impostor.ed}, ErrBadSignature, ""},
		{"anchor and stranger", trustOf(role(1, plain)), []Signer{plain.ed, other.ed}, nil, "ops-release#v1"},
		{"bad one beside enough good ones", trustOf(role(1, plain, other)), []Signer{impostor.ed, other.ed}, ErrBadSignature, ""},
		{"2 of 3", trustOf(role(2, plain, other, third)), []Signer{third.ed, plain.ed}, nil, "ops-release#v1 third#v4"},
		{"1 of 3 where 2 needed", trustOf(role(2, plain, other, third)), []Signer{third.ed}, ErrThreshold, ""},
		{"two versions of one key are one signer", trustOf(role(2, plain, next, other)), []Signer{plain.ed, next.ed}, ErrThreshold, ""},
		{"hybrid", trustOf(role(1, hybrid)), []Signer{hybrid.ml, hybrid.ed}, nil, "ops-hybrid#v2"},
		{"hybrid without ML-DSA", trustOf(role(1, hybrid)), []Signer{hybrid.ed}, ErrThreshold, ""},
		{"hybrid without Ed25519", trustOf(role(1, hybrid)), []Signer{hybrid.ml}, ErrThreshold, ""},
		{"ML-DSA half of a plain anchor counts for nothing", trustOf(role(1, plain)), []Signer{plain.ml}, ErrUnknownSigner, ""},
		{"policy key on a config", trustOf(role(1, plain)), []Signer{newKey("policy", 1, false).ed}, ErrUnknownSigner, ""},
		{"no trust", nil, []Signer{plain.ed}, ErrUnknownSigner, ""},
		{"empty trust", &Trust{}, []Signer{plain.ed}, ErrMalformed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := mustSign(t, ConfigType, []byte("payload"), c.signers...)
			got, err := Verify(e, ConfigType, c.trust)
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want %v", err, c.want)
			}
			var names []string
			for _, s := range got {
				names = append(names, s.String())
			}
			if strings.Join(names, " ") != c.signed {
				t.Errorf("signed by %v, want %s", names, c.signed)
			}
		})
	}
}

func TestVerifyType(t *testing.T) {
	k := newKey("ops-release", 1, false)
	both := &Trust{V: 1, Config: role(1, k), Policy: role(1, k)}
	e := mustSign(t, PolicyType, []byte("{}"), k.ed)
	if _, err := Verify(e, ConfigType, both); !errors.Is(err, ErrWrongType) {
		t.Errorf("a policy read as config: %v", err)
	}
	e.PayloadType = ConfigType // relabelled after signing
	if _, err := Verify(e, ConfigType, both); !errors.Is(err, ErrBadSignature) {
		t.Errorf("a relabelled policy: %v", err)
	}
	if _, err := Verify(mustSign(t, "x/y", nil, k.ed), "x/y", both); !errors.Is(err, ErrWrongType) {
		t.Errorf("a type that nobody signs: %v", err)
	}
}

// Every single bit of payload and signatures is covered.
func TestEveryBitCounts(t *testing.T) {
	k := newKey("ops-hybrid", 2, true)
	trust := trustOf(role(1, k))
	good := mustSign(t, ConfigType, []byte("version = 1\n"), k.ed, k.ml)
	rapid.Check(t, func(rt *rapid.T) {
		e, err := Decode(must(good.Encode()))
		if err != nil {
			rt.Fatal(err)
		}
		target := rapid.SampledFrom([][]byte{e.Payload, e.Signatures[0].Sig, e.Signatures[1].Sig}).Draw(rt, "part")
		target[rapid.IntRange(0, len(target)-1).Draw(rt, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		if _, err := Verify(e, ConfigType, trust); !errors.Is(err, ErrBadSignature) {
			rt.Fatalf("got %v", err)
		}
	})
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestSignFaults(t *testing.T) {
	k := newKey("ops-release", 1, false)
	broken := k.ed
	broken.fail = errors.New("keystore sealed")
	if _, err := Sign(ConfigType, nil, broken); !errors.Is(err, broken.fail) {
		t.Errorf("a failing signer: %v", err)
	}
	if _, err := Sign(ConfigType, nil); err == nil {
		t.Error("no signer was accepted")
	}
	if _, err := Sign(ConfigType, nil, k.ed, k.ed); !errors.Is(err, ErrMalformed) {
		t.Errorf("one signer twice: %v", err)
	}
}

func TestTrustRefuses(t *testing.T) {
	k, other := newKey("ops-release", 1, true), newKey("second", 1, false)
	good := trustOf(role(1, k, other))
	text := must(good.Encode())
	if back, err := ParseTrust(text); err != nil || !bytes.Equal(must(back.Encode()), text) {
		t.Fatalf("a good document does not round-trip: %v", err)
	}
	for name, change := range map[string]func(*Trust){
		"no threshold":       func(t *Trust) { t.Config.Threshold = 0 },
		"threshold too high": func(t *Trust) { t.Config.Threshold = 3 },
		"no anchors":         func(t *Trust) { t.Policy.Anchors = nil },
		"format":             func(t *Trust) { t.V = 2 },
		"short key":          func(t *Trust) { t.Config.Anchors[0].Ed25519 = t.Config.Anchors[0].Ed25519[1:] },
		"short ML-DSA key":   func(t *Trust) { t.Config.Anchors[0].MLDSA65 = t.Config.Anchors[0].MLDSA65[1:] },
		"no Ed25519":         func(t *Trust) { t.Config.Anchors[0].Ed25519 = nil },
		"name":               func(t *Trust) { t.Config.Anchors[0].Name = "Ops" },
		"version":            func(t *Trust) { t.Config.Anchors[0].Version = 0 },
		"twice":              func(t *Trust) { t.Config.Anchors[1] = t.Config.Anchors[0] },
		"same public key":    func(t *Trust) { t.Config.Anchors[1].Ed25519 = t.Config.Anchors[0].Ed25519 },
	} {
		t.Run(name, func(t *testing.T) {
			var bad Trust
			if err := json.Unmarshal(text, &bad); err != nil {
				t.Fatal(err)
			}
			change(&bad)
			if _, err := ParseTrust(must(json.Marshal(bad))); !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
	for name, bad := range map[string]string{
		"unknown member": strings.Replace(string(text), `"v": 1`, `"v": 1, "w": 1`, 1),
		"duplicate":      strings.Replace(string(text), `"v": 1`, `"v": 1, "v": 1`, 1),
		"case duplicate": strings.Replace(string(text), `"v": 1`, `"v": 1, "V": 1`, 1),
		"after":          string(text) + "{}",
		"empty":          "",
	} {
		if _, err := ParseTrust([]byte(bad)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
}

// TestGolden pins the bytes that another implementation must produce.
func TestGolden(t *testing.T) {
	k, second := newKey("ops-release", 1, true), newKey("second", 7, false)
	trust := &Trust{V: 1, Config: role(2, k, second), Policy: role(1, newKey("policy", 1, false))}
	e := mustSign(t, ConfigType, []byte("[meta]\nversion = 1\n"), k.ed, k.ml, second.ed)
	doc := map[string]any{
		"z": int64(1), "a": []any{"é<&>\u2028", true, int64(-MaxInteger)}, "m": map[string]any{"€": "x", "\r": "y", "😀": "w", "דּ": "v"},
	}
	for name, got := range map[string][]byte{
		"trust.json":     must(trust.Encode()),
		"envelope.json":  must(e.Encode()),
		"canonical.json": must(Canonical(doc)),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := must(os.ReadFile(path)); !bytes.Equal(got, want) {
			t.Errorf("%s differs from its golden file", name)
		}
	}
	const want = "blake3:528e48d58d575c81f73d0099eee95af9c9c94263e71e2d57689ecd6690efd23e"
	if d, err := Hash(doc); err != nil || d.String() != want {
		t.Errorf("Hash = %v, %v, want %s", d, err, want)
	}
	back, err := ParseTrust(must(os.ReadFile(filepath.Join("testdata", "trust.json"))))
	if err != nil {
		t.Fatal(err)
	}
	env, err := Decode(must(os.ReadFile(filepath.Join("testdata", "envelope.json"))))
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := Verify(env, ConfigType, back); err != nil || len(signed) != 2 {
		t.Errorf("the golden envelope does not verify: %v, %v", signed, err)
	}
}

func FuzzDecode(f *testing.F) {
	k := newKey("ops-release", 1, false)
	f.Add(must(mustSign(f, ConfigType, []byte("payload"), k.ed).Encode()))
	f.Add([]byte(`{"payload":"-_8","payloadType":"t","signatures":[{"sig":"_w"}],"more":[1]}`))
	f.Add([]byte(`{"signatures":[{}]}`))
	trust := trustOf(role(1, k))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := Decode(text)
		if err != nil {
			return
		}
		_, _ = Verify(e, ConfigType, trust)
		// What was accepted has one canonical text, and reads back the same.
		canon, err := e.Encode()
		if err != nil {
			t.Fatalf("decoded but does not encode: %v", err)
		}
		again, err := Decode(canon)
		if err != nil || !bytes.Equal(must(again.Encode()), canon) {
			t.Fatalf("does not round-trip: %v", err)
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	f.Add(must(trustOf(role(1, newKey("ops-release", 1, true))).Encode()))
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := ParseTrust(text)
		if err != nil {
			return
		}
		if back, err := ParseTrust(must(tr.Encode())); err != nil || !bytes.Equal(must(back.Encode()), must(tr.Encode())) {
			t.Fatalf("does not round-trip: %v", err)
		}
	})
}

// TestAdd: signers come one after the other; each keeps what was there, and one
// who signs again counts once.
func TestAdd(t *testing.T) {
	one, two := newKey("one", 1, false), newKey("two", 1, false)
	trust := trustOf(role(2, one, two))
	e := mustSign(t, ConfigType, []byte("payload"), one.ed)
	again, err := e.Add(one.ed)
	if err != nil || len(again.Signatures) != 1 {
		t.Fatalf("the same signer again: %v", err)
	}
	both, err := e.Add(two.ed)
	if err != nil || len(both.Signatures) != 2 || len(e.Signatures) != 1 {
		t.Fatalf("a second signer: %v", err)
	}
	if signed, err := Verify(both, ConfigType, trust); err != nil || len(signed) != 2 {
		t.Errorf("%v %v", signed, err)
	}
	if _, err := Verify(e, ConfigType, trust); !errors.Is(err, ErrThreshold) {
		t.Errorf("one of two: %v", err)
	}
	two.ed.fail = errors.New("no key")
	if _, err := e.Add(two.ed); !errors.Is(err, two.ed.fail) {
		t.Errorf("a signer that fails: %v", err)
	}
}
