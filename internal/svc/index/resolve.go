// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package index

import (
	"context"
	"encoding/json"
	"errors"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/index/manifest"
)

// question is a resolve under way.
type question struct {
	tenant  macronode.TenantID
	query   manifest.Query
	entries bool // some of a manifest are wanted
	doc     Resolved
	addr    b3.Addr
}

func (s *Service) resolve(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs("after", "path", "prefix", "cursor", "limit"); err != nil {
		return nil, err
	}
	q := &question{tenant: a.Tenant.ID}
	q.doc.Target = a.Arg("target")
	var err error
	// The generation comes first: what is looked up later holds it at least.
	if q.doc.Generation, err = s.generation(ctx, a); err != nil {
		return nil, err
	}
	if err := q.wants(a); err != nil {
		return nil, err
	}
	if err := s.target(ctx, q); err != nil {
		return nil, err
	}
	q.doc.Addr = q.addr.String()
	if err := s.object(ctx, q); err != nil {
		return nil, err
	}
	if err := s.manifest(ctx, q); err != nil {
		return nil, err
	}
	return answer(a, &q.doc)
}

// generation is that of the answer; a call may ask for one that the answer holds.
func (s *Service) generation(ctx context.Context, a *macronode.Admitted) (now uint64, err error) {
	after, err := a.NumberArg("after", 0, 0, 1<<53)
	if err != nil {
		return 0, err
	}
	err = s.ask(ctx, ByStore, s.cfg.Near, func(ctx context.Context) (err error) {
		now, err = s.cfg.Generation(ctx, a.Tenant.ID)
		return err
	})
	if err != nil && !away(err) {
		return 0, err
	}
	if after > now {
		if err != nil {
			return 0, err
		}
		return 0, macronode.Errorf(macronode.PreconditionFailed, "this node is at generation %d: what was given for after is another node's, or from after the snapshot that this one was restored from", now)
	}
	return now, nil
}

// wants reads which entries of a manifest are asked for.
func (q *question) wants(a *macronode.Admitted) error {
	limit, err := a.NumberArg("limit", 0, 0, manifest.MaxPage)
	if err != nil {
		return err
	}
	cursor, err := a.NumberArg("cursor", 0, 0, 1<<40)
	if err != nil {
		return err
	}
	q.query = manifest.Query{Path: a.Arg("path"), Prefix: a.Arg("prefix"), After: int64(cursor), Limit: int(limit)}
	if q.query.Path != "" {
		if limit+cursor > 0 || q.query.Prefix != "" {
			return macronode.Errorf(macronode.Malformed, "path names one entry: it goes without prefix, cursor and limit")
		}
		q.query.Limit = 1
	}
	if q.query.Limit == 0 && (q.query.Prefix != "" || cursor > 0) {
		q.query.Limit = defaultEntries
	}
	q.entries = q.query.Limit > 0
	return nil
}

const defaultEntries = 100

// target finds the address that is meant. What begins as an address does is one: no
// name has a colon.
func (s *Service) target(ctx context.Context, q *question) (err error) {
	if strings.Contains(q.doc.Target, ":") {
		if q.addr, err = b3.Parse(q.doc.Target); err != nil {
			return macronode.Errorf(macronode.Malformed, "neither a name nor an address: %w", err)
		}
		return nil
	}
	name, err := s.cfg.Names.Canonical(q.doc.Target)
	if err != nil {
		return err
	}
	if name != q.doc.Target {
		// What the capability was held against must be what is looked up.
		return macronode.Errorf(macronode.Invalid, "the name is written %q", name)
	}
	var v NameVersion
	err = s.ask(ctx, ByName, s.cfg.Near, func(ctx context.Context) (err error) {
		v, err = s.cfg.Names.Lookup(ctx, q.tenant, name)
		return err
	})
	if err != nil {
		return err
	}
	q.addr = v.Addr
	q.doc.Name = &ResolvedName{Name: name, Version: v.Version, TTL: v.TTL, Meta: v.Meta, SetMS: v.SetMS}
	return nil
}

// object looks for the object, here and then at peers. A name may well point at what
// is gone; an address that nobody has is NotFound.
func (s *Service) object(ctx context.Context, q *question) error {
	o, who, err := s.look(ctx, spot{q.tenant, q.addr})
	switch {
	case err == nil:
		q.doc.Object = &ResolvedObject{Size: o.Size, ContentType: o.ContentType, CreatedMS: o.CreatedMS, Local: who == ByStore}
		return nil
	case q.doc.Name == nil:
		return err
	case macronode.KindOf(err) == macronode.NotFound:
		return nil
	case !away(err):
		return err
	}
	q.doc.Incomplete = append(q.doc.Incomplete, string(who))
	return nil
}

// look finds the object, and says whose answer it is. The local one goes first,
// always: a put is seen at once whatever peers said before.
func (s *Service) look(ctx context.Context, at spot) (o Object, who Neighbour, err error) {
	err = s.ask(ctx, ByStore, s.cfg.Near, func(ctx context.Context) (err error) {
		o, err = s.cfg.Objects.Look(ctx, at.tenant, at.addr)
		return err
	})
	if err == nil || macronode.KindOf(err) != macronode.NotFound {
		return o, ByStore, err
	}
	o, err = s.afar(ctx, at)
	return o, ByPeers, err
}

