// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wall_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/wall"
)

// notes keeps what is noted.
type notes []*wall.Refusal

func (n *notes) Note(r *wall.Refusal) { *n = append(*n, r) }

// Every refusal is noted, once, with the stage that refused; nothing else is, and
// nothing of it is a secret or grows.
func TestRefusalsAreNoted(t *testing.T) {
	for stage, kind := range map[string]macronode.Kind{"gate": macronode.Draining, "auth": macronode.TokenForged, "policy": macronode.PolicyUnavailable,
		"quota": macronode.QuotaRate, "admit": macronode.Overload} {
		p, n := newParts(), &notes{}
		w := newWall(t, p)
		w.Refused = n
		p.fail = map[string]error{stage: macronode.Errorf(kind, "%s said ron1_SECRET%s", stage, strings.Repeat("x", 1000))}
		c := put("body")
		c.CorrID, c.Token = strings.Repeat("c", 500), []byte("ron1_SECRET")
		c.Peer.Addr, c.Peer.Subject = netip.MustParseAddr("192.0.2.77"), "CN=me"
		serve(w, p, c)
		if len(*n) != 1 {
			t.Fatalf("%s: %d refusals", stage, len(*n))
		}
		r := (*n)[0]
		want := stage
		if stage == "admit" {
			want = "quota" // the stage it belongs to
		}
		if r.Stage != want || r.Kind != kind || r.Binding == nil || len(r.CorrID) > 200 || len(r.Detail) > 200 || r.Net.String() != "192.0.2.0" || r.Subject != "CN=me" {
			t.Errorf("%s: %+v", stage, r)
		}
		if known := r.Tenant != nil; known != slices.Contains([]string{"policy", "quota", "admit"}, stage) {
			t.Errorf("%s: tenant %v", stage, r.Tenant)
		}
		if text, err := json.Marshal(r); err != nil || strings.Contains(string(text), "SECRET") || strings.Contains(string(text), "192.0.2.77") {
			t.Errorf("%s: it keeps what it must not: %v", stage, err)
		}
	}
	p, n := newParts(), &notes{}
	w := newWall(t, p)
	w.Refused = n
	p.decide = wall.Decision{Allow: true}
	if err := serve(w, p, put("body")); err != nil || len(*n) != 0 {
		t.Errorf("%v, %d refusals", err, len(*n))
	}
	p.decide = wall.Decision{Reasons: []string{"night"}}
	c := put("body")
	c.Peer.Addr = netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
	if err := serve(w, p, c); macronode.KindOf(err) != macronode.Denied || len(*n) != 1 || (*n)[0].Policies[0] != "night" || (*n)[0].Net.String() != "2001:db8:1:2::" {
		t.Errorf("%v %+v", err, *n)
	}
}

type slots struct{ at [64]*wall.Refusal }

func (s *slots) Note(r *wall.Refusal) { s.at[len(r.CorrID)%len(s.at)] = r }

// BenchmarkRefused: what noting adds is the difference.
func BenchmarkRefused(b *testing.B) {
	for name, refused := range map[string]wall.Refusals{"unnoted": nil, "noted": &slots{}} {
		b.Run(name, func(b *testing.B) {
			p := newParts()
			w := newWall(b, p)
			w.Refused = refused
			p.decide = wall.Decision{Reasons: []string{"night"}}
			c := put("")
			c.Peer.Addr = netip.MustParseAddr("192.0.2.77")
			b.ReportAllocs()
			for b.Loop() {
				p.order, p.events = p.order[:0], p.events[:0]
				c.ResetParams()
				serve(w, p, c)
			}
		})
	}
}
