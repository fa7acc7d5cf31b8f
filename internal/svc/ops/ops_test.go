// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/bus"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/lifecycle"
	"github.com/rustyonions/macronode/internal/metrics"
	"github.com/rustyonions/macronode/internal/route"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/supervise"
	"github.com/rustyonions/macronode/internal/svc/ops/drillbook"
)

// The real neighbours fit the small interfaces.
var (
	_ Exposer     = (*metrics.Registry)(nil)
	_ Prober      = (*lifecycle.Readiness)(nil)
	_ Drainer     = (*lifecycle.Drainer)(nil)
	_ EventSource = (*bus.Bus)(nil)
	_ Crasher     = (*supervise.Supervisor)(nil)
)

// fake is every neighbour that is not real here.
type fake struct {
	ready     bool
	drills    bool
	reloadErr error
	reloads   int
	shutdowns int
	crashed   string
	crashErr  error
	away      bool
	forced    []string
}

func (f *fake) Probe(context.Context) (bool, []byte) {
	return f.ready, []byte(fmt.Sprintf(`{"ready":%v}`, f.ready))
}
func (f *fake) Status(context.Context) Status { return Status{State: "running", Ready: f.ready} }
func (f *fake) Reload(context.Context) (Applied, error) {
	f.reloads++
	return Applied{Version: 13, BundleHash: "blake3:00"}, f.reloadErr
}
func (f *fake) Crash(service string, hold time.Duration) error {
	f.crashed = fmt.Sprint(service, " ", hold)
	return f.crashErr
}
func (f *fake) OpenAPI() []byte { return []byte(`{"openapi":"3.1.0"}`) }
func (f *fake) Schema(name string) ([]byte, bool) {
	return []byte(`{}`), name == "Put"
}

type world struct {
	*fake
	svc   *Service
	bus   *bus.Bus
	drain *lifecycle.Drainer
	gate  *lifecycle.Gate
	reg   *metrics.Registry
	table *route.Table
}

