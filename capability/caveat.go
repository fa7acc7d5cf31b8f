// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
)

// Type numbers a caveat. Types of 1024 and above are for private use; a type
// that a node does not know denies.
type Type uint64

// The caveat types.
const (
	Exp          Type = 1  // uint: unix seconds; holds while now < exp + ClockSkew
	Nbf          Type = 2  // uint: unix seconds; holds while now >= nbf - ClockSkew
	Aud          Type = 3  // text: the node_id of the one node that accepts the token
	Actions      Type = 4  // texts: "object:get", "object:*"
	Resources    Type = 5  // texts: see macronode.MatchResource
	IPNets       Type = 6  // texts: masked CIDR
	MaxBytes     Type = 7  // uint: request plus response body bytes of one call
	Rate         Type = 8  // [per_s, burst]: a token bucket
	Amnesia      Type = 9  // true: the node must keep nothing on disk
	PolicyDigest Type = 10 // 32 bytes: the pinned policy hash
	ClientCert   Type = 11 // 32 bytes: SHA-256 of the TLS client certificate (DER)
	Methods      Type = 12 // texts: the binding's HTTP method, on every wire
	Confine      Type = 13 // texts: service names
	ThirdParty   Type = 64 // [location, key id, vid, ticket]
	Discharge    Type = 65 // 32 bytes: binds a discharge to a token
)

// ClockSkew is how many seconds the clocks of those who mint and those who
// verify may differ: Exp and Nbf give way that much.
const ClockSkew = 60

var typeNames = map[Type]string{
	Exp: "exp", Nbf: "nbf", Aud: "aud", Actions: "actions", Resources: "resources", IPNets: "ipnets",
	MaxBytes: "max_bytes", Rate: "rate", Amnesia: "amnesia", PolicyDigest: "policy_digest",
	ClientCert: "client_cert", Methods: "methods", Confine: "confine",
	ThirdParty: "third_party", Discharge: "discharge",
}

// String is the caveat's name, or "caveat N" where the number has none.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("caveat %d", uint64(t))
}

// Caveat is one narrowing. Values are immutable. A constructor that is given
// what no caveat may hold makes a Caveat whose Err says so, and Mint and
// Attenuate refuse it. The zero Caveat is refused too.
type Caveat struct {
	typ  Type
	enc  string         // canonical CBOR of [type, value]
	val  int            // enc[val:] is the value; of lists, the first item
	n    uint64         // Exp, Nbf, MaxBytes; per_s of Rate; length of lists
	m    uint64         // burst of Rate
	nets []netip.Prefix // IPNets
	bad  string
}

// Type returns the caveat's type.
func (c Caveat) Type() Type { return c.typ }

// Err says what is wrong with a caveat that was made of a value it may not have.
func (c Caveat) Err() error {
	switch {
	case c.bad != "":
		return macronode.Errorf(macronode.TokenMalformed, "%v: %s", c.typ, c.bad)
	case c.enc == "":
		return macronode.Errorf(macronode.TokenMalformed, "an empty caveat")
	}
	return nil
}

// Encoded returns the deterministic CBOR of [type, value].
func (c Caveat) Encoded() []byte { return []byte(c.enc) }

// ExpiresAt makes a capability end at unix seconds.
func ExpiresAt(unix int64) Caveat { return seconds(Exp, unix) }

// NotBefore makes a capability begin at unix seconds.
func NotBefore(unix int64) Caveat { return seconds(Nbf, unix) }

// ForNode binds a capability to the node whose node_id is given.
func ForNode(nodeID string) Caveat {
	if nodeID == "" {
		return Caveat{typ: Aud, bad: "a node id is needed"}
	}
	return build(Aud, func(b []byte) []byte { return appendText(b, nodeID) })
}

// OnActions allows these actions alone. A last "*" makes a pattern a prefix.
func OnActions(patterns ...string) Caveat { return texts(Actions, patterns, checkPattern) }

// OnResources allows these resources alone, as macronode.MatchResource tells.
func OnResources(patterns ...string) Caveat { return texts(Resources, patterns, checkPattern) }

// FromNets allows callers from these networks alone. Host bits must be zero.
func FromNets(nets ...netip.Prefix) Caveat {
	s := make([]string, len(nets))
	for i, p := range nets {
		if !p.IsValid() || p.Addr().Is4In6() {
			return Caveat{typ: IPNets, bad: "a network is not valid"}
		}
		s[i] = p.String()
	}
	return texts(IPNets, s, nil)
}

// AtMostBytes bounds what one call may move, request and response bodies together.
func AtMostBytes(n int64) Caveat {
	if n < 0 {
		return Caveat{typ: MaxBytes, bad: "it must not be negative"}
	}
	return number(MaxBytes, uint64(n))
}

