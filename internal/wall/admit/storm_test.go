// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package admit

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

// stormLasts is how long each load of TestStorm is looked at.
const stormLasts = 2 * time.Second

// storming is one kind of handler under all the loads of TestStorm.
type storming struct {
	b *macronode.Binding
	h func() handler
}

// play offers loads of a tenant that should have a tenth and of two others that
// should have the rest, on one core.
func (s *storming) play(t *testing.T, storm, others float64) (out []*result, k *core) {
	k = &core{}
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{MaxInflight: 512, Cores: 1, ProcessorWait: k.wait})
		h := s.h()
		out = play(t, c, k, stormLasts, offer{named("storm", 1), s.b, storm, 1 << 20, h},
			offer{named("x", 4), s.b, others / 2, 1 << 20, h}, offer{named("y", 5), s.b, others / 2, 1 << 20, h})
		st := c.Status()
		if st.Running != 0 || st.Working != 0 || st.Waiting != 0 {
			t.Errorf("left over: %+v", st)
		}
		t.Logf("storm %4.0f/s others %4.0f/s: served %4.0f %4.0f %4.0f, p99 %v and %v, refused within %v, limit %d, core %d%% used", storm, others,
			out[0].rate(stormLasts), out[1].rate(stormLasts), out[2].rate(stormLasts), p99(out[0]), p99(out[1:]...),
			quantile(append(out[0].refused, out[1].refused...), .99), st.Limit, k.used*100/(stormLasts+warmUp))
	})
	return out, k
}

// TestStorm offers a node five times what it can do, in virtual time: the tenant
// that should have a tenth gets a tenth, the others hardly notice, the core never
// idles, and whoever is refused knows soon.
func TestStorm(t *testing.T) {
	for name, s := range map[string]storming{
		"runs to the end": {get, func() handler { return toTheEnd }},
		"in pieces":       {get, func() handler { return inPieces }},
		"commits":         {put, func() handler { return commits(&groupDisk{takes: 2 * time.Millisecond}) }},
		"slow disk":       {put, func() handler { return commits(&groupDisk{takes: 12 * time.Millisecond}) }},
	} {
		t.Run(name, func(t *testing.T) {
			peak := 0.0
			for _, r := range []float64{800, 1200, 2000} {
				out, _ := s.play(t, 0, r)
				peak = max(peak, out[1].rate(stormLasts)+out[2].rate(stormLasts))
			}
			if peak < 850 {
				t.Errorf("the peak is %.0f calls a second of some 1100 that one core can do", peak)
			}
			alone, _ := s.play(t, 0, peak*2.5)
			storm, k := s.play(t, peak*2.5, peak*2.5)
			served := storm[0].rate(stormLasts) + storm[1].rate(stormLasts) + storm[2].rate(stormLasts)
			if share := storm[0].rate(stormLasts) / served; share < .07 || share > .13 {
				t.Errorf("the storm got %.0f%%", 100*share)
			}
			if a, b := p99(alone[1:]...), p99(storm[1:]...); b > 2*a || b > 120*time.Millisecond {
				t.Errorf("the others' p99 is %v, %v without the storm", b, a)
			}
			if used := k.used * 100 / (stormLasts + warmUp); used < 95 {
				t.Errorf("the core was used %d%%", used)
			}
			if r := quantile(storm[0].refused, .99); r > 50*time.Millisecond {
				t.Errorf("refusals took %v", r)
			}
			// Others that ask for less than their share get all of it.
			light, _ := s.play(t, peak*4.5, peak/2)
			for _, r := range light[1:] {
				if len(r.refused)*30 > len(r.ok) {
					t.Errorf("%d of %d calls within the share were refused", len(r.refused), len(r.refused)+len(r.ok))
				}
			}
			if b := p99(light[1:]...); b > 100*time.Millisecond {
				t.Errorf("p99 within the share is %v", b)
			}
		})
	}
}

var (
	get   = &macronode.Binding{Op: "object.get", Class: macronode.CoreRead, Cost: 1}
	put   = &macronode.Binding{Op: "object.put", Class: macronode.CoreWrite, Cost: 2}
	feed  = &macronode.Binding{Op: "feed.read", Class: macronode.Facet, Cost: 1}
	named = func(label string, weight int64) *macronode.Tenant {
		t := &macronode.Tenant{Label: label, Quota: macronode.Quota{Weight: weight}}
		copy(t.ID[:], label)
		return t
	}
)
