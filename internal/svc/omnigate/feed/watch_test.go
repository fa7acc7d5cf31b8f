// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package feed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

// viewer reads a watch's events.
type viewer struct {
	t      *testing.T
	events chan string // "id text", or the name of another event
	stop   func()
}

func (w *world) watch(t *testing.T, of, last string) *viewer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := macronode.Header{}
	if last != "" {
		h.Set("Last-Event-Id", last)
	}
	reply, err := w.Reply(ctx, req{Op: "feed.watch", Query: kvs{"id": of}, Header: h})
	if err != nil {
		t.Fatal(err)
	}
	from, to := io.Pipe()
	v := &viewer{t: t, events: make(chan string, 10_000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := reply.Stream.WriteTo(to)
		if cerr := reply.Stream.Close(); err != nil || cerr != nil {
			t.Errorf("the stream ended with %v, %v", err, cerr)
		}
		to.Close()
	}()
	ready := make(chan struct{})
	go func() {
		defer close(v.events)
		id, name := "", ""
		for s := bufio.NewScanner(from); s.Scan(); {
			line := s.Text()
			if line == "retry: 1000" {
				close(ready)
			}
			if after, ok := strings.CutPrefix(line, "id: "); ok {
				id = after
			}
			if after, ok := strings.CutPrefix(line, "event: "); ok {
				name = after
			}
			if after, ok := strings.CutPrefix(line, "data: "); ok {
				if name == "post" {
					_, text, _ := strings.Cut(after, `"text":"`)
					v.events <- id + " " + strings.TrimSuffix(text, `"}`)
				} else {
					v.events <- name
				}
			}
		}
	}()
	<-ready
	v.stop = func() { cancel(); <-done }
	t.Cleanup(v.stop)
	return v
}

// next is the text of the next post, and its id.
func (v *viewer) next() (id, text string) {
	v.t.Helper()
	select {
	case e := <-v.events:
		id, text, _ = strings.Cut(e, " ")
		return id, text
	case <-time.After(patience):
		v.t.Fatal("no event")
	}
	return "", ""
}

func TestWatch(t *testing.T) {
	w := open(t)
	w.follow("id/bob", "name/a", nil)
	w.publish("name/a", "before")
	w.settle()
	v := w.watch(t, "id/bob", "")
	other := w.watch(t, "id/carol", "")
	first := w.publish("name/a", "first")
	if id, text := v.next(); id != first || text != "first" {
		t.Errorf("%s %s", id, text)
	}
	v.stop()
	w.publish("name/a", "second")
	w.publish("name/a", "third")
	w.settle()
	v = w.watch(t, "id/bob", first)
	w.publish("name/a", "fourth")
	for _, want := range []string{"second", "third", "fourth"} { // each once
		if _, text := v.next(); text != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
	w.settle()
	v.stop()
	other.stop()
	for e := range other.events {
		t.Errorf("who follows nobody is shown %s", e)
	}
	for e := range v.events {
		t.Errorf("%s comes twice", e)
	}
	if len(w.f.hub.subs) != 0 {
		t.Error("a watch that ended is still known")
	}
}

// A watch that does not keep up is told so, and has everything in the end.
func TestWatchLags(t *testing.T) {
	w := open(t)
	w.follow("id/bob", "name/a", nil)
	first := w.publish("name/a", "0")
	w.settle()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reply, err := w.Reply(ctx, req{Op: "feed.watch", Query: kvs{"id": "id/bob"}, Header: macronode.Header{"Last-Event-Id": {first}}})
	if err != nil {
		t.Fatal(err)
	}
	const posts = watchRoom + 50 // nobody reads yet
	for i := range posts {
		w.publish("name/a", fmt.Sprint(i+1))
	}
	w.settle()
	from, to := io.Pipe()
	go func() {
		_, _ = reply.Stream.WriteTo(to)
		_ = reply.Stream.Close()
		_ = to.Close()
	}()
	seen, lost := map[string]int{}, 0
	s := bufio.NewScanner(from)
	for (len(seen) < posts || lost == 0) && s.Scan() {
		if strings.HasPrefix(s.Text(), "id: ") {
			seen[s.Text()]++
		}
		if s.Text() == "event: lost" {
			lost++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was shown %d times", id, n)
		}
	}
	if len(seen) != posts || lost != 1 {
		t.Errorf("%d posts, %d times lost", len(seen), lost)
	}
	cancel()
	_, _ = io.Copy(io.Discard, from)
}
