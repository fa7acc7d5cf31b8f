// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package fsck checks what is stored while nobody uses it: that metadata can be
// read to its last block, that references, owners and usage agree with each other,
// that every object's bytes are there and verify, and that nothing is stored that
// nobody knows. What can be mended without a loss is mended where asked; what is lost is
// named, and kept so that a put can bring it back.
package fsck

import (
	"context"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/storage/refs"
)

const (
	// page is how many entries are read, and mended, at once.
	page = 256
	// maxFindings bounds the findings that are named; all are counted.
	maxFindings = 1000
)

// Kinds of findings.
const (
	LostBytes     = "lost_bytes"     // a reference's bytes are missing or damaged
	LostReference = "lost_reference" // a reference that cannot be read
	LostMetadata  = "lost_metadata"  // metadata that cannot be read
	NoOwner       = "no_owner"       // stored bytes do not know a reference to them
	StaleOwner    = "stale_owner"    // stored bytes know a reference that is not
	WrongUsage    = "wrong_usage"    // a tenant's usage is not the sum of its references
	WrongQueue    = "wrong_queue"    // bytes in use wait to be removed
	StaleMark     = "stale_mark"     // a quarantine of bytes that are gone or verify
	Unreferenced  = "unreferenced"   // bytes that nobody knows
)

// lost reports whether a kind is a loss, which no repair mends.
func lost(kind string) bool {
	return kind == LostBytes || kind == LostReference || kind == LostMetadata
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Detail  string `json:"detail"`
	Fixed   bool   `json:"fixed"`
}

// Progress tells how far a check is. Total is 0 where it is not known.
type Progress struct {
	Phase       string
	Done, Total int64
	Bytes       int64
}

// Options says what to do.
type Options struct {
	Repair bool
	// Quick does not read objects' bytes, only that they begin as they should.
	Quick    bool
	Progress func(Progress) // nil: nobody is told
	NowMS    int64          // for what Repair records
}

// Result is what a check found.
type Result struct {
	Objects int64 `json:"objects"`
	Bytes   int64 `json:"bytes"`
	Tenants int64 `json:"tenants"`
	Volumes int64 `json:"volumes"`
	Keys    int64 `json:"metadata_keys"`
	// Lost, Fixed and Left count findings: what no repair mends, what was mended,
	// and what Repair would mend.
	Lost     int64            `json:"lost"`
	Fixed    int64            `json:"fixed"`
	Left     int64            `json:"left"`
	Counts   map[string]int64 `json:"counts"`
	Findings []Finding        `json:"findings"`
}

// checker is one check under way.
type checker struct {
	kv      store.KV
	objects store.Objects
	o       Options
	r       *Result
	usage   map[macronode.TenantID]refs.Usage
	// claimed are places that do not know their reference, where that was not
	// mended: they are no further finding.
	claimed map[store.Loc]bool
}

// Check checks both stores. Its error says that the check could not be done to the
// end; Result holds what was found until then.
func Check(ctx context.Context, kv store.KV, objects store.Objects, o Options) (*Result, error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	c := &checker{kv: kv, objects: objects, o: o, usage: make(map[macronode.TenantID]refs.Usage), claimed: make(map[store.Loc]bool),
		r: &Result{Counts: make(map[string]int64), Findings: []Finding{}}}
	for _, phase := range []func(context.Context) error{c.metadata, c.references, c.owners, c.usages, c.queue, c.marks, c.volumes} {
		if err := phase(ctx); err != nil {
			if errors.Is(err, store.ErrCorrupt) {
				c.found(LostMetadata, "metadata", err.Error(), false)
				return c.r, nil // nothing after it can be believed
			}
			return c.r, err
		}
	}
	return c.r, nil
}

func (c *checker) found(kind, subject, detail string, fixed bool) {
	c.r.Counts[kind]++
	switch {
	case lost(kind):
		c.r.Lost++
	case fixed:
		c.r.Fixed++
	default:
		c.r.Left++
	}
	if len(c.r.Findings) < maxFindings {
		c.r.Findings = append(c.r.Findings, Finding{kind, subject, detail, fixed})
	}
}

// mend runs f in a transaction, where repairs are asked for, and notes the finding.
func (c *checker) mend(ctx context.Context, kind, subject, detail string, f func(store.Tx) error) error {
	if c.o.Repair {
		if err := c.kv.Reclaim(ctx, f); err != nil {
			return err
		}
	}
	c.found(kind, subject, detail, c.o.Repair)
	return nil
}

type entry struct{ key, value []byte }

// pages calls f with every entry whose key begins with prefix, a page at a time,
// outside of any transaction. The keys come without the prefix.
func (c *checker) pages(ctx context.Context, prefix string, f func([]entry) error) error {
	lo, hi := []byte(prefix), refs.After([]byte(prefix))
	for {
		var some []entry
		err := c.kv.View(ctx, func(r store.Reader) error {
			some = some[:0]
			return r.Scan(lo, hi, func(key, value []byte) bool {
				some = append(some, entry{append([]byte(nil), key[len(prefix):]...), append([]byte(nil), value...)})
				return len(some) < page
			})
		})
		if err != nil || len(some) == 0 {
			return err
		}
		lo = append(append([]byte(prefix), some[len(some)-1].key...), 0)
		if err := f(some); err != nil {
			return err
		}
	}
}

// metadata reads every key and value there is, so that every block is checked.
func (c *checker) metadata(ctx context.Context) error {
	var lo []byte
	for {
		n := 0
		err := c.kv.View(ctx, func(r store.Reader) error {
			n = 0
			var last []byte
			err := r.Scan(lo, nil, func(key, _ []byte) bool {
				last = append(last[:0], key...)
				n++
				return n < 64*page
			})
			lo = append(last, 0)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
		c.r.Keys += int64(n)
		c.o.Progress(Progress{Phase: "metadata", Done: c.r.Keys})
	}
}

func subject(o refs.Owner) string {
	return fmt.Sprintf("object/%s of tenant %s", o.Addr, o.Tenant)
}
