// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// world is stores, a journal and a facet over them.
type world struct {
	t       testing.TB
	kv      store.KV
	journal *journal.Journal
	dir     string // of the shelf; "": in memory
	facet   *Facet
	stop    func()

	mu      sync.Mutex
	objects map[macronode.TenantID]map[b3.Addr]stored
	names   map[macronode.TenantID]map[string]b3.Addr
	damaged map[b3.Addr]bool
	reads   int
}

type stored struct {
	Object
	body []byte
}

func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{t: t, kv: mem.NewKV(mem.KVConfig{}), dir: dir, objects: map[macronode.TenantID]map[b3.Addr]stored{},
		names: map[macronode.TenantID]map[string]b3.Addr{}, damaged: map[b3.Addr]bool{}}
	w.start()
	return w
}

// start runs a facet over what is there; stop ends it.
func (w *world) start(change ...func(*Config)) {
	w.t.Helper()
	var err error
	if w.journal, err = journal.Open(context.Background(), journal.Config{KV: w.kv}); err != nil {
		w.t.Fatal(err)
	}
	c := Config{KV: w.kv, Journal: w.journal, Shelf: shelf.New(disk.Real(), w.dir), Objects: worldObjects{w}, Names: worldNames{w}, Gather: time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	if w.facet, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.facet.Serve(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("serve: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	w.eventually("the facet runs", func() bool { return w.facet.Ready(context.Background()) == nil })
}

func (w *world) restart(change ...func(*Config)) {
	w.t.Helper()
	w.stop()
	w.start(change...)
}

func (w *world) eventually(what string, f func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("not in time: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func tenant(n byte) macronode.TenantID { return macronode.TenantID{0: 1, 15: n} }

// record does a change of the stores with its word in the journal.
func (w *world) record(c journal.Change, change func()) {
	w.t.Helper()
	err := w.kv.Update(context.Background(), func(tx store.Tx) error { return w.journal.Record(tx, c) })
	if err != nil {
		w.t.Fatal(err)
	}
	_ = change
}

func (w *world) put(t macronode.TenantID, ctype, body string) b3.Addr {
	w.t.Helper()
	a := b3.Sum([]byte(body))
	w.mu.Lock()
	if w.objects[t] == nil {
		w.objects[t] = map[b3.Addr]stored{}
	}
	if _, ok := w.objects[t][a]; !ok {
		created := int64(1_700_000_000_000 + 1000*len(w.objects[t]))
		w.objects[t][a] = stored{Object{a, int64(len(body)), ctype, created}, []byte(body)}
	}
	w.mu.Unlock()
	w.record(journal.Change{Tenant: t, Kind: journal.ObjectPut, Addr: a}, nil)
	return a
}

func (w *world) drop(t macronode.TenantID, a b3.Addr) {
	w.t.Helper()
	w.mu.Lock()
	delete(w.objects[t], a)
	w.mu.Unlock()
	w.record(journal.Change{Tenant: t, Kind: journal.ObjectDeleted, Addr: a}, nil)
}

func (w *world) name(t macronode.TenantID, name string, a b3.Addr) {
	w.t.Helper()
	w.mu.Lock()
	if w.names[t] == nil {
		w.names[t] = map[string]b3.Addr{}
	}
	w.names[t][name] = a
	w.mu.Unlock()
	w.record(journal.Change{Tenant: t, Kind: journal.NameSet, Name: name, Addr: a}, nil)
}

func (w *world) unname(t macronode.TenantID, name string) {
	w.t.Helper()
	w.mu.Lock()
	delete(w.names[t], name)
	w.mu.Unlock()
	w.record(journal.Change{Tenant: t, Kind: journal.NameDeleted, Name: name}, nil)
}

type worldObjects struct{ w *world }

func (o worldObjects) Lookup(_ context.Context, t macronode.TenantID, a b3.Addr) (Object, error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	x, ok := o.w.objects[t][a]
	if !ok {
		return Object{}, store.ErrNotFound
	}
	return x.Object, nil
}

func (o worldObjects) Page(_ context.Context, t macronode.TenantID, after *b3.Addr, limit int) (list []Object, _ error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for a, x := range o.w.objects[t] {
		if after == nil || bytes.Compare(a[:], after[:]) > 0 {
			list = append(list, x.Object)
		}
	}
	slices.SortFunc(list, func(a, b Object) int { return bytes.Compare(a.Addr[:], b.Addr[:]) })
	return list[:min(len(list), limit)], nil
}

func (o worldObjects) ReadPart(_ context.Context, t macronode.TenantID, a b3.Addr, limit int64) ([]byte, error) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	o.w.reads++
	x, ok := o.w.objects[t][a]
	switch {
	case !ok:
		return nil, store.ErrNotFound
	case o.w.damaged[a]:
		return nil, store.ErrCorrupt
	}
	return x.body[:min(int64(len(x.body)), limit)], nil
}

func (o worldObjects) Tenants(_ context.Context, f func(macronode.TenantID) bool) error {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for t := range o.w.objects {
		if !f(t) {
			break
		}
	}
	return nil
}

type worldNames struct{ w *world }

func (n worldNames) Page(_ context.Context, t macronode.TenantID, after string, limit int) (list []Named, _ error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for name, a := range n.w.names[t] {
		if name > after {
			list = append(list, Named{name, a})
		}
	}
	slices.SortFunc(list, func(a, b Named) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return list[:min(len(list), limit)], nil
}

func (n worldNames) Tenants(_ context.Context, f func(macronode.TenantID) bool) error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for t := range n.w.names {
		if !f(t) {
			break
		}
	}
	return nil
}

// call makes a call of a route as the wall does.
func (w *world) call(t macronode.TenantID, op macronode.Op, args url.Values) (*macronode.Reply, error) {
	tn := &macronode.Tenant{ID: t, Quota: macronode.UnlimitedQuota()}
	a := &macronode.Admitted{Call: &macronode.Call{Query: args.Encode()}, Tenant: tn, ReplyBytes: macronode.NoLimit,
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: t}}
	for _, r := range w.facet.Routes() {
		if r.Op == op {
			return r.Handler(context.Background(), a)
		}
	}
	return nil, fmt.Errorf("no route %s", op)
}

// ask makes a query with further arguments in pairs. Unless one says otherwise it waits
// for every change that was made.
func (w *world) ask(t macronode.TenantID, q string, args ...string) (r Results, err error) {
	v := url.Values{"q": {q}, "after": {"now"}, "limit": {"100"}}
	for i := 0; i < len(args); i += 2 {
		v.Set(args[i], args[i+1])
		if args[i+1] == "" {
			v.Del(args[i])
		}
	}
	reply, err := w.call(t, "search.query", v)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(reply.Body, &r)
}

func (w *world) mustAsk(t macronode.TenantID, q string, args ...string) Results {
	w.t.Helper()
	r, err := w.ask(t, q, args...)
	if err != nil {
		w.t.Fatalf("query %q: %v", q, err)
	}
	return r
}

func addrs(r Results) []string {
	var list []string
	for _, h := range r.Hits {
		list = append(list, h.Addr)
	}
	slices.Sort(list)
	return list
}

func (w *world) want(t macronode.TenantID, q string, want ...b3.Addr) {
	w.t.Helper()
	r := w.mustAsk(t, q)
	var list []string
	for _, a := range want {
		list = append(list, a.String())
	}
	slices.Sort(list)
	if got := addrs(r); !slices.Equal(got, list) || r.Total != uint64(len(want)) {
		w.t.Errorf("query %q finds %d of %d", q, len(got), len(list))
	}
}

func TestQueries(t *testing.T) {
	w := newWorld(t, "")
	one := tenant(1)
	budget := w.put(one, "text/plain; charset=utf-8", "The annual budget report, with Numbers.")
	draft := w.put(one, "text/markdown", "# A draft\n\nBudget of the report: not annual yet")
	page := w.put(one, "text/html", "<html><title>Invoices</title><body><p>Total: <b>re</b>ports &amp; sums<script>budget()</script></body>")
	data := w.put(one, "application/json", `{"city":"K\u00f6ln","population":1060000,"tags":["rhein","dom"]}`)
	image := w.put(one, "image/png", "\x89PNG budget")
	tokyo := w.put(one, "text/plain", "東京都の地図")
	w.name(one, "finance.budget-2026", image)
	w.name(one, "dangling", b3.Sum([]byte("elsewhere")))
	for _, c := range []struct {
		q    string
		want []b3.Addr
	}{
		{"budget report", []b3.Addr{budget, draft}},
		{`"budget report"`, []b3.Addr{budget}},
		{"BUDGET", []b3.Addr{budget, draft, image}},
		{"text:budget", []b3.Addr{budget, draft}},
		{"budget -annual", []b3.Addr{image}},
		{"budget NOT draft", []b3.Addr{budget, image}},
		{"invoices OR köln", []b3.Addr{page, data}},
		{"title:invoices", []b3.Addr{page}},
		{"title:draft", []b3.Addr{draft}},
		{"repor*", []b3.Addr{budget, draft, page}},
		{"bugdet~2", []b3.Addr{budget, draft, image}},
		{"budgot~", []b3.Addr{budget, draft, image}},
		{"name:finance", []b3.Addr{image}},
		{"2026", []b3.Addr{image}},
		{"dangling", []b3.Addr{b3.Sum([]byte("elsewhere"))}},
		{"reports sums", []b3.Addr{page}},
		{"script", nil},
		{"東京", []b3.Addr{tokyo}},
		{"京東", nil},
		{"type:text/plain", []b3.Addr{budget, tokyo}},
		{"type:text", []b3.Addr{budget, draft, page, tokyo}},
		{"size:<13", []b3.Addr{image}},
		{"size:>1MiB", nil},
		{"created:2023-11-14", []b3.Addr{budget, draft, page, data, image, tokyo}},
		{"created:>2023-11-14T22:13:24Z", []b3.Addr{tokyo}},
		{"(annual OR rhein) -draft", []b3.Addr{budget, data}},
		{"nothing", nil},
	} {
		w.want(one, c.q, c.want...)
	}
	if r := w.mustAsk(one, ""); r.Total != 7 || !r.Complete || r.IndexedThrough != r.Head || r.Generation != 1 {
		t.Errorf("everything: %d hits, %+v", r.Total, r.State)
	}
}

func TestFiltersFacetsHighlightsAndOrder(t *testing.T) {
	w := newWorld(t, "")
	one := tenant(1)
	for i := range 30 {
		w.put(one, []string{"text/plain", "text/markdown", "application/json"}[i%3], fmt.Sprintf("common word %d %s", i, bytes.Repeat([]byte("x "), 200*i)))
	}
	r := w.mustAsk(one, "common", "facets", "type,size,created", "highlight", "true", "sort", "-size", "limit", "3")
	if r.Total != 30 || len(r.Hits) != 3 || r.Hits[0].Size < r.Hits[1].Size || r.Hits[1].Size < r.Hits[2].Size {
		t.Fatalf("%d hits of %d, or out of order", len(r.Hits), r.Total)
	}
	if got := r.Facets["type"]; len(got) != 3 || got[0].Count != 10 {
		t.Errorf("types %+v", got)
	}
	if got := r.Facets["size"]; got[0].Count+got[1].Count != 30 || got[0].Count == 0 {
		t.Errorf("sizes %+v", got)
	}
	if got := r.Facets["created"]; got[5].Count != 30 {
		t.Errorf("times %+v", got)
	}
	if p := r.Hits[0].Highlights; len(p) == 0 || len(p[0].Parts) < 3 || p[0].Parts[1] != "common" {
		t.Errorf("highlights %+v", p)
	}
	if r := w.mustAsk(one, "common", "type", "text/*", "min_size", "1KiB", "max_size", "3000", "since", "2023", "until", "2024"); r.Total == 0 || r.Total >= 20 {
		t.Errorf("%d with filters", r.Total)
	}
	for _, order := range shelf.Orders() {
		var seen []string
		cursor := ""
		for {
			r := w.mustAsk(one, "common", "sort", string(order), "limit", "7", "cursor", cursor)
			for _, h := range r.Hits {
				seen = append(seen, h.Addr)
			}
			if cursor = r.Cursor; cursor == "" {
				break
			}
		}
		slices.Sort(seen)
		if len(seen) != 30 || len(slices.Compact(seen)) != 30 {
			t.Errorf("paging by %s gives %d hits, some twice or missing", order, len(seen))
		}
	}
}

// TestChangesAreFollowed: deletions, names that move, and objects that come back.
func TestChangesAreFollowed(t *testing.T) {
	w := newWorld(t, "")
	one := tenant(1)
	a, b := w.put(one, "text/plain", "alpha text"), w.put(one, "text/plain", "beta text")
	w.name(one, "current", a)
	w.want(one, "name:current text:alpha", a)
	w.name(one, "current", b)
	w.want(one, "name:current", b)
	w.want(one, "name:current text:alpha")
	w.drop(one, b)
	w.want(one, "text", a)
	w.want(one, "current", b) // the name still points there
	w.unname(one, "current")
	w.want(one, "current")
	w.want(one, "", a)
	w.put(one, "text/plain", "beta text")
	w.want(one, "text", a, b)
	w.mu.Lock()
	before := w.reads
	w.mu.Unlock()
	w.put(one, "text/plain", "beta text") // again: nothing is to be done
	w.want(one, "beta", b)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reads != before {
		t.Error("an object that is indexed was read again")
	}
}

// TestDamagedObject: one whose bytes are damaged is found by what else is known, and read
// when good bytes are put.
func TestDamagedObject(t *testing.T) {
	w := newWorld(t, "")
	one := tenant(1)
	w.mu.Lock()
	w.damaged[b3.Sum([]byte("secret words"))] = true
	w.mu.Unlock()
	a := w.put(one, "text/plain", "secret words")
	w.want(one, "type:text/plain", a)
	w.want(one, "secret")
	w.mu.Lock()
	clear(w.damaged)
	w.mu.Unlock()
	w.put(one, "text/plain", "secret words")
	w.want(one, "secret", a)
}
