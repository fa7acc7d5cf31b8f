// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall

import (
	"net/netip"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
)

// Refusal is a call that the wall, or the handler behind it, refused: what is
// needed to say later why. It holds no token, no body and no full address.
type Refusal struct {
	CorrID     string
	Time       time.Time
	Stage      string // that refused
	Kind       macronode.Kind
	Detail     string // as the caller read it
	RetryAfter time.Duration
	Binding    *macronode.Binding  // nil: no route was found
	Principal  macronode.Principal // meaningful where Tenant is set; without Rates
	Tenant     *macronode.Tenant   // nil: nobody was known yet
	Resource   macronode.Resource
	Bytes      int64
	Net        netip.Addr // the caller's address without its last part: /24, /64
	TLS        bool
	Subject    string   // of the client certificate
	Policies   []string // that decided, where policy was asked; shared
}

// Refusals remembers refusals. Note keeps r, must be quick and must not wait.
type Refusals interface {
	Note(r *Refusal)
}

const (
	maxNoted   = 160 // bytes of each text from outside
	tokenMark  = "ron1_"
	tokenNoted = "[capability]"
	maskV4     = 24
	maskV6     = 64
)

// noted makes a text fit to be kept: bounded, without what holds it in memory, and
// without a capability that somebody put in the wrong place.
func noted(s string) string {
	if i := strings.Index(s, tokenMark); i >= 0 {
		s = s[:min(i, maxNoted)] + tokenNoted
	}
	return strings.Clone(s[:min(len(s), maxNoted)])
}

// masked is an address without the part that tells one machine from another.
func masked(a netip.Addr) netip.Addr {
	a = a.Unmap()
	bits := maskV6
	if a.Is4() {
		bits = maskV4
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}

// refusal is what is remembered of the flight.
func (f *flight) refusal(e *macronode.Error) *Refusal {
	r := &Refusal{CorrID: noted(f.call.CorrID), Time: f.start, Stage: stageNames[f.stage], Kind: e.Kind, Detail: noted(e.Detail), RetryAfter: e.RetryAfter,
		Binding: f.b, Bytes: max(f.call.Length, 0), Net: masked(f.call.Peer.Addr), TLS: f.call.Peer.TLS, Policies: f.reasons}
	if f.b != nil {
		r.Resource = macronode.Resource{Kind: f.adm.Resource.Kind, ID: noted(f.adm.Resource.ID)}
	}
	if s := f.call.Peer.Subject; s != "" {
		r.Subject = noted(s)
	}
	if p := f.adm.Principal; p != nil && f.adm.Tenant != nil {
		r.Principal, r.Tenant = *p, f.adm.Tenant
		r.Principal.Rates = nil
	}
	return r
}
