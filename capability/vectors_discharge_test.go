// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
)

const dischargesFile = "testdata/discharges.json"

// The form of testdata/discharges.json; testdata/README.md explains every member.
type (
	dischargeVectors struct {
		Format    string            `json:"format"`
		Discharge []dischargeVector `json:"discharge"`
		Verify    []dischargedCase  `json:"verify"`
	}
	dischargeVector struct {
		Name        string         `json:"name"`
		MintKey     string         `json:"mint_key"`
		SharedKey   string         `json:"shared_key"`
		Token       string         `json:"token"`
		Tag         string         `json:"tag"`
		Location    string         `json:"location"`
		KeyID       string         `json:"key_id"`
		Ask         []caveatVector `json:"ask"`
		R           string         `json:"r"`
		VIDNonce    string         `json:"vid_nonce"`
		TicketNonce string         `json:"ticket_nonce"`
		VID         string         `json:"vid"`
		Ticket      string         `json:"ticket"`
		Result      string         `json:"result"`
		Own         []caveatVector `json:"own"`
		Discharge   string         `json:"discharge"`
		Binding     string         `json:"binding"`
		Bound       string         `json:"bound"`
	}
	dischargedCase struct {
		Name       string   `json:"name"`
		MintKey    string   `json:"mint_key"`
		Token      string   `json:"token"`
		Discharges []string `json:"discharges"`
		Result     string   `json:"result"`
	}
)

// counter is a source of bytes that are told apart and not random.
type counter struct{ n byte }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.n
		c.n++
	}
	return len(p), nil
}

func makeDischargeVectors(t testing.TB) dischargeVectors {
	out := dischargeVectors{Format: "macronode capability discharge vectors 1"}
	key := hex.EncodeToString(testKey(1)[:])
	for _, tc := range []struct {
		name      string
		have, ask []Caveat
		own       []Caveat
		after     []Caveat
	}{
		{name: "the least"},
		{"behind caveats", []Caveat{ExpiresAt(1_800_000_000), OnActions("object:*")}, nil, nil, nil},
		{"with questions and an answer", nil, []Caveat{OnResources("object/*"), Other(1024, []byte{1})}, []Caveat{ExpiresAt(1_700_000_000), AtMostBytes(1 << 20)}, nil},
		{"narrowed before it is bound", nil, nil, nil, []Caveat{ByMethods("GET")}},
	} {
		tok := mint(t, tc.have...)
		src := &counter{n: 0x80}
		with, err := tok.addThirdParty(src, "https://third.example/", "shared-1", shared, tc.ask)
		if err != nil {
			t.Fatal(err)
		}
		d := discharges(t, with, tc.own...)[0]
		final, err := with.Attenuate(tc.after...)
		if err != nil {
			t.Fatal(err)
		}
		b := bound(t, final, d)[0]
		tag, p := tok.tag.bytes(), with.caveats[len(tc.have)].party()
		random := make([]byte, KeyBytes+2*sealNonce)
		_, _ = (&counter{n: 0x80}).Read(random)
		sum := b.caveats[len(b.caveats)-1].Hash()
		out.Discharge = append(out.Discharge, dischargeVector{
			Name: tc.name, MintKey: key, SharedKey: hex.EncodeToString(shared[:]), Token: tok.Text(), Tag: hex.EncodeToString(tag[:]),
			Location: p.location, KeyID: p.keyID, Ask: describeAll(tc.ask), R: hex.EncodeToString(random[:32]),
			VIDNonce: hex.EncodeToString(random[32:56]), TicketNonce: hex.EncodeToString(random[56:]),
			VID: hex.EncodeToString([]byte(p.vid)), Ticket: hex.EncodeToString([]byte(p.ticket)), Result: final.Text(),
			Own: describeAll(tc.own), Discharge: d.Text(), Binding: hex.EncodeToString(sum[:]), Bound: b.Text(),
		})
		verify := func(name, result string, tok *Token, ds ...*Token) {
			c := dischargedCase{tc.name + ": " + name, key, tok.Text(), []string{}, result}
			for _, d := range ds {
				c.Discharges = append(c.Discharges, d.Text())
			}
			out.Verify = append(out.Verify, c)
		}
		later, err := final.Attenuate(AtMostBytes(1))
		if err != nil {
			t.Fatal(err)
		}
		verify("bound", "allow", final, b)
		verify("missing", "discharge", final)
		verify("not bound", "discharge", final, d)
		verify("twice", "discharge", final, b, b)
		verify("narrowed afterwards", "discharge", later, b)
		verify("for a token without a third party", "discharge", tok, b)
	}
	return out
}