// said is what peers said of an object.
type said struct {
	o       Object
	err     error // nil: they have it
	holders string
}

// afar asks the peers that announced the object, or remembers what they said. What
// was said counts for as long as the same ones announce it.
func (s *Service) afar(ctx context.Context, at spot) (Object, error) {
	ids := s.cfg.Peers.Holders(at.tenant, at.addr)
	if len(ids) == 0 {
		return Object{}, macronode.Errorf(macronode.NotFound, "there is no such object")
	}
	slices.Sort(ids)
	holders := strings.Join(ids, " ")
	if v, ok := s.said.Get(at); ok && v.holders == holders {
		s.cfg.Metrics.remembered(v.err == nil)
		return v.o, v.err
	}
	v := said{holders: holders}
	v.err = s.ask(ctx, ByPeers, s.cfg.Far, func(ctx context.Context) (err error) {
		v.o, err = s.cfg.Peers.Find(ctx, at.tenant, at.addr)
		return err
	})
	switch {
	case v.err == nil:
		s.said.Put(at, v, 1, rememberFound)
	case macronode.KindOf(v.err) == macronode.NotFound:
		s.said.Put(at, v, 1, rememberMissing)
	case away(v.err):
		s.said.Put(at, v, 1, rememberAway)
	}
	return v.o, v.err
}

// manifest reads the object where it is a manifest: all of it once, and again where
// entries are asked for.
func (s *Service) manifest(ctx context.Context, q *question) error {
	o := q.doc.Object
	media := ""
	if o != nil {
		media, _, _ = mime.ParseMediaType(o.ContentType)
	}
	if media != manifest.MediaType {
		switch {
		case !q.entries:
			return nil
		case o == nil && len(q.doc.Incomplete) > 0:
			return macronode.Errorf(macronode.Unavailable, "the object cannot be reached")
		case o == nil:
			return macronode.Errorf(macronode.NotFound, "the object is not there")
		}
		return macronode.Errorf(macronode.Invalid, "the object is no manifest")
	}
	at := spot{q.tenant, q.addr}
	if !q.entries {
		if sum, ok := s.summaries.Get(at); ok {
			q.doc.Manifest = &ResolvedManifest{Summary: sum}
			return nil
		}
	}
	sum, page, err := s.read(ctx, at, o.Size, q.query)
	switch {
	case err == nil:
		s.summaries.Put(at, sum, 1, 0)
		q.doc.Manifest = &ResolvedManifest{Summary: sum}
		return q.fill(page)
	case q.entries:
		return refusal(err)
	case errors.Is(err, manifest.ErrForm), errors.Is(err, manifest.ErrTooLarge):
		q.doc.Manifest = &ResolvedManifest{Problem: problem(err)}
		return nil
	case away(err):
		q.doc.Incomplete = append(q.doc.Incomplete, "manifest")
		return nil
	}
	return err
}

// problem is a word for what is wrong with a manifest.
func problem(err error) string {
	if errors.Is(err, manifest.ErrTooLarge) {
		return "too_large"
	}
	return "malformed"
}

// refusal is what a call gets that wanted entries.
func refusal(err error) error {
	switch {
	case errors.Is(err, manifest.ErrTooLarge):
		return macronode.Errorf(macronode.TooLarge, "the manifest has more than the %d bytes that are looked into", int64(manifest.MaxBytes))
	case errors.Is(err, manifest.ErrForm):
		return macronode.Errorf(macronode.Invalid, "the object says that it is a manifest, and is none")
	}
	return err
}

func (q *question) fill(page manifest.Page) error {
	if !q.entries {
		return nil
	}
	if q.query.Path != "" && len(page.Entries) == 0 {
		return macronode.Errorf(macronode.NotFound, "there is no such path in the manifest")
	}
	q.doc.Manifest.Entries = page.Entries
	if page.More && q.query.Path == "" {
		q.doc.Manifest.Cursor = strconv.FormatInt(q.query.After+int64(len(page.Entries)), 10)
	}
	return nil
}

// read reads a manifest, one of a few at a time.
func (s *Service) read(ctx context.Context, at spot, size int64, query manifest.Query) (sum manifest.Summary, page manifest.Page, err error) {
	if size > manifest.MaxBytes {
		return sum, page, manifest.ErrTooLarge
	}
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return sum, page, macronode.Wrap(macronode.ClientGone, "", context.Cause(ctx))
	default:
		return sum, page, macronode.Errorf(macronode.Overload, "too many manifests are being read")
	}
	// The time for reading is the manifest's: one that takes long is no reason to
	// think ill of who keeps it.
	mine, cancel := context.WithTimeoutCause(ctx, s.cfg.Manifest, errBudget)
	defer cancel()
	r, err := s.cfg.Objects.Open(mine, at.tenant, at.addr)
	if err != nil {
		return sum, page, late(mine, err)
	}
	defer r.Close()
	sum, page, err = manifest.Read(mine, r, query)
	return sum, page, late(mine, err)
}

// late gives an error that came of a budget's end the kind that says so.
func late(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errBudget) {
		return macronode.Wrap(macronode.Unavailable, "the manifest could not be read in time", err)
	}
	return err
}

// answer renders a document, within what the capability lets out.
func answer(a *macronode.Admitted, doc any) (*macronode.Reply, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: 200, ContentType: "application/json", Header: macronode.Header{"Cache-Control": {"private, no-cache"}}, Body: b}, nil
}
