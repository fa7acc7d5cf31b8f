// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/facettest"
	"github.com/rustyonions/macronode/internal/svc/omnigate/graph"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

type (
	req = facettest.Request
	kvs = map[string]string
)

// patience bounds every wait; nothing here is timed.
const patience = 30 * time.Second

// world is a feed and a graph over kv.
type world struct {
	*facettest.Driver
	t testing.TB
	f *Facet
}

func limits() Settings { return Settings{MaxEntries: 1000, MaxPosts: 100_000, MaxPending: 10_000} }

// over makes the facets. What brings posts to followers runs once serve is called.
func over(t testing.TB, kv store.KV, change ...func(*Config)) *world {
	t.Helper()
	keeper := idem.New(idem.Config{KV: kv})
	g, err := graph.New(graph.Config{KV: kv, Idem: keeper, Settings: graph.Settings{MaxEdges: 1_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{KV: kv, Idem: keeper, Graph: g, Settings: limits()}
	for _, f := range change {
		f(&c)
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &world{facettest.Drive(t, admit, append(f.Routes(), g.Routes()...)), t, f}
}

// serve runs the feed until stop is called or the test ends.
func (w *world) serve() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.f.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Serve: %v", err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func open(t testing.TB, change ...func(*Config)) *world {
	w := over(t, memory(t), change...)
	w.serve()
	return w
}

func (w *world) follow(who, whom string, tenant *macronode.Tenant) {
	w.t.Helper()
	w.Ask(req{Op: "graph.put", Tenant: tenant, Body: graph.PutRequest{From: who, Type: graph.FollowType, To: whom}}, nil)
}

func (w *world) unfollow(who, whom string) {
	w.t.Helper()
	w.Ask(req{Op: "graph.delete", Query: kvs{"from": who, "type": graph.FollowType, "to": whom}}, nil)
}

func publishing(author, text string) req {
	return req{Op: "feed.publish", Body: PublishRequest{Author: author, Text: text}}
}

func (w *world) publish(author, text string) string {
	w.t.Helper()
	var p Published
	if status := w.Ask(publishing(author, text), &p); status != 201 {
		w.t.Errorf("published: %d", status)
	}
	return p.PostID
}

// settle waits until nothing is on its way.
func (w *world) settle() {
	w.t.Helper()
	late := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if n, _ := w.f.queue.state(); n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatal("posts do not arrive")
		}
	}
}

// texts is what a timeline shows, newest first, in pages of limit.
func (w *world) texts(of string, limit int, tenant *macronode.Tenant) (out []string) {
	w.t.Helper()
	for cursor := ""; ; {
		q := kvs{"id": of, "limit": strconv.Itoa(limit)}
		if cursor != "" {
			q["cursor"] = cursor
		}
		var page Page
		w.Ask(req{Op: "feed.read", Query: q, Tenant: tenant}, &page)
		for _, p := range page.Posts {
			out = append(out, p.Text)
		}
		if cursor = page.Cursor; cursor == "" {
			return out
		}
	}
}

func same(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestPosts(t *testing.T) {
	w := open(t)
	w.follow("id/bob", "name/alice", nil)
	w.follow("id/carol", "name/alice", nil)
	w.follow("id/bob", "name/dan", nil)
	first := w.publish("name/alice", "one")
	w.publish("name/dan", "two")
	w.settle()
	w.follow("id/late", "name/alice", nil)
	w.unfollow("id/carol", "name/alice")
	w.publish("name/alice", "three\nlines\tand tabs")
	w.settle()
	same(t, "bob", w.texts("id/bob", 2, nil), "three\nlines\tand tabs", "two", "one")
	same(t, "carol, who left", w.texts("id/carol", 10, nil), "one")
	same(t, "who came late", w.texts("id/late", 10, nil), "three\nlines\tand tabs")
	same(t, "the author", w.texts("name/alice", 10, nil))
	var s PostState
	w.Ask(req{Op: "feed.post", Path: kvs{"post": first}}, &s)
	if s.Delivered != 2 || !s.Done || s.Author != "name/alice" || s.Text != "one" {
		t.Errorf("%+v", s)
	}
	if at, err := time.Parse(time.RFC3339, s.TS); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("published at %s", s.TS)
	}
	var mine Page
	w.Ask(req{Op: "feed.posts", Query: kvs{"author": "name/alice", "limit": "1"}}, &mine)
	if len(mine.Posts) != 1 || mine.Posts[0].Text != "three\nlines\tand tabs" || mine.Cursor == "" {
		t.Errorf("%+v", mine)
	}
	var st Status
	w.Ask(req{Op: "feed.status"}, &st)
	if st != (Status{3, 0, 100_000, 10_000, 1000}) {
		t.Errorf("%+v", st)
	}
	if status := w.Ask(req{Op: "feed.unpublish", Path: kvs{"post": first}}, nil); status != 204 {
		t.Error(status)
	}
	same(t, "bob, without it", w.texts("id/bob", 10, nil), "three\nlines\tand tabs", "two") // at once
	w.Refuse(req{Op: "feed.unpublish", Path: kvs{"post": first}}, macronode.NotFound)
	w.Refuse(req{Op: "feed.post", Path: kvs{"post": first}}, macronode.NotFound)
	w.settle()
	if n := w.entries("id/bob"); n != 2 {
		t.Errorf("bob's timeline has %d entries", n)
	}
}

// entries counts those of a timeline, and compares with the length that is kept.
func (w *world) entries(of_ string) (n int) {
	w.t.Helper()
	tenant := facettest.Tenant(7).ID
	base := of(tenant, timelineKey, vertex.Vertex(of_))
	err := w.f.kv.View(w.t.Context(), func(r store.Reader) error {
		if err := r.Scan(base, store.After(base), func(_, _ []byte) bool { n++; return true }); err != nil {
			return err
		}
		said, err := length(r, of(tenant, lengthKey, vertex.Vertex(of_)))
		if said != n {
			w.t.Errorf("%s has %d entries and is said to have %d", of_, n, said)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

func TestRefusals(t *testing.T) {
	w := open(t)
	for _, body := range []PublishRequest{{Author: "name/a"}, {Text: "x"}, {Author: "a", Text: "x"}, {Author: "name/a", Item: "b", Text: "x"},
		{Author: "name/a", Text: strings.Repeat("x", MaxTextBytes+1)}, {Author: "name/a", Text: "a\x00"}, {Author: "name/a", Text: "a\x1b[31m"}} {
		w.Refuse(req{Op: "feed.publish", Body: body}, macronode.Malformed)
	}
	w.Refuse(req{Op: "feed.publish", Raw: `{"author":"name/a","text":"x","more":1}`}, macronode.Malformed)
	for _, q := range []kvs{{}, {"id": "x"}, {"id": "id/a", "limit": "0"}, {"id": "id/a", "cursor": "AAAA"}, {"id": "id/a", "author": "id/b"}} {
		w.Refuse(req{Op: "feed.read", Query: q}, macronode.Malformed)
	}
	w.Refuse(req{Op: "feed.watch", Query: kvs{"id": "x"}}, macronode.Malformed)
	w.Refuse(req{Op: "feed.watch", Query: kvs{"id": "id/a"}, Header: macronode.Header{"Last-Event-Id": {"x"}}}, macronode.Malformed)
	for _, id := range []string{"", "x", strings.Repeat("0", 26), strings.ToLower(ulid.Make().String())} {
		w.Refuse(req{Op: "feed.post", Path: kvs{"post": id}}, macronode.NotFound)
		w.Refuse(req{Op: "feed.unpublish", Path: kvs{"post": id}}, macronode.NotFound)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a feed without a store")
	}
	if w.f.SetSettings(Settings{MaxEntries: 0, MaxPosts: 1, MaxPending: 1}) == nil {
		t.Error("timelines without room")
	}
}

func TestIdempotency(t *testing.T) {
	w := open(t)
	w.follow("id/bob", "name/alice", nil)
	q := publishing("name/alice", "once")
	q.Key = "k"
	first, err := w.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Do(q)
	if err != nil || !bytes.Equal(first.Body, again.Body) || again.Header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("%+v, %v", again, err)
	}
	w.settle()
	same(t, "bob", w.texts("id/bob", 10, nil), "once")
	other := publishing("name/alice", "twice")
	other.Key = "k"
	w.Refuse(other, macronode.IdempotencyMismatch)
}

// The oldest go where there are too many, in timelines and of authors.
func TestTrimming(t *testing.T) {
	const most = 16
	w := open(t, func(c *Config) { c.Settings.MaxEntries = most })
	w.follow("id/bob", "name/a", nil)
	w.follow("id/bob", "name/b", nil)
	var all []string
	for i := range 60 {
		text := fmt.Sprint("post ", i)
		w.publish([]string{"name/a", "name/b"}[i%2], text)
		all = append([]string{text}, all...)
		w.settle()
		got := w.texts("id/bob", 100, nil)
		if n := w.entries("id/bob"); n > most+most/8 || len(got) < min(most, len(all)) {
			t.Fatalf("%d entries, %d shown", n, len(got))
		}
		if !slices.Equal(got, all[:len(got)]) {
			t.Fatalf("%v, want the newest of %v", got, all)
		}
	}
	var st Status
	w.Ask(req{Op: "feed.status"}, &st)
	if st.Posts > 2*(most+most/8) || st.Posts < 2*most || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// Publishing is refused beyond the tenant's posts, and waits for those on their way.
func TestLimits(t *testing.T) {
	w := over(t, memory(t), func(c *Config) { c.Settings.MaxPending, c.Settings.MaxPosts = 3, 4 })
	for i := range 3 {
		w.publish("name/a", fmt.Sprint(i))
	}
	if e := w.Refuse(publishing("name/a", "x"), macronode.QuotaDepth); e.RetryHint() <= 0 {
		t.Error("a refusal for want of room does not say when there may be some")
	}
	w.Ask(func() req { q := publishing("name/a", "x"); q.Tenant = facettest.Tenant(8); return q }(), nil)
	w.serve()
	w.settle()
	w.publish("name/a", "fits")
	w.settle()
	w.Refuse(publishing("name/a", "x"), macronode.QuotaObjects)
}

func TestStranger(t *testing.T) {
	w := open(t)
	stranger := facettest.Tenant(9)
	w.follow("id/bob", "name/alice", nil)
	w.follow("id/spy", "name/alice", stranger) // the stranger's own edge and names
	id := w.publish("name/alice", "secret")
	w.settle()
	never := ulid.Make().String()
	answer := func(r req) string {
		r.Tenant = stranger
		reply, err := w.Do(r)
		if err != nil {
			return fmt.Sprint(macronode.AsError(err).Problem("c"))
		}
		return fmt.Sprint(reply.Status, " ", string(reply.Body))
	}
	for _, op := range []macronode.Op{"feed.post", "feed.unpublish"} {
		theirs, nobodys := answer(req{Op: op, Path: kvs{"post": id}}), answer(req{Op: op, Path: kvs{"post": never}})
		if theirs != nobodys {
			t.Errorf("%s: %s, and of what never was: %s", op, theirs, nobodys)
		}
	}
	for _, who := range []string{"id/bob", "id/spy"} {
		same(t, who, w.texts(who, 10, stranger))
	}
	for _, r := range []req{{Op: "feed.posts", Query: kvs{"author": "name/alice"}}, {Op: "feed.status"}} {
		if got := answer(r); strings.Contains(got, "secret") || strings.Contains(got, `"posts":1`) {
			t.Errorf("%s: %s", r.Op, got)
		}
	}
	same(t, "bob", w.texts("id/bob", 10, nil), "secret")
	if err := w.f.Purge(t.Context(), stranger.ID); err != nil {
		t.Fatal(err)
	}
	same(t, "bob, after the stranger's end", w.texts("id/bob", 10, nil), "secret")
	if err := w.f.Purge(t.Context(), facettest.Tenant(7).ID); err != nil {
		t.Fatal(err)
	}
	same(t, "bob, after the end", w.texts("id/bob", 10, nil))
	lo := tenantKeys(facettest.Tenant(7).ID)
	n := 0
	if err := w.f.kv.View(t.Context(), func(r store.Reader) error {
		return r.Scan(lo, store.After(lo), func(_, _ []byte) bool { n++; return true })
	}); err != nil || n != 0 {
		t.Errorf("%d keys are left, %v", n, err)
	}
}

// stalling is a graph whose pages come when a test says so.
type stalling struct {
	Graph
	pages  chan struct{}
	fail   error
	panics bool
}

func (s *stalling) Followers(ctx context.Context, t macronode.TenantID, of vertex.Vertex, after []byte, most int) ([]vertex.Vertex, []byte, error) {
	select {
	case <-s.pages:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if s.panics {
		panic("a bug")
	}
	if s.fail != nil {
		return nil, nil, s.fail
	}
	return s.Graph.Followers(ctx, t, of, after, most)
}

// A post that is unpublished on its way reaches nobody any more, and leaves nothing.
func TestUnpublishedOnItsWay(t *testing.T) {
	var s *stalling
	w := open(t, func(c *Config) { s = &stalling{Graph: c.Graph, pages: make(chan struct{})}; c.Graph = s })
	for i := range 2*stepSize + 5 {
		w.follow(fmt.Sprintf("id/%04d", i), "name/a", nil)
	}
	id := w.publish("name/a", "regretted")
	s.pages <- struct{}{} // the first page, and the second is asked for
	s.pages <- struct{}{}
	w.Ask(req{Op: "feed.unpublish", Path: kvs{"post": id}}, nil)
	close(s.pages)
	w.settle()
	for i := range 2*stepSize + 5 {
		if n := w.entries(fmt.Sprintf("id/%04d", i)); n != 0 {
			t.Fatalf("follower %d has %d entries", i, n)
		}
	}
	var st Status
	if w.Ask(req{Op: "feed.status"}, &st); st.Posts != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

// What fails on the way is tried again; the facet goes on. Damage ends it.
func TestStepFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *stalling
		w := over(t, memory(t), func(c *Config) { s = &stalling{Graph: c.Graph, pages: make(chan struct{}, 100)}; c.Graph = s })
		s.fail = errors.New("no disk")
		w.follow("id/bob", "name/a", nil)
		stop := w.serve()
		w.publish("name/a", "slow")
		s.pages <- struct{}{}
		synctest.Wait()
		if n, _ := w.f.queue.state(); n != 1 {
			t.Errorf("%d jobs", n)
		}
		s.fail = nil
		s.pages <- struct{}{}
		<-time.After(2 * retryStep)
		synctest.Wait()
		same(t, "bob", w.texts("id/bob", 10, nil), "slow")
		stop()
		s.fail = errMeta
		w.publish("name/a", "damaged")
		s.pages <- struct{}{}
		if err := w.f.Serve(t.Context()); !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("damage: %v", err)
		}
		s.panics = true
		s.pages <- struct{}{}
		if err := w.f.Serve(t.Context()); !errors.Is(err, errPanicked) {
			t.Errorf("a panic: %v", err)
		}
		s.fail, s.panics = nil, false // nothing is lost of it
		w.serve()
		s.pages <- struct{}{}
		synctest.Wait()
		same(t, "bob, at last", w.texts("id/bob", 10, nil), "damaged", "slow")
	})
}

func TestIDsGrow(t *testing.T) {
	var g ids
	now := time.UnixMilli(1_700_000_000_000)
	last := g.next(now)
	for i := range 10_000 {
		at := now
		switch i % 3 {
		case 1:
			at = now.Add(time.Duration(i) * time.Millisecond)
		case 2:
			at = now.Add(-time.Hour) // the clock went back
		}
		id := g.next(at)
		if id.Compare(last) <= 0 {
			t.Fatalf("%s after %s", id, last)
		}
		last = id
	}
	g.last = ulid.ULID{}
	if err := g.last.SetTime(ulid.Timestamp(now)); err != nil {
		t.Fatal(err)
	}
	for i := 6; i < 16; i++ {
		g.last[i] = 0xff
	}
	full := g.last
	if id := g.next(now); id.Compare(full) <= 0 {
		t.Errorf("%s after %s", id, full)
	}
}
