// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package flight

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Wait ends with the last call, lets none in, and Open begins anew.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Calls
		c.Wait() // nothing runs
		if c.Enter() {
			t.Error("a call was let in behind the end")
		}
		c.Open()
		for range 2 {
			if !c.Enter() {
				t.Fatal("a call was kept out")
			}
		}
		if c.Len() != 2 {
			t.Fatalf("%d calls run", c.Len())
		}
		var over atomic.Int64
		for range 2 {
			go func() { c.Wait(); over.Add(1) }()
		}
		synctest.Wait()
		if c.Enter() {
			t.Error("a call was let in while the last are waited for")
		}
		c.Leave()
		synctest.Wait()
		if over.Load() != 0 {
			t.Error("a call runs and is not waited for")
		}
		c.Leave()
		synctest.Wait()
		if over.Load() != 2 || c.Len() != 0 {
			t.Errorf("%d of 2 have seen the end; %d calls run", over.Load(), c.Len())
		}
		if c.Open(); !c.Enter() {
			t.Error("no call was let in after Open")
		}
	})
}

// What takes too long is ended once; what was in time is not, nor what follows it.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Stall
		ended := 0
		end := func() { ended++ }
		for range 3 {
			s.Arm(time.Now().Add(time.Second), end)
			<-time.After(999 * time.Millisecond)
			s.Disarm()
		}
		<-time.After(time.Hour)
		if ended != 0 {
			t.Fatalf("ended %d times though all was in time", ended)
		}
		s.Arm(time.Now().Add(time.Second), end)
		<-time.After(time.Second)
		synctest.Wait()
		if ended != 1 {
			t.Errorf("ended %d times", ended)
		}
		s.Disarm()
		<-time.After(time.Hour)
		if ended != 1 {
			t.Errorf("ended %d times", ended)
		}
	})
}
