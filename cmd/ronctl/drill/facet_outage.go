// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rustyonions/macronode/client/feed"
	"github.com/rustyonions/macronode/client/graph"
)

var facetOutage = Drill{
	Name:    "facet-outage",
	Shows:   "a facet that is held off refuses with reason facet and touches nothing else, and is back when it is let go",
	NotLive: "it takes the facets from everybody",
	play:    func(ctx context.Context, s *scene) error { return (&facets{scene: s}).play(ctx) },
}

const (
	// facetAway is how long the facets stay away.
	facetAway = 2 * time.Second
	facetBack = 5 * time.Second
	// facetWorst is the slowest that a read of an object may be while facets are away.
	facetWorst = time.Second
)

// facetNames are the facets whose routes the drill calls.
var facetNames = []string{"graph", "feed"}

type facets struct {
	*scene
	held []object
}

func (d *facets) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.away, d.back, d.crash} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask calls one facet.
func (d *facets) ask(ctx context.Context, name string) error {
	var err error
	if name == "graph" {
		_, _, err = graph.New(d.tenant).Neighbours(ctx, graph.Query{ID: "id/drill", In: true})
	} else {
		_, _, err = feed.New(d.tenant).Read(ctx, "id/follower", "", 10)
	}
	return err
}

func (d *facets) begin(ctx context.Context) error {
	return d.step(ctx, "start a node, store objects and edges, publish a post", "the post reaches its follower", func(ctx context.Context, st *Step) error {
		if err := d.startDev(ctx); err != nil {
			return err
		}
		for range 4 {
			o := newObject(16 << 10)
			if err := d.put(ctx, o); err != nil {
				return err
			}
			d.held = append(d.held, o)
		}
		if _, err := graph.New(d.tenant).Put(ctx, graph.Edge{From: "id/follower", Type: graph.Follow, To: "id/drill"}); err != nil {
			return err
		}
		if _, err := feed.New(d.tenant).Publish(ctx, feed.Draft{Author: "id/drill", Text: "a drill"}); err != nil {
			return err
		}
		st.saw("%d objects, an edge, a post", len(d.held))
		return d.await(ctx, facetBack, func() error { return d.arrived(ctx) })
	})
}

// arrived says that the post is in the follower's timeline, once.
func (d *facets) arrived(ctx context.Context) error {
	page, _, err := feed.New(d.tenant).Read(ctx, "id/follower", "", 10)
	if err == nil && (len(page) != 1 || page[0].Text != "a drill") {
		err = fmt.Errorf("the timeline has %d posts", len(page))
	}
	return err
}

func (d *facets) away(ctx context.Context) error {
	return d.step(ctx, "force the breakers of the facets open", "every call to them 503 facet_down with a time to wait; objects are read and written, the node is ready and says degraded", func(ctx context.Context, st *Step) error {
		if err := d.force(ctx, "open"); err != nil {
			return err
		}
		refusals, reads := 0, 0
		var worst time.Duration
		for end := time.Now().Add(facetAway); time.Now().Before(end); {
			for _, name := range facetNames {
				if err := refused(d.ask(ctx, name), http.StatusServiceUnavailable, "facet_down"); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				refusals++
			}
			for _, o := range d.held {
				begun := time.Now()
				if err := d.right(ctx, o); err != nil {
					return fmt.Errorf("an object: %w", err)
				}
				worst = max(worst, time.Since(begun))
				reads++
			}
		}
		o := newObject(16 << 10)
		if err := d.put(ctx, o); err != nil {
			return fmt.Errorf("a put: %w", err)
		}
		d.held = append(d.held, o)
		ready, err := d.tenant.Ready(ctx)
		if err != nil {
			return err
		}
		if !ready.Ready || !ready.Degraded {
			return fmt.Errorf("ready: %v, degraded: %v, missing: %s", ready.Ready, ready.Degraded, strings.Join(ready.Missing, ", "))
		}
		counted, err := d.metric(ctx, "rejected_total", `reason="facet"`)
		if err != nil {
			return err
		}
		st.count("refusals", float64(refusals))
		st.count("object_reads", float64(reads))
		st.count("slowest_read_ms", ms(worst))
		st.saw("%d calls refused, %v counted; %d objects read, the slowest in %s; ready and degraded", refusals, counted, reads, worst.Round(time.Millisecond))
		if int(counted) != refusals {
			return errors.New("not every refusal is counted as the facets'")
		}
		if worst > facetWorst {
			return errors.New("the objects were slow")
		}
		return nil
	})
}

// serving says that all facets answer and nothing is degraded.
func (d *facets) serving(ctx context.Context) error {
	if err := d.arrived(ctx); err != nil {
		return err
	}
	if _, err := graph.New(d.tenant).Get(ctx, "id/follower", graph.Follow, "id/drill"); err != nil {
		return err
	}
	ready, err := d.tenant.Ready(ctx)
	if err == nil && ready.Degraded {
		err = errors.New("still degraded")
	}
	return err
}

func (d *facets) back(ctx context.Context) error {
	return d.returns(ctx, "let the breakers go", "the facets answer at once, with what they had", func() error { return d.force(ctx, "auto") })
}

func (d *facets) crash(ctx context.Context) error {
	return d.returns(ctx, "crash the service of the facets", "objects are read meanwhile; it is back by itself, with what it had", func() error {
		_, err := d.operator.Admin(ctx, "drills/service-crash", map[string]any{"service": "omnigate", "hold_ms": 300})
		return errors.Join(err, d.holds(ctx, d.held))
	})
}

// returns does something after which the facets must come back.
func (d *facets) returns(ctx context.Context, did, expect string, do func() error) error {
	return d.step(ctx, did, expect, func(ctx context.Context, st *Step) error {
		begun := time.Now()
		if err := do(); err != nil {
			return err
		}
		err := d.await(ctx, facetBack, func() error { return d.serving(ctx) })
		st.count("recovery_ms", ms(time.Since(begun)))
		st.saw("back after %s", time.Since(begun).Round(time.Millisecond))
		return err
	})
}

func (d *facets) force(ctx context.Context, state string) error {
	for _, name := range facetNames {
		if _, err := d.operator.ForceBreaker(ctx, "facet-"+name, state, 0, "drill"); err != nil {
			return err
		}
	}
	return nil
}
