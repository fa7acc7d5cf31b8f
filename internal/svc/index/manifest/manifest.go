// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package manifest reads the manifests that "ronctl put -r" stores: a tree's paths
// with the addresses of its files. It reads them as a stream and keeps no more than
// the page that is asked for, so that memory does not depend on the tree.
//
// What it counts is what the manifest says. Whether the tree can be written to a
// directory is judged by who writes it.
package manifest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/rustyonions/macronode/b3"
)

// MediaType is the content type of a manifest.
const MediaType = "application/vnd.macronode.manifest+json"

// Version is the one version of the format.
const Version = 1

// Limits of what is read.
const (
	MaxBytes      = 32 << 20 // of a manifest: some 180 000 files
	MaxEntryBytes = 64 << 10 // of one entry, as JSON
	MaxPage       = 1000
	checkEvery    = 1024 // entries between two looks at the context
)

// ErrTooLarge: the manifest has more bytes than MaxBytes, or one entry more than
// MaxEntryBytes.
var ErrTooLarge = errors.New("manifest: too large")

// ErrForm: the bytes are no manifest.
var ErrForm = errors.New("manifest: not a manifest")

// Entry is one file (Addr) or one symbolic link (Link).
type Entry struct {
	Path string   `json:"path"`
	Addr *b3.Addr `json:"addr,omitempty"`
	Size int64    `json:"size,omitempty"` // bytes
	Exec bool     `json:"exec,omitempty"`
	Link string   `json:"link,omitempty"`
}

// Summary is what a manifest holds.
type Summary struct {
	Version int   `json:"version"`
	Files   int64 `json:"files"`
	Links   int64 `json:"links"`
	Bytes   int64 `json:"bytes"` // of the files
}

// Query says which entries are wanted. Its zero value wants none.
type Query struct {
	Path   string // the one of this path; "": of any
	Prefix string // those whose path begins so
	After  int64  // those behind the first After that fit
	Limit  int    // how many at most
}

func (q *Query) fits(e *Entry) bool {
	return (q.Path == "" || e.Path == q.Path) && strings.HasPrefix(e.Path, q.Prefix)
}

// Page are the entries that a Query found, in the manifest's order; More says that
// there are others behind them.
type Page struct {
	Entries []Entry
	More    bool
}

// Read reads a manifest. The error is ErrTooLarge, ErrForm, the reader's, or the
// context's.
func Read(ctx context.Context, r io.Reader, q Query) (Summary, Page, error) {
	l := &bounded{r: r}
	d := &reader{dec: json.NewDecoder(l), in: l, q: q, skip: q.After}
	err := d.document(ctx)
	if err != nil {
		return Summary{}, Page{}, d.judge(err)
	}
	return d.sum, d.page, nil
}

// bounded hands out so many bytes as it was last allowed to.
type bounded struct {
	r     io.Reader
	n     int64 // handed out
	allow int64 // may be handed out
	err   error // of r
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.n >= b.allow {
		return 0, ErrTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.allow-b.n)])
	b.n += int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

type reader struct {
	dec  *json.Decoder
	in   *bounded
	q    Query
	skip int64
	sum  Summary
	page Page
}

// more lets the decoder read another value.
func (d *reader) more() {
	d.in.allow = min(d.dec.InputOffset()+MaxEntryBytes, MaxBytes)
}

// judge tells whose fault err is.
func (d *reader) judge(err error) error {
	switch {
	case d.in.err != nil:
		return d.in.err
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrForm), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("%w: %w", ErrForm, err)
}

func form(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForm, fmt.Sprintf(format, args...))
}

func (d *reader) delim(want json.Delim) error {
	d.more()
	t, err := d.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return form("%v where %q is due", t, want)
	}
	return nil
}

func (d *reader) document(ctx context.Context) error {
	if err := d.delim('{'); err != nil {
		return err
	}
	seen := make(map[string]bool, 2)
	for d.more(); d.dec.More(); d.more() {
		t, err := d.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[name] {
			return form("%.20q stands twice", name)
		}
		seen[name] = true
		d.more()
		switch name {
		case "version":
			err = d.dec.Decode(&d.sum.Version)
		case "entries":
			err = d.entries(ctx)
		default:
			return form("a member %.20q", name)
		}
		if err != nil {
			return err
		}
	}
	if err := d.delim('}'); err != nil {
		return err
	}
	d.more()
	if _, err := d.dec.Token(); err != io.EOF {
		if err == nil {
			err = form("something follows it")
		}
		return err
	}
	if d.sum.Version != Version || !seen["entries"] {
		return form("version %d", d.sum.Version)
	}
	return nil
}

func (d *reader) entries(ctx context.Context) error {
	if err := d.delim('['); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if d.more(); !d.dec.More() {
			return d.delim(']')
		}
		d.more()
		var e Entry
		if err := d.dec.Decode(&e); err != nil {
			return err
		}
		if err := d.add(&e); err != nil {
			return err
		}
	}
}

func (d *reader) add(e *Entry) error {
	if !fs.ValidPath(e.Path) || e.Path == "." || (e.Addr == nil) == (e.Link == "") || e.Size < 0 {
		return form("a bad entry %.40q", e.Path)
	}
	if e.Addr == nil {
		d.sum.Links++
	} else {
		if e.Size > math.MaxInt64-d.sum.Bytes {
			return form("more bytes than can be")
		}
		d.sum.Files++
		d.sum.Bytes += e.Size
	}
	switch {
	case d.q.Limit <= 0 || !d.q.fits(e):
	case d.skip > 0:
		d.skip--
	case len(d.page.Entries) < min(d.q.Limit, MaxPage):
		d.page.Entries = append(d.page.Entries, *e)
	default:
		d.page.More = true
	}
	return nil
}
