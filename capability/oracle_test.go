// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode"
)

// The oracle is the token format once more, with a general CBOR library and the
// plain BLAKE3 interface, and without a thought for speed.
type oracle struct{ enc cbor.EncMode }

func newOracle(t testing.TB) oracle {
	t.Helper()
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	return oracle{enc}
}

func (o oracle) marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := o.enc.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func keyedHash(key, msg []byte) []byte {
	h := blake3.New(32, key)
	_, _ = h.Write(msg)
	return h.Sum(nil)
}

// token returns the CBOR and all tags of a token.
func (o oracle) token(t testing.TB, mintKey []byte, tenant macronode.TenantID, kid string, nonce [16]byte, caveats []any) (raw []byte, tags [][]byte) {
	t.Helper()
	k := make([]byte, 32)
	blake3.DeriveKey(k, "macronode capability mint v1", mintKey)
	root := o.marshal(t, []any{1, tenant[:], kid, nonce[:]})
	tag := keyedHash(k, append([]byte("macronode/capability/v1\x00"), root...))
	tags = append(tags, tag)
	for _, c := range caveats {
		tag = keyedHash(tag, o.marshal(t, c))
		tags = append(tags, tag)
	}
	if caveats == nil {
		caveats = []any{}
	}
	return o.marshal(t, []any{1, tenant[:], kid, nonce[:], caveats, tag}), tags
}

func oracleID(tag []byte) macronode.CapID {
	sum := blake3.Sum256(append([]byte("macronode/capability/id/v1\x00"), tag...))
	return macronode.CapID(sum[:16])
}

// canonical reports whether b is one data item in Core Deterministic form. It
// is stricter than needed where the library reads two things as one.
func (o oracle) canonical(b []byte) bool {
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		TagsMd: cbor.TagsForbidden, UTF8: cbor.UTF8RejectInvalid,
		DefaultMapType: nil, IntDec: cbor.IntDecConvertNone,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	var v any
	if err := dec.Unmarshal(b, &v); err != nil {
		return false
	}
	again, err := o.enc.Marshal(v)
	return err == nil && bytes.Equal(again, b)
}

func testKey(n byte) *[32]byte {
	var k [32]byte
	for i := range k {
		k[i] = n + byte(i)
	}
	return &k
}

var (
	testTenant = macronode.TenantID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	testNonce  = [16]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
)

func TestHashMatchesBlake3(t *testing.T) {
	key := testKey(7)
	w := toWords(key)
	for n := range 2200 {
		msg := bytes.Repeat([]byte{byte(n), 3, 5}, n/3+1)[:n]
		got := w.next(string(msg))
		if b := got.bytes(); !bytes.Equal(b[:], keyedHash(key[:], msg)) {
			t.Fatalf("keyed hash of %d bytes differs", n)
		}
	}
}

func TestHashAllocatesNothing(t *testing.T) {
	w := toWords(testKey(7))
	msg := string(bytes.Repeat([]byte{1}, 200))
	if n := testing.AllocsPerRun(100, func() { w = w.next(msg); _ = w.id() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// decodeCBOR reads a data item with the general library.
func decodeCBOR(b []byte, v any) error { return cbor.Unmarshal(b, v) }
