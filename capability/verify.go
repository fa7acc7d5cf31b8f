// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package capability

import (
	"math"
	"net/netip"
	"strings"

	"github.com/rustyonions/macronode"
)

// Verified is a token whose chain was verified, with all that can be known of
// it without knowing the access. Values are shared: readers must not change them.
type Verified struct {
	// IDs are the ids of the chain: IDs[0] of the token as minted, the last one
	// of the token as presented. Each revokes what follows it.
	IDs    []macronode.CapID
	Tenant macronode.TenantID
	KeyID  string
	// MaxBytes is the smallest MaxBytes caveat; NoLimit where there is none.
	MaxBytes int64
	// Rates are the Rate caveats, whose buckets the caller keeps.
	Rates []macronode.Rate
	// Expires is the earliest Exp caveat, unix seconds; 0 where there is none.
	// The capability is accepted ClockSkew seconds longer.
	Expires int64
	// Discharged are the ids of all links of the discharges. Each revokes the
	// discharge, and so the token with it.
	Discharged []macronode.CapID

	caveats    []Caveat   // of the token
	discharges [][]Caveat // of each discharge, without the binding
}

// RootID is the id of the token as minted.
func (v *Verified) RootID() macronode.CapID { return v.IDs[0] }

// LeafID is the id of the token as presented.
func (v *Verified) LeafID() macronode.CapID { return v.IDs[len(v.IDs)-1] }

// Caveats returns the token's own caveats in their order.
func (v *Verified) Caveats() []Caveat { return append([]Caveat(nil), v.caveats...) }

// chain is the tags of a token, tags[0] the root's.
type chain [MaxCaveats + 1]words

// Verify checks the chain against the minting key of the token's tenant and
// kid. Each third-party caveat needs one of discharges, bound to this very token,
// and each discharge must be needed; what discharges say counts like the token's
// own caveats. The values may be kept and shared.
//
// TokenForged means that another key made the token or that something was
// changed or removed; the comparison takes the same time wherever tags differ.
// TokenDischarge means that the token verifies, and that its discharges are not
// what it needs.
func (t *Token) Verify(key *Key, discharges ...*Token) (*Verified, error) {
	// Tags first: a forged token is refused before any more work is done on it.
	var tags chain
	if !t.walk(key, &tags, 0) {
		return nil, &macronode.Error{Kind: macronode.TokenForged}
	}
	return t.judge(&tags, nil, discharges)
}

// walk fills in tags, of which the first known ones are there, and reports
// whether the last is the token's.
func (t *Token) walk(key *Key, tags *chain, known int) bool {
	if known == 0 {
		tags[0] = rootTag(key, t.raw[:t.rootEnd])
		known = 1
	}
	for i := known - 1; i < len(t.caveats); i++ {
		tags[i+1] = tags[i].next(t.caveats[i].enc)
	}
	return tags[len(t.caveats)].equal(&t.tag)
}

