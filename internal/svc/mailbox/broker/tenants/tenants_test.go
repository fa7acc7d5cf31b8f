// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode/internal/svc/mailbox/broker/wait"
)

func TestShares(t *testing.T) {
	var a Account
	x, y := Share{Of: &a}, Share{Of: &a}
	x.Set(1, Load{Messages: 3, Bytes: 300})
	if y.Take(Messages, 3, 5) || !y.Take(Messages, 2, 5) || y.Take(Messages, 1, 5) || a.Sum(Messages) != 5 {
		t.Fatalf("%d messages", a.Sum(Messages))
	}
	y.Set(1, Load{Messages: 1}) // one of the two was refused after all
	if a.Sum(Messages) != 4 || a.Sum(Bytes) != 300 {
		t.Errorf("%d messages of %d bytes", a.Sum(Messages), a.Sum(Bytes))
	}
	if n := y.TakeUpTo(InFlight, 1, 10, 4); n != 4 {
		t.Errorf("room for %d of 4", n)
	}
	if n := x.TakeUpTo(InFlight, 1, 10, 4); n != 0 || a.Sum(InFlight) != 4 {
		t.Errorf("room for %d more, %d are there", n, a.Sum(InFlight))
	}
	if n := x.TakeUpTo(Keys, 1, 10, 0); n != 10 || a.Sum(Keys) != 0 {
		t.Errorf("%d without a limit, %d counted before they are there", n, a.Sum(Keys))
	}
	x.Set(1, Load{})
	y.Set(1, Load{})
	for k := range kinds {
		if a.Sum(k) != 0 {
			t.Errorf("%d of kind %d are left", a.Sum(k), k)
		}
	}
}

// TestTakeTogether: those who take at one time never take more than there may be.
func TestTakeTogether(t *testing.T) {
	var a Account
	var wg sync.WaitGroup
	shares := make([]Share, 8)
	for i := range shares {
		shares[i].Of = &a
		wg.Go(func() {
			for range 1000 {
				shares[i].Take(Bytes, 3, 10_000)
			}
		})
	}
	wg.Wait()
	if n := a.Sum(Bytes); n > 10_000 || n < 9_998 {
		t.Errorf("%d of 10000 were taken", n)
	}
}

func TestWaitAndStale(t *testing.T) {
	var a Account
	s := Share{Of: &a}
	most := Load{Keys: 2}
	if a.Stale(5000, &most) {
		t.Error("an empty account is to be looked at")
	}
	s.Set(0, Load{Keys: 2})
	if !a.Stale(5000, &most) || a.Stale(5999, &most) || !a.Stale(6000, &most) {
		t.Error("a full account is to be looked at once a second")
	}
	if got := a.Wait(Messages, 1000, 1); got != wait.Most {
		t.Errorf("nothing leaves: %v", got)
	}
	n := int64(100)
	for ms := int64(1000); ms <= 4000; ms += 100 { // ten a second
		n--
		s.Set(ms, Load{Messages: n})
	}
	if got := a.Wait(Messages, 4000, 5); got < 400*time.Millisecond || got > 600*time.Millisecond {
		t.Errorf("five leave at ten a second: %v", got)
	}
}
