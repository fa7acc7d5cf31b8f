// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/logs"
	"github.com/rustyonions/macronode/internal/metrics"
)

type drained struct {
	*Drainer
	gate   *Gate
	bus    *bus.Bus
	phases []Phase
}

func newDrainer(lame time.Duration) *drained {
	reg := metrics.New(false)
	d := &drained{gate: NewGate(reg, []string{"svc-storage"}, 10), bus: bus.New(reg, nil, nil, nil)}
	d.Drainer = NewDrainer(DrainConfig{Gate: d.gate, Bus: d.bus, LameDuck: func() time.Duration { return lame },
		OnPhase: func(p Phase) { d.phases = append(d.phases, p) }})
	return d
}

func (d *drained) events() []string {
	evs, _, _ := d.bus.After(0, bus.Kept)
	var out []string
	for i := range evs {
		a := evs[i].Attrs()
		out = append(out, fmt.Sprintf("%v %v", a["phase"], a["left"]))
	}
	return out
}

func TestDrainRunsThroughItsPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrainer(5 * time.Second)
		for range 2 {
			if err := d.gate.Enter(read); err != nil {
				t.Fatal(err)
			}
		}
		if d.Draining() || d.Undrain() {
			t.Error("draining before it began")
		}
		if err := d.WaitIdle(t.Context()); !errors.Is(err, ErrUndrained) {
			t.Errorf("%v", err)
		}
		if !d.Drain() || d.Drain() {
			t.Error("the second Drain began another")
		}
		if st := d.Status(); !d.Draining() || st.Phase != LameDuck || st.Left != 2 {
			t.Errorf("%+v", st)
		}
		if err := d.gate.Enter(read); err != nil {
			t.Errorf("a lame duck refuses: %v", err)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if st := d.Status(); st.Phase != Gated || d.gate.Enter(read) == nil {
			t.Errorf("%+v", st)
		}
		<-time.After(1500 * time.Millisecond)
		d.gate.Leave(read)
		<-time.After(time.Second)
		d.gate.Leave(read)
		d.gate.Leave(read)
		if err := d.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Close()
		if want := []Phase{LameDuck, Gated, Idle}; !slices.Equal(d.phases, want) {
			t.Errorf("%v", d.phases)
		}
		if ev, want := d.events(), []string{"lame_duck 2", "gate 3", "gate 2", "idle 0"}; !slices.Equal(ev, want) {
			t.Errorf("%v, want %v", ev, want)
		}
		if err := d.gate.Enter(control); err != nil {
			t.Errorf("an idle node refuses control: %v", err)
		}
	})
}

func TestUndrainAtEveryPoint(t *testing.T) {
	for _, at := range []Phase{LameDuck, Gated, Idle} {
		t.Run(string(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDrainer(time.Second)
				if at == Gated {
					if err := d.gate.Enter(read); err != nil {
						t.Fatal(err)
					}
				}
				d.Drain()
				if at != LameDuck {
					<-time.After(time.Second)
					synctest.Wait()
				}
				if st := d.Status(); st.Phase != at {
					t.Fatalf("%+v", st)
				}
				waited := make(chan error, 1)
				if at != Idle {
					go func() { waited <- d.WaitIdle(t.Context()) }()
					synctest.Wait()
				}
				if !d.Undrain() || d.Undrain() {
					t.Error("undrain")
				}
				if at != Idle {
					if err := <-waited; !errors.Is(err, ErrUndrained) {
						t.Errorf("who waits hears %v", err)
					}
				}
				if st := d.Status(); st.Phase != Serving || d.Draining() || d.gate.Enter(read) != nil {
					t.Errorf("%+v", st)
				}
				<-time.After(time.Hour)
				if st := d.Status(); st.Phase != Serving {
					t.Errorf("it drained all the same: %+v", st)
				}
				if !d.Drain() {
					t.Error("it cannot be drained again")
				}
				d.Close()
			})
		})
	}
}

func TestWithoutLameDuckTheGateClosesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrainer(0)
		d.Drain()
		if !d.gate.Closed() {
			t.Error("open after Drain returned")
		}
		if err := d.WaitIdle(t.Context()); err != nil {
			t.Error(err)
		}
		d.Seal()
		if d.Undrain() {
			t.Error("undone though sealed")
		}
		d.Close()
		if d.Drain() {
			t.Error("drained though closed")
		}
	})
}

func TestWaitIdleObeysItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrainer(0)
		if err := d.gate.Enter(read); err != nil {
			t.Fatal(err)
		}
		d.Drain()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := d.WaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if st := d.Status(); st.Left != 1 || st.Phase != Gated {
			t.Errorf("%+v", st)
		}
		d.Close()
	})
}

func TestMachine(t *testing.T) {
	var out bytes.Buffer
	m := NewMachine(logs.New(&out, logs.Options{Format: logs.JSON}))
	for _, s := range []State{Starting, Running, Running, Stopping, Stopped} {
		if err := m.To(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	if err := m.To(Running); err == nil {
		t.Error("running after stopped")
	}
	if s, since := m.State(); s != Stopped || since.IsZero() {
		t.Error(s, since)
	}
	if err := NewMachine(nil).To(Stopped); err == nil {
		t.Error("stopped without stopping")
	}
	cause := errors.New("no key")
	if err := m.Step("kms", func() error { return cause }); !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "kms: ") {
		t.Error(err)
	}
	if err := m.Step("bus", func() error { return nil }); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), `"step":"kms"`) || !strings.Contains(out.String(), `"from":"running"`) {
		t.Error(out.String())
	}
}
