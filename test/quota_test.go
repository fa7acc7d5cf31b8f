// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rustyonions/macronode/client"
)

// racers write at once.
const racers = 64

// operator returns a client with the operator's capability.
func (n *node) operator() *client.Client {
	n.t.Helper()
	token, err := os.ReadFile(n.OperatorCap)
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := client.Dial(n.HTTP, client.Options{Token: strings.TrimSpace(string(token)), Retries: -1})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(c.Close)
	return c
}

// quota is a limit on what a tenant stores; 0: none.
type quota struct{ bytes, objects int64 }

func (q quota) set(t *testing.T, n *node, tenant string) {
	t.Helper()
	limit := func(v int64) *int64 {
		if v == 0 {
			v = -1
		}
		return &v
	}
	if _, err := n.operator().SetQuota(t.Context(), tenant, client.QuotaChange{StoredBytes: limit(q.bytes), Objects: limit(q.objects)}); err != nil {
		t.Fatal(err)
	}
}

// watch asks for the tenant's usage as fast as it can, until stop is called, which
// returns how often it was asked.
func (q quota) watch(t *testing.T, n *node, tenant string) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		c := n.operator()
		wg.Go(func() {
			for ctx.Err() == nil {
				u, err := c.Usage(ctx, tenant)
				if err != nil {
					continue // killed, or stopped
				}
				asked.Add(1)
				if q.bytes > 0 && u.StoredBytes > q.bytes || q.objects > 0 && u.Objects > q.objects || u.StoredBytes < 0 || u.Objects < 0 {
					t.Errorf("usage is %d objects of %d bytes, the quota %+v", u.Objects, u.StoredBytes, q)
					return
				}
			}
		})
	}
	return func() int64 { cancel(); wg.Wait(); return asked.Load() }
}

// overQuota reports a refusal as a quota on what is stored has to be told: waiting
// does not help, and nothing says that it would.
func overQuota(err error, code string) bool {
	var p *client.Error
	return errors.As(err, &p) && p.Status == 429 && p.Code == code && p.Reason == "quota" && !p.Retryable && p.RetryAfter == 0 && p.RetryAfterMS == 0
}

// race writes from all racers, of sizes that size draws, and deletes now and
// then, until each was refused as often as given or no answer comes.
func (w *world) race(t *testing.T, n *node, round uint64, refusals int, code string, size func(*rand.Rand) int) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range uint64(racers) {
		c := w.dial(t, n)
		wg.Go(func() {
			defer c.Close()
			rnd := rand.New(rand.NewPCG(round, worker+900))
			for refused := 0; refused < refusals; {
				if rnd.IntN(8) == 0 {
					if addr, s, ok := w.pick(present); ok && w.drop(t.Context(), c, addr, s) != nil {
						return
					}
				}
				err := w.put(t.Context(), c, seeded{seed: rnd.Uint64(), size: size(rnd)})
				var p *client.Error
				switch {
				case err == nil:
				case overQuota(err, code):
					refused++
				case errors.As(err, &p):
					t.Errorf("a put over the quota: %v, want 429 %s, not retryable", err, code)
					return
				default:
					return // no answer
				}
			}
		})
	}
	wg.Wait()
}

// TestQuotaRace: 64 writers race against a quota, of bytes and then of objects.
// Whoever asks, and however often, never sees more used than the quota allows; a
// kill in the middle changes nothing; and what is left can be used to the last
// byte, and not beyond.
func TestQuotaRace(t *testing.T) {
	n := startDev(t, t.TempDir())
	for _, c := range []struct {
		quota quota
		code  string
		size  func(*rand.Rand) int
	}{
		{quota{bytes: 5<<20 + 321}, "quota_bytes", func(r *rand.Rand) int {
			if r.IntN(4) == 0 {
				return 1 + r.IntN(1<<20)
			}
			return 1 + r.IntN(64<<10)
		}},
		{quota{objects: 400}, "quota_objects", func(r *rand.Rand) int { return 1 + r.IntN(4<<10) }},
	} {
		w := newWorld("dev")
		c.quota.set(t, n, "dev")
		stop := c.quota.watch(t, n, "dev")
		w.race(t, n, 1, 8, c.code, c.size)
		asked := stop()
		w.check(t, n)

		stop = c.quota.watch(t, n, "dev")
		done := make(chan struct{})
		go func() { defer close(done); w.race(t, n, 2, 1<<30, c.code, c.size) }()
		before := n.metric("rejected_total", `reason="quota"`)
		n.await("refusing", func() bool { return n.metric("rejected_total", `reason="quota"`) > before+200 })
		n.kill()
		<-done
		asked += stop()
		n.start()
		w.check(t, n)
		w.exact(t, n, c.quota, c.code)
		t.Logf("%s: %d objects put, %d deleted, usage was asked for %d times", c.code, w.puts, w.deletes, asked)
		if asked < 20 {
			t.Errorf("usage was asked for %d times only", asked)
		}
		if t.Failed() {
			t.Fatalf("%s\n%s", c.code, n.log)
		}
		w.empty(t, n)
		quota{}.set(t, n, "dev")
	}
}

