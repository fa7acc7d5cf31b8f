// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package record keeps decisions of the policy in a form that can be shown, kept
// and asked again of another policy: attributes and hashes, no token, no
// address of a single machine, and no name that the policy did not look at.
package record

import (
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"slices"
	"time"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/wall"
	"github.com/rustyonions/macronode/internal/wall/policy/payload"
	"github.com/rustyonions/macronode/internal/wall/policy/rules"
)

// Decision is one decision as it is kept and exported, one line of NDJSON.
type Decision struct {
	TSMS       int64           `json:"ts_ms"`
	BundleHash string          `json:"bundle_hash"` // of the policy that decided
	Request    payload.Request `json:"request"`
	Outcome    string          `json:"decision"` // "allow", "deny" or "error"
	Reasons    []string        `json:"reasons,omitempty"`
	// Obligations as "key=value"; of an allowed request alone.
	Obligations []string `json:"obligations,omitempty"`
	// Coarse names what in Request is not as it was: "ip" is the address of a
	// network, "resource" and "mtls_subject" are keyed hashes. A policy that
	// looks at one of these may answer otherwise than it would have.
	Coarse []string `json:"coarse,omitempty"`
}

// What may be coarse.
const (
	coarseIP       = "ip"
	coarseResource = rules.ReadsResource
	coarseSubject  = "mtls_subject"
)

// Networks that addresses are cut to.
const (
	keptBits4 = 24
	keptBits6 = 64
)

// hashedBytes is how much of a keyed hash is kept.
const hashedBytes = 16

// Hider makes decisions fit to be kept. Its key is of this process alone: equal
// names have equal hashes, and nobody can try names without it.
type Hider struct{ key []byte }

// NewHider makes one with a key of its own.
func NewHider() *Hider {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return &Hider{key}
}

// hide returns "h:" and 32 hex digits for a name; "" stays "", as "the
// collection" does.
func (h *Hider) hide(what, name string) string {
	if name == "" {
		return ""
	}
	d := blake3.New(hashedBytes, h.key)
	_, _ = d.Write([]byte(what + "\x00" + name)) // never fails
	return "h:" + hex.EncodeToString(d.Sum(nil))
}

// Decision is what live said of r, fit to be kept. What live's rules looked at
// stays as it was, but for addresses.
func (h *Hider) Decision(r *wall.PolicyRequest, live *rules.Set, a rules.Answer) Decision {
	d := Decision{
		TSMS: r.Time.UnixMilli(), BundleHash: live.Hash(), Request: payload.Describe(r),
		Outcome: a.Outcome.String(), Reasons: a.Decision.Reasons, Obligations: a.Obligations(),
	}
	reads := live.Reads(r)
	if r.Resource.ID != "" && !slices.Contains(reads, rules.ReadsResource) {
		d.Request.Resource = r.Resource.Kind.Prefix() + "/" + h.hide("resource", r.Resource.ID)
		d.Coarse = append(d.Coarse, coarseResource)
	}
	if r.Subject != "" && !slices.Contains(reads, coarseSubject) {
		d.Request.Subject = h.hide("subject", r.Subject)
		d.Coarse = append(d.Coarse, coarseSubject)
	}
	if cut := network(r.IP); cut != r.IP.Unmap().WithZone("") {
		d.Request.IP = cut.String()
		d.Coarse = append(d.Coarse, coarseIP)
	}
	return d
}

// network is the address of the network that a is in.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	bits := keptBits6
	if a.Is4() {
		bits = keptBits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return a
	}
	return p.Masked().Addr()
}

// Ring keeps the newest decisions. It is its caller's to guard.
type Ring struct {
	list []Decision
	next int // where the next goes, once list is full
	most int
}

// NewRing keeps at most most decisions; 0: none.
func NewRing(most int) *Ring { return &Ring{most: max(most, 0)} }

// Add keeps d, and forgets the oldest where there is no room.
func (r *Ring) Add(d Decision) {
	switch {
	case r.most == 0:
	case len(r.list) < r.most:
		r.list = append(r.list, d)
	default:
		r.list[r.next] = d
		r.next = (r.next + 1) % r.most
	}
}

// Resize keeps at most most decisions from now on, the newest.
func (r *Ring) Resize(most int) {
	most = max(most, 0)
	if most == r.most {
		return
	}
	list := r.Newest(most)
	*r = Ring{list: list, most: most}
}

// Newest returns the newest n decisions, the oldest of them first.
func (r *Ring) Newest(n int) []Decision {
	all := make([]Decision, 0, len(r.list))
	all = append(append(all, r.list[r.next:]...), r.list[:r.next]...)
	return all[max(0, len(all)-n):]
}

// Len is how many are kept.
func (r *Ring) Len() int { return len(r.list) }

// At is when the decision was made.
func (d *Decision) At() time.Time { return time.UnixMilli(d.TSMS).UTC() }
