// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"log/slog"

	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/audit/cosign"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/test/witnesstest"
	"github.com/rustyonions/macronode/tlog"
)

const (
	writer = "b3:1111111111111111111111111111111111111111111111111111111111111111"
	origin = "macronode/1111111111111111111111111111111111111111111111111111111111111111"
)

// handled is a transport that reaches handlers by host name, without sockets.
type handled map[string]http.Handler

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	to := h[r.URL.Host]
	if to == nil {
		return nil, fmt.Errorf("no such host")
	}
	rec := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		to.ServeHTTP(rec, r)
	}()
	select {
	case <-done:
		return rec.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

// vouched is a log with witnesses.
type vouched struct {
	*cosign.Cosigner
	t      *testing.T
	tree   *tree.Tree
	cfg    tree.Config
	key    tlog.Key
	secret ed25519.PrivateKey
	reg    *metrics.Registry
	wits   []*witnesstest.Witness
	client *Client
	set    cosign.Settings

	mu     sync.Mutex
	alarms []string
}

func newVouched(t *testing.T, n, quorum int) *vouched {
	v := &vouched{t: t, reg: metrics.New(false), secret: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))}
	v.key = tlog.Key{Name: origin, Type: tlog.Ed25519, Public: v.secret.Public().(ed25519.PublicKey)}
	v.cfg = tree.Config{Log: mem.NewLog(1 << 30), KV: mem.NewKV(mem.KVConfig{}), Writer: writer}
	v.open()
	hosts := handled{}
	v.client = New()
	v.client.hc.Transport = hosts
	v.set = cosign.Settings{Quorum: quorum, Interval: time.Second, Timeout: 5 * time.Second}
	for i := range n {
		w := witnesstest.New(fmt.Sprintf("w%d.example", i), v.key)
		hosts[fmt.Sprint("w", i)] = w
		v.wits = append(v.wits, w)
		v.set.Witnesses = append(v.set.Witnesses, cosign.Witness{Name: w.Key().Name, Keys: []tlog.Key{w.Key()}, Client: v.client.Witness(fmt.Sprintf("https://w%d/", i))})
	}
	v.begin()
	return v
}

func (v *vouched) open() {
	v.t.Helper()
	var err error
	if v.tree, _, err = tree.Open(context.Background(), v.cfg, v.key); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vouched) begin() {
	v.Cosigner = cosign.New(cosign.Config{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(false), Now: time.Now, Alarm: func(state, _ string) {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.alarms = append(v.alarms, state)
	}})
	v.Set(v.set)
}

// serve runs the cosigner until the function that it returns is called.
func (v *vouched) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Serve(ctx, v.tree) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			v.t.Error(err)
		}
	}
}

// grow adds records under a checkpoint.
func (v *vouched) grow(n int) {
	v.t.Helper()
	for range n {
		if _, err := v.tree.Add(&tlog.Record{Stream: "node", Kind: "k"}, false); err != nil {
			v.t.Fatal(err)
		}
	}
	ctx := context.Background()
	if err := v.tree.Sync(ctx); err != nil {
		v.t.Fatal(err)
	}
	err := v.tree.Publish(ctx, []tlog.Key{v.key}, func(_ context.Context, text string) ([]byte, error) {
		return []byte(text + "\n" + tlog.Line(v.key, ed25519.Sign(v.secret, []byte(text)))), nil
	})
	if err != nil {
		v.t.Fatal(err)
	}
}

// want is a cosigned checkpoint of this size by these witnesses, verified.
func (v *vouched) want(size uint64, by ...int) {
	v.t.Helper()
	n := v.Newest()
	if n == nil || n.Size != size {
		v.t.Fatalf("the newest with a quorum is %+v, not of %d: %v", n, size, v.Err())
	}
	keys := []tlog.Key{v.key}
	var names []string
	for _, i := range by {
		keys = append(keys, v.wits[i].Key())
		names = append(names, v.wits[i].Key().Name)
	}
	s, err := tlog.OpenLog(n.Note, keys[:1], keys[1:]...)
	if err != nil || len(s.By) != len(keys) || s.Checkpoint != n.Checkpoint {
		v.t.Fatalf("%v: %+v", err, s)
	}
	slices.Sort(n.By)
	if !slices.Equal(n.By, names) {
		v.t.Errorf("by %v, not %v", n.By, names)
	}
	if kept, err := v.tree.Cosigned(v.t.Context()); err != nil || !bytes.Equal(kept, n.Note) {
		v.t.Errorf("another one is kept durably: %v", err)
	}
}

