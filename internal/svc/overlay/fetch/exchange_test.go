// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// exchanging runs the exchange of a node among the world's until the test's bubble ends.
func exchanging(t *testing.T, w *world) (x *Exchange, end func()) {
	t.Helper()
	n := w.add(self)
	x = NewExchange(w.f, n.Holder, n.book, func(context.Context, func(macronode.TenantID, b3.Addr) bool) error { return nil })
	x.SetSecrets(testSecrets(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = x.Serve(ctx) }()
	return x, func() { cancel(); <-done }
}

// A summary that does not come, since the session was replaced while it was asked for,
// is asked for again at once, and ever less often where that does not help; what was
// told meanwhile is not lost with it.
func TestSummaryIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		data := randomBytes(100, 1)
		_, a := newObject(t, data)
		w.add("b3:a", data).refuse = errors.New("the session is over")
		w.known.Leave("b3:a")
		x, end := exchanging(t, w)
		defer end()
		x.Up("b3:a")
		<-time.After(time.Minute)
		if n := w.calls("b3:a"); n < 8 || n > 14 {
			t.Errorf("asked %d times in a minute", n)
		}
		w.mu.Lock()
		w.nodes["b3:a"].refuse = nil
		w.mu.Unlock()
		<-time.After(retryMost)
		synctest.Wait()
		if h := w.known.Holders(w.tag(a)); len(h) != 1 {
			t.Fatalf("nobody is known to have the object: %v", h)
		}
		asked := w.calls("b3:a")
		<-time.After(time.Minute)
		if n := w.calls("b3:a"); n != asked {
			t.Errorf("asked %d times more though it came", n-asked)
		}
		// A session that begins anew begins without waits.
		w.mu.Lock()
		w.nodes["b3:a"].refuse = errors.New("the session is over")
		w.mu.Unlock()
		x.Down("b3:a")
		x.Up("b3:a")
		synctest.Wait()
		w.mu.Lock()
		w.nodes["b3:a"].refuse = nil
		w.mu.Unlock()
		<-time.After(2 * retryFirst)
		synctest.Wait()
		if h := w.known.Holders(w.tag(a)); len(h) != 1 {
			t.Errorf("%v after the session began nobody is known to have the object", 2*retryFirst)
		}
	})
}
