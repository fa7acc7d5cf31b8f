// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

var serviceCrash = Drill{
	Name:    "service-crash",
	Shows:   "a service that crashes is contained, counted and back, half of the times within a second",
	NotLive: "it asserts on counts that others would disturb; POST /v1/admin/drills/service-crash is the live form",
	play:    func(ctx context.Context, s *scene) error { return (&crashes{scene: s}).play(ctx) },
}

const (
	// crashTimes is as often as a service may crash in a minute without being
	// called degraded.
	crashTimes   = 5
	crashService = "svc-storage"
	crashMedian  = time.Second
	crashBack    = 6 * time.Second
)

type crashes struct {
	*scene
	held []object
}

func (d *crashes) play(ctx context.Context) error {
	for _, do := range []func(context.Context) error{d.begin, d.crash, d.check} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *crashes) begin(ctx context.Context) error {
	return d.step(ctx, "start a node that allows drills, store objects", "it becomes ready", func(ctx context.Context, st *Step) error {
		if err := d.makeDir(""); err != nil {
			return err
		}
		err := d.startSigned(ctx, func(text string) string { return strings.Replace(text, "[server]\n", "[server]\ndrills = true\n", 1) })
		if err != nil {
			return err
		}
		for range 8 {
			o := newObject(64 << 10)
			if err := d.put(ctx, o); err != nil {
				return err
			}
			d.held = append(d.held, o)
		}
		st.saw("ready; %d objects", len(d.held))
		return nil
	})
}

// restarts is how often the service has been restarted, and whether it runs.
func (d *crashes) restarts(ctx context.Context) (n int, up bool, err error) {
	doc, err := d.operator.Document(ctx, "/v1/admin/status")
	if err != nil {
		return 0, false, err
	}
	var s struct {
		Services []struct {
			Name     string `json:"name"`
			Healthy  bool   `json:"healthy"`
			Restarts int    `json:"restarts"`
		} `json:"services"`
	}
	if err := json.Unmarshal(doc, &s); err != nil {
		return 0, false, err
	}
	for _, v := range s.Services {
		if v.Name == crashService {
			return v.Restarts, v.Healthy, nil
		}
	}
	return 0, false, errors.New("the status has no " + crashService)
}

func (d *crashes) crash(ctx context.Context) error {
	did := fmt.Sprintf("crash %s %d times", crashService, crashTimes)
	return d.step(ctx, did, fmt.Sprintf("each time it serves again by itself, the median within %s; the process and the other services go on", crashMedian), func(ctx context.Context, st *Step) error {
		var back []time.Duration
		for i := range crashTimes {
			begun := time.Now()
			if _, err := d.operator.Admin(ctx, "drills/service-crash", map[string]any{"service": crashService}); err != nil {
				return err
			}
			err := d.await(ctx, crashBack, func() error {
				n, up, err := d.restarts(ctx)
				if err != nil {
					return fmt.Errorf("the operator's status while it is down: %w", err)
				}
				if n <= i || !up {
					return fmt.Errorf("%d restarts, healthy: %v", n, up)
				}
				return d.right(ctx, d.held[0])
			})
			if err != nil {
				return err
			}
			back = append(back, time.Since(begun))
			if _, err := d.tenant.Text(ctx, "/healthz", 1<<10); err != nil {
				return err
			}
		}
		slices.Sort(back)
		median, slowest := back[len(back)/2], back[len(back)-1]
		st.count("median_ms", ms(median))
		st.count("slowest_ms", ms(slowest))
		st.saw("back after %s at the median, %s at most", median.Round(time.Millisecond), slowest.Round(time.Millisecond))
		if median > crashMedian {
			return errors.New("that is too late")
		}
		return nil
	})
}

func (d *crashes) check(ctx context.Context) error {
	return d.step(ctx, "read everything, look at the counts", "nothing is lost, every crash is counted, the node is ready", func(ctx context.Context, st *Step) error {
		counted, err := d.metric(ctx, "service_restarts_total", `service="`+crashService+`"`)
		if err != nil {
			return err
		}
		st.count("service_restarts_total", counted)
		if int(counted) != crashTimes {
			return fmt.Errorf("%v restarts are counted", counted)
		}
		if err := d.holds(ctx, d.held); err != nil {
			return err
		}
		err = d.await(ctx, crashBack, func() error {
			r, err := d.tenant.Ready(ctx)
			if err == nil && !r.Ready {
				err = errors.New("not ready: " + strings.Join(r.Missing, ", "))
			}
			return err
		})
		st.saw("%d objects are right, %v restarts counted", len(d.held), counted)
		return err
	})
}