func (v *vouched) told() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return strings.Join(v.alarms, " ")
}

func TestCosign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVouched(t, 2, 0)
		stop := v.serve()
		synctest.Wait()
		if v.Newest() != nil || v.Err() != nil {
			t.Error("something of nothing")
		}
		v.grow(3)
		synctest.Wait()
		pass(time.Second)
		synctest.Wait()
		v.want(3, 0, 1)
		for i := range 5 {
			v.grow(100)
			pass(100 * time.Millisecond)
			_ = i
		}
		pass(2 * time.Second)
		synctest.Wait()
		v.want(503, 0, 1)
		if n, _ := v.wits[0].Signed(); n > 4 {
			t.Errorf("a witness was asked %d times for what grew within a second", n)
		}
		// A new process does not know how far witnesses are, and learns it: 409.
		stop()
		v.open()
		v.begin()
		stop = v.serve()
		synctest.Wait()
		v.want(503, 0, 1) // of before
		v.grow(1)
		pass(2 * time.Second)
		synctest.Wait()
		v.want(504, 0, 1)
		if c, err := v.Covering(t.Context(), 503); err != nil || c.Size != 504 {
			t.Errorf("%v, %v", c, err)
		}
		stop()
		if v.told() != "" {
			t.Errorf("alarms: %s", v.told())
		}
	})
}

// One that saw another log refuses, and that is an alarm, also where the others are
// enough.
func TestWitnessOfAFork(t *testing.T) {
	for name, c := range map[string]struct {
		seen   tlog.Checkpoint
		quorum int
	}{
		"the same size, another tree": {tlog.Checkpoint{Size: 3, Root: tlog.Hash{1}}, 1},
		"smaller, another tree":       {tlog.Checkpoint{Size: 2, Root: tlog.Hash{1}}, 1},
		"ahead":                       {tlog.Checkpoint{Size: 9, Root: tlog.Hash{1}}, 1},
		"ahead, and needed":           {tlog.Checkpoint{Size: 9, Root: tlog.Hash{1}}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVouched(t, 2, c.quorum)
				v.wits[1].Force(c.seen)
				v.grow(3)
				stop := v.serve()
				pass(2 * time.Second)
				synctest.Wait()
				if c.quorum == 1 {
					v.want(3, 0)
				} else if v.Newest() != nil {
					t.Error("a quorum without it")
				}
				if err := v.Err(); err == nil || !strings.Contains(err.Error(), "w1.example: the witness refuses") {
					t.Errorf("%v", err)
				}
				if v.told() != "refused" {
					t.Errorf("alarms: %s", v.told())
				}
				stop()
			})
		})
	}
}

// Answers that are no are told apart from such that say nothing.
func TestWitnessRefuses(t *testing.T) {
	answer := func(status int, typ, text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	other := witnesstest.New("other.example")
	for name, c := range map[string]struct {
		before  func(http.ResponseWriter, *http.Request) bool
		refused bool
	}{
		"unknown log":         {answer(404, "", ""), true},
		"unknown key":         {answer(403, "", ""), true},
		"no proof":            {answer(422, "", ""), true},
		"a redirect":          {answer(307, "", ""), true},
		"no signature":        {answer(200, "", "fine\n"), true},
		"another's signature": {answer(200, "", tlog.Line(other.Key(), make([]byte, 72))), true},
		"a false signature":   {answer(200, "", tlog.Line(witnesstest.New("w1.example").Key(), make([]byte, 72))), true},
		"a size for ever":     {answer(409, "text/x.tlog.size", "2\n"), true},
		"no size":             {answer(409, "text/x.tlog.size", "two\n"), false},
		"too long":            {answer(200, "", strings.Repeat("x", 1<<20)), false},
		"busy":                {answer(429, "", ""), false},
		"broken":              {answer(500, "", ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := newVouched(t, 2, 1)
				v.wits[1].Before(c.before)
				v.grow(3)
				stop := v.serve()
				pass(20 * time.Second)
				synctest.Wait()
				v.want(3, 0)
				if refused := v.Err() != nil; refused != c.refused || refused != (v.told() == "refused") {
					t.Errorf("%v, alarms: %s", v.Err(), v.told())
				}
				// It comes to its senses.
				v.wits[1].Before(nil)
				pass(2 * time.Minute)
				synctest.Wait()
				v.want(3, 0, 1)
				if v.Err() != nil || c.refused && v.told() != "refused ok" {
					t.Errorf("%v, alarms: %s", v.Err(), v.told())
				}
				stop()
			})
		})
	}
}

