// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3/guts"

	"github.com/rustyonions/macronode"
)

// The derive_key contexts of what a third-party caveat seals.
const (
	vidContext    = "macronode capability vid v1"
	ticketContext = "macronode capability ticket v1"
	bindDomain    = "bind"
)

// Sizes of sealed values: a nonce, what is sealed, and its tag.
const (
	sealNonce = chacha20poly1305.NonceSizeX
	sealExtra = sealNonce + chacha20poly1305.Overhead
	vidBytes  = sealExtra + KeyBytes
)

// Ticket asks a third party for a discharge. It is no secret, and says nothing
// of the token that it stands in but its tenant.
type Ticket struct {
	Tenant   macronode.TenantID
	Location string // where discharges are to be had; "" in a parsed text
	KeyID    string // of the key shared with the third party
	Sealed   []byte // for the third party to open
}

// Text is "TENANT:KEYID:BASE64URL", which says all that the third party needs.
func (k *Ticket) Text() string {
	return k.Tenant.String() + ":" + k.KeyID + ":" + encoding.EncodeToString(k.Sealed)
}

// ParseTicket reads what Text wrote.
func ParseTicket(text string) (*Ticket, error) {
	const why = "a ticket is TENANT:KEYID:BASE64URL"
	part := strings.Split(text, ":")
	if len(part) != 3 || len(text) > 2*MaxTextBytes {
		return nil, malformed(why)
	}
	tenant, err := macronode.ParseTenantID(part[0])
	if err != nil || !validKID(part[1]) {
		return nil, malformed(why)
	}
	if len(part[2]) > base64.RawURLEncoding.EncodedLen(MaxTokenBytes) {
		return nil, malformed("it is too long")
	}
	sealed, err := encoding.DecodeString(part[2])
	if err != nil || strings.ContainsAny(part[2], "\r\n") {
		return nil, malformed(why)
	}
	return &Ticket{Tenant: tenant, KeyID: part[1], Sealed: sealed}, nil
}

// Tickets returns the tickets of the token's third-party caveats, in their order.
func (t *Token) Tickets() []Ticket {
	var out []Ticket
	for i := range t.caveats {
		if c := &t.caveats[i]; c.typ == ThirdParty {
			p := c.party()
			out = append(out, Ticket{t.tenant, strings.Clone(p.location), strings.Clone(p.keyID), []byte(p.ticket)})
		}
	}
	return out
}

// party is what a third-party caveat holds; its texts are parts of the token's.
type party struct{ location, keyID, vid, ticket string }

// party reads the value of a ThirdParty caveat, which was read before.
func (c *Caveat) party() (p party) {
	r := reader{s: c.enc, pos: c.val}
	r.head()
	p.location, p.keyID = r.text(""), r.text("")
	p.vid, p.ticket = r.bytes(""), r.bytes("")
	return p
}

// AddThirdParty returns a token that holds only together with a discharge: a
// token that the third party at location makes of the ticket in the caveat, if
// what ask says is met. shared is the 32-byte key that whoever adds the caveat
// and the third party share under keyID, a kid. Nobody else needs it: the node
// that verifies finds the discharge's key in the caveat.
func (t *Token) AddThirdParty(location, keyID string, shared *[KeyBytes]byte, ask ...Caveat) (*Token, error) {
	return t.addThirdParty(rand.Reader, location, keyID, shared, ask)
}

func (t *Token) addThirdParty(random io.Reader, location, keyID string, shared *[KeyBytes]byte, ask []Caveat) (*Token, error) {
	if location == "" {
		return nil, malformed("a third party has a location")
	}
	if !validKID(keyID) {
		return nil, malformed("the key id must be 1 to 64 of a-z 0-9 . _ -")
	}
	if len(ask) > MaxCaveats {
		return nil, malformed(fmt.Sprintf("a ticket has at most %d caveats", MaxCaveats))
	}
	var r [KeyBytes]byte
	defer clear(r[:])
	if _, err := io.ReadFull(random, r[:]); err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	plain := appendBytes([]byte{majArray<<5 | 2}, r[:])
	plain = appendHead(plain, majArray, uint64(len(ask)))
	for i := range ask {
		if err := ask[i].Err(); err != nil {
			return nil, err
		}
		plain = append(plain, ask[i].enc...)
	}
	defer func() { clear(plain) }()
	tag := t.tag.bytes()
	defer clear(tag[:])
	vid, err := seal(random, vidContext, &tag, r[:])
	if err != nil {
		return nil, err
	}
	ticket, err := seal(random, ticketContext, shared, plain)
	if err != nil {
		return nil, err
	}
	return t.Attenuate(build(ThirdParty, func(b []byte) []byte {
		b = appendText(appendText(appendHead(b, majArray, 4), location), keyID)
		return appendBytes(appendBytes(b, vid), ticket)
	}))
}

// Opened is a ticket as the third party reads it. It holds a secret.
type Opened struct {
	tenant macronode.TenantID
	keyID  string
	nonce  [16]byte
	r      [KeyBytes]byte
	ask    []Caveat
}

