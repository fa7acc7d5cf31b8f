// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// churn: a few objects put, dropped and read by many at once. Every read is the
// object or a 404, never damage; in the end the accounts are exact and no bytes
// are left over.
func churn(t *testing.T, e Env) {
	d := NewDriver(t, e)
	stop := d.Serve()
	tenants := []*macronode.Tenant{Tenant(1), Tenant(2)}
	var bodies [][]byte
	for i, n := range []int{0, 700, 20_000, 90_000, 300_000} {
		bodies = append(bodies, Bytes(n, uint64(i)))
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range 60 {
				body := bodies[r.IntN(len(bodies))]
				q := Request{Tenant: tenants[r.IntN(2)], Op: "object.get", Addr: Addr(body)}
				switch r.IntN(4) {
				case 0:
					q.Op = "object.delete"
				case 1:
					q.Op, q.Body = "object.put", body
				}
				a, err := d.Do(q)
				switch {
				case err != nil && macronode.KindOf(err) == macronode.NotFound && q.Op != "object.put":
				case err != nil:
					t.Errorf("%s of %d: %v", q.Op, len(body), err)
				case q.Op == "object.get" && !bytes.Equal(a.Body, body):
					t.Errorf("get of %d: other bytes", len(body))
				}
			}
		})
	}
	wg.Wait()
	stored := 0
	for _, tn := range tenants {
		a, err := d.Do(Request{Tenant: tn, Op: "object.list"})
		if err != nil {
			t.Fatal(err)
		}
		var page storage.List
		if err := json.Unmarshal(a.Body, &page); err != nil {
			t.Fatal(err)
		}
		var total int64
		for _, o := range page.Objects {
			total += o.Size
		}
		if b, o := d.Usage(tn); b != total || o != int64(len(page.Objects)) {
			t.Errorf("usage is %d bytes, %d objects; listed are %d and %d", b, o, total, len(page.Objects))
		}
		stored += len(page.Objects)
	}
	Eventually(t, func() bool { return d.Stored() == stored })
	stopped(t, stop)
	d.Index()
}
