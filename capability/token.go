// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"bytes"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"lukechampine.com/blake3/guts"

	"github.com/rustyonions/macronode"
)

// Limits of a token. They hold before anything is allocated for it.
const (
	MaxTokenBytes = 4096 // of CBOR
	MaxCaveats    = 64
	// MaxDischarges is how many discharges may come with a token, and
	// MaxDischargeCaveats how many caveats they may have together.
	MaxDischarges       = 16
	MaxDischargeCaveats = 128
	// MaxTextBytes is the length of the longest text.
	MaxTextBytes = len(TextPrefix) + (MaxTokenBytes*8+5)/6

	maxKIDBytes = 64
)

// TextPrefix begins the text of every token, so that people and secret scanners
// know one when they see it.
const TextPrefix = "ron1_"

const version = 1

var encoding = base64.RawURLEncoding.Strict()

// Token is a well-formed capability, verified or not. Values are immutable and
// may be shared. A Token is a secret: String does not show it, Text does.
type Token struct {
	raw     string // the canonical CBOR; the other texts are parts of it
	tenant  macronode.TenantID
	kid     string
	nonce   [16]byte
	rootEnd int // raw[1:rootEnd] is what tag[0] covers, but for the array head
	caveats []Caveat
	tag     words // the last of the chain
}

// Tenant is whose capability the token claims to be.
func (t *Token) Tenant() macronode.TenantID { return t.tenant }

// KeyID names the version of the tenant's minting key.
func (t *Token) KeyID() string { return t.kid }

// Nonce tells apart tokens that are otherwise equal.
func (t *Token) Nonce() [16]byte { return t.nonce }

// Caveats returns the caveats in the order in which they were added.
func (t *Token) Caveats() []Caveat { return append([]Caveat(nil), t.caveats...) }

// LeafID is the id of the token as it is. Revoking it kills this token and what
// is narrowed from it, not what it was narrowed from. The other ids of a chain
// are known only to those who had its earlier links, and to the node.
func (t *Token) LeafID() macronode.CapID { return t.tag.id() }

// CBOR returns the token's bytes, as OAP/1 carries them.
func (t *Token) CBOR() []byte { return []byte(t.raw) }

// Text returns the token's text.
func (t *Token) Text() string {
	b := make([]byte, len(TextPrefix)+encoding.EncodedLen(len(t.raw)))
	copy(b, TextPrefix)
	encoding.Encode(b[len(TextPrefix):], []byte(t.raw))
	return string(b)
}

// String names the token without showing it.
func (t *Token) String() string {
	return fmt.Sprintf("capability %v of tenant %v, %d caveats", t.LeafID(), t.tenant, len(t.caveats))
}

// GoString names the token without showing it.
func (t *Token) GoString() string { return t.String() }

func malformed(why string) error {
	return &macronode.Error{Kind: macronode.TokenMalformed, Detail: why}
}

// Parse reads a token's text. It accepts the one form that Text writes.
func Parse(text string) (*Token, error) { return ParseBytes([]byte(text)) }

// ParseBytes is Parse of bytes, which it does not keep.
func ParseBytes(text []byte) (*Token, error) {
	if len(text) > MaxTextBytes {
		return nil, malformed("it is too long")
	}
	b64, ok := bytes.CutPrefix(text, []byte(TextPrefix))
	if !ok {
		return nil, malformed("a capability begins with " + TextPrefix)
	}
	// The decoder skips line breaks; a token has none.
	if bytes.IndexByte(b64, '\n') >= 0 || bytes.IndexByte(b64, '\r') >= 0 {
		return nil, malformed("it is not base64url without padding")
	}
	// Two sizes, because most tokens are small and clearing 4 KiB shows.
	switch n := encoding.DecodedLen(len(b64)); {
	case n > MaxTokenBytes:
		return nil, malformed("it is too long")
	case n > commonBytes:
		var buf [MaxTokenBytes]byte
		return decodeText(buf[:], b64)
	default:
		var buf [commonBytes]byte
		return decodeText(buf[:], b64)
	}
}

// commonBytes is more than most tokens have.
const commonBytes = 512

// decodeText reads base64url that fits buf.
func decodeText(buf, b64 []byte) (*Token, error) {
	n, err := encoding.Decode(buf, b64)
	if err != nil {
		return nil, malformed("it is not base64url without padding")
	}
	return decode(string(buf[:n]))
}

// Decode reads a token's CBOR, which it does not keep. It accepts the one form
// that CBOR writes.
func Decode(raw []byte) (*Token, error) {
	if len(raw) > MaxTokenBytes {
		return nil, malformed("it is too long")
	}
	return decode(string(raw))
}

