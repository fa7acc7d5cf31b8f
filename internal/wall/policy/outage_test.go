// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/breaker/guard"
	"github.com/rustyonions/macronode/internal/metrics"
)

// Behind the breaker that the node puts before it, whatever the time to live and
// however the source fails: an outage is over within a second of the source's
// return, whenever that is.
func TestBackWithinASecond(t *testing.T) {
	payload := mustBuild(t, cedarText(permitAll))
	for _, ttl := range []time.Duration{20 * time.Millisecond, 250 * time.Millisecond, time.Second, 10 * time.Second} {
		for name, away := range map[string]func(*memSource){
			"error": func(m *memSource) { m.set(nil, errors.New("kms is down"), false) },
			"hang":  func(m *memSource) { m.set(nil, nil, true) },
		} {
			t.Run(name+" "+ttl.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRunning(t, payload, nil)
					b := guard.Policy(breaker.NewRegistry(metrics.New(false), nil))
					r.cfg.Source = guard.NewSource(r.src, b)
					r.SetCacheTTL(ttl)
					stop := r.serve(t)
					defer stop()
					synctest.Wait()
					for i := range 16 {
						r.want(t, "allow")
						away(r.src)
						pass(ttl + silence + maxReadTimeout)
						r.want(t, "policy_unavailable")
						if i == 0 {
							pass(5 * time.Minute)
						}
						pass(time.Duration(i) * 61 * time.Millisecond) // at any moment
						if b.Check() == nil {
							t.Error("the breaker is closed")
						}
						r.src.set(sealed(payload), nil, false)
						pass(time.Second - time.Millisecond)
						r.want(t, "allow")
						if b.Check() != nil {
							t.Errorf("the breaker is %v", b.Status().State)
						}
					}
				})
			})
		}
	}
}
