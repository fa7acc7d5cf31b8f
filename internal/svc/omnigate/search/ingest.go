// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package search

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/journal"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/extract"
	"github.com/rustyonions/macronode/internal/svc/omnigate/search/shelf"
)

// Bounds of one batch of an index, which bound the memory that indexing takes.
const (
	maxBatchDocs  = 1024
	maxBatchBytes = 4 << 20 // of text
	// maxRead is how many changes are taken from the journal at a time.
	maxRead = 2048
)

// follow applies what the journal says until ctx ends, and builds what is not complete.
func (f *Facet) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := f.step(ctx)
		if err != nil {
			return err
		}
		if t, ok := f.next(); ok {
			if err := f.scan(ctx, t); err != nil {
				return err
			}
			continue
		}
		if n < maxRead {
			f.rest(ctx)
		}
	}
	return nil
}

// rest waits for a change, or for an index to be built, and then lets some more gather.
func (f *Facet) rest(ctx context.Context) {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	came := make(chan struct{})
	go func() {
		defer close(came)
		_ = f.c.Journal.Wait(wait, f.cursor.Load()) // an error is met again by the read
	}()
	select {
	case <-came:
	case <-f.poke:
		cancel()
		<-came
		return
	}
	timer := time.NewTimer(f.c.Gather)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// step applies the next changes and says how many there were.
func (f *Facet) step(ctx context.Context) (int, error) {
	list, err := f.c.Journal.Read(ctx, f.cursor.Load(), maxRead)
	if err != nil {
		return 0, err
	}
	if len(list) == 0 {
		f.behind.Store(0)
		return 0, nil
	}
	f.behind.Store(list[0].At.UnixMilli())
	groups, order := split(list)
	purged := map[macronode.TenantID]bool{}
	for _, t := range order {
		group := groups[t]
		if i := lastPurge(group); i >= 0 {
			if err := f.Purge(ctx, t); err != nil {
				return 0, err
			}
			purged[t] = true
			if group = group[i+1:]; len(group) == 0 {
				delete(groups, t)
				continue
			}
			groups[t] = group
			delete(purged, t)
		}
		err := f.use(ctx, t, func(h *holding, x *shelf.Index) error { return f.apply(ctx, h, x, group) })
		if err != nil {
			return 0, err
		}
	}
	last := list[len(list)-1].Seq
	if err := f.c.Journal.Advance(ctx, Consumer, last, func(tx store.Tx) error { return f.note(tx, groups, purged) }); err != nil {
		return 0, err
	}
	f.cursor.Store(last)
	now := f.c.Now()
	for _, c := range list {
		f.c.Metrics.lag.Observe(max(now.Sub(c.At), 0).Seconds())
	}
	f.c.Metrics.changes.Add(float64(len(list)))
	if len(list) < maxRead {
		f.behind.Store(0)
	}
	return len(list), nil
}

// note writes how far the indexes are, with the place in the journal.
func (f *Facet) note(tx store.Tx, groups map[macronode.TenantID][]journal.Change, purged map[macronode.TenantID]bool) error {
	for t, group := range groups {
		rec, err := getRecord(tx, t)
		if err != nil {
			return err
		}
		through := group[len(group)-1].TenantSeq
		if rec.generation == 0 || rec.through >= through {
			continue // it went, or was begun after these changes
		}
		rec.through = through
		if err := tx.Set(recordKey(t), rec.encode()); err != nil {
			return err
		}
	}
	for t := range purged {
		if err := f.c.Journal.Forget(tx, t); err != nil {
			return err
		}
	}
	return nil
}

// split sorts changes by tenant, in the order of each one's first.
func split(list []journal.Change) (groups map[macronode.TenantID][]journal.Change, order []macronode.TenantID) {
	groups = map[macronode.TenantID][]journal.Change{}
	for _, c := range list {
		if groups[c.Tenant] == nil {
			order = append(order, c.Tenant)
		}
		groups[c.Tenant] = append(groups[c.Tenant], c)
	}
	return groups, order
}

func lastPurge(list []journal.Change) int {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Kind == journal.TenantPurged {
			return i
		}
	}
	return -1
}

// apply brings the index up to date with changes of its tenant. What it already has is
// passed over.
func (f *Facet) apply(ctx context.Context, h *holding, x *shelf.Index, list []journal.Change) error {
	m := x.Meta()
	w := newWork()
	targets := map[string]b3.Addr{} // what each name points at in the end; zero: nothing
	for _, c := range list {
		if c.Seq <= m.Seq {
			continue
		}
		switch c.Kind {
		case journal.ObjectPut, journal.ObjectDeleted:
			w.touch(c.Addr)
		case journal.NameSet:
			targets[c.Name] = c.Addr
		case journal.NameDeleted:
			targets[c.Name] = b3.Addr{}
		}
	}
	if err := w.point(x, targets); err != nil {
		return err
	}
	last := list[len(list)-1]
	done := m
	done.Seq, done.Through = max(m.Seq, last.Seq), max(m.Through, last.TenantSeq)
	if err := f.write(ctx, x, w, m, done); err != nil {
		return err
	}
	h.publish(View{done.Generation, done.Through, done.Phase == shelf.Complete})
	return nil
}

