// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

const (
	defaultPage = 100
	maxPage     = 1000
	// noteType is of checkpoints and keys.
	noteType = "text/plain; charset=utf-8"
	// forEver is the caching of what never changes.
	forEver = "private, max-age=31536000, immutable"
)

// open is the tree, while the log is open.
func (s *Service) open() (*tree.Tree, error) {
	if t := s.tree.Load(); t != nil {
		return t, nil
	}
	return nil, macronode.Errorf(macronode.Unavailable, "the audit log is not open")
}

// streamOf is the stream that a caller sees: its tenant's own, for an operator any,
// "" being all.
func streamOf(a *macronode.Admitted, asked string) (string, error) {
	if a.Tenant.ID == macronode.SystemTenant {
		return asked, nil
	}
	own := TenantStream(a.Tenant.ID)
	if asked != "" && asked != own {
		return "", macronode.Errorf(macronode.Denied, "another stream than the tenant's own")
	}
	return own, nil
}

// TenantStream is the stream of a tenant's records.
func TenantStream(id macronode.TenantID) string { return "tenant/" + id.String() }

func (s *Service) records(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("stream", "kind", "actor", "reason", "from_ms", "to_ms", "order", "cursor", "limit"); err != nil {
		return nil, err
	}
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	q := tree.Query{Kind: a.Arg("kind"), Actor: a.Arg("actor"), Reason: a.Arg("reason")}
	if q.Stream, err = streamOf(a, a.Arg("stream")); err != nil {
		return nil, err
	}
	switch a.Arg("order") {
	case "", "asc":
	case "desc":
		q.Back, q.From = true, tlog.MaxTreeSize
	default:
		return nil, macronode.Errorf(macronode.Malformed, "order is asc or desc")
	}
	limit, err := a.NumberArg("limit", defaultPage, 1, maxPage)
	if err != nil {
		return nil, err
	}
	from, err := a.NumberArg("from_ms", 0, 0, tlog.MaxInteger)
	if err != nil {
		return nil, err
	}
	to, err := a.NumberArg("to_ms", 0, 1, tlog.MaxInteger)
	if err != nil {
		return nil, err
	}
	if q.From, err = a.NumberArg("cursor", q.From, 0, tlog.MaxTreeSize); err != nil {
		return nil, err
	}
	q.Limit, q.FromMS, q.ToMS = int(limit), int64(from), int64(to) //nolint:gosec // bounded above
	rows, next, more, err := t.Query(ctx, q)
	if err != nil {
		return nil, store.Refusal(err)
	}
	page := Records{Records: make([]json.RawMessage, len(rows))}
	for i := range rows {
		page.Records[i] = rows[i].Entry
	}
	if more {
		page.Cursor = strconv.FormatUint(next, 10)
	}
	return document(page)
}

func (s *Service) receipt(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("seq", "hash", "cosigned"); err != nil {
		return nil, err
	}
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	seq, err := s.which(ctx, t, a)
	if err != nil {
		return nil, err
	}
	own, err := streamOf(a, "")
	if err != nil {
		return nil, err
	}
	entry, err := t.Entry(ctx, seq)
	if err != nil {
		return nil, store.Refusal(missing(err))
	}
	r, err := tlog.Parse(entry)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	if own != "" && r.Stream != own {
		return nil, macronode.Errorf(macronode.NotFound, "no such record") // as if it were not there
	}
	var c *tlog.Signed
	switch a.Arg("cosigned") {
	case "", "false":
		c, err = covering(ctx, t, seq)
	case "true":
		c, err = s.witnessed(ctx, seq)
	default:
		err = macronode.Errorf(macronode.Malformed, "cosigned is true or false")
	}
	if err != nil {
		return nil, err
	}
	p, err := prove(t, seq, entry, c)
	if err != nil {
		return nil, err
	}
	return document(p)
}

// prove makes the receipt of an entry under a checkpoint that covers it.
func prove(t *tree.Tree, seq uint64, entry []byte, c *tlog.Signed) (*Receipt, error) {
	in, err := tlog.ProveInclusion(seq, c.Size, t.Tiles())
	if err != nil {
		return nil, store.Refusal(err)
	}
	return &Receipt{Record: entry, Inclusion: in, Checkpoint: string(c.Note)}, nil
}

// Receipt returns the receipt of a durable record in its compact form, once a
// checkpoint covers it: that is due within Settings.CheckpointInterval. It is "" where it
// would be longer than most.
func (s *Service) Receipt(ctx context.Context, seq uint64, most int) (string, error) {
	t, err := s.open()
	if err != nil {
		return "", err
	}
	entry, err := t.Entry(ctx, seq)
	if err != nil {
		return "", store.Refusal(missing(err))
	}
	c, err := covering(ctx, t, seq)
	if err != nil {
		return "", err
	}
	p, err := prove(t, seq, entry, c)
	if err != nil {
		return "", err
	}
	text, err := p.Compact()
	if err != nil || len(text) > most {
		return "", err
	}
	return text, nil
}

