// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"bytes"
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
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/index/manifest"
)

var (
	one = &macronode.Tenant{ID: macronode.TenantID{0: 1, 15: 1}}
	two = &macronode.Tenant{ID: macronode.TenantID{0: 1, 15: 2}}
)

// world is the neighbours of an index, which a test changes.
type world struct {
	mu      sync.Mutex
	names   map[macronode.TenantID]map[string]NameVersion
	objects map[spot][]byte
	types   map[spot]string
	holders map[spot][]string
	remote  map[spot]Object
	fail    map[Neighbour]error
	stuck   map[Neighbour]bool // waits for its context
	finds   int
	opens   int
	gen     uint64
}

func newWorld() *world {
	return &world{names: make(map[macronode.TenantID]map[string]NameVersion), objects: make(map[spot][]byte), types: make(map[spot]string),
		holders: make(map[spot][]string), remote: make(map[spot]Object), fail: make(map[Neighbour]error), stuck: make(map[Neighbour]bool)}
}

func missing() error { return macronode.Errorf(macronode.NotFound, "there is no such thing") }

// trouble is how a neighbour fails now; the caller holds mu.
func (w *world) trouble(ctx context.Context, n Neighbour) error {
	if w.stuck[n] {
		w.mu.Unlock()
		<-ctx.Done()
		w.mu.Lock()
		return ctx.Err()
	}
	return w.fail[n]
}

func (w *world) Canonical(name string) (string, error) {
	if strings.ContainsAny(name, " /") {
		return "", macronode.Errorf(macronode.Invalid, "no name")
	}
	return strings.ToLower(name), nil
}

func (w *world) Lookup(ctx context.Context, t macronode.TenantID, name string) (NameVersion, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.trouble(ctx, ByName); err != nil {
		return NameVersion{}, err
	}
	v, ok := w.names[t][name]
	if !ok {
		return v, missing()
	}
	return v, nil
}

func (w *world) Look(ctx context.Context, t macronode.TenantID, addr b3.Addr) (Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.trouble(ctx, ByStore); err != nil {
		return Object{}, err
	}
	at := spot{t, addr}
	b, ok := w.objects[at]
	if !ok {
		return Object{}, missing()
	}
	return Object{Size: int64(len(b)), ContentType: w.types[at], CreatedMS: 7}, nil
}

func (w *world) Open(_ context.Context, t macronode.TenantID, addr b3.Addr) (io.ReadCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	b, ok := w.objects[spot{t, addr}]
	if !ok {
		return nil, missing()
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (w *world) Self() string { return "b3:self" }

func (w *world) Holders(t macronode.TenantID, addr b3.Addr) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.holders[spot{t, addr}]...)
}

func (w *world) Find(ctx context.Context, t macronode.TenantID, addr b3.Addr) (Object, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finds++
	if err := w.trouble(ctx, ByPeers); err != nil {
		return Object{}, err
	}
	o, ok := w.remote[spot{t, addr}]
	if !ok {
		return o, missing()
	}
	return o, nil
}

// put stores an object and returns its address.
func (w *world) put(t *macronode.Tenant, ctype, text string) b3.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := b3.Sum([]byte(text))
	w.objects[spot{t.ID, addr}], w.types[spot{t.ID, addr}] = []byte(text), ctype
	w.gen++
	return addr
}

func (w *world) name(t *macronode.Tenant, name string, addr b3.Addr, version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names[t.ID] == nil {
		w.names[t.ID] = make(map[string]NameVersion)
	}
	w.names[t.ID][name] = NameVersion{Addr: addr, Version: version, TTL: 60, Meta: map[string]string{"k": "v"}}
	w.gen++
}

func (w *world) generation(ctx context.Context, t macronode.TenantID) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t == two.ID {
		return 1, nil
	}
	return w.gen, w.trouble(ctx, ByStore)
}