// AtRate bounds how often the capability may be used: perSec calls a second
// on average, burst at once.
func AtRate(perSec, burst int64) Caveat {
	if perSec < 0 || burst < 0 {
		return Caveat{typ: Rate, bad: "it must not be negative"}
	}
	return build(Rate, func(b []byte) []byte {
		b = appendHead(b, majArray, 2)
		return appendHead(appendHead(b, majUint, uint64(perSec)), majUint, uint64(burst))
	})
}

// InAmnesia allows use only on a node that keeps nothing on disk.
func InAmnesia() Caveat {
	return build(Amnesia, func(b []byte) []byte { return append(b, majOther<<5|simpleTrue) })
}

// UnderPolicy allows use only while the node's pinned policy has this hash.
func UnderPolicy(hash [32]byte) Caveat {
	return build(PolicyDigest, func(b []byte) []byte { return appendBytes(b, hash[:]) })
}

// WithClientCert binds a capability to a TLS client certificate by the SHA-256
// of its DER form.
func WithClientCert(sum [32]byte) Caveat {
	return build(ClientCert, func(b []byte) []byte { return appendBytes(b, sum[:]) })
}

// ByMethods allows these HTTP methods alone; on OAP/1 too, where the operation's
// binding says the method.
func ByMethods(methods ...string) Caveat { return texts(Methods, methods, checkMethod) }

// ConfinedTo allows these services alone.
func ConfinedTo(services ...string) Caveat { return texts(Confine, services, nil) }

// Other makes a caveat of any type from the deterministic CBOR of its value.
func Other(t Type, value []byte) Caveat {
	return build(t, func(b []byte) []byte { return append(b, value...) })
}

func seconds(t Type, unix int64) Caveat {
	if unix < 0 {
		return Caveat{typ: t, bad: "it must not be negative"}
	}
	return number(t, uint64(unix))
}

func number(t Type, n uint64) Caveat {
	return build(t, func(b []byte) []byte { return appendHead(b, majUint, n) })
}

// texts makes a list caveat. check, if any, returns what is wrong with an item.
// An empty list is refused: it would deny everything, and is more likely an
// oversight.
func texts(t Type, items []string, check func(string) string) Caveat {
	if len(items) == 0 {
		return Caveat{typ: t, bad: "the list is empty"}
	}
	for _, s := range items {
		if s == "" {
			return Caveat{typ: t, bad: "an item is empty"}
		}
		if check != nil {
			if why := check(s); why != "" {
				return Caveat{typ: t, bad: why}
			}
		}
	}
	return build(t, func(b []byte) []byte {
		b = appendHead(b, majArray, uint64(len(items)))
		for _, s := range items {
			b = appendText(b, s)
		}
		return b
	})
}

func checkPattern(s string) string {
	if i := strings.IndexByte(s, '*'); i >= 0 && i != len(s)-1 {
		return `"*" may stand only at the end of a pattern`
	}
	return ""
}

func checkMethod(s string) string {
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return "a method is upper-case letters"
		}
	}
	return ""
}

// build encodes a caveat and reads it back, so that whatever is made has passed
// the checks of what is received.
func build(t Type, value func([]byte) []byte) Caveat {
	b := append(make([]byte, 0, 64), majArray<<5|2)
	b = value(appendHead(b, majUint, uint64(t)))
	if len(b) > MaxTokenBytes {
		return Caveat{typ: t, bad: "it is longer than a capability may be"}
	}
	r := reader{s: string(b)}
	c := r.caveat()
	if r.why == "" && r.pos != len(r.s) {
		r.fail("bytes follow the value")
	}
	if r.why != "" {
		return Caveat{typ: t, bad: r.why}
	}
	return c
}

// caveat reads one caveat: that the value is of the type's form, and that
// every byte is canonical.
func (r *reader) caveat() (c Caveat) {
	start := r.pos
	if r.want(majArray, "a caveat is an array") != 2 {
		r.fail("a caveat has two members")
		return c
	}
	c.typ = Type(r.want(majUint, "a caveat's type is an unsigned integer"))
	val := r.pos
	switch c.typ {
	case Exp, Nbf, MaxBytes:
		c.n = r.want(majUint, "the value must be an unsigned integer")
	case Aud:
		r.text("the value must be text")
	case Actions, Resources, Methods, Confine:
		c.n = r.want(majArray, "the value must be a list of texts")
		val = r.pos
		r.textList(c.n)
	case IPNets:
		c.n = r.want(majArray, "the value must be a list of networks")
		val = r.pos
		c.nets = r.netList(c.n)
	case Rate:
		if r.want(majArray, "the value must be [per_s, burst]") != 2 {
			r.fail("the value must be [per_s, burst]")
		}
		c.n = r.want(majUint, "per_s must be an unsigned integer")
		c.m = r.want(majUint, "burst must be an unsigned integer")
	case Amnesia:
		if r.want(majOther, "the value must be true") != simpleTrue {
			r.fail("the value must be true")
		}
	case PolicyDigest, ClientCert, Discharge:
		r.fixed(32, "the value must be 32 bytes")
	case ThirdParty:
		r.thirdParty()
	default:
		r.skip(maxDepth)
	}
	if r.why != "" {
		return Caveat{typ: c.typ}
	}
	c.enc = r.s[start:r.pos]
	c.val = val - start
	return c
}

