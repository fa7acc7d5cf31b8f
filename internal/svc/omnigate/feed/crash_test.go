// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/facettest"
	"github.com/rustyonions/macronode/internal/svc/omnigate/graph"
)

// TestCrash loses power while posts are on their way, again and again: in the end
// every follower has every post that was answered, once and in order, and the counts
// are right.
func TestCrash(t *testing.T) {
	const followers, posts = 3*stepSize + 7, 4
	for seed := range uint64(4) {
		fs := disk.Crashable()
		w := over(t, onDisk(t, fs))
		var edges []graph.PutRequest
		for i := range followers {
			edges = append(edges, graph.PutRequest{From: fmt.Sprintf("id/%04d", i), Type: graph.FollowType, To: "name/a"})
		}
		w.Ask(req{Op: "graph.import", Body: graph.ImportRequest{Edges: edges}}, nil)
		var want []string
		lives := 0
		for i := range posts {
			text := fmt.Sprint("post ", i)
			want = append([]string{text}, want...)
			w.publish("name/a", text)
			// Some steps, then the power goes, perhaps with what was not synced.
			for range int(seed) + i%3 {
				j, ok := w.f.queue.take()
				if !ok {
					break
				}
				more, err := w.f.step(t.Context(), j)
				if err != nil {
					t.Fatal(err)
				}
				w.f.queue.done(j, more)
			}
			fs = fs.Crash(int(seed%3)*50, seed+uint64(i))
			w = over(t, onDisk(t, fs))
			if err := w.f.load(t.Context()); err != nil {
				t.Fatal(err)
			}
			lives++
		}
		w.serve()
		w.settle()
		for i := range followers {
			if got := w.texts(fmt.Sprintf("id/%04d", i), 100, nil); !slices.Equal(got, want) {
				t.Fatalf("seed %d, %d lives: follower %d has %v, want %v", seed, lives, i, got, want)
			}
			if n := w.entries(fmt.Sprintf("id/%04d", i)); n != posts {
				t.Fatalf("%d entries", n)
			}
		}
		var page Page
		w.Ask(req{Op: "feed.posts", Query: kvs{"author": "name/a"}}, &page)
		for _, p := range page.Posts {
			var s PostState
			if w.Ask(req{Op: "feed.post", Path: kvs{"post": p.PostID}}, &s); s.Delivered != followers || !s.Done {
				t.Errorf("seed %d: %+v", seed, s)
			}
		}
		var st Status
		if w.Ask(req{Op: "feed.status"}, &st); st.Posts != posts || st.Pending != 0 {
			t.Errorf("seed %d: %+v", seed, st)
		}
	}
}

// TestCrashedPublication: a post and its work are there together or not at all, and
// with them the first answer.
func TestCrashedPublication(t *testing.T) {
	for seed := range uint64(20) {
		fs := disk.Crashable()
		w := over(t, onDisk(t, fs))
		w.follow("id/bob", "name/a", nil)
		done := make(chan struct{})
		var after *disk.FS
		go func() {
			defer close(done)
			after = fs.Crash(int(seed%3)*50, seed)
		}()
		q := publishing("name/a", "text")
		q.Key = "k"
		if _, err := w.Do(q); err != nil {
			t.Fatal(err)
		}
		<-done
		w = over(t, onDisk(t, after))
		tenant := facettest.Tenant(7).ID
		var posts, jobs int
		err := w.f.kv.View(t.Context(), func(r store.Reader) error {
			for kind, n := range map[byte]*int{postKey: &posts, workKey: &jobs} {
				base := key(tenant, kind)
				if err := r.Scan(base, store.After(base), func(_, _ []byte) bool { *n++; return true }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || posts != jobs {
			t.Fatalf("seed %d: %d posts, %d jobs, %v", seed, posts, jobs, err)
		}
		reply, err := w.Do(q)
		if err != nil || (reply.Header.Get("Idempotency-Replayed") == "true") != (posts == 1) {
			t.Fatalf("seed %d: %d posts, and the retry is %+v, %v", seed, posts, reply, err)
		}
		if err := w.f.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.serve()
		w.settle()
		same(t, "bob", w.texts("id/bob", 10, nil), "text")
	}
}

// TestLoadAllTenants: after a restart the work of every tenant goes on.
func TestLoadAllTenants(t *testing.T) {
	kv := memory(t)
	w := over(t, kv)
	for n := range byte(5) {
		tenant := facettest.Tenant(n + 10)
		w.follow("id/bob", "name/a", tenant)
		q := publishing("name/a", fmt.Sprint("for ", n))
		q.Tenant = tenant
		w.Ask(q, nil)
	}
	w = over(t, kv)
	w.serve()
	late := func(tenant *macronode.Tenant) bool { return len(w.texts("id/bob", 10, tenant)) == 0 }
	for n := range byte(5) {
		for late(facettest.Tenant(n + 10)) {
			w.settle()
		}
		same(t, "bob", w.texts("id/bob", 10, facettest.Tenant(n+10)), fmt.Sprint("for ", n))
	}
}