func start(t testing.TB, w *world, change ...func(*Config)) *Service {
	t.Helper()
	c := Config{Names: w, Objects: w, Peers: w, Generation: w.generation}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// call makes a call as the wall would hand it on.
func call(s *Service, t *macronode.Tenant, op macronode.Op, target, query string) (*macronode.Reply, error) {
	for _, r := range s.Routes() {
		if r.Op != op {
			continue
		}
		c := &macronode.Call{Query: query}
		c.AddParam(r.ResourceArg, target)
		return r.Handler(context.Background(), &macronode.Admitted{Call: c, Tenant: t, ReplyBytes: macronode.NoLimit})
	}
	return nil, errors.New("no such route")
}

func resolve(t testing.TB, s *Service, tenant *macronode.Tenant, target, query string) (Resolved, error) {
	t.Helper()
	var doc Resolved
	reply, err := call(s, tenant, "index.resolve", target, query)
	if err == nil {
		if err := json.Unmarshal(reply.Body, &doc); err != nil {
			t.Fatal(err)
		}
	}
	return doc, err
}

func mustResolve(t testing.TB, s *Service, tenant *macronode.Tenant, target, query string) Resolved {
	t.Helper()
	doc, err := resolve(t, s, tenant, target, query)
	if err != nil {
		t.Fatalf("%s?%s: %v", target, query, err)
	}
	return doc
}

func wantKind(t testing.TB, err error, kind macronode.Kind, what string) {
	t.Helper()
	if got := macronode.KindOf(err); got != kind {
		t.Errorf("%s: %v (%v), want %v", what, got, err, kind)
	}
}

func manifestOf(n int) string {
	m := struct {
		Version int              `json:"version"`
		Entries []manifest.Entry `json:"entries"`
	}{Version: 1, Entries: []manifest.Entry{}}
	for i := range n {
		a := b3.Sum([]byte{byte(i)})
		m.Entries = append(m.Entries, manifest.Entry{Path: fmt.Sprintf("d/%04d", i), Addr: &a, Size: int64(i)})
	}
	b, _ := json.Marshal(m)
	return string(b)
}

func TestResolve(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	addr := w.put(one, "text/plain", "hello")
	w.name(one, "docs.hello", addr, 3)
	doc := mustResolve(t, s, one, addr.String(), "")
	if doc.Addr != addr.String() || doc.Name != nil || doc.Object == nil || doc.Object.Size != 5 || !doc.Object.Local || doc.Generation != 2 {
		t.Errorf("%+v", doc)
	}
	doc = mustResolve(t, s, one, "docs.hello", "")
	if doc.Addr != addr.String() || doc.Name == nil || doc.Name.Version != 3 || doc.Name.TTL != 60 || doc.Name.Meta["k"] != "v" || doc.Object.ContentType != "text/plain" {
		t.Errorf("%+v", doc)
	}
	for target, kind := range map[string]macronode.Kind{
		"docs.none": macronode.NotFound, "Docs.Hello": macronode.Invalid, "a b": macronode.Invalid, "b3:12": macronode.Malformed,
		strings.ToUpper(addr.String()): macronode.Malformed, b3.Sum(nil).String(): macronode.NotFound,
	} {
		_, err := resolve(t, s, one, target, "")
		wantKind(t, err, kind, target)
	}
	for _, query := range []string{"x=1", "after=x", "limit=1001", "cursor=-1", "path=a&limit=1", "after=1&after=1"} {
		_, err := resolve(t, s, one, addr.String(), query)
		wantKind(t, err, macronode.Malformed, query)
	}
	_, err := resolve(t, s, one, addr.String(), "path=a")
	wantKind(t, err, macronode.Invalid, "a path of what is no manifest")
}

// A name that points at nothing is still a name.
func TestDanglingName(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	w.name(one, "gone", b3.Sum([]byte("gone")), 1)
	if doc := mustResolve(t, s, one, "gone", ""); doc.Object != nil || doc.Incomplete != nil || doc.Name.Version != 1 {
		t.Errorf("%+v", doc)
	}
	_, err := resolve(t, s, one, "gone", "limit=1")
	wantKind(t, err, macronode.NotFound, "entries of nothing")
}

func TestManifest(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	addr := w.put(one, manifest.MediaType, manifestOf(250))
	for range 2 {
		if m := mustResolve(t, s, one, addr.String(), "").Manifest; m == nil || m.Files != 250 || m.Bytes != 249*250/2 || m.Entries != nil || m.Problem != "" {
			t.Fatalf("%+v", m)
		}
	}
	if w.opens != 1 {
		t.Errorf("the manifest was read %d times for its sums", w.opens)
	}
	var got []string
	for cursor := "0"; cursor != ""; {
		m := mustResolve(t, s, one, addr.String(), "limit=100&cursor="+cursor).Manifest
		for _, e := range m.Entries {
			got = append(got, e.Path)
		}
		cursor = m.Cursor
	}
	if len(got) != 250 || got[249] != "d/0249" {
		t.Errorf("%d entries", len(got))
	}
	if m := mustResolve(t, s, one, addr.String(), "path=d/0007").Manifest; len(m.Entries) != 1 || m.Entries[0].Size != 7 || m.Cursor != "" {
		t.Errorf("%+v", m)
	}
	if m := mustResolve(t, s, one, addr.String(), "prefix=d/001").Manifest; len(m.Entries) != 10 || m.Cursor != "" {
		t.Errorf("%+v", m)
	}
	_, err := resolve(t, s, one, addr.String(), "path=d")
	wantKind(t, err, macronode.NotFound, "a path that is not there")

	bad := w.put(one, manifest.MediaType, `{"version":1,"entries":[{"path":"../x"}]}`)
	if m := mustResolve(t, s, one, bad.String(), "").Manifest; m == nil || m.Problem != "malformed" {
		t.Errorf("%+v", m)
	}
	_, err = resolve(t, s, one, bad.String(), "limit=1")
	wantKind(t, err, macronode.Invalid, "entries of a broken manifest")
}

// A stranger gets what nobody's thing would give, whatever the owner has.
func TestStranger(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	addr := w.put(one, manifest.MediaType, manifestOf(3))
	w.name(one, "docs.hello", addr, 3)
	w.holders[spot{one.ID, addr}] = []string{"b3:peer"}
	w.remote[spot{one.ID, addr}] = Object{Size: 5}
	mustResolve(t, s, one, addr.String(), "")
	for _, op := range []macronode.Op{"index.resolve", "index.providers"} {
		targets := map[string]string{addr.String(): b3.Sum([]byte("nobody's")).String()}
		if op == "index.resolve" {
			targets["docs.hello"] = "docs.other"
		}
		for theirs, nobodys := range targets {
			for _, query := range []string{"", "after=1"} {
				_, got := call(s, two, op, theirs, query)
				_, want := call(s, two, op, nobodys, query)
				if got == nil || want == nil || fmt.Sprint(macronode.AsError(got).Problem("")) != fmt.Sprint(macronode.AsError(want).Problem("")) {
					t.Errorf("%s %s: %v, and of what nobody has %v", op, theirs, got, want)
				}
			}
		}
	}
	if w.finds != 0 || s.said.Len() != 0 {
		t.Error("peers were asked for a stranger")
	}
}

// What peers said is remembered for a while, and never hides what is here.
func TestRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := start(t, w)
		addr := b3.Sum([]byte("far"))
		at := spot{one.ID, addr}
		ask := func(kind macronode.Kind, finds int, what string) {
			t.Helper()
			_, err := resolve(t, s, one, addr.String(), "")
			if kind == macronode.NumKinds {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			} else {
				wantKind(t, err, kind, what)
			}
			if w.finds != finds {
				t.Errorf("%s: peers were asked %d times, want %d", what, w.finds, finds)
			}
		}
		ask(macronode.NotFound, 0, "nobody announced it")
		w.holders[at] = []string{"b3:a"}
		ask(macronode.NotFound, 1, "announced, and not there")
		ask(macronode.NotFound, 1, "remembered")
		w.remote[at] = Object{Size: 9}
		w.holders[at] = []string{"b3:a", "b3:b"}
		ask(macronode.NumKinds, 2, "another announced it")
		ask(macronode.NumKinds, 2, "remembered as found")
		delete(w.remote, at)
		<-time.After(rememberFound)
		ask(macronode.NotFound, 3, "too old to count")
		if doc := mustResolve(t, s, one, w.put(one, "text/plain", "far").String(), ""); doc.Object == nil || !doc.Object.Local {
			t.Errorf("a put is hidden by what peers said: %+v", doc)
		}
		delete(w.objects, at)
		ask(macronode.NotFound, 3, "gone again, and still remembered")
		<-time.After(rememberMissing)
		w.fail[ByPeers] = macronode.Errorf(macronode.Unavailable, "away")
		ask(macronode.Unavailable, 4, "peers are away")
		ask(macronode.Unavailable, 4, "not asked again at once")
		delete(w.fail, ByPeers)
		<-time.After(rememberAway)
		ask(macronode.NotFound, 5, "asked again")
		s.Forget()
		ask(macronode.NotFound, 6, "after a restart")
	})
}

