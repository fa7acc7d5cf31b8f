// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
)

// follower reads a watch as a client does.
type follower struct {
	t    testing.TB
	in   *io.PipeReader
	scan *bufio.Scanner
	end  context.CancelFunc
	done chan error
}

func (d *driver) follow(c call) *follower {
	d.t.Helper()
	c.op = "name.watch"
	route, a := d.admitted(c)
	ctx, cancel := context.WithCancel(context.Background())
	r, err := route.Handler(ctx, a)
	if err != nil {
		cancel()
		d.t.Fatal(err)
	}
	in, out := io.Pipe()
	f := &follower{t: d.t, in: in, scan: bufio.NewScanner(in), end: cancel, done: make(chan error, 1)}
	go func() {
		_, err := r.Stream.WriteTo(out)
		_ = r.Stream.Close()
		out.CloseWithError(io.EOF)
		f.done <- err
	}()
	return f
}

// next is the next event: kind, id and data.
func (f *follower) next() (kind, id, data string) {
	f.t.Helper()
	for f.scan.Scan() {
		field, value, _ := strings.Cut(f.scan.Text(), ": ")
		switch field {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			data = value
		case "":
			if kind != "" || id != "" {
				return kind, id, data
			}
		}
	}
	f.t.Fatalf("the watch ended: %v", f.scan.Err())
	return "", "", ""
}

func (f *follower) want(kinds ...string) (last string) {
	f.t.Helper()
	for _, want := range kinds {
		kind, id, data := f.next()
		got := kind
		if kind == "set" || kind == "delete" {
			var doc Document
			if err := json.Unmarshal([]byte(data), &doc); err != nil {
				f.t.Fatal(err)
			}
			got = fmt.Sprintf("%s %s@%d", kind, doc.Name, doc.Version)
		}
		if got != want {
			f.t.Errorf("event %s, want %s", got, want)
		}
		last = id
	}
	return last
}

func (f *follower) close() {
	f.t.Helper()
	f.end()
	go func() { _, _ = io.Copy(io.Discard, f.in) }()
	if err := <-f.done; err != nil {
		f.t.Errorf("the watch ended with %v", err)
	}
}

func TestWatch(t *testing.T) {
	d := drive(t)
	set := func(n string) { d.do(call{op: "name.set", name: n, body: setBody("x")}, nil) }
	set("before")
	f := d.follow(call{})
	f.want("start")
	set("a")
	set("a")
	d.do(call{op: "name.set", name: "other", tenant: tenantOf(8), body: setBody("x")}, nil)
	d.do(call{op: "name.delete", name: "a"}, nil)
	at := f.want("set a@1", "set a@2", "delete a@3")
	f.close()
	d.do(call{op: "name.import", body: `{"name":"b","addr":"` + addrOf("x") + `"}` + "\n" + `{"name":"a","addr":"` + addrOf("x") + `"}`}, nil)
	// A watch goes on behind the last event, by argument or by header.
	for _, c := range []call{{query: "cursor=" + at}, {header: macronode.Header{"Last-Event-Id": {at}}}} {
		f = d.follow(c)
		f.want("start", "set b@1", "set a@4")
		f.close()
	}
	f = d.follow(call{query: "cursor=0&prefix=B"})
	f.want("start", "set before@1", "set b@1")
	f.close()
	f = d.follow(call{tenant: tenantOf(8), query: "cursor=0"})
	f.want("start", "set other@1")
	f.close()
	for _, q := range []string{"cursor=x", "cursor=-1", "more=1"} {
		d.refuse(call{op: "name.watch", query: q}, macronode.Malformed)
	}
	if len(d.s.hub.rooms) != 0 {
		t.Errorf("%d tenants are watched, and nobody watches", len(d.s.hub.rooms))
	}
}

// TestWatchBehind: who was away for too long, or never was so far, is told.
func TestWatchBehind(t *testing.T) {
	d := drive(t)
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	f := d.follow(call{query: "cursor=5"})
	f.want("start", "reset")
	f.close()
	err := d.kv.Update(t.Context(), func(tx store.Tx) error {
		u, err := getTotals(tx, tenantOf(7).ID)
		u.seq += keepChanges
		if err != nil {
			return err
		}
		return u.put(tx, tenantOf(7).ID)
	})
	if err != nil {
		t.Fatal(err)
	}
	f = d.follow(call{query: "cursor=0"})
	f.want("start")
	if kind, id, _ := f.next(); kind != "reset" || id != fmt.Sprint(keepChanges+1) {
		t.Errorf("%s at %s", kind, id)
	}
	d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
	f.want("set a@2")
	f.close()
}

// TestWatchLives: a quiet watch says that it lives, and how far it is.
func TestWatchLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := drive(t)
		f := d.follow(call{query: "prefix=z"})
		f.want("start")
		d.do(call{op: "name.set", name: "a", body: setBody("x")}, nil)
		began := time.Now()
		if kind, id, _ := f.next(); kind != "" || id != "1" || time.Since(began) != keepAlive {
			t.Errorf("%q at %s after %v", kind, id, time.Since(began))
		}
		f.close()
	})
}

// TestWatchMany: changes by many at once all come, in their order.
func TestWatchMany(t *testing.T) {
	d := drive(t, func(c *Config) { c.Limits = Limits{MaxNames: 1000, MaxHistory: 1000} })
	f := d.follow(call{})
	f.want("start")
	const writers, each = 4, 150
	for w := range writers {
		go func() {
			for range each {
				route, a := d.admitted(call{op: "name.set", name: fmt.Sprintf("w%d", w), body: setBody("x")})
				if _, err := route.Handler(context.Background(), a); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	last := map[string]uint64{}
	for i := 1; i <= writers*each; i++ {
		_, id, data := f.next()
		var doc Document
		if err := json.Unmarshal([]byte(data), &doc); err != nil || id != fmt.Sprint(i) || doc.Version != last[doc.Name]+1 {
			t.Fatalf("event %d: id %s, %s@%d after %d, %v", i, id, doc.Name, doc.Version, last[doc.Name], err)
		}
		last[doc.Name] = doc.Version
	}
	f.close()
}