// decode reads raw, whose length the caller checked.
func decode(raw string) (*Token, error) {
	t := &Token{raw: raw}
	r := reader{s: raw}
	if r.want(majArray, "a capability is an array") != 6 {
		r.fail("a capability has six members")
	}
	if r.want(majUint, "the version must be an integer") != version {
		r.fail("the version is not known")
	}
	copy(t.tenant[:], r.fixed(16, "the tenant must be 16 bytes"))
	t.kid = r.text("the kid must be text")
	if !validKID(t.kid) {
		r.fail("the kid must be 1 to 64 of a-z 0-9 . _ -")
	}
	copy(t.nonce[:], r.fixed(16, "the nonce must be 16 bytes"))
	t.rootEnd = r.pos
	n := r.want(majArray, "the caveats must be an array")
	if n > MaxCaveats {
		r.fail("it has too many caveats")
	}
	if r.why != "" {
		return nil, malformed(r.why)
	}
	t.caveats = make([]Caveat, n)
	for i := range t.caveats {
		if t.caveats[i] = r.caveat(); r.why != "" {
			return nil, malformed(fmt.Sprintf("caveat %d: %s", i, r.why))
		}
	}
	tag := r.fixed(KeyBytes, "the tag must be 32 bytes")
	if r.why == "" && r.pos != len(raw) {
		r.fail("bytes follow the capability")
	}
	if r.why != "" {
		return nil, malformed(r.why)
	}
	t.tag = toWords((*[KeyBytes]byte)([]byte(tag)))
	return t, nil
}

// Mint makes a token of a tenant, under the key that kid names. The nonce must
// be random or otherwise never used before with this key: tokens of equal nonce
// and caveats are the same token.
func Mint(key *Key, tenant macronode.TenantID, kid string, nonce [16]byte, caveats ...Caveat) (*Token, error) {
	if tenant.IsZero() {
		return nil, malformed("a tenant is needed")
	}
	if !validKID(kid) {
		return nil, malformed("the kid must be 1 to 64 of a-z 0-9 . _ -")
	}
	b := append(make([]byte, 0, 64+maxKIDBytes), majArray<<5|6, version)
	b = appendText(appendBytes(b, tenant[:]), kid)
	b = appendBytes(b, nonce[:])
	tag := rootTag(key, string(b))
	return assemble(b, tag, nil, caveats)
}

// Attenuate returns a token with caveats added at the end. It needs no key, and
// t stays as it is.
func (t *Token) Attenuate(caveats ...Caveat) (*Token, error) {
	return assemble([]byte(t.raw[:t.rootEnd]), t.tag, t.caveats, caveats)
}

// assemble appends to root, which is a token up to the nonce, the caveats old
// (which tag covers) and more, and decodes the result.
func assemble(root []byte, tag words, old, more []Caveat) (*Token, error) {
	if len(old)+len(more) > MaxCaveats {
		return nil, malformed(fmt.Sprintf("a capability has at most %d caveats", MaxCaveats))
	}
	b := appendHead(root, majArray, uint64(len(old)+len(more)))
	for i := range old {
		b = append(b, old[i].enc...)
	}
	for i := range more {
		if err := more[i].Err(); err != nil {
			return nil, err
		}
		b = append(b, more[i].enc...)
		tag = tag.next(more[i].enc)
	}
	sum := tag.bytes()
	b = appendBytes(b, sum[:])
	if len(b) > MaxTokenBytes {
		return nil, malformed(fmt.Sprintf("a capability has at most %d bytes", MaxTokenBytes))
	}
	return decode(string(b))
}

// rootTag is tag[0] of the token whose CBOR begins with raw, which ends with the
// nonce. What it covers is an array of four, where the token is one of six.
func rootTag(key *Key, raw string) words {
	var msg [len(rootDomain) + 64 + maxKIDBytes]byte
	b := append(msg[:0], rootDomain...)
	b = append(b, majArray<<5|4)
	b = append(b, raw[1:]...)
	return hash(&key.k, guts.FlagKeyedHash, b)
}

// equal compares two tags in constant time.
func (w *words) equal(x *words) bool {
	a, b := w.bytes(), x.bytes()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Describe shows a token's caveats to a person, one a line.
func (t *Token) Describe() string {
	var b strings.Builder
	fmt.Fprintln(&b, t)
	for i := range t.caveats {
		fmt.Fprintf(&b, "  %d %v\n", i, t.caveats[i])
	}
	return b.String()
}
