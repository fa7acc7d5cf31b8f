// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

// serving runs Serve until the returned function is called.
func (r *rig) serving() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := r.Service
	go func() { done <- s.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	}
}

// pass lets the bubble's clock run on.
func pass(d time.Duration) { <-time.After(d) }

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		id := r.tenant("acme")
		r.mintTok(id)
		who := r.as(r.mintTok(id))
		r.ok(who, "cap.revoke", `{"id":"`+strings.Repeat("0b", 16)+`"}`, nil)
		gen := r.KeyGeneration()
		var purged atomic.Int64
		r.purge = func(_ context.Context, got macronode.TenantID) error {
			if got != id || r.Tenant(id) != nil || !r.keys.has(id) {
				t.Error("purged out of order")
			}
			purged.Add(1)
			return nil
		}
		stop := r.serving()
		reply := r.ok(r.operator, "tenant.delete", nil, nil, "tenant", "acme")
		if reply.Status != 204 || purged.Load() != 1 {
			t.Errorf("status %d, purged %d times", reply.Status, purged.Load())
		}
		stop()
		if r.keys.has(id) || r.Find("acme") != nil || r.tenants.get(id) != nil || r.KeyGeneration() == gen || r.revoked.len() != 0 {
			t.Error("something is left")
		}
		if key, err := r.MintKey(id, "v1"); key != nil || err != nil {
			t.Errorf("its key: %v, %v", key, err)
		}
		r.refused(macronode.NotFound, r.operator, "tenant.show", nil, "tenant", id.String())
		// The label can be used again, the id cannot, not even after a restart.
		next := r.tenant("acme")
		if next == id {
			t.Error("the id came back")
		}
		r.restart()
		if _, err := r.Ensure(context.Background(), id, "again", macronode.UnlimitedQuota()); macronode.KindOf(err) != macronode.Conflict {
			t.Errorf("the id was used again: %v", err)
		}
		r.sameAsStored()
		if got := strings.Join(r.log.kinds(), " "); !strings.Contains(got, "tenant.delete tenant.deleted") {
			t.Errorf("audit has %s", got)
		}
	})
}

// Capabilities die when the deletion is accepted, however long purging takes,
// and a node that stops in the middle goes on when it starts again.
func TestDeleteGoesOnAfterRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		id := r.tenant("acme")
		r.mintTok(id)
		broken := errors.New("the store is away")
		var tries atomic.Int64
		r.purge = func(context.Context, macronode.TenantID) error { tries.Add(1); return broken }
		stop := r.serving()
		var shown Tenant
		reply := r.ok(r.operator, "tenant.delete", nil, &shown, "tenant", "acme")
		if reply.Status != 202 || !shown.Deleting {
			t.Errorf("got %d %+v", reply.Status, shown)
		}
		if r.Tenant(id) != nil {
			t.Error("the tenant is still there")
		}
		if key, err := r.MintKey(id, "v1"); key != nil || err != nil {
			t.Errorf("its key is still good: %v", err)
		}
		pass(10 * time.Minute)
		if n := tries.Load(); n < 20 || n > 40 {
			t.Errorf("%d tries in ten minutes", n)
		}
		stop()
		r.restart()
		if r.Tenant(id) != nil || r.Find("acme") != nil {
			t.Error("the tenant is back")
		}
		if key, _ := r.MintKey(id, "v1"); key != nil {
			t.Error("its capabilities are good again")
		}
		for _, op := range []macronode.Op{"tenant.suspend", "tenant.resume"} {
			r.refused(macronode.NotFound, r.operator, op, nil, "tenant", "acme")
		}
		r.refused(macronode.NotFound, r.operator, "cap.mint", `{"tenant":"acme"}`)
		r.refused(macronode.Conflict, r.operator, "tenant.create", `{"label":"acme"}`)
		r.ok(r.operator, "tenant.show", nil, &shown, "tenant", "acme")
		if !shown.Deleting {
			t.Error("not shown as being deleted")
		}
		r.purge = func(context.Context, macronode.TenantID) error { return nil }
		stop = r.serving()
		defer stop()
		pass(time.Second)
		if r.tenants.get(id) != nil || r.keys.has(id) {
			t.Error("the deletion was not carried through")
		}
		r.sameAsStored()
	})
}

// What a call writes that had passed the wall before the deletion is purged too.
func TestDeleteWaitsForCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		id := r.tenant("acme")
		var data atomic.Bool
		r.purge = func(context.Context, macronode.TenantID) error { data.Store(false); return nil }
		r.inflight.Store(1)
		stop := r.serving()
		defer stop()
		done, err := r.Delete(context.Background(), "node", id)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.Delete(context.Background(), "node", id)
		if err != nil || again != done {
			t.Errorf("a second deletion: %v", err)
		}
		pass(time.Minute)
		select {
		case <-done:
			t.Fatal("complete while a call runs")
		default:
		}
		data.Store(true) // the call commits at its very end
		r.inflight.Store(0)
		<-done
		if data.Load() {
			t.Error("its data is still there")
		}
		if _, err := r.Delete(context.Background(), "node", id); macronode.KindOf(err) != macronode.NotFound {
			t.Errorf("a third deletion: %v", err)
		}
	})
}

// A call that never ends cannot keep its tenant's label for ever.
func TestDeleteDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		id := r.tenant("acme")
		r.inflight.Store(1)
		defer r.serving()()
		done, err := r.Delete(context.Background(), "node", id)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-done
		if took := time.Since(began); took < maxSettle || took > maxSettle+time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A deletion that the key service or the audit log holds up keeps its record.
func TestDeleteKeepsRecordUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		id := r.tenant("acme")
		r.mintTok(id)
		done, err := r.Delete(context.Background(), "node", id)
		if err != nil {
			t.Fatal(err)
		}
		broken := func(err error) {
			r.keys.mu.Lock()
			defer r.keys.mu.Unlock()
			r.keys.fail = err
		}
		broken(errors.New("read-only"))
		defer r.serving()()
		pass(time.Minute)
		if r.tenants.get(id) == nil {
			t.Fatal("buried before its minting keys: nobody would come back for them")
		}
		r.log.mu.Lock()
		r.log.fail = errors.New("full")
		r.log.mu.Unlock()
		broken(nil)
		pass(time.Minute)
		if r.tenants.get(id) == nil {
			t.Fatal("buried without a record")
		}
		r.sameAsStored()
		r.log.mu.Lock()
		r.log.fail = nil
		r.log.mu.Unlock()
		<-done
		r.sameAsStored()
		if r.keys.has(id) {
			t.Error("the keys are still there")
		}
	})
}
