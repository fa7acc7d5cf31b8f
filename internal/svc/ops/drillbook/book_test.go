// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drillbook

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store/mem"
)

var begun = time.UnixMilli(1_800_000_000_000)

type gauges map[string]func() map[string]float64

func (g gauges) GaugeSet(name, _, _ string, read func() map[string]float64) { g[name] = read }

// What is recorded is there after a restart; a drill that is not carried out
// becomes overdue, also one that never was.
func TestBookRemembers(t *testing.T) {
	kv, now := mem.NewKV(mem.KVConfig{}), begun
	open := func() *Book {
		b, err := Open(t.Context(), kv, 24*time.Hour, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	entry := func(b *Book, name string) Entry {
		list := b.Entries()
		return list[slices.IndexFunc(list, func(e Entry) bool { return e.Name == name })]
	}
	b := open()
	now = now.Add(time.Hour)
	at := now.UnixMilli()
	if _, err := b.Record(t.Context(), Result{Name: "disk-full", Pass: true, Seconds: 2, AtMS: at, Report: "b3:0"}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := b.Record(t.Context(), Result{Name: "disk-full", Error: "the disk was not full", AtMS: now.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	// An older report, handed in late, is not the last one.
	if _, err := b.Record(t.Context(), Result{Name: "disk-full", Error: "late", AtMS: at - 1}); err != nil {
		t.Fatal(err)
	}
	now = now.Add(24 * time.Hour)
	b = open()
	if e := entry(b, "disk-full"); e.LastPassedMS != at || e.Last == nil || e.Last.Pass || e.Last.Error != "the disk was not full" || e.OverdueMS != time.Hour.Milliseconds() {
		t.Errorf("disk-full: %+v, last %+v", e, e.Last)
	}
	if e := entry(b, "oversize"); e.Last != nil || e.OverdueMS != (2*time.Hour).Milliseconds() {
		t.Errorf("one that never ran: %+v", e)
	}
	g := gauges{}
	b.Register(g)
	seen := g["drill_last_passed_timestamp_seconds"]()
	if len(seen) != len(Names()) || seen["disk-full"] != float64(at)/1000 || seen["oversize"] != float64(begun.UnixMilli())/1000 {
		t.Errorf("gauge: %v", seen)
	}
}

func TestBookRefuses(t *testing.T) {
	b, err := Open(t.Context(), mem.NewKV(mem.KVConfig{}), time.Hour, func() time.Time { return begun })
	if err != nil {
		t.Fatal(err)
	}
	at := begun.UnixMilli()
	for what, r := range map[string]Result{
		"a name that is none":   {Name: "since", Pass: true, AtMS: at},
		"the future":            {Name: "oversize", Pass: true, AtMS: at + 3_600_000},
		"no time":               {Name: "oversize", Pass: true},
		"passed with an error":  {Name: "oversize", Pass: true, Error: "x", AtMS: at},
		"failed without one":    {Name: "oversize", AtMS: at},
		"a novel":               {Name: "oversize", Error: strings.Repeat("x", maxError+1), AtMS: at},
		"a report that is none": {Name: "oversize", Pass: true, Report: strings.Repeat("x", maxDigest+1), AtMS: at},
		"negative time":         {Name: "oversize", Pass: true, Seconds: -1, AtMS: at},
	} {
		if _, err := b.Record(t.Context(), r); macronode.KindOf(err) != macronode.Invalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A node starts without its drills: damage and a full disk are told, and the book
// goes on.
func TestBookOpensAnyway(t *testing.T) {
	kv := mem.NewKV(mem.KVConfig{MaxBytes: 1})
	b, err := Open(t.Context(), kv, time.Hour, func() time.Time { return begun })
	if err == nil || len(b.Entries()) != len(Names()) || b.Entries()[0].DueMS != begun.Add(time.Hour).UnixMilli() {
		t.Errorf("a full disk: %v, %+v", err, b.Entries()[0])
	}
	if _, err := b.Record(t.Context(), Result{Name: "oversize", Pass: true, AtMS: begun.UnixMilli()}); macronode.KindOf(err) != macronode.DiskFull {
		t.Errorf("a result on a full disk: %v", err)
	}
	if e := b.Entries(); slices.ContainsFunc(e, func(e Entry) bool { return e.Last != nil }) {
		t.Error("what could not be kept is shown")
	}
}

// The book knows the drills that ronctl has, no more and no fewer.
func TestNamesAreRonctls(t *testing.T) {
	files, err := filepath.Glob("../../../../cmd/ronctl/drill/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(errors.Join(err, errors.New("no sources of the drills")))
	}
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`= Drill\{\s+Name:\s+"([a-z-]+)"`).FindSubmatch(text); m != nil {
			names = append(names, string(m[1]))
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, Names()) {
		t.Errorf("ronctl has the drills %v, the book %v", names, Names())
	}
}
