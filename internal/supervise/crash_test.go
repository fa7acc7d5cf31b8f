// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

func TestCrashDrill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		f := &fake{name: "a", serve: func(ctx context.Context, run int) error {
			<-ctx.Done()
			if run == 1 {
				<-slow // what it started takes a while to end
			}
			return ctx.Err()
		}}
		w := start(t, nil, f)
		if err := w.sup.Crash("a", 2*time.Second); err != nil {
			t.Fatal(err)
		}
		if w.sup.Up("a") {
			t.Error("up after the crash was asked for")
		}
		if err := w.sup.Check(t.Context(), "a"); err == nil {
			t.Error("ready while it crashes")
		}
		if err := w.sup.Crash("a", 0); macronode.KindOf(err) != macronode.Conflict {
			t.Errorf("a second crash at once: %v", err)
		}
		synctest.Wait()
		if ev := w.events(); len(ev) != 1 {
			t.Errorf("it panicked before it had stopped: %v", ev)
		}
		close(slow)
		synctest.Wait()
		pass(2*time.Second - time.Millisecond)
		synctest.Wait()
		if w.sup.Up("a") || f.runs.Load() != 1 {
			t.Error("up before the hold passed")
		}
		pass(time.Millisecond)
		synctest.Wait()
		if !w.sup.Up("a") {
			t.Error("not up after the hold")
		}
		pass(monitorEvery)
		synctest.Wait()
		want := []string{"Health{service=a, ok=true}", "Health{service=a, ok=false}",
			"ServiceCrashed{service=a, reason=panic: crash drill}", "Health{service=a, ok=true}"}
		if ev := w.events(); !slices.Equal(ev, want) {
			t.Errorf("%q", ev)
		}
		w.wantMetric(t, `service_restarts_total{service="a"} 1`)
		w.wantMetric(t, `service_panics_total{service="a"} 1`)
		if !strings.Contains(w.log.String(), `"stack":"goroutine`) {
			t.Error("no stack")
		}
		if err := w.sup.Crash("nobody", 0); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("%v", err)
		}
		if err := w.sup.Crash("a", time.Hour); err != nil {
			t.Fatal(err)
		}
		pass(MaxHold)
		synctest.Wait()
		if !w.sup.Up("a") {
			t.Error("the hold is not bounded")
		}
		w.stop(t)
	})
}

func TestHandlerPanicsLeaveTheServiceUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil, &fake{name: "a"})
		for range 50 {
			w.sup.Panicked("a", "ron1_secret", []byte("goroutine 7"))
		}
		pass(panicReportEvery)
		w.sup.Panicked("a", "again", []byte("goroutine 7"))
		w.sup.Panicked("nobody", "x", nil)
		if !w.sup.Up("a") {
			t.Error("down")
		}
		w.wantMetric(t, `service_panics_total{service="a"} 51`)
		w.wantMetric(t, `service_restarts_total{service="a"} 0`)
		if n := strings.Count(w.log.String(), `"stack":"goroutine 7"`); n != 2 {
			t.Errorf("%d stacks logged", n)
		}
		if !strings.Contains(w.log.String(), `"suppressed":49`) || strings.Contains(w.log.String(), "ron1_") {
			t.Error(w.log)
		}
		if ev := w.events(); len(ev) != 3 {
			t.Errorf("%q", ev)
		}
		w.stop(t)
	})
}
