// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
)

const some = 40 // objects

func (w *world) fill(t macronode.TenantID) {
	for i := range some {
		w.put(t, "text/plain", fmt.Sprintf("common number%d", i))
	}
	w.name(t, "the.name", b3.Sum([]byte("common number7")))
}

// whole checks that everything that fill made is found, in the generation.
func (w *world) whole(t macronode.TenantID, generation uint64) {
	w.t.Helper()
	r := w.mustAsk(t, "common", "wait_ms", "8000")
	if r.Total != some || !r.Complete || r.Generation != generation {
		w.t.Errorf("%d of %d found, complete %t, generation %d, want %d", r.Total, some, r.Complete, r.Generation, generation)
	}
	w.want(t, "name:the number7", b3.Sum([]byte("common number7")))
}

func glob(t testing.TB, pattern ...string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(list) == 0 {
		t.Fatalf("no file is like %s", filepath.Join(pattern...))
	}
	return list
}

func flip(t testing.TB, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 0x10
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRestart: what was indexed is there again, and nothing is built anew.
func TestRestart(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fill(tenant(1))
	w.whole(tenant(1), 1)
	w.restart()
	w.mu.Lock()
	w.reads = 0
	w.mu.Unlock()
	w.whole(tenant(1), 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reads > 0 {
		t.Errorf("%d objects were read again", w.reads)
	}
}

// segments calls harm with each segment: older ones may be merged into newer, and where
// the last snapshot cannot be loaded the one before it is, which the journal completes.
func segments(t *testing.T, dir string, harm func(file string)) {
	t.Helper()
	for _, file := range glob(t, dir, "store", "*.zap") {
		harm(file)
	}
}

// TestLastSegmentGone: whether the index goes back to an older snapshot of itself or is
// built again, it answers whole.
func TestLastSegmentGone(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.fill(tenant(1))
	w.whole(tenant(1), 1)
	w.stop()
	list := glob(t, w.dir, tenant(1).String(), "1", "store", "*.zap")
	if err := os.Remove(list[len(list)-1]); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.eventually("whole answers", func() bool {
		r := w.mustAsk(tenant(1), "common", "wait_ms", "8000")
		return r.Complete && r.Total == some
	})
	w.want(tenant(1), "name:the number7", b3.Sum([]byte("common number7")))
}

// TestDamage: whatever becomes of the files while the facet is down, the index is built
// again and whole.
func TestDamage(t *testing.T) {
	one := tenant(1)
	for name, harm := range map[string]func(t *testing.T, dir string){
		"a bit of each segment": func(t *testing.T, dir string) {
			segments(t, dir, func(file string) { flip(t, file) })
		},
		"the segments are gone": func(t *testing.T, dir string) {
			segments(t, dir, func(file string) {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			})
		},
		"the segments are cut off": func(t *testing.T, dir string) {
			segments(t, dir, func(file string) {
				if err := os.Truncate(file, 100); err != nil {
					t.Fatal(err)
				}
			})
		},
		"the root is cut off": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "store", "root.bolt"), 5000); err != nil {
				t.Fatal(err)
			}
		},
		"the root is empty": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "store", "root.bolt"), 0); err != nil {
				t.Fatal(err)
			}
		},
		"the description is no JSON": func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "index_meta.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"it is gone": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, t.TempDir())
			w.fill(one)
			w.fill(tenant(2))
			w.whole(one, 1)
			w.whole(tenant(2), 1)
			w.stop()
			harm(t, filepath.Join(w.dir, one.String(), "1"))
			w.start()
			w.whole(one, 2)
			w.whole(tenant(2), 1)
			w.eventually("only the new generation is left", func() bool {
				list, err := os.ReadDir(filepath.Join(w.dir, one.String()))
				return err == nil && len(list) == 1 && list[0].Name() == "2"
			})
			if name != "it is gone" {
				glob(t, w.dir, "quarantine", one.String()+"-1")
			}
		})
	}
}

// TestOldStateComesBack: an index that knows less than it once did is not believed.
func TestOldStateComesBack(t *testing.T) {
	w := newWorld(t, t.TempDir())
	one := tenant(1)
	w.put(one, "text/plain", "early")
	w.mustAsk(one, "early")
	w.stop()
	dir, old := filepath.Join(w.dir, one.String(), "1"), filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.fill(one)
	w.whole(one, 1)
	w.stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.whole(one, 2)
}

