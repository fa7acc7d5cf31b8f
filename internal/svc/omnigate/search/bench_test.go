// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/search/query"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/words"
)

// sectionWords is about how long a section of the corpus is.
const sectionWords = 120

// corpus is the Go toolchain's own sources and documents, cut into sections, and words to
// search for.
func corpus(b *testing.B, n int) (sections []string, terms []string) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	root, err := exec.CommandContext(b.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	err = filepath.WalkDir(string(bytes.TrimSpace(root)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || len(sections) >= n {
			return err
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".html", ".txt", ".s":
		default:
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all := bytes.Fields(text)
		for at := 0; at < len(all) && len(sections) < n; at += sectionWords {
			part := all[at:min(at+sectionWords, len(all))]
			sections = append(sections, fmt.Sprintf("%s %d\n%s", path, at, bytes.Join(part, []byte(" "))))
			if t := words.Terms(string(part[r.IntN(len(part))])); len(t) > 0 && len(t[0]) > 2 {
				terms = append(terms, t[0])
			}
		}
		return nil
	})
	if err != nil || len(sections) < n {
		b.Fatalf("%d sections, %d are wanted (%v)", len(sections), n, err)
	}
	return sections, terms
}

func wanted(b *testing.B) int {
	n := 3000
	if v := os.Getenv("SEARCH_SECTIONS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	return n
}

func report(b *testing.B, name string, times []time.Duration) {
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, name+"-p50-ms")
	b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, name+"-p95-ms")
}

// BenchmarkCorpus builds an index of the corpus and asks it, as the facet does and as the
// library does by itself with its own defaults. SEARCH_SECTIONS is how many sections.
func BenchmarkCorpus(b *testing.B) {
	n := wanted(b)
	b.Run("facet", func(b *testing.B) {
		for b.Loop() {
			benchFacet(b, n)
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			benchPlain(b, n)
		}
	})
}

func benchFacet(b *testing.B, n int) {
	b.StopTimer()
	sections, terms := corpus(b, n)
	kv, w := openKept(b, b.TempDir())
	w.stop()
	for part := range slices.Chunk(sections, 500) {
		if err := kv.Update(context.Background(), func(tx store.Tx) error {
			for _, s := range part {
				if err := tx.Set(keptKey(b3.Sum([]byte(s))), []byte(s)); err != nil {
					return err
				}
			}
			return w.journal.Record(tx, journal.Change{Tenant: tenant(1), Kind: journal.ObjectPut, Addr: b3.Sum([]byte(part[0]))})
		}); err != nil {
			b.Fatal(err)
		}
	}
	sections = nil
	debug.FreeOSMemory()
	b.StartTimer()
	began := time.Now()
	w.start(func(c *Config) { c.Objects, c.Names = kept{kv}, nil })
	for w.mustAsk(tenant(1), "nothing", "after", "").Complete == false {
		<-time.After(5 * time.Millisecond)
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "sections/s")
	b.ReportMetric(float64(anonymous(b))/(1<<20), "anon-MiB")
	times := timed(terms, func(x, y string) {
		w.mustAsk(tenant(1), x+" "+y, "limit", "10", "after", "")
	})
	report(b, "query", times)
	b.StopTimer()
	w.stop()
	b.StartTimer()
}

func benchPlain(b *testing.B, n int) {
	b.StopTimer()
	sections, terms := corpus(b, n)
	b.StartTimer()
	began := time.Now()
	x, err := bleve.New(filepath.Join(b.TempDir(), "plain"), bleve.NewIndexMapping())
	if err != nil {
		b.Fatal(err)
	}
	for part := range slices.Chunk(sections, maxBatchDocs) {
		batch := x.NewBatch()
		for _, s := range part {
			if err := batch.Index(b3.Sum([]byte(s)).String(), map[string]any{"text": s, "type": "text/plain", "size": float64(len(s))}); err != nil {
				b.Fatal(err)
			}
		}
		if err := x.Batch(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/time.Since(began).Seconds(), "sections/s")
	times := timed(terms, func(p, q string) {
		m := query.NewMatchQuery(p + " " + q)
		m.SetOperator(query.MatchQueryOperatorAnd)
		req := bleve.NewSearchRequestOptions(m, 10, 0, false)
		req.Fields = []string{"type", "size"}
		if _, err := x.Search(req); err != nil {
			b.Fatal(err)
		}
	})
	report(b, "query", times)
	if err := x.Close(); err != nil {
		b.Fatal(err)
	}
}

// ask makes queries of one word and of two.
func timed(terms []string, do func(x, y string)) (times []time.Duration) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 600 {
		x, y := terms[r.IntN(len(terms))], ""
		if i%2 == 1 {
			y = terms[r.IntN(len(terms))]
		}
		began := time.Now()
		do(x, y)
		times = append(times, time.Since(began))
	}
	return times[100:]
}

// anonymous is the anonymous memory of the process, in bytes.
func anonymous(b *testing.B) (n int64) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}