func (r *reader) textList(n uint64) {
	for ; n > 0 && r.why == ""; n-- {
		r.text("the value must be a list of texts")
	}
}

func (r *reader) netList(n uint64) []netip.Prefix {
	if n > uint64(len(r.s)-r.pos) { // each item takes a byte at least
		r.fail("it ends early")
		return nil
	}
	nets := make([]netip.Prefix, 0, min(n, 16))
	for ; n > 0 && r.why == ""; n-- {
		p, err := netip.ParsePrefix(r.text("the value must be a list of networks"))
		if err != nil || p != p.Masked() {
			r.fail("a network is not CIDR with all host bits zero")
			return nil
		}
		nets = append(nets, p)
	}
	return nets
}

// thirdParty reads the form of a third-party caveat; what is in it is for the
// code that discharges.
func (r *reader) thirdParty() {
	const why = "the value must be [location, key id, vid, ticket]"
	if r.want(majArray, why) != 4 {
		r.fail(why)
	}
	r.text(why)
	r.text(why)
	r.bytes(why)
	r.bytes(why)
}

// payload is the bytes of a byte string or text value.
func (c *Caveat) payload() string {
	s, _ := nextText(c.enc[c.val:])
	return s
}

// some reports whether match holds for an item of a list caveat.
func (c *Caveat) some(match func(item string) bool) bool {
	rest := c.enc[c.val:]
	var item string
	for range c.n {
		item, rest = nextText(rest)
		if match(item) {
			return true
		}
	}
	return false
}

// has reports whether a list caveat has the item.
func (c *Caveat) has(want string) bool {
	rest := c.enc[c.val:]
	var item string
	for range c.n {
		if item, rest = nextText(rest); item == want {
			return true
		}
	}
	return false
}

// List returns the items of Actions, Resources, IPNets, Methods and Confine;
// nil of other types.
func (c Caveat) List() []string {
	switch c.typ {
	case Actions, Resources, IPNets, Methods, Confine:
	default:
		return nil
	}
	list := make([]string, 0, c.n)
	c.some(func(s string) bool { list = append(list, strings.Clone(s)); return false })
	return list
}

// Number returns the value of Exp, Nbf and MaxBytes, and per_s of Rate; at most
// MaxInt64. Zero of other types.
func (c Caveat) Number() int64 {
	switch c.typ {
	case Exp, Nbf, MaxBytes, Rate:
		return clamp(c.n)
	}
	return 0
}

// Burst returns the burst of Rate, zero of other types.
func (c Caveat) Burst() int64 { return clamp(c.m) }

// Text returns the node_id of Aud, "" of other types.
func (c Caveat) Text() string {
	if c.typ != Aud {
		return ""
	}
	return strings.Clone(c.payload())
}

// Hash returns the 32 bytes of PolicyDigest, ClientCert and Discharge, zeros of
// other types.
func (c Caveat) Hash() (h [32]byte) {
	switch c.typ {
	case PolicyDigest, ClientCert, Discharge:
		copy(h[:], c.payload())
	}
	return h
}

// String shows the caveat to a person. Third-party tickets and unknown values
// are shown by their length alone.
func (c Caveat) String() string {
	if c.Err() != nil {
		return c.typ.String() + " (invalid)"
	}
	switch c.typ {
	case Exp, Nbf, MaxBytes:
		return fmt.Sprintf("%v = %d", c.typ, c.n)
	case Aud:
		return fmt.Sprintf("%v = %q", c.typ, c.payload())
	case Actions, Resources, IPNets, Methods, Confine:
		return fmt.Sprintf("%v in %q", c.typ, c.List())
	case Rate:
		return fmt.Sprintf("%v = %d/s, burst %d", c.typ, c.n, c.m)
	case Amnesia:
		return c.typ.String()
	case PolicyDigest, ClientCert:
		h := c.Hash()
		return fmt.Sprintf("%v = %x", c.typ, h[:])
	case ThirdParty:
		p := c.party()
		return fmt.Sprintf("%v at %q, key %q", c.typ, p.location, p.keyID)
	default:
		return fmt.Sprintf("%v (%d bytes)", c.typ, len(c.enc))
	}
}

// clamp makes an unsigned value a signed one; what does not fit is as good as
// the largest.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// validKID reports whether s is 1 to 64 of [a-z0-9._-].
func validKID(s string) bool {
	if len(s) == 0 || len(s) > maxKIDBytes || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
