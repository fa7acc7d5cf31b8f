// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package caps measures capabilities beside two libraries of macaroons: from the
// text that came to the answer whether the call may go on.
package caps

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/superfly/macaroon"
	v2 "gopkg.in/macaroon.v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/wall/auth"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/peers/rounds"
)

// What was wanted.
const (
	caveats  = 5
	goalCold = 2.0   // times as fast as the faster peer
	goalWarm = 500.0 // nanoseconds
	many     = 1024  // tokens that take turns where each is to be new
	cold     = "macronode, cold"
	known    = "macronode, narrowed from a known one"
	warm     = "macronode, warm"
)

// Measure is the part of the report.
func Measure(ctx context.Context, plan rounds.Plan) (*report.Section, error) {
	sec := &report.Section{Head: []string{"case", "ns", "range", "allocations", "node is", "goal", ""}}
	sec.Note("Nanoseconds of processor time from the text of a token with %d caveats to the answer, the garbage collector's included; one goroutine, %s a turn, in turn, %d rounds, medians. "+
		"Cold: decode, verify, make the ids of all links (for revocations), check. Narrowed: the same of a token that has one caveat more than a chain that is known. Warm: all of the "+
		"wall's auth stage, with tenant and revocations looked up, for a token that came before. The node's caveats are actions, resources, an end, bytes and networks. "+
		"superfly/macaroon v0.3.0 has five of its own time windows, gopkg.in/macaroon.v2 v2.1.0 five texts that are compared; both read base64 first. Each must take the token, and refuse "+
		"one with a changed tag, before it is timed.", caveats, plan.Turn, plan.Rounds)
	racers, err := contenders()
	if err != nil {
		return nil, err
	}
	laps, err := rounds.Run(ctx, plan, racers)
	if err != nil {
		return nil, err
	}
	ours, fastest := laps[0].Median(), math.Inf(1)
	for _, l := range laps[3:] {
		fastest = min(fastest, l.Median())
	}
	for _, l := range laps {
		ratio, want, verdict := "", "", ""
		switch {
		case l.Name == warm:
			want = fmt.Sprintf("≤ %g ns, no allocation", goalWarm)
			verdict = sec.Judge(l.Name, want, report.Number(l.Median())+" ns", l.Median() <= goalWarm && l.Allocs < 0.5)
		case l.Median() == fastest:
			ratio, want = fmt.Sprintf("%.2f×", l.Median()/ours), fmt.Sprintf("≥ %g×", goalCold)
			verdict = sec.Judge("cold, to "+l.Name, want, ratio, l.Median()/ours >= goalCold)
		case l.Name != cold && l.Name != known:
			ratio = fmt.Sprintf("%.2f×", l.Median()/ours)
		}
		low, high := l.Range()
		report.Say("%s: %s ns", l.Name, report.Number(l.Median()))
		sec.Row(l.Name, report.Number(l.Median()), report.Number(low)+"-"+report.Number(high), fmt.Sprintf("%.0f, %.0f B", l.Allocs, l.Bytes), ratio, want, verdict)
	}
	return sec, nil
}

// contender takes a text and says whether it is good.
type contender struct {
	name  string
	texts [][]byte
	take  func(text []byte) error
}

// contenders are the racers, each of which was seen to take what is good and to
// refuse what is not.
func contenders() ([]rounds.Racer, error) {
	ours, err := newOurs()
	if err != nil {
		return nil, err
	}
	fly, err := newFly()
	if err != nil {
		return nil, err
	}
	second, err := newSecond()
	if err != nil {
		return nil, err
	}
	var out []rounds.Racer
	for _, c := range append(ours, fly, second) {
		for _, text := range c.texts {
			if err := c.take(text); err != nil {
				return nil, fmt.Errorf("%s refuses what is good: %w", c.name, err)
			}
		}
		bad := bytes.Clone(c.texts[0])
		// Within the tag, and not in its last characters, whose bits may not count.
		if at := len(bad) - 10; bad[at] == 'A' {
			bad[at] = 'B'
		} else {
			bad[at] = 'A'
		}
		if c.take(bad) == nil {
			return nil, fmt.Errorf("%s takes a changed token", c.name)
		}
		n := len(c.texts)
		out = append(out, rounds.Racer{Name: c.name, Do: func(i int) {
			if c.take(c.texts[i%n]) != nil {
				panic(c.name)
			}
		}})
	}
	return out, nil
}

// world is what the auth stage asks, in memory.
type world struct {
	key    *capability.Key
	tenant macronode.Tenant
}

func (w *world) MintKey(macronode.TenantID, string) (*capability.Key, error) { return w.key, nil }
func (w *world) KeyGeneration() uint64                                       { return 1 }
func (w *world) Tenant(macronode.TenantID) *macronode.Tenant                 { return &w.tenant }
func (w *world) Revoked(macronode.TenantID, macronode.CapID) bool            { return false }
func (w *world) KeyRevoked(macronode.TenantID, string) bool                  { return false }
func (w *world) RevocationGeneration() uint64                                { return 1 }

