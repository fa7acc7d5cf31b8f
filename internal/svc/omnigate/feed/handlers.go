// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/omnigate/form"
	"github.com/rustyonions/macronode/internal/svc/omnigate/vertex"
)

// pendingRetry is what a publisher is told to wait for room.
const pendingRetry = time.Second

func errNoPost() error {
	return macronode.Errorf(macronode.NotFound, "there is no such post")
}

// stamp is a post's time, as answers have it.
func stamp(id ulid.ULID) string {
	return ulid.Time(id.Time()).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

func docOf(p *post) Post {
	return Post{PostID: p.id.String(), TS: stamp(p.id), Author: string(p.author), Item: string(p.item), Text: p.text}
}

// draft reads a post that is to be published.
func (f *Facet) draft(body []byte) (p post, err error) {
	var q PublishRequest
	if err := form.Read(body, &q); err != nil {
		return p, err
	}
	if p.author, err = vertex.Parse(q.Author, f.normal); err != nil {
		return p, err
	}
	if q.Item != "" {
		if p.item, err = vertex.Parse(q.Item, f.normal); err != nil {
			return p, err
		}
	}
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if p.text = q.Text; len(p.text) > MaxTextBytes || !utf8.ValidString(p.text) || strings.ContainsFunc(p.text, control) {
		return p, macronode.Errorf(macronode.Malformed, "a text has at most %d bytes of UTF-8, and of control characters line ends and tabs alone", MaxTextBytes)
	}
	if p.item == "" && p.text == "" {
		return p, macronode.Errorf(macronode.Malformed, "a post has an item, a text or both")
	}
	return p, nil
}

func (f *Facet) publish(ctx context.Context, a *macronode.Admitted, body []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	p, err := f.draft(body)
	if err != nil {
		return nil, err
	}
	p.id = f.ids.next(f.now())
	reply, err := form.Answer(a, 201, Published{PostID: p.id.String(), TS: stamp(p.id)})
	if err != nil {
		return nil, err
	}
	reply.Header = macronode.Header{}
	reply.Header.Set("Location", "/v1/feed/posts/"+p.id.String())
	t, s := a.Tenant.ID, f.settings.Load()
	var gone []ulid.ULID
	err = f.kv.Update(ctx, func(tx store.Tx) (err error) {
		gone, err = put(tx, t, &p, s)
		if err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	if err != nil {
		return nil, store.Refusal(err)
	}
	f.m.published.Inc()
	f.m.unpublished.Add(float64(len(gone)))
	for _, old := range gone {
		f.queue.add(job{t, old})
	}
	f.queue.add(job{t, p.id})
	return reply, nil
}

// put stores a post and the work of bringing it to followers, and returns the
// author's posts that went for it.
func put(tx store.Tx, t macronode.TenantID, p *post, s *Settings) (gone []ulid.ULID, err error) {
	c, err := getCounts(tx, t)
	switch {
	case err != nil:
		return nil, err
	case c.posts >= s.MaxPosts:
		return nil, macronode.Errorf(macronode.QuotaObjects, "the tenant may have %d posts", s.MaxPosts)
	case c.pending >= s.MaxPending:
		e := macronode.Errorf(macronode.QuotaDepth, "%d posts are on their way to followers, as many as may be", c.pending)
		e.RetryAfter = pendingRetry
		return nil, e
	}
	if err := setPost(tx, t, p); err != nil {
		return nil, err
	}
	w := work{mode: deliver, author: p.author}
	if err := tx.Set(key(t, workKey, p.id[:]...), w.encode()); err != nil {
		return nil, err
	}
	if err := count(tx, t, 1, 1); err != nil {
		return nil, err
	}
	if gone, err = shelf(t, p.author).add(tx, p.id, s.MaxEntries); err != nil {
		return nil, err
	}
	for _, old := range gone {
		if err := unpublish(tx, t, old); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return nil, errMeta
			}
			return nil, err
		}
	}
	return gone, nil
}

// postArg is the post that the path names. Text that is none is like one that does
// not exist.
func postArg(a *macronode.Admitted) (id ulid.ULID, err error) {
	text := a.Arg("post")
	if id, err = ulid.ParseStrict(text); err != nil || id.String() != text {
		return id, errNoPost()
	}
	return id, nil
}

func (f *Facet) unpublish(ctx context.Context, a *macronode.Admitted, _ []byte, claim *idem.Claim) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	id, err := postArg(a)
	if err != nil {
		return nil, err
	}
	reply := &macronode.Reply{Status: 204}
	err = f.kv.Reclaim(ctx, func(tx store.Tx) error {
		if err := unpublish(tx, a.Tenant.ID, id); err != nil {
			return err
		}
		return claim.Keep(tx, reply)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoPost()
	}
	if err != nil {
		return nil, store.Refusal(err)
	}
	f.m.unpublished.Inc()
	f.queue.add(job{a.Tenant.ID, id})
	return reply, nil
}

func (f *Facet) post(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	id, err := postArg(a)
	if err != nil {
		return nil, err
	}
	var p post
	err = f.kv.View(ctx, func(r store.Reader) (err error) {
		p, err = getPost(r, a.Tenant.ID, id)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoPost()
	}
	if err != nil {
		return nil, store.Refusal(err)
	}
	return form.Answer(a, 200, PostState{docOf(&p), int(p.delivered), p.done})
}

func (f *Facet) posts(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return f.page(ctx, a, "author", shelf)
}

func (f *Facet) read(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	return f.page(ctx, a, "id", timeline)
}

// page answers with a page of the list of the vertex that the argument names.
func (f *Facet) page(ctx context.Context, a *macronode.Admitted, arg string, which func(macronode.TenantID, vertex.Vertex) list) (*macronode.Reply, error) {
	if err := a.OnlyArgs(arg, "cursor", "limit"); err != nil {
		return nil, err
	}
	v, err := vertex.Parse(a.Arg(arg), f.normal)
	if err != nil {
		return nil, err
	}
	limit, cursor, err := form.Page(a)
	if err != nil {
		return nil, err
	}
	var before *ulid.ULID
	if cursor != nil {
		if len(cursor) != len(ulid.ULID{}) {
			return nil, form.BadCursor()
		}
		before = (*ulid.ULID)(cursor)
	}
	var out Page
	err = f.kv.View(ctx, func(r store.Reader) error {
		out = Page{Posts: []Post{}}
		size := 0
		var last ulid.ULID
		return which(a.Tenant.ID, v).newest(r, before, func(p post) bool {
			size += len(p.text) + 2*vertex.MaxBytes
			if n := len(out.Posts); n == limit || n > 0 && size > maxPageBytes {
				out.Cursor = form.Cursor(last[:])
				return false
			}
			out.Posts = append(out.Posts, docOf(&p))
			last = p.id
			return true
		})
	})
	if err != nil {
		return nil, store.Refusal(err)
	}
	return form.Answer(a, 200, out)
}

func (f *Facet) status(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	var c counts
	err := f.kv.View(ctx, func(r store.Reader) (err error) {
		c, err = getCounts(r, a.Tenant.ID)
		return err
	})
	if err != nil {
		return nil, store.Refusal(err)
	}
	s := f.settings.Load()
	return form.Answer(a, 200, Status{c.posts, c.pending, s.MaxPosts, s.MaxPending, int64(s.MaxEntries)})
}