// A neighbour that hangs costs its share of the time, and what it alone knows.
func TestBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		s := start(t, w)
		addr := b3.Sum([]byte("far"))
		w.name(one, "n", addr, 1)
		w.holders[spot{one.ID, addr}] = []string{"b3:a"}
		w.stuck[ByPeers] = true
		began := time.Now()
		doc := mustResolve(t, s, one, "n", "")
		if doc.Object != nil || fmt.Sprint(doc.Incomplete) != "[peers]" || time.Since(began) != DefaultFar {
			t.Errorf("%+v after %v", doc, time.Since(began))
		}
		_, err := resolve(t, s, one, addr.String(), "")
		wantKind(t, err, macronode.Unavailable, "an address that only peers know")
		w.stuck[ByName] = true
		began = time.Now()
		_, err = resolve(t, s, one, "n", "")
		wantKind(t, err, macronode.Unavailable, "names hang")
		if time.Since(began) != DefaultNear {
			t.Errorf("it took %v", time.Since(began))
		}
		w.stuck[ByStore] = true
		began = time.Now()
		reply, err := call(s, one, "index.providers", b3.Sum(nil).String(), "")
		if macronode.KindOf(err) != macronode.Unavailable || reply != nil || time.Since(began) != 2*DefaultNear {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// gate is a Guard that a test opens and closes, and that hears how calls went.
type gate struct {
	open error
	went []error
}

func (g *gate) Enter() (func(error), error) {
	if g.open != nil {
		return nil, g.open
	}
	return func(err error) { g.went = append(g.went, err) }, nil
}

func TestGuards(t *testing.T) {
	w := newWorld()
	gates := map[Neighbour]*gate{ByName: {}, ByStore: {}, ByPeers: {}}
	s := start(t, w, func(c *Config) { c.Guard = func(n Neighbour) Guard { return gates[n] } })
	addr := b3.Sum([]byte("far"))
	w.name(one, "n", addr, 1)
	w.holders[spot{one.ID, addr}] = []string{"b3:a"}
	gates[ByPeers].open = macronode.Errorf(macronode.Unavailable, "held")
	if doc := mustResolve(t, s, one, "n", ""); fmt.Sprint(doc.Incomplete) != "[peers]" || w.finds != 0 {
		t.Errorf("%+v, peers asked %d times", doc, w.finds)
	}
	gates[ByName].open = macronode.Errorf(macronode.Unavailable, "held")
	_, err := resolve(t, s, one, "n", "")
	wantKind(t, err, macronode.Unavailable, "names are held")
	if len(gates[ByName].went) != 1 || gates[ByName].went[0] != nil {
		t.Errorf("what the guard heard: %v", gates[ByName].went)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.ask(ctx, ByStore, time.Hour, func(ctx context.Context) error { return ctx.Err() })
	if heard := gates[ByStore].went; !errors.Is(heard[len(heard)-1], context.Canceled) || macronode.KindOf(err) != macronode.ClientGone {
		t.Errorf("a caller that left is the neighbour's fault: %v, %v", heard, err)
	}
}

func TestGeneration(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	addr := w.put(one, "text/plain", "hello")
	was := mustResolve(t, s, one, addr.String(), "").Generation
	w.name(one, "n", addr, 1)
	doc := mustResolve(t, s, one, "n", fmt.Sprintf("after=%d", w.gen))
	if doc.Generation <= was {
		t.Errorf("generation %d after %d", doc.Generation, was)
	}
	for _, op := range []macronode.Op{"index.resolve", "index.providers"} {
		_, err := call(s, one, op, addr.String(), fmt.Sprintf("after=%d", w.gen+1))
		wantKind(t, err, macronode.PreconditionFailed, string(op))
	}
}

func TestProviders(t *testing.T) {
	w := newWorld()
	s := start(t, w)
	addr := w.put(one, "text/plain", "hello")
	w.holders[spot{one.ID, addr}] = []string{"b3:fast", "b3:a"}
	reply, err := call(s, one, "index.providers", addr.String(), "")
	if err != nil {
		t.Fatal(err)
	}
	want := `"local":true,"providers":[{"node_id":"b3:self","local":true},{"node_id":"b3:fast","local":false},{"node_id":"b3:a","local":false}],"generation":1}`
	if !bytes.HasSuffix(reply.Body, []byte(want)) {
		t.Errorf("%s", reply.Body)
	}
	delete(w.objects, spot{one.ID, addr})
	if reply, err = call(s, one, "index.providers", addr.String(), ""); err != nil || !bytes.Contains(reply.Body, []byte(`"local":false,"providers":[{"node_id":"b3:fast"`)) {
		t.Errorf("%v", err)
	}
	if w.finds != 0 {
		t.Error("a peer was asked")
	}
	_, err = call(s, one, "index.providers", b3.Sum(nil).String(), "")
	wantKind(t, err, macronode.NotFound, "nobody has it")
	_, err = call(s, one, "index.providers", "hello", "")
	wantKind(t, err, macronode.Malformed, "no address")
}

func BenchmarkResolve(b *testing.B) {
	w := newWorld()
	s := start(b, w)
	w.name(one, "n", w.put(one, "text/plain", "hello"), 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := call(s, one, "index.resolve", "n", ""); err != nil {
			b.Fatal(err)
		}
	}
}