func newOurs() ([]contender, error) {
	tenant := macronode.TenantID{1}
	w := &world{capability.NewKey(&[32]byte{1}), macronode.Tenant{ID: tenant}}
	tok, err := capability.Mint(w.key, tenant, "v1", [16]byte{7},
		capability.OnActions("object:get", "object:put"), capability.OnResources("object/*"), capability.ExpiresAt(time.Now().Add(24*time.Hour).Unix()),
		capability.AtMostBytes(1<<30), capability.FromNets(netip.MustParsePrefix("192.0.2.0/24")))
	if err != nil {
		return nil, err
	}
	addr := netip.MustParseAddr("192.0.2.7")
	access := capability.Access{Now: time.Now().Unix(), Node: "b3:node", Action: "object:get", Method: "GET", Service: "svc-storage", Addr: addr,
		Resource: macronode.Resource{Kind: macronode.ObjectResource, ID: "b3:abc"}}
	chains := capability.NewKnown()
	attempt := capability.Attempt{Key: w.key, Keep: true}
	if _, err := chains.Verify(tok, &attempt); err != nil {
		return nil, err
	}
	attempt.Keep = false // so that each stays new
	var narrow [][]byte
	for i := range int64(many) {
		t, err := tok.Attenuate(capability.AtMostBytes(1<<20 + i))
		if err != nil {
			return nil, err
		}
		narrow = append(narrow, []byte(t.Text()))
	}
	stage := auth.New(auth.Config{Keys: w, Tenants: w, Revocations: w, NodeID: "b3:node", Metrics: metrics.New(false)})
	binding := &macronode.Binding{Op: "object.get", Service: "svc-storage", Method: "GET", Action: "object:get", Resource: macronode.ObjectResource}
	call := &macronode.Call{Peer: macronode.Peer{Addr: addr}}
	one := [][]byte{[]byte(tok.Text())}
	judge := func(text []byte, verify func(*capability.Token) (*capability.Verified, error)) error {
		t, err := capability.ParseBytes(text)
		if err != nil {
			return err
		}
		v, err := verify(t)
		if err != nil {
			return err
		}
		return v.Check(&access)
	}
	alone := func(t *capability.Token) (*capability.Verified, error) { return t.Verify(w.key) }
	from := func(t *capability.Token) (*capability.Verified, error) { return chains.Verify(t, &attempt) }
	return []contender{
		{cold, one, func(text []byte) error { return judge(text, alone) }},
		{known, narrow, func(text []byte) error { return judge(text, from) }},
		{warm, one, func(text []byte) error {
			call.Token = text
			_, _, err := stage.Authenticate(context.Background(), call, binding, access.Resource)
			return err
		}},
	}, nil
}

// flyAccess is what superfly/macaroon asks of a call.
type flyAccess struct{ at time.Time }

func (a *flyAccess) Now() time.Time  { return a.at }
func (a *flyAccess) Validate() error { return nil }

func newFly() (c contender, err error) {
	key := macaroon.SigningKey(bytes.Repeat([]byte{1}, 32))
	m, err := macaroon.New([]byte("v1"), "node", key)
	if err != nil {
		return c, err
	}
	now := time.Now()
	for i := range int64(caveats) {
		if err := m.Add(&macaroon.ValidityWindow{NotBefore: now.Unix() - 100 - i, NotAfter: now.Unix() + 90_000 + i}); err != nil {
			return c, err
		}
	}
	raw, err := m.Encode()
	if err != nil {
		return c, err
	}
	access := &flyAccess{now}
	return contender{"superfly/macaroon", [][]byte{base64.RawStdEncoding.AppendEncode(nil, raw)}, func(text []byte) error {
		raw, err := base64.RawStdEncoding.AppendDecode(nil, text)
		if err != nil {
			return err
		}
		m, err := macaroon.Decode(raw)
		if err != nil {
			return err
		}
		set, err := m.Verify(key, nil, nil)
		if err != nil {
			return err
		}
		return set.Validate(access)
	}}, nil
}

var errCaveat = errors.New("a caveat does not hold")

func newSecond() (c contender, err error) {
	key := bytes.Repeat([]byte{1}, 32)
	m, err := v2.New(key, []byte("v1"), "node", v2.LatestVersion)
	if err != nil {
		return c, err
	}
	holds := map[string]string{"action": "object:get", "resource": "object/b3:abc", "tenant": "acme", "method": "GET", "service": "svc-storage"}
	for name, value := range holds {
		if err := m.AddFirstPartyCaveat([]byte(name + "=" + value)); err != nil {
			return c, err
		}
	}
	raw, err := m.MarshalBinary()
	if err != nil {
		return c, err
	}
	check := func(caveat string) error {
		if name, value, ok := strings.Cut(caveat, "="); !ok || holds[name] != value {
			return errCaveat
		}
		return nil
	}
	return contender{"gopkg.in/macaroon.v2", [][]byte{base64.RawStdEncoding.AppendEncode(nil, raw)}, func(text []byte) error {
		raw, err := base64.RawStdEncoding.AppendDecode(nil, text)
		if err != nil {
			return err
		}
		var m v2.Macaroon
		if err := m.UnmarshalBinary(raw); err != nil {
			return err
		}
		return m.Verify(key, check, nil)
	}}, nil
}