// which is the record that the arguments name.
func (s *Service) which(ctx context.Context, t *tree.Tree, a *macronode.Admitted) (uint64, error) {
	if a.Arg("hash") == "" {
		if a.Arg("seq") == "" {
			return 0, macronode.Errorf(macronode.Malformed, "seq or hash is needed")
		}
		return a.NumberArg("seq", 0, 0, tlog.MaxTreeSize)
	}
	if a.Arg("seq") != "" {
		return 0, macronode.Errorf(macronode.Malformed, "seq and hash exclude each other")
	}
	h, err := b3.Parse(a.Arg("hash"))
	if err != nil {
		return 0, macronode.Errorf(macronode.Malformed, "hash is no b3: hash")
	}
	seq, err := t.Find(ctx, h)
	return seq, store.Refusal(missing(err))
}

// covering waits for a checkpoint that covers the record: the next is due soon.
func covering(ctx context.Context, t *tree.Tree, seq uint64) (*tlog.Signed, error) {
	for {
		grown := t.Grown()
		if c := t.Published(); c != nil && c.Size > seq {
			return c, nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return nil, macronode.Wrap(macronode.Unavailable, "the record has no checkpoint yet", ctx.Err())
		}
	}
}

func (s *Service) consistency(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("from", "to"); err != nil {
		return nil, err
	}
	c, t, err := s.published()
	if err != nil {
		return nil, err
	}
	from, err := a.NumberArg("from", 0, 0, c.Size)
	if err != nil {
		return nil, err
	}
	to, err := a.NumberArg("to", c.Size, from, c.Size)
	if err != nil {
		return nil, err
	}
	p, err := tlog.ProveConsistency(from, to, t.Tiles())
	if err != nil {
		return nil, store.Refusal(err)
	}
	return document(Consistency{p, string(c.Note)})
}

// published is the newest checkpoint.
func (s *Service) published() (*tlog.Signed, *tree.Tree, error) {
	t, err := s.open()
	if err != nil {
		return nil, nil, err
	}
	c := t.Published()
	if c == nil {
		return nil, nil, macronode.Errorf(macronode.NotFound, "there is no checkpoint yet")
	}
	return c, t, nil
}

func (s *Service) checkpoint(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
	c, _, err := s.published()
	if err != nil {
		return nil, err
	}
	return &macronode.Reply{ContentType: noteType, Body: s.newest(c), Header: macronode.Header{"Cache-Control": {"no-store"}}}, nil
}

// tile serves hashes and entries within the published tree.
func (s *Service) tile(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	name, err := tlog.ParseTile(a.Arg("level"), a.Arg("rest"))
	if err != nil {
		return nil, macronode.Errorf(macronode.Malformed, "not a tile's path")
	}
	c, t, err := s.published()
	if err != nil {
		return nil, err
	}
	if tlog.WidthIn(c.Size, name.Level, name.Index) < name.Width {
		return nil, macronode.Errorf(macronode.NotFound, "the tree of %d records has no such tile", c.Size)
	}
	var data []byte
	if name.Entries {
		data, err = t.Bundle(ctx, name.Index, name.Width)
	} else {
		data, err = t.ReadTile(name)
	}
	if err != nil {
		return nil, store.Refusal(missing(err))
	}
	return &macronode.Reply{ContentType: "application/octet-stream", Body: data, Header: macronode.Header{"Cache-Control": {forEver}}}, nil
}

// key serves the verifier key of a type.
func (s *Service) key(t tlog.KeyType) macronode.Handler {
	return func(context.Context, *macronode.Admitted) (*macronode.Reply, error) {
		log, err := s.open()
		if err != nil {
			return nil, err
		}
		keys, err := s.cfg.Keys(tree.Origin(log.Writer()))
		if err != nil {
			return nil, macronode.Wrap(macronode.Unavailable, "the log's key is not at hand", err)
		}
		for _, k := range keys {
			if k.Type == t {
				return &macronode.Reply{ContentType: noteType, Body: []byte(k.String() + "\n"), Header: macronode.Header{"Cache-Control": {"no-store"}}}, nil
			}
		}
		return nil, macronode.Errorf(macronode.NotFound, "the log has no %s key", t)
	}
}

// export streams the log up to the newest checkpoint.
func (s *Service) export(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	c, t, err := s.published()
	if err != nil {
		return nil, err
	}
	return &macronode.Reply{ContentType: "application/octet-stream", Length: -1, Stream: &export{ctx, t, c}}, nil
}

type export struct {
	ctx  context.Context // of the call
	t    *tree.Tree
	upTo *tlog.Signed
}

// WriteTo implements macronode.Stream.
func (e *export) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	h, err := e.t.Head(e.ctx, e.upTo.Size)
	if err != nil {
		return 0, err
	}
	x, err := tlog.NewExporter(count, h)
	for seq := h.First; err == nil && seq < e.upTo.Size; seq++ {
		var entry []byte
		if entry, err = e.t.Entry(e.ctx, seq); err == nil {
			err = x.Add(entry)
		}
		if err == nil && seq%tlog.TileWidth == 0 {
			err = e.ctx.Err()
		}
	}
	if err == nil {
		err = x.Close(e.upTo.Note)
	}
	return count.n, err
}

// Close implements macronode.Stream.
func (e *export) Close() error { return nil }

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// missing gives a missing thing its words.
func missing(err error) error {
	if errors.Is(err, tree.ErrPruned) {
		return macronode.Errorf(macronode.NotFound, "the record was pruned: an archive of the log has it")
	}
	if errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrCorrupt) {
		return macronode.Errorf(macronode.NotFound, "no such record")
	}
	return err
}

func document(v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{ContentType: "application/json", Body: b, Header: macronode.Header{"Cache-Control": {"no-store"}}}, nil
}
