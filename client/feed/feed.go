// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package feed uses a node's feed: posts that come to the followers of their author.
// Who follows whom is edges of type graph.Follow.
//
//	f := feed.New(c)
//	post, err := f.Publish(ctx, feed.Draft{Author: "name/alice", Text: "hello"})
//	page, next, err := f.Read(ctx, "name/bob", "", 20)
//	err = f.Watch(ctx, "name/bob", "", func(p feed.Post) error { ... })
//
// A vertex is text: name/NAME, object/b3:HEX or id/TEXT.
package feed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rustyonions/macronode/client"
)

const (
	// maxEventBytes bounds one event of a watch.
	maxEventBytes = 1 << 20
	// quiet is how long a watch may say nothing; a node says every 15 s at least that
	// it lives.
	quiet = time.Minute
	// pauseAfter is the wait before a watch that broke is made anew.
	pauseAfter = time.Second
)

// Draft is a post to publish: an item, a text or both.
type Draft struct {
	Author string `json:"author"`
	Item   string `json:"item,omitempty"` // a vertex that it is about
	Text   string `json:"text,omitempty"` // at most 4096 bytes
	// Key is the Idempotency-Key; "": one is made.
	Key string `json:"-"`
}

// Post is one that was published.
type Post struct {
	ID     string    `json:"post_id"` // a ULID; later posts have greater ones
	TS     time.Time `json:"ts"`
	Author string    `json:"author"`
	Item   string    `json:"item,omitempty"`
	Text   string    `json:"text,omitempty"`
}

// State is a post and how far it came.
type State struct {
	Post
	Delivered int  `json:"delivered"` // timelines that it came into
	Done      bool `json:"done"`      // those were all
}

// Status is what the tenant keeps.
type Status struct {
	Posts      int64 `json:"posts"`
	Pending    int64 `json:"pending"` // on their way
	MaxPosts   int64 `json:"max_posts"`
	MaxPending int64 `json:"max_pending"`
	MaxEntries int64 `json:"max_entries"`
}

// Feed is a tenant's. It is safe for concurrent use.
type Feed struct{ c *client.Client }

// New returns the feed of c's tenant. Nothing is asked of the node yet.
func New(c *client.Client) *Feed { return &Feed{c} }

// Publish publishes a post. When it returns, the post is durable and will reach
// every follower, also if the node is killed now.
func (f *Feed) Publish(ctx context.Context, d Draft) (p Post, err error) {
	if d.Key == "" {
		if d.Key, err = client.NewKey(); err != nil {
			return p, err
		}
	}
	p = Post{Author: d.Author, Item: d.Item, Text: d.Text}
	err = f.c.JSON(ctx, "POST", "/v1/feed/posts", d.Key, d, &p)
	return p, err
}

// Unpublish takes a post out of every timeline: "not_found" where there is none.
func (f *Feed) Unpublish(ctx context.Context, id string) error {
	return f.c.JSON(ctx, "DELETE", "/v1/feed/posts/"+url.PathEscape(id), "", nil, nil)
}

// Post is one with its state: "not_found" where there is none.
func (f *Feed) Post(ctx context.Context, id string) (s State, err error) {
	err = f.c.JSON(ctx, "GET", "/v1/feed/posts/"+url.PathEscape(id), "", nil, &s)
	return s, err
}

// Read is a page of a timeline, newest first. cursor is the page before's ("": the
// newest), limit 0 the node's default. An empty next says that it is the last.
func (f *Feed) Read(ctx context.Context, of, cursor string, limit int) (page []Post, next string, err error) {
	return f.page(ctx, "timeline", "id", of, cursor, limit)
}

// Posts is a page of what an author published, as Read.
func (f *Feed) Posts(ctx context.Context, author, cursor string, limit int) (page []Post, next string, err error) {
	return f.page(ctx, "posts", "author", author, cursor, limit)
}

func (f *Feed) page(ctx context.Context, list, arg, of, cursor string, limit int) ([]Post, string, error) {
	q := url.Values{arg: {of}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var out struct {
		Posts  []Post `json:"posts"`
		Cursor string `json:"cursor"`
	}
	err := f.c.JSON(ctx, "GET", "/v1/feed/"+list+"?"+q.Encode(), "", nil, &out)
	return out.Posts, out.Cursor, err
}

// Status is what the tenant keeps, and may keep.
func (f *Feed) Status(ctx context.Context) (s Status, err error) {
	err = f.c.JSON(ctx, "GET", "/v1/feed", "", nil, &s)
	return s, err
}

// ErrLost is what Watch tells report of posts that came faster than they were taken:
// what is newer than the last one comes all the same; older ones, which were long on
// their way, may have to be read.
var ErrLost = errors.New("the watch did not keep up; read the timeline for what is missing")

// Watch calls f with what comes into a timeline, until ctx ends or f fails, whose
// error it returns. after is the id of the last post that was seen ("": only what
// comes from now on); what is newer comes first. A stream that breaks is made anew
// behind the last post. A refusal of the first stream is returned. report, which may
// be nil, hears of what broke.
func (f *Feed) Watch(ctx context.Context, of, after string, report func(error), each func(Post) error) error {
	for met := false; ; met = true {
		err := f.stream(ctx, of, &after, report, each)
		var stop *stopped
		var refused *client.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.error
		case errors.As(err, &refused) && (!met || !refused.Retryable):
			return err
		}
		if report != nil {
			report(err)
		}
		wait := time.NewTimer(pauseAfter)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// stopped is an error of who takes the posts.
type stopped struct{ error }

// stream reads one answer to its end.
func (f *Feed) stream(ctx context.Context, of string, after *string, report func(error), each func(Post) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	h := http.Header{"Accept": {"text/event-stream"}}
	if *after != "" {
		h.Set("Last-Event-Id", *after)
	}
	resp, err := f.c.Do(ctx, client.Request{Method: "GET", Path: "/v1/feed/watch?" + url.Values{"id": {of}}.Encode(), Header: h})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	alive := time.AfterFunc(quiet, end)
	defer alive.Stop()
	s := bufio.NewScanner(resp.Body)
	s.Buffer(make([]byte, 0, 16<<10), maxEventBytes)
	name := ""
	for s.Scan() {
		alive.Reset(quiet)
		line := s.Bytes()
		if text, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(text)
			continue
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		if name == "lost" {
			if report != nil {
				report(ErrLost)
			}
			continue
		}
		var p Post
		if err := json.Unmarshal(data, &p); err != nil || name != "post" {
			continue // a later node may say more
		}
		if err := each(p); err != nil {
			return &stopped{err}
		}
		if p.ID > *after {
			*after = p.ID
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