// work is which documents are to be made again, and how their names change.
type work struct {
	touched  map[b3.Addr]bool
	add, del map[b3.Addr][]string
}

func newWork() *work {
	return &work{map[b3.Addr]bool{}, map[b3.Addr][]string{}, map[b3.Addr][]string{}}
}

func (w *work) touch(a b3.Addr) { w.touched[a] = true }

// point has names point at what they do now, and no more at what they did.
func (w *work) point(x *shelf.Index, targets map[string]b3.Addr) error {
	for name, to := range targets {
		holders, err := x.Holders(name)
		if err != nil {
			return err
		}
		for _, a := range holders {
			if a != to {
				w.touch(a)
				w.del[a] = append(w.del[a], name)
			}
		}
		if to != (b3.Addr{}) {
			w.touch(to)
			w.add[to] = append(w.add[to], name)
		}
	}
	return nil
}

// names is what a document's names become.
func (w *work) names(a b3.Addr, have []string) []string {
	out := make([]string, 0, len(have)+len(w.add[a]))
	for _, n := range have {
		if !slices.Contains(w.del[a], n) {
			out = append(out, n)
		}
	}
	out = append(out, w.add[a]...)
	slices.Sort(out)
	return slices.Compact(out)
}

// chunk is how many documents are looked up at a time.
const chunk = 128

// write makes the documents of w again, in batches. The index says done with the last
// one, and so far with those before.
func (f *Facet) write(ctx context.Context, x *shelf.Index, w *work, sofar, done shelf.Meta) error {
	addrs := make([]b3.Addr, 0, len(w.touched))
	for a := range w.touched {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, func(a, b b3.Addr) int { return bytes.Compare(a[:], b[:]) })
	var batch []shelf.Change
	size := 0
	for len(addrs) > 0 {
		part := addrs[:min(len(addrs), chunk)]
		addrs = addrs[len(part):]
		cards, err := x.Cards(part)
		if err != nil {
			return err
		}
		for i, a := range part {
			c, change, err := f.remake(ctx, x, a, cards[i], w)
			if err != nil {
				return err
			}
			if !change {
				continue
			}
			batch = append(batch, c)
			size += len(c.Doc.Text)
			if len(batch) >= maxBatchDocs || size >= maxBatchBytes {
				if err := f.put(x, batch, sofar); err != nil {
					return err
				}
				batch, size = batch[:0], 0
			}
		}
	}
	return f.put(x, batch, done)
}

func (f *Facet) put(x *shelf.Index, batch []shelf.Change, m shelf.Meta) error {
	if len(batch) == 0 && m == x.Meta() {
		return nil
	}
	if err := x.Apply(batch, m); err != nil {
		return err
	}
	f.c.Metrics.documents.Add(float64(len(batch)))
	f.c.Metrics.batches.Inc()
	return nil
}

// remake makes the document of an address from what the stores say now; change is false
// where the index has it so already.
func (f *Facet) remake(ctx context.Context, x *shelf.Index, a b3.Addr, card *shelf.Doc, w *work) (c shelf.Change, change bool, err error) {
	var have []string
	if card != nil {
		have = card.Names
	}
	d := shelf.Doc{Addr: a, Names: w.names(a, have)}
	tenant := x.Tenant()
	o, err := f.c.Objects.Lookup(ctx, tenant, a)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if len(d.Names) == 0 {
			return shelf.Change{Doc: d, Gone: true}, card != nil, nil
		}
	case err != nil:
		return c, false, err
	default:
		d.Stored, d.Size, d.CreatedMS = true, o.Size, o.CreatedMS
		d.Type = extract.MediaType(o.ContentType)
	}
	if card != nil && same(card, &d) {
		return c, false, nil
	}
	if d.Stored && extract.IsText(d.Type) && d.Size > 0 {
		if err := f.read(ctx, tenant, &d); err != nil {
			return c, false, err
		}
	}
	return shelf.Change{Doc: d}, true, nil
}

// same reports whether the index's document is what d will be: an address always names
// the same bytes.
func same(card, d *shelf.Doc) bool {
	return !card.Unread && card.Stored == d.Stored && card.Size == d.Size && card.Type == d.Type &&
		card.CreatedMS == d.CreatedMS && slices.Equal(card.Names, d.Names)
}

// read fills in title and text. Bytes that are damaged leave the document without.
func (f *Facet) read(ctx context.Context, t macronode.TenantID, d *shelf.Doc) error {
	b, err := f.c.Objects.ReadPart(ctx, t, d.Addr, extract.MaxBytes)
	switch {
	case errors.Is(err, store.ErrCorrupt):
		d.Unread = true
		f.c.Metrics.unread.Inc()
		return nil
	case errors.Is(err, store.ErrNotFound):
		return nil // it goes: a change to come says so
	case err != nil:
		return err
	}
	d.Title, d.Text = extract.Text(d.Type, b)
	d.Text = strings.TrimSpace(d.Text)
	d.Partial = d.Size > int64(len(b))
	return nil
}
