// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorsFile = "testdata/vectors.json"

// The form of testdata/vectors.json; testdata/README.md explains every member.
type (
	vectors struct {
		Format    string       `json:"format"`
		Keys      []keyVector  `json:"keys"`
		Mint      []mintVector `json:"mint"`
		Attenuate []addVector  `json:"attenuate"`
		Check     []checkCase  `json:"check"`
		Bad       []badVector  `json:"bad"`
	}
	keyVector struct {
		MintKey string `json:"mint_key"`
		K       string `json:"k"`
	}
	caveatVector struct {
		Type  uint64 `json:"type"`
		Name  string `json:"name"`
		Value any    `json:"value"`
		CBOR  string `json:"cbor"`
	}
	mintVector struct {
		Name    string             `json:"name"`
		MintKey string             `json:"mint_key"`
		Tenant  macronode.TenantID `json:"tenant"`
		KID     string             `json:"kid"`
		Nonce   string             `json:"nonce"`
		Caveats []caveatVector     `json:"caveats"`
		Tags    []string           `json:"tags"`
		IDs     []string           `json:"ids"`
		CBOR    string             `json:"cbor"`
		Token   string             `json:"token"`
	}
	addVector struct {
		Name   string         `json:"name"`
		Token  string         `json:"token"`
		Add    []caveatVector `json:"add"`
		Result string         `json:"result"`
		LeafID string         `json:"leaf_id"`
	}
	accessVector struct {
		Now        int64  `json:"now"`
		Node       string `json:"node"`
		Action     string `json:"action"`
		Resource   string `json:"resource"`
		Method     string `json:"method"`
		Service    string `json:"service"`
		IP         string `json:"ip"`
		ClientCert string `json:"client_cert"`
		Amnesia    bool   `json:"amnesia"`
		Policy     string `json:"policy_digest"`
		Bytes      int64  `json:"bytes"`
	}
	checkCase struct {
		Name    string       `json:"name"`
		MintKey string       `json:"mint_key"`
		Token   string       `json:"token"`
		Access  accessVector `json:"access"`
		Result  string       `json:"result"`
	}
	badVector struct {
		Name    string `json:"name"`
		MintKey string `json:"mint_key"`
		Token   string `json:"token"`
		Stage   string `json:"stage"`
		Result  string `json:"result"`
		Reason  string `json:"reason"`
	}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex32(t testing.TB, s string) *[32]byte {
	t.Helper()
	b := unhex(t, s)
	if len(b) != 32 {
		t.Fatalf("%q is not 32 bytes", s)
	}
	return (*[32]byte)(b)
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	for _, k := range v.Keys {
		got := NewKey(unhex32(t, k.MintKey)).k.bytes()
		if hex.EncodeToString(got[:]) != k.K {
			t.Errorf("key of %s: %x", k.MintKey, got)
		}
	}
	for _, m := range v.Mint {
		t.Run("mint/"+m.Name, func(t *testing.T) { checkMint(t, m) })
	}
	for _, a := range v.Attenuate {
		t.Run("attenuate/"+a.Name, func(t *testing.T) {
			tok, err := Parse(a.Token)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tok.Attenuate(caveatsOf(t, a.Add)...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Text() != a.Result || got.LeafID().String() != a.LeafID {
				t.Errorf("got %s, leaf %v", got.Text(), got.LeafID())
			}
		})
	}
	for _, c := range v.Check {
		t.Run("check/"+c.Name, func(t *testing.T) { checkAccess(t, c) })
	}
	for _, b := range v.Bad {
		t.Run("bad/"+b.Name, func(t *testing.T) { checkBad(t, b) })
	}
	if len(v.Mint) < 10 || len(v.Attenuate) < 3 || len(v.Check) < 20 || len(v.Bad) < 30 {
		t.Error("vectors are missing")
	}
}

// caveatsOf makes caveats of their encoding.
func caveatsOf(t testing.TB, list []caveatVector) []Caveat {
	t.Helper()
	var cs []Caveat
	for _, v := range list {
		b := unhex(t, v.CBOR)
		head := appendHead([]byte{0x82}, majUint, v.Type)
		if !bytes.HasPrefix(b, head) {
			t.Fatalf("caveat %s is not of type %d", v.CBOR, v.Type)
		}
		c := Other(Type(v.Type), b[len(head):])
		if c.Err() != nil {
			t.Fatal(c.Err())
		}
		cs = append(cs, c)
	}
	return cs
}

// checkMint compares a vector with this package and with the oracle.
func checkMint(t *testing.T, m mintVector) {
	key := unhex32(t, m.MintKey)
	nonce := [16]byte(unhex(t, m.Nonce))
	tok, err := Mint(NewKey(key), m.Tenant, m.KID, nonce, caveatsOf(t, m.Caveats)...)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Text() != m.Token || hex.EncodeToString(tok.CBOR()) != m.CBOR {
		t.Fatalf("got %s", tok.Text())
	}
	parsed, err := Parse(m.Token)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parsed.Verify(NewKey(key))
	if err != nil {
		t.Fatal(err)
	}
	o := newOracle(t)
	var oc []any
	for _, c := range m.Caveats {
		enc := o.marshal(t, []any{c.Type, fromJSON(t, c.Value)})
		if hex.EncodeToString(enc) != c.CBOR {
			t.Fatalf("caveat %s: the oracle says %x", c.CBOR, enc)
		}
		oc = append(oc, []any{c.Type, fromJSON(t, c.Value)})
	}
	raw, tags := o.token(t, key[:], m.Tenant, m.KID, nonce, oc)
	if hex.EncodeToString(raw) != m.CBOR {
		t.Fatalf("the oracle says %x", raw)
	}
	for i, tag := range tags {
		if hex.EncodeToString(tag) != m.Tags[i] || oracleID(tag).String() != m.IDs[i] || v.IDs[i].String() != m.IDs[i] {
			t.Errorf("link %d differs", i)
		}
	}
}

// fromJSON turns a vector's value into what the oracle encodes: {"hex":…} is
// bytes, a number an unsigned integer.
func fromJSON(t testing.TB, v any) any {
	switch v := v.(type) {
	case float64:
		return uint64(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fromJSON(t, v[i])
		}
		return out
	case map[string]any:
		return unhex(t, v["hex"].(string))
	default:
		return v
	}
}

func checkAccess(t *testing.T, c checkCase) {
	tok, err := Parse(c.Token)
	if err != nil {
		t.Fatal(err)
	}
	v, err := tok.Verify(NewKey(unhex32(t, c.MintKey)))
	if err != nil {
		t.Fatal(err)
	}
	kind, id, _ := strings.Cut(c.Access.Resource, "/")
	a := Access{
		Now: c.Access.Now, Node: c.Access.Node, Action: macronode.Action(c.Access.Action),
		Method: c.Access.Method, Service: c.Access.Service, Amnesia: c.Access.Amnesia, Bytes: c.Access.Bytes,
	}
	for k := macronode.NodeResource; k <= macronode.FacetResource; k++ {
		if k.Prefix() == kind {
			a.Resource = macronode.Resource{Kind: k, ID: id}
		}
	}
	if c.Access.IP != "" {
		a.Addr = netip.MustParseAddr(c.Access.IP)
	}
	if c.Access.ClientCert != "" {
		a.ClientCert = *unhex32(t, c.Access.ClientCert)
	}
	if c.Access.Policy != "" {
		a.Policy = *unhex32(t, c.Access.Policy)
	}
	got := "allow"
	if err := v.Check(&a); err != nil {
		got = macronode.KindOf(err).String()
	}
	if got != c.Result {
		t.Errorf("got %s, want %s", got, c.Result)
	}
}

func checkBad(t *testing.T, b badVector) {
	tok, err := Parse(b.Token)
	if b.Stage == "decode" {
		if err == nil {
			t.Fatal("it was accepted")
		}
		e := macronode.AsError(err)
		if e.Kind.String() != b.Result || e.Detail != b.Reason {
			t.Errorf("got %v, want %s: %s", err, b.Result, b.Reason)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tok.Verify(NewKey(unhex32(t, b.MintKey))); err == nil || macronode.KindOf(err).String() != b.Result {
		t.Errorf("got %v, want %s", err, b.Result)
	}
}

func TestVectorsAreCurrent(t *testing.T) {
	raw, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var have vectors
	if err := json.Unmarshal(raw, &have); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(makeVectors(t))
	if err != nil {
		t.Fatal(err)
	}
	var w vectors
	if err := json.Unmarshal(want, &w); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(have, w) {
		t.Error("testdata/vectors.json is not what the generator makes; if that is meant, run with -update")
	}
}

func writeVectors(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(makeVectors(t)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorsFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