// judge makes a Verified of a token whose tags are good; ids are the first of
// its ids that are known.
func (t *Token) judge(tags *chain, ids []macronode.CapID, discharges []*Token) (*Verified, error) {
	v := &Verified{
		IDs:    make([]macronode.CapID, len(t.caveats)+1),
		Tenant: t.tenant, KeyID: t.kid, MaxBytes: macronode.NoLimit, caveats: t.caveats,
	}
	for i := copy(v.IDs, ids); i < len(v.IDs); i++ {
		v.IDs[i] = tags[i].id()
	}
	if parties := v.limit(t.caveats, tags); parties > 0 || len(discharges) > 0 {
		if err := v.discharge(t, tags, discharges); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// limit takes over what caveats say of limits, and counts third parties.
func (v *Verified) limit(caveats []Caveat, tags *chain) (parties int) {
	for i := range caveats {
		c := &caveats[i]
		switch c.typ {
		case MaxBytes:
			if n := clamp(c.n); v.MaxBytes == macronode.NoLimit || n < v.MaxBytes {
				v.MaxBytes = n
			}
		case Exp:
			// A zero in Expires would say that it never ends.
			if n := max(clamp(c.n), 1); v.Expires == 0 || n < v.Expires {
				v.Expires = n
			}
		case Rate:
			v.Rates = append(v.Rates, macronode.Rate{Key: tags[i+1].rateKey(), PerSec: clamp(c.n), Burst: clamp(c.m)})
		case ThirdParty:
			parties++
		}
	}
	return parties
}

// Access is what a call wants to do, as the node sees it.
type Access struct {
	Now        int64  // unix seconds
	Node       string // this node's node_id
	Action     macronode.Action
	Resource   macronode.Resource
	Method     string // the binding's HTTP method
	Service    string // the binding's service
	Addr       netip.Addr
	ClientCert [32]byte // SHA-256 of the TLS client certificate; zero: none
	Amnesia    bool     // the node keeps nothing on disk
	Policy     [32]byte // the pinned policy hash; zero: none
	Bytes      int64    // body bytes known to be moved; 0 where MaxBytes is checked elsewhere
}

// Check returns nil if every caveat holds for a, but for Rate, whose buckets are
// the caller's. Its errors are TokenExpired, TokenNotYetValid, TokenAudience,
// TokenAddress and TokenClientCert, where the token is not good here and now;
// then CaveatDenied and TooLarge, where it is good, but not for this. The former
// win, so that only the bearer of a good token learns what it does not cover.
func (v *Verified) Check(a *Access) error {
	var denied *macronode.Error
	if err := checkAll(v.caveats, a, &denied); err != nil {
		return err
	}
	for _, caveats := range v.discharges {
		if err := checkAll(caveats, a, &denied); err != nil {
			return err
		}
	}
	if denied != nil {
		return denied
	}
	return nil
}

// checkAll returns the first refusal that goes before others, and notes the
// first that does not in denied.
func checkAll(caveats []Caveat, a *Access, denied **macronode.Error) error {
	for i := range caveats {
		c := &caveats[i]
		kind, ok := c.holds(a)
		if ok {
			continue
		}
		err := &macronode.Error{Kind: kind, Detail: "the caveat " + c.typ.String() + " does not hold"}
		if kind != macronode.CaveatDenied && kind != macronode.TooLarge {
			return err
		}
		if *denied == nil {
			*denied = err
		}
	}
	return nil
}

// holds reports whether c allows a, and as what to refuse if it does not.
func (c *Caveat) holds(a *Access) (macronode.Kind, bool) {
	switch c.typ {
	case Exp:
		return macronode.TokenExpired, a.Now < saturate(c.n, ClockSkew)
	case Nbf:
		return macronode.TokenNotYetValid, a.Now >= clamp(c.n)-ClockSkew
	case Aud:
		return macronode.TokenAudience, a.Node != "" && c.payload() == a.Node
	case Actions:
		return macronode.CaveatDenied, c.some(func(p string) bool { return macronode.MatchAction(p, a.Action) })
	case Resources:
		return macronode.CaveatDenied, c.some(func(p string) bool { return covers(p, a.Resource) })
	case IPNets:
		return macronode.TokenAddress, contains(c.nets, a.Addr)
	case MaxBytes:
		return macronode.TooLarge, a.Bytes <= clamp(c.n)
	case Rate:
		return 0, true
	case Amnesia:
		return macronode.CaveatDenied, a.Amnesia
	case PolicyDigest:
		return macronode.CaveatDenied, a.Policy != [32]byte{} && c.payload() == string(a.Policy[:])
	case ClientCert:
		return macronode.TokenClientCert, a.ClientCert != [32]byte{} && c.payload() == string(a.ClientCert[:])
	case Methods:
		return macronode.CaveatDenied, c.has(a.Method)
	case Confine:
		return macronode.CaveatDenied, c.has(a.Service)
	case ThirdParty:
		return 0, true // or there were no Verified: its discharge was seen
	default:
		// Unknown, and Discharge, which has no place in a token that is minted.
		return macronode.CaveatDenied, false
	}
}

// saturate is n + d without overflow.
func saturate(n uint64, d int64) int64 { return min(clamp(n), math.MaxInt64-d) + d }

func contains(nets []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// covers is macronode.MatchResource(pattern, r.String()) without making the
// string.
func covers(pattern string, r macronode.Resource) bool {
	kind := r.Kind.Prefix()
	prefix, glob := strings.CutSuffix(pattern, "*")
	if len(prefix) <= len(kind) {
		if !strings.HasPrefix(kind, prefix) {
			return false
		}
		// Without a star, the whole kind: what follows begins with the "/".
		return glob || len(prefix) == len(kind)
	}
	if prefix[:len(kind)] != kind || prefix[len(kind)] != '/' {
		return false
	}
	rest := prefix[len(kind)+1:]
	if !strings.HasPrefix(r.ID, rest) {
		return false
	}
	return glob || len(rest) == len(r.ID) || rest == "" || rest[len(rest)-1] == '/' || r.ID[len(rest)] == '/'
}
