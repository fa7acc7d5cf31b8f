// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

var policyOutage = Drill{
	Name:    "policy-outage",
	Shows:   "without its policy source a node denies everything and says so, and is back within a second of its return",
	NotLive: "it takes the keystore away, and with it everybody's permission",
	play:    func(ctx context.Context, s *scene) error { return (&outage{scene: s}).play(ctx) },
}

const (
	// outageLasts is how long the source stays away once everything is denied.
	outageLasts  = 3 * time.Second
	outageDenied = 5 * time.Second
	outageBack   = time.Second
	outageHeld   = 1500 * time.Millisecond
)

type outage struct{ *scene }

func (d *outage) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.away, d.back, d.held} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *outage) begin(ctx context.Context) error {
	return d.step(ctx, "start a node", "it becomes ready and lets the tenant in", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		st.saw("ready")
		return d.list(ctx)
	})
}

func (d *outage) list(ctx context.Context) error {
	_, err := d.tenant.List(ctx, "", "", 1)
	return err
}

func (d *outage) denied(ctx context.Context) error {
	return refused(d.list(ctx), http.StatusServiceUnavailable, "policy_unavailable")
}

func (d *outage) away(ctx context.Context) error {
	return d.step(ctx, "take the stored policy bundle away for seconds", "past the time to live 503 policy_unavailable for tenant and operator, /readyz 503 naming ron-policy, /healthz 200", func(ctx context.Context, st *Step) error {
		begun := time.Now()
		if err := os.Rename(filepath.Join(d.data(), "keystore"), filepath.Join(d.data(), "keystore.away")); err != nil {
			return err
		}
		if err := d.await(ctx, outageDenied, func() error { return d.denied(ctx) }); err != nil {
			return err
		}
		took := time.Since(begun)
		calls := 0
		for end := time.Now().Add(outageLasts); time.Now().Before(end); calls++ {
			if err := d.denied(ctx); err != nil {
				return err
			}
			_, err := d.operator.Document(ctx, "/v1/admin/status")
			if err := refused(err, http.StatusServiceUnavailable, "policy_unavailable"); err != nil {
				return fmt.Errorf("the operator: %w", err)
			}
		}
		ready, err := d.tenant.Ready(ctx)
		if err != nil {
			return err
		}
		if ready.Ready || !slices.Contains(ready.Missing, "ron-policy") {
			return fmt.Errorf("ready: %v, missing %v", ready.Ready, ready.Missing)
		}
		if _, err := d.tenant.Text(ctx, "/healthz", 1<<10); err != nil {
			return err
		}
		st.count("denied_after_ms", ms(took))
		st.count("denied_calls", float64(2*calls))
		st.saw("denied after %s, and %d calls out of %d; not ready: %v", took.Round(time.Millisecond), 2*calls, 2*calls, ready.Missing)
		return nil
	})
}

func (d *outage) recovered(ctx context.Context, st *Step, begun time.Time) error {
	if err := d.await(ctx, outageDenied, func() error { return d.list(ctx) }); err != nil {
		return err
	}
	took := time.Since(begun)
	st.count("recovery_ms", ms(took))
	st.saw("back after %s", took.Round(time.Millisecond))
	if took > outageBack {
		return errors.New("that is too late")
	}
	return d.await(ctx, outageDenied, func() error {
		r, err := d.tenant.Ready(ctx)
		if err == nil && !r.Ready {
			err = fmt.Errorf("not ready: %v", r.Missing)
		}
		return err
	})
}

func (d *outage) back(ctx context.Context) error {
	return d.step(ctx, "put it back", fmt.Sprintf("permitted within %s, and ready again, by itself", outageBack), func(ctx context.Context, st *Step) error {
		if err := os.Rename(filepath.Join(d.data(), "keystore.away"), filepath.Join(d.data(), "keystore")); err != nil {
			return err
		}
		return d.recovered(ctx, st, time.Now())
	})
}

func (d *outage) held(ctx context.Context) error {
	return d.step(ctx, "hold the source's breaker open for a time", fmt.Sprintf("denied, and permitted within %s of its end", outageBack), func(ctx context.Context, st *Step) error {
		begun := time.Now()
		if _, err := d.operator.ForceBreaker(ctx, "policy_source", "open", outageHeld, "drill"); err != nil {
			return err
		}
		if err := d.await(ctx, outageHeld, func() error { return d.denied(ctx) }); err != nil {
			return err
		}
		return d.recovered(ctx, st, begun.Add(outageHeld))
	})
}
