// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rustyonions/macronode/client"
)

var quotaStorm = Drill{
	Name:    "quota-storm",
	Shows:   "a tenant far over its quota is sent away and told until when; the others do not notice",
	NotLive: "it makes a tenant and storms with it, which the node's own tenants would feel on a small machine",
	play:    func(ctx context.Context, s *scene) error { return (&storm{scene: s}).play(ctx) },
}

const (
	stormTenant  = "storm"
	stormRate    = 50 // requests a second, and at once
	stormClients = 4
	stormLasts   = 4 * time.Second
	// calmCalls of the other tenant are timed, before and during.
	calmCalls = 200
	// calmMost is the objective of an admitted request's 99th percentile.
	calmMost = 120 * time.Millisecond
)

type storm struct {
	*scene
	clients []*client.Client
	held    object
	before  time.Duration // p99 of the other tenant
}

func (d *storm) play(ctx context.Context) error {
	defer func() {
		for _, c := range d.clients {
			c.Close()
		}
	}()
	for _, do := range []func(context.Context) error{d.begin, d.calm, d.blow, d.again} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *storm) begin(ctx context.Context) error {
	return d.step(ctx, fmt.Sprintf("start a node, make a tenant with %d requests a second", stormRate), "both tenants are served", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		rate := int64(stormRate)
		if _, err := d.operator.CreateTenant(ctx, stormTenant, &client.QuotaChange{RequestsPerSec: &rate, RequestBurst: &rate}, ""); err != nil {
			return err
		}
		minted, err := d.operator.Mint(ctx, client.MintRequest{Tenant: stormTenant}, "")
		if err != nil {
			return err
		}
		for range stormClients {
			c, err := client.Dial("http://"+d.host, client.Options{Token: minted.Token, Retries: -1, UserAgent: "ronctl-drill"})
			if err != nil {
				return err
			}
			d.clients = append(d.clients, c)
		}
		d.held = newObject(16 << 10)
		st.saw("ready")
		return d.put(ctx, d.held)
	})
}

// p99 times calls of the tenant that keeps to its quota.
func (d *storm) p99(ctx context.Context) (time.Duration, error) {
	var all []time.Duration
	for range calmCalls {
		var err error
		all = append(all, took(func() { err = d.right(ctx, d.held) }))
		if err != nil {
			return 0, err
		}
	}
	slices.Sort(all)
	return all[len(all)*99/100], nil
}

func (d *storm) calm(ctx context.Context) error {
	return d.step(ctx, fmt.Sprintf("time %d reads of another tenant", calmCalls), "all are served", func(ctx context.Context, st *Step) (err error) {
		d.before, err = d.p99(ctx)
		st.count("p99_before_ms", ms(d.before))
		st.saw("p99 %s", d.before.Round(time.Microsecond))
		return err
	})
}

// document reads what every capability may read, and every tenant pays for: the
// node's policy knows nothing else of the new tenant.
func document(ctx context.Context, c *client.Client) error {
	_, err := c.Text(ctx, "/schemas/Health.json", 1<<20)
	var e *client.Error
	if errors.As(err, &e) && e.Status == http.StatusNotFound {
		return nil // served, though there is none
	}
	return err
}

// calls has the storm's clients call as fast as they can until stop is closed.
func (d *storm) calls(ctx context.Context, stop <-chan struct{}) (served, sent int64, fault error) {
	var ok, refusals atomic.Int64
	faults := make([]error, len(d.clients))
	var wg sync.WaitGroup
	for i, c := range d.clients {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				err := document(ctx, c)
				var e *client.Error
				switch {
				case err == nil:
					ok.Add(1)
				case refused(err, http.StatusTooManyRequests, "quota_rate") != nil:
					faults[i] = err
					return
				case errors.As(err, &e) && (e.RetryAfter <= 0 || e.RetryAfter > 2*time.Second):
					faults[i] = fmt.Errorf("it says to come back after %s: %w", e.RetryAfter, err)
					return
				default:
					refusals.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return ok.Load(), refusals.Load(), errors.Join(faults...)
}

func (d *storm) blow(ctx context.Context) error {
	expect := fmt.Sprintf("429 quota_rate with Retry-After beyond the quota, not more served than it allows; the other tenant is served every time, p99 within %s", calmMost)
	return d.step(ctx, fmt.Sprintf("call with %d clients as fast as they can, time the other tenant meanwhile", stormClients), expect, func(ctx context.Context, st *Step) error {
		stop := make(chan struct{})
		timer := time.AfterFunc(stormLasts, func() { close(stop) })
		defer timer.Stop()
		var during time.Duration
		var calmErr error
		var wg sync.WaitGroup
		wg.Go(func() { during, calmErr = d.p99(ctx) })
		begun := time.Now()
		served, sent, err := d.calls(ctx, stop)
		lasted := time.Since(begun)
		wg.Wait()
		st.count("served", float64(served))
		st.count("sent_away", float64(sent))
		st.count("p99_during_ms", ms(during))
		st.saw("%d served and %d sent away in %s; the other tenant's p99 went from %s to %s", served, sent, lasted.Round(time.Millisecond),
			d.before.Round(time.Microsecond), during.Round(time.Microsecond))
		if err := errors.Join(err, calmErr); err != nil {
			return err
		}
		allowed := int64(float64(stormRate) * (lasted.Seconds() + 1.5))
		switch {
		case served > allowed:
			return fmt.Errorf("the quota allows %d", allowed)
		case sent < served:
			return errors.New("that was no storm")
		case during > calmMost:
			return errors.New("the other tenant felt it")
		}
		return nil
	})
}

func (d *storm) again(ctx context.Context) error {
	return d.step(ctx, "come back when the refusal says so", "served", func(ctx context.Context, st *Step) error {
		var last *client.Error
		for {
			err := document(ctx, d.clients[0])
			if errors.As(err, &last) {
				break
			}
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
		}
		select {
		case <-time.After(last.RetryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := document(ctx, d.clients[0]); err != nil {
			return fmt.Errorf("after the %s that it was told: %w", last.RetryAfter, err)
		}
		st.count("retry_after_ms", ms(last.RetryAfter))
		st.saw("served after the %s that it was told", last.RetryAfter)
		return nil
	})
}