// Open reads a ticket with the shared key that its KeyID names. TokenForged says
// that it was made with another key, or changed.
func (k *Ticket) Open(shared *[KeyBytes]byte) (*Opened, error) {
	if len(k.Sealed) > MaxTokenBytes {
		return nil, malformed("the ticket is too long")
	}
	plain, ok := unseal(ticketContext, shared, k.Sealed)
	if !ok {
		return nil, macronode.Errorf(macronode.TokenForged, "the ticket was not made with this key")
	}
	defer clear(plain)
	o := &Opened{tenant: k.Tenant, keyID: k.KeyID, nonce: ticketNonce(string(k.Sealed))}
	r := reader{s: string(plain)}
	if r.want(majArray, "a ticket is an array") != 2 {
		r.fail("a ticket has two members")
	}
	copy(o.r[:], r.fixed(KeyBytes, "a ticket's key must be 32 bytes"))
	n := r.want(majArray, "a ticket's caveats must be an array")
	if n > MaxCaveats {
		r.fail("the ticket has too many caveats")
	}
	for ; n > 0 && r.why == ""; n-- {
		c := r.caveat()
		c.enc = strings.Clone(c.enc) // not beside the key
		o.ask = append(o.ask, c)
	}
	if r.why == "" && r.pos != len(r.s) {
		r.fail("bytes follow the ticket")
	}
	if r.why != "" {
		return nil, malformed(r.why)
	}
	return o, nil
}

// Ask is what whoever added the caveat wants to be met before a discharge is made.
func (o *Opened) Ask() []Caveat { return append([]Caveat(nil), o.ask...) }

// String does not show the ticket's key.
func (o *Opened) String() string {
	return fmt.Sprintf("ticket of tenant %v, key %s", o.tenant, o.keyID)
}

// GoString does not show the ticket's key.
func (o *Opened) GoString() string { return o.String() }

// Discharge makes the discharge: a token that says that the third party is
// content, within caveats of its own. It is good for nothing until it is bound
// (Token.Bind).
func (o *Opened) Discharge(caveats ...Caveat) (*Token, error) {
	for i := range caveats {
		if t := caveats[i].typ; t == ThirdParty || t == Discharge {
			return nil, malformed("a discharge has no third party of its own and is bound by its bearer")
		}
	}
	key := DerivedKey(&o.r)
	defer key.Wipe()
	return Mint(key, o.tenant, o.keyID, o.nonce, caveats...)
}

// Bind returns the discharge d bound to t, good for t alone: not for what t was
// narrowed from, nor for what is narrowed from it.
func (t *Token) Bind(d *Token) (*Token, error) {
	if d.Bound() {
		return nil, malformed("the discharge is bound already")
	}
	if d.tenant != t.tenant || t.ticketOf(d) < 0 {
		return nil, malformed("the discharge is for none of the token's third-party caveats")
	}
	sum := binding(&t.tag, &d.tag)
	return d.Attenuate(build(Discharge, func(b []byte) []byte { return appendBytes(b, sum[:]) }))
}

// Bound reports whether the token is a discharge that was bound.
func (t *Token) Bound() bool {
	n := len(t.caveats)
	return n > 0 && t.caveats[n-1].typ == Discharge
}

// ticketOf is the index of the first caveat that d may discharge; -1: none.
func (t *Token) ticketOf(d *Token) int {
	for i := range t.caveats {
		if c := &t.caveats[i]; c.typ == ThirdParty {
			if p := c.party(); p.keyID == d.kid && ticketNonce(p.ticket) == d.nonce {
				return i
			}
		}
	}
	return -1
}

// ticketNonce is the nonce of the discharge of a ticket.
func ticketNonce(ticket string) [16]byte {
	iv := words(guts.IV)
	sum := hash(&iv, 0, ticket)
	b := sum.bytes()
	return [16]byte(b[:16])
}

// binding is what ties a discharge whose tag is d to the token whose tag is root.
func binding(root, d *words) [KeyBytes]byte {
	var msg [len(bindDomain) + KeyBytes]byte
	b := d.bytes()
	copy(msg[copy(msg[:], bindDomain):], b[:])
	sum := hash(root, guts.FlagKeyedHash, msg[:])
	return sum.bytes()
}

// deriveKey is BLAKE3's derive_key of 32 bytes.
func deriveKey(context string, material *[KeyBytes]byte) [KeyBytes]byte {
	iv := words(guts.IV)
	k := hash(&iv, guts.FlagDeriveKeyContext, context)
	k = hash(&k, guts.FlagDeriveKeyMaterial, material[:])
	return k.bytes()
}

// seal is a random nonce and plain under the key derived from material.
func seal(random io.Reader, context string, material *[KeyBytes]byte, plain []byte) ([]byte, error) {
	key := deriveKey(context, material)
	defer clear(key[:])
	out := make([]byte, sealNonce, sealExtra+len(plain))
	if _, err := io.ReadFull(random, out); err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return aead.Seal(out, out, plain, nil), nil
}

// unseal is the reverse of seal; false where sealed is not what seal made of the
// same context and material.
func unseal(context string, material *[KeyBytes]byte, sealed []byte) ([]byte, bool) {
	if len(sealed) < sealExtra {
		return nil, false
	}
	key := deriveKey(context, material)
	defer clear(key[:])
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		return nil, false
	}
	plain, err := aead.Open(nil, sealed[:sealNonce], sealed[sealNonce:], nil)
	return plain, err == nil
}