func TestDischargeVectors(t *testing.T) {
	want := makeDischargeVectors(t)
	if *update {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(want); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dischargesFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(dischargesFile)
	if err != nil {
		t.Fatal(err)
	}
	var have, again dischargeVectors
	if err := json.Unmarshal(raw, &have); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(have, again) {
		t.Error("testdata/discharges.json is not what the generator makes; if that is meant, run with -update")
	}
	for _, v := range have.Discharge {
		t.Run(v.Name, func(t *testing.T) { checkDischarge(t, v) })
	}
	for _, c := range have.Verify {
		t.Run(c.Name, func(t *testing.T) {
			got := "allow"
			if _, err := parse(t, c.Token).Verify(NewKey(unhex32(t, c.MintKey)), parseAll(t, c.Discharges)...); err != nil {
				got = macronode.KindOf(err).String()
			}
			if got != c.Result {
				t.Errorf("got %s, want %s", got, c.Result)
			}
		})
	}
}

func parse(t testing.TB, text string) *Token {
	t.Helper()
	tok, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func parseAll(t testing.TB, texts []string) (out []*Token) {
	for _, s := range texts {
		out = append(out, parse(t, s))
	}
	return out
}

// oracleSeal is sealing by the plain interfaces of BLAKE3 and the cipher.
func oracleSeal(t testing.TB, context string, material, nonce, plain []byte) []byte {
	t.Helper()
	key := make([]byte, 32)
	blake3.DeriveKey(key, context, material)
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal(bytes.Clone(nonce), nonce, plain, nil)
}

// checkDischarge makes every part of a vector by the slow way.
func checkDischarge(t *testing.T, v dischargeVector) {
	o := newOracle(t)
	same := func(what string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Fatalf("%s: got %x, want %s", what, got, want)
		}
	}
	values := func(list []caveatVector) []any {
		out := []any{}
		for _, c := range caveatsOf(t, list) {
			var one []any
			if err := decodeCBOR(c.Encoded(), &one); err != nil {
				t.Fatal(err)
			}
			out = append(out, one)
		}
		return out
	}
	r := unhex(t, v.R)
	same("vid", oracleSeal(t, "macronode capability vid v1", unhex(t, v.Tag), unhex(t, v.VIDNonce), r), v.VID)
	ticket := oracleSeal(t, "macronode capability ticket v1", unhex(t, v.SharedKey), unhex(t, v.TicketNonce), o.marshal(t, []any{r, values(v.Ask)}))
	same("ticket", ticket, v.Ticket)
	base, final := parse(t, v.Token), parse(t, v.Result)
	caveat := final.caveats[len(base.caveats)]
	same("caveat", caveat.Encoded(), hex.EncodeToString(o.marshal(t, []any{64, []any{v.Location, v.KeyID, unhex(t, v.VID), ticket}})))
	// The discharge is a token under r itself.
	sum := blake3.Sum256(ticket)
	tag := keyedHash(r, append([]byte("macronode/capability/v1\x00"), o.marshal(t, []any{1, base.tenant[:], v.KeyID, sum[:16]})...))
	own := values(v.Own)
	for _, c := range own {
		tag = keyedHash(tag, o.marshal(t, c))
	}
	same("discharge", o.marshal(t, []any{1, base.tenant[:], v.KeyID, sum[:16], own, tag}), hex.EncodeToString(parse(t, v.Discharge).CBOR()))
	root := final.tag.bytes()
	bind := keyedHash(root[:], append([]byte("bind"), tag...))
	same("binding", bind, v.Binding)
	last := []any{65, bind}
	same("bound", o.marshal(t, []any{1, base.tenant[:], v.KeyID, sum[:16], append(own, last), keyedHash(tag, o.marshal(t, last))}),
		hex.EncodeToString(parse(t, v.Bound).CBOR()))
}