// A witness that hangs costs the others nothing where they are enough, and is an
// alarm where it is needed.
func TestWitnessHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVouched(t, 3, 2)
		hang := make(chan struct{})
		hung := func(http.ResponseWriter, *http.Request) bool { <-hang; return false }
		v.wits[2].Before(hung)
		v.grow(3)
		stop := v.serve()
		pass(100 * time.Millisecond)
		synctest.Wait()
		v.want(3, 0, 1)
		pass(30 * time.Second)
		if v.Err() != nil {
			t.Errorf("%v with a quorum", v.Err())
		}
		v.wits[1].Before(hung)
		v.grow(1)
		synctest.Wait()
		pass(4 * time.Second)
		if v.told() != "" {
			t.Errorf("alarms before the time: %s", v.told())
		}
		pass(10 * time.Second)
		synctest.Wait()
		if err := v.Err(); err == nil || !strings.Contains(err.Error(), "fewer than 2 of 3 witnesses signed within 5s") || v.told() != "late" {
			t.Errorf("%v, alarms: %s", err, v.told())
		}
		v.want(3, 0, 1)
		v.wits[1].Before(nil)
		close(hang)
		pass(2 * time.Minute)
		synctest.Wait()
		v.want(4, 0, 1, 2)
		if v.told() != "late ok" {
			t.Errorf("alarms: %s", v.told())
		}
		stop()
	})
}

// Witnesses come and go with the settings, and what is known of them stays.
func TestWitnessSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVouched(t, 2, 0)
		all := v.set
		none := all
		none.Witnesses = nil
		v.Set(none)
		v.grow(3)
		stop := v.serve()
		pass(time.Minute)
		if c, err := v.Covering(t.Context(), 0); c != nil || err != nil || v.Newest() != nil || v.Err() != nil {
			t.Errorf("%v, %v: without witnesses", c, err)
		}
		v.Set(all)
		pass(time.Second)
		synctest.Wait()
		v.want(3, 0, 1)
		stop()
	})
}

// Over real connections, and with a proof that is needed.
func TestWitnessOverHTTP(t *testing.T) {
	v := newVouched(t, 1, 1)
	server := httptest.NewServer(v.wits[0])
	defer server.Close()
	c := New()
	defer c.Close()
	v.set.Witnesses[0].Client, v.set.Interval = c.Witness(server.URL+"/"), time.Millisecond
	v.Set(v.set)
	stop := v.serve()
	defer stop()
	for size := uint64(300); size <= 900; size += 300 {
		v.grow(300)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if got, err := v.Covering(ctx, size-1); err != nil || got.Size != size {
			t.Fatalf("%v: %v", got, err)
		}
		cancel()
	}
	if n, last := v.wits[0].Signed(); n != 3 || last.Size != 900 {
		t.Errorf("%d signatures, newest of %d", n, last.Size)
	}
}

// What is sent goes to the address that was named, and no other.
func TestRedirects(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c := New()
	defer c.Close()
	if _, err := c.Witness(server.URL).AddCheckpoint(t.Context(), 0, nil, []byte("note")); err == nil || reached {
		t.Errorf("%v, reached: %v", err, reached)
	}
}