func newWorld(t testing.TB, keeper *idem.Keeper) *world {
	t.Helper()
	w := &world{fake: &fake{ready: true}, reg: metrics.New(false)}
	w.bus = bus.New(w.reg, nil, nil, nil)
	w.gate = lifecycle.NewGate(w.reg, nil, 10)
	w.drain = lifecycle.NewDrainer(lifecycle.DrainConfig{Gate: w.gate, Bus: w.bus})
	svc, err := New(Config{
		Metrics: w.reg, Ready: w.fake, Version: func() []byte { return []byte(`{"service":"macronode"}`) }, Status: w.fake, Events: w.bus,
		Reload: w.fake, Drain: w.drain, Crash: w.fake, Documents: w.fake, Shutdown: func() { w.shutdowns++ },
		Drills: func() bool { return w.drills }, Idem: keeper,
		Spare: w.spare(), Away: func() bool { return w.away }, Breakers: w.fake, Why: w.fake, Book: w.book(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.svc = svc
	if w.table, err = route.New(svc.Routes()); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) book(t testing.TB) *drillbook.Book {
	b, err := drillbook.Open(t.Context(), mem.NewKV(mem.KVConfig{}), time.Hour, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call looks the route up as the wall does and runs its handler.
func (w *world) call(ctx context.Context, method, path, body string, header macronode.Header) (*macronode.Reply, error) {
	path, query, _ := strings.Cut(path, "?")
	c := &macronode.Call{Method: method, Path: path, Query: query, Header: header, Length: int64(len(body)), IdempotencyKey: header.Get("Idempotency-Key")}
	if body != "" {
		c.Body = strings.NewReader(body)
	}
	r, err := w.table.Lookup(c)
	if err != nil {
		return nil, err
	}
	c.Binding = &r.Binding
	a := new(macronode.Admitted)
	a.Call = c
	a.Principal = &macronode.Principal{Kind: macronode.Capability, Tenant: macronode.SystemTenant}
	a.Tenant = &macronode.Tenant{ID: macronode.SystemTenant}
	return r.Handler(ctx, a)
}

func (w *world) want(t *testing.T, method, path, body string, status int, contains string) {
	t.Helper()
	r, err := w.call(t.Context(), method, path, body, macronode.Header{})
	if err != nil {
		e := macronode.AsError(err)
		if e.Kind.Info().Status != status || !strings.Contains(e.Kind.String()+" "+e.Detail, contains) {
			t.Errorf("%s %s: %v, want %d %s", method, path, err, status, contains)
		}
		return
	}
	if got := max(r.Status, 200); got != status || !strings.Contains(string(r.Body), contains) {
		t.Errorf("%s %s: %d %s, want %d %s", method, path, got, r.Body, status, contains)
	}
}

func TestProbes(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/healthz", "", 200, `{"ok":true}`)
	w.want(t, "GET", "/readyz", "", 200, `{"ready":true}`)
	w.want(t, "GET", "/version", "", 200, `"macronode"`)
	w.want(t, "GET", "/metrics", "", 200, "# TYPE go_goroutines gauge")
	w.want(t, "HEAD", "/healthz", "", 200, "")
	w.ready = false
	w.want(t, "GET", "/readyz", "", 503, `{"ready":false}`)
	r, err := w.call(t.Context(), "GET", "/readyz", "", nil)
	if err != nil || r.Header.Get("Retry-After") != "1" || r.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = w.call(t.Context(), "GET", "/metrics", "", macronode.Header{"Accept": {"application/openmetrics-text;version=1.0.0"}})
	if err != nil || !strings.HasPrefix(r.ContentType, "application/openmetrics-text") || !strings.HasSuffix(string(r.Body), "# EOF\n") {
		t.Errorf("%s, %v", r.ContentType, err)
	}
	for _, p := range []string{"/healthz", "/readyz", "/version", "/metrics"} {
		w.want(t, "GET", p+"?x=1", "", 400, "unknown argument")
		w.want(t, "POST", p, "", 405, "")
	}
}

// Exactly the four probes are open to anyone, and what changes something is on
// record first.
func TestTheWallSeesTheseRoutes(t *testing.T) {
	w := newWorld(t, nil)
	actions := map[macronode.Op]macronode.Action{
		"healthz": "", "readyz": "", "version": "", "metrics": "", "openapi": "docs:read", "schema": "docs:read",
		"admin.status": "node:status", "admin.events": "node:events", "admin.reload": "node:reload", "admin.drain": "node:drain",
		"admin.breakers": "node:breaker", "admin.why": "node:status", "admin.breaker.force": "node:breaker",
		"admin.undrain": "node:drain", "admin.shutdown": "node:shutdown", "admin.drill.service-crash": "node:drill",
		"admin.drills": "node:drill", "admin.drill.record": "node:drill",
	}
	routes := w.svc.Routes()
	if len(routes) != len(actions) {
		t.Errorf("%d routes", len(routes))
	}
	for i := range routes {
		b := &routes[i].Binding
		want, ok := actions[b.Op]
		if !ok || b.Action != want || b.Service != Name || b.OAP != macronode.AppNode || b.Resource != macronode.NodeResource {
			t.Errorf("%+v", b)
		}
		if open := want == ""; b.Public != open || b.PlainOK != open {
			t.Errorf("%s: public %v, plain %v", b.Op, b.Public, b.PlainOK)
		}
		if acts := b.Method == "POST"; acts != (b.Audit == macronode.AuditBefore) || acts != b.Write || acts == (b.MaxBody == macronode.BodyNone) {
			t.Errorf("%s: audit %v, write %v, body %d", b.Op, b.Audit, b.Write, b.MaxBody)
		}
		if docs := want == "docs:read"; docs == (b.Class == macronode.Control) {
			t.Errorf("%s: class %s", b.Op, b.Class)
		}
		if b.LongRunning != (b.Op == "admin.events") {
			t.Errorf("%s: long-running %v", b.Op, b.LongRunning)
		}
	}
}

func TestDocuments(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/openapi.json", "", 200, "3.1.0")
	w.want(t, "GET", "/schemas/Put.json", "", 200, "{}")
	for _, p := range []string{"/schemas/Put", "/schemas/Other.json", "/schemas/.json", "/schemas/..json"} {
		w.want(t, "GET", p, "", 404, "")
	}
	w.want(t, "GET", "/schemas/Put.json?name=x", "", 400, "")
}

func TestAdmin(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/v1/admin/status", "", 200, `"state":"running"`)
	w.want(t, "POST", "/v1/admin/reload", "", 200, `{"version":13,"bundle_hash":"blake3:00"}`)
	w.want(t, "POST", "/v1/admin/reload", "{}", 200, "")
	w.reloadErr = macronode.Errorf(macronode.Invalid, "line 3: unknown key")
	w.want(t, "POST", "/v1/admin/reload", "", 422, "line 3")
	w.want(t, "POST", "/v1/admin/shutdown", "", 202, `{"accepted":true}`)
	if w.reloads != 3 || w.shutdowns != 1 {
		t.Errorf("%d reloads, %d shutdowns", w.reloads, w.shutdowns)
	}
	for _, verb := range []string{"reload", "drain", "undrain", "shutdown"} {
		w.want(t, "POST", "/v1/admin/"+verb, `{"x":1}`, 400, "")
		w.want(t, "POST", "/v1/admin/"+verb, `{} {}`, 400, "")
		w.want(t, "POST", "/v1/admin/"+verb, `[`, 400, "")
		w.want(t, "POST", "/v1/admin/"+verb+"?force=1", "", 400, "unknown argument")
		w.want(t, "POST", "/v1/admin/"+verb, strings.Repeat(" ", maxAdminBody+1), 413, "")
	}
	if w.reloads != 3 || w.shutdowns != 1 || w.drain.Draining() {
		t.Error("a refused call acted")
	}
}

func TestDrainAndUndrain(t *testing.T) {
	w := newWorld(t, nil)
	if err := w.gate.Enter(&macronode.Binding{Class: macronode.CoreRead}); err != nil {
		t.Fatal(err)
	}
	w.want(t, "POST", "/v1/admin/undrain", "", 200, `"phase":"serving"`)
	w.want(t, "POST", "/v1/admin/drain", "", 202, `"phase":"gate"`)
	w.want(t, "POST", "/v1/admin/drain", "", 202, `"left":1`)
	w.want(t, "POST", "/v1/admin/undrain", "", 200, `"phase":"serving"`)
	w.want(t, "POST", "/v1/admin/drain", "", 202, "")
	w.drain.Seal()
	w.want(t, "POST", "/v1/admin/undrain", "", 409, "")
	w.drain.Close()
}

func TestServiceCrashDrill(t *testing.T) {
	const path = "/v1/admin/drills/service-crash"
	w := newWorld(t, nil)
	w.want(t, "POST", path, `{"service":"svc-storage"}`, 403, "denied")
	if w.crashed != "" {
		t.Fatal("crashed though drills are off")
	}
	w.drills = true
	w.want(t, "POST", path, `{"service":"svc-storage","hold_ms":1500}`, 202, "accepted")
	if w.crashed != "svc-storage 1.5s" {
		t.Error(w.crashed)
	}
	for body, status := range map[string]int{
		"": 422, "{}": 422, `{"service":"a","hold_ms":-1}`: 422, `{"service":"a","hold_ms":60001}`: 422,
		`{"service":1}`: 400, `{"service":"a","hold":1}`: 400, `{"service":"a","hold_ms":1e400}`: 400,
	} {
		w.want(t, "POST", path, body, status, "")
	}
	w.crashErr = macronode.Errorf(macronode.NotFound, "no such service")
	w.want(t, "POST", path, `{"service":"a"}`, 404, "")
}

func TestDrillsOnRecord(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/v1/admin/drills", "", 200, `{"name":"disk-full","due_ms":`)
	w.want(t, "POST", "/v1/admin/drills", fmt.Sprintf(`{"name":"disk-full","pass":true,"seconds":1.5,"at_ms":%d,"live":false}`, time.Now().UnixMilli()), 200, `"last_passed_ms":`)
	w.want(t, "GET", "/v1/admin/drills", "", 200, `"last":{"name":"disk-full","pass":true`)
	w.want(t, "GET", "/v1/admin/drills?limit=1", "", 400, "")
	for body, status := range map[string]int{"": 422, "{}": 422, `{"name":"nothing"}`: 422, `{"name":"disk-full","passed":true}`: 400} {
		w.want(t, "POST", "/v1/admin/drills", body, status, "")
	}
}

func TestAnswersAreKeptByKey(t *testing.T) {
	w := newWorld(t, idem.New(idem.Config{KV: mem.NewKV(mem.KVConfig{})}))
	h := macronode.Header{"Idempotency-Key": {"k1"}}
	first, err := w.call(t.Context(), "POST", "/v1/admin/reload", "", h)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.call(t.Context(), "POST", "/v1/admin/reload", "", h)
	if err != nil || string(again.Body) != string(first.Body) || again.Header.Get("Idempotency-Replayed") != "true" || w.reloads != 1 {
		t.Errorf("%+v, %v, %d reloads", again, err, w.reloads)
	}
	if _, err := w.call(t.Context(), "POST", "/v1/admin/reload", "{}", h); macronode.KindOf(err) != macronode.IdempotencyMismatch {
		t.Errorf("another body: %v", err)
	}
	w.want(t, "POST", "/v1/admin/reload?x=1", "", 400, "")
}

func TestEventPages(t *testing.T) {
	w := newWorld(t, nil)
	w.want(t, "GET", "/v1/admin/events", "", 200, `{"events":[],"next":0,"lost":0}`)
	w.bus.Publish(bus.Health("svc-storage", false, ""))
	w.bus.Publish(bus.ConfigUpdated(12, "blake3:00", "KMS:key/a"))
	r, err := w.call(t.Context(), "GET", "/v1/admin/events?after=0&limit=1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var p EventPage
	if err := json.Unmarshal(r.Body, &p); err != nil || len(p.Events) != 1 || p.Next != 1 || p.Events[0].Service != "svc-storage" || p.Events[0].Attrs["ok"] != false || p.Events[0].TSMS == 0 {
		t.Errorf("%s, %v", r.Body, err)
	}
	w.want(t, "GET", "/v1/admin/events?after=1", "", 200, `"event":"ConfigUpdated","attrs":{"bundle_hash":"blake3:00","signer":"KMS:key/a","version":12}`)
	for _, q := range []string{"after=-1", "after=x", "after=9007199254740992", "limit=0", "limit=1025", "limit=1e3", "offset=1"} {
		w.want(t, "GET", "/v1/admin/events?"+q, "", 400, "")
	}
}

// pipe is a writer that the test reads while the stream goes on.
type pipe struct {
	mu      sync.Mutex
	b       strings.Builder
	flushes int
	fail    error
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil {
		return 0, p.fail
	}
	return p.b.Write(b)
}

func (p *pipe) Flush() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushes++
	return nil
}

func (p *pipe) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.b.String()
	p.b.Reset()
	return s
}

func TestEventStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for range bus.Kept + 5 {
			w.bus.Publish(bus.Shutdown(""))
		}
		ctx, cancel := context.WithCancel(t.Context())
		h := macronode.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {"2"}}
		r, err := w.call(ctx, "GET", "/v1/admin/events?after=900", "", h)
		if err != nil || r.ContentType != "text/event-stream" || r.Length != -1 {
			t.Fatalf("%+v, %v", r, err)
		}
		out := &pipe{}
		done := make(chan error, 1)
		go func() {
			_, err := r.Stream.WriteTo(out)
			done <- err
		}()
		synctest.Wait()
		got := out.take()
		if !strings.HasPrefix(got, "retry: 1000\n\nevent: lost\ndata: {\"lost\":3}\n\nid: 6\nevent: Shutdown\ndata: {\"seq\":6,") || strings.Count(got, "\nid: ") != bus.Kept {
			t.Errorf("%.300s", got)
		}
		w.bus.Publish(bus.Drain("gate", 2))
		synctest.Wait()
		want := fmt.Sprintf("id: 1030\nevent: Drain\ndata: {\"seq\":1030,\"ts_ms\":%d,\"event\":\"Drain\",\"attrs\":{\"left\":2,\"phase\":\"gate\"}}\n\n", time.Now().UnixMilli())
		if got := out.take(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		<-time.After(keepAlive)
		synctest.Wait()
		if got := out.take(); got != ": still here\n\n" {
			t.Errorf("%q", got)
		}
		if out.flushes < 3 {
			t.Errorf("%d flushes", out.flushes)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end of the call is %v", err)
		}
		if err := r.Stream.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestEventStreamEndsWithItsClient(t *testing.T) {
	w := newWorld(t, nil)
	h := macronode.Header{"Accept": {"text/event-stream"}}
	r, err := w.call(t.Context(), "GET", "/v1/admin/events", "", h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stream.WriteTo(&pipe{fail: io.ErrClosedPipe}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
	h["Last-Event-Id"] = []string{"x"}
	if _, err := w.call(t.Context(), "GET", "/v1/admin/events", "", h); macronode.KindOf(err) != macronode.Malformed {
		t.Errorf("%v", err)
	}
}

func TestAnIncompleteConfigIsAnError(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("made of nothing")
	}
}

func BenchmarkProbes(b *testing.B) {
	w := newWorld(b, nil)
	for _, p := range []string{"/healthz", "/readyz"} {
		b.Run(p[1:], func(b *testing.B) {
			c := &macronode.Call{Method: "GET", Path: p}
			r, err := w.table.Lookup(c)
			if err != nil {
				b.Fatal(err)
			}
			a := new(macronode.Admitted)
			a.Call = c
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Handler(context.Background(), a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