// exact uses up what is left of the quota and wants the next byte refused. That
// proves that no reservation of a killed node is left.
func (w *world) exact(t *testing.T, n *node, q quota, code string) {
	t.Helper()
	c := w.dial(t, n)
	defer c.Close()
	bytesUsed, objects := n.stored("dev")
	put := func(seed uint64, size int64) error {
		return w.put(t.Context(), c, seeded{seed: seed, size: int(size)})
	}
	switch left := q.bytes - bytesUsed; {
	case q.bytes == 0:
		for i := objects; i < q.objects; i++ {
			if err := put(uint64(i)+1<<40, 10); err != nil {
				t.Fatalf("object %d of %d: %v", i+1, q.objects, err)
			}
		}
	case left == 0:
	default:
		if err := put(1<<41, left+1); !overQuota(err, code) {
			t.Errorf("a byte more than is left: %v", err)
		}
		if err := put(1<<42, left); err != nil {
			t.Errorf("exactly the %d bytes that are left: %v", left, err)
		}
	}
	if err := put(1<<43, 1); !overQuota(err, code) {
		t.Errorf("one more: %v", err)
	}
	bytesUsed, objects = n.stored("dev")
	if q.bytes > 0 && bytesUsed != q.bytes || q.objects > 0 && objects != q.objects {
		t.Errorf("full to the last is %d objects of %d bytes, the quota %+v", objects, bytesUsed, q)
	}
	// What is there already costs nothing more.
	if addr, s, ok := w.pick(present); ok {
		if err := w.repeat(t.Context(), c, addr, s); err != nil {
			t.Errorf("a put of what is there: %v", err)
		}
	}
	w.check(t, n)
}

// empty deletes everything.
func (w *world) empty(t *testing.T, n *node) {
	t.Helper()
	c := w.dial(t, n)
	defer c.Close()
	for {
		addr, s, ok := w.pick(present)
		if !ok {
			break
		}
		if err := w.drop(t.Context(), c, addr, s); err != nil {
			t.Fatal(err)
		}
	}
	if bytesUsed, objects := n.stored("dev"); bytesUsed != 0 || objects != 0 {
		t.Errorf("nothing is %d objects of %d bytes", objects, bytesUsed)
	}
}

// TestQuotaRefusal looks at the refusal on the wire: no Retry-After, not
// retryable.
func TestQuotaRefusal(t *testing.T) {
	n := startDev(t, t.TempDir())
	quota{bytes: 1000}.set(t, n, "dev")
	for _, body := range [][]byte{make([]byte, 1001), make([]byte, 3<<20)} {
		resp, text := n.request("POST", "/o", nil, bytes.NewReader(body))
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "" || !bytes.Contains(text, []byte(`"code":"quota_bytes"`)) || !bytes.Contains(text, []byte(`"retryable":false`)) || bytes.Contains(text, []byte("retry_after_ms")) {
			t.Errorf("%d bytes: %d %v %s", len(body), resp.StatusCode, resp.Header, text)
		}
	}
	if resp, text := n.request("POST", "/o", nil, bytes.NewReader(make([]byte, 1000))); resp.StatusCode != 201 {
		t.Errorf("exactly the quota: %d %s", resp.StatusCode, text)
	}
	if used, objects := n.stored("dev"); used != 1000 || objects != 1 {
		t.Error(fmt.Sprint(used, objects))
	}
}