// TestDeletedWhileOpen: the files go under a running facet.
func TestDeletedWhileOpen(t *testing.T) {
	w := newWorld(t, t.TempDir())
	one := tenant(1)
	w.fill(one)
	w.whole(one, 1)
	if err := os.RemoveAll(filepath.Join(w.dir, one.String())); err != nil {
		t.Fatal(err)
	}
	late := w.put(one, "text/plain", "late")
	w.eventually("what comes later is found", func() bool {
		r, err := w.ask(one, "late")
		return err == nil && len(r.Hits) == 1 && r.Hits[0].Addr == late.String()
	})
	w.restart()
	w.eventually("everything is found after a restart", func() bool {
		r, err := w.ask(one, "common")
		return err == nil && r.Total == some && r.Complete
	})
}

// TestOff: what changes while nobody follows is found when somebody does again.
func TestOff(t *testing.T) {
	w := newWorld(t, t.TempDir())
	one := tenant(1)
	gone := w.put(one, "text/plain", "common but gone")
	w.mustAsk(one, "common")
	w.stop()
	if err := Leave(context.Background(), w.journal); err != nil {
		t.Fatal(err)
	}
	w.drop(one, gone)
	w.fill(one)
	w.start()
	w.whole(one, 2)
}

// held is Objects whose pages wait.
type held struct {
	worldObjects
	release chan struct{}
}

func (h held) Page(ctx context.Context, t macronode.TenantID, after *b3.Addr, limit int) ([]Object, error) {
	select {
	case <-h.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.worldObjects.Page(ctx, t, after, limit)
}

// TestHonestWhileBuilding: answers say that they are not whole, and who waits for
// everything is refused in time.
func TestHonestWhileBuilding(t *testing.T) {
	w := newWorld(t, t.TempDir())
	one := tenant(1)
	w.fill(one)
	w.whole(one, 1)
	w.stop()
	if err := os.RemoveAll(filepath.Join(w.dir, one.String())); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	w.start(func(c *Config) { c.Objects = held{worldObjects{w}, release} })
	// Names come first: the named object is found, and the rest is not, yet.
	w.eventually("the beginning is found", func() bool {
		r := w.mustAsk(one, "common", "after", "")
		if r.Complete || r.Generation != 2 {
			t.Errorf("complete %t, generation %d", r.Complete, r.Generation)
		}
		return r.Total == 1 || t.Failed()
	})
	if _, err := w.ask(one, "common", "wait_ms", "20"); macronode.KindOf(err) != macronode.DeadlineExceeded {
		t.Errorf("an answer that cannot be whole: %v", err)
	}
	close(release)
	w.whole(one, 2)
}

// TestPurge: nothing of the tenant is left, and others keep theirs.
func TestPurge(t *testing.T) {
	w := newWorld(t, t.TempDir())
	one, two := tenant(1), tenant(2)
	w.fill(one)
	w.fill(two)
	w.whole(one, 1)
	w.whole(two, 1)
	w.mu.Lock()
	delete(w.objects, one)
	delete(w.names, one)
	w.mu.Unlock()
	w.record(journal.Change{Tenant: one, Kind: journal.TenantPurged}, nil)
	if err := w.facet.Purge(context.Background(), one); err != nil {
		t.Fatal(err)
	}
	gone := func() bool {
		_, err := os.Stat(filepath.Join(w.dir, one.String()))
		return os.IsNotExist(err)
	}
	if !gone() {
		t.Error("the purge left files")
	}
	w.eventually("the journal's word is taken", func() bool { return w.facet.Waiting() == 0 })
	if !gone() {
		t.Error("the index came back")
	}
	if rec, err := w.facet.record(context.Background(), one); err != nil || rec != (record{}) {
		t.Errorf("metadata still has %+v, %v", rec, err)
	}
	w.whole(two, 1)
	if r := w.mustAsk(one, "common"); r.Total != 0 {
		t.Errorf("%d hits after the purge", r.Total)
	}
}

// TestFewOpen: more tenants than indexes may be open.
func TestFewOpen(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.restart(func(c *Config) { c.MaxOpen = 3 })
	for i := range byte(12) {
		w.put(tenant(i+1), "text/plain", fmt.Sprintf("word%d", i))
	}
	for range 2 {
		for i := range byte(12) {
			w.want(tenant(i+1), fmt.Sprintf("word%d", i), b3.Sum(fmt.Appendf(nil, "word%d", i)))
			w.want(tenant(i+1), fmt.Sprintf("word%d", (i+1)%12))
		}
	}
	w.facet.mu.Lock()
	defer w.facet.mu.Unlock()
	if w.facet.open > 4 {
		t.Errorf("%d indexes are open, 3 may be", w.facet.open)
	}
}
