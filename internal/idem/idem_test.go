// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package idem

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/mem"
)

// clock is a time that tests move.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

func setup(t testing.TB) (*Keeper, store.KV, *clock) {
	kv := mem.NewKV(mem.KVConfig{})
	t.Cleanup(func() { _ = kv.Close() })
	c := &clock{}
	c.ms.Store(1_700_000_000_000)
	return New(Config{KV: kv, Now: c.now}), kv, c
}

var binding = macronode.Binding{Op: "thing.set", Method: "POST", Pattern: "/v1/things/{thing}", MaxBody: macronode.BodyDefault, Write: true}

func tenant(n byte) *macronode.Tenant { return &macronode.Tenant{ID: macronode.TenantID{15: n}} }

func call(t *macronode.Tenant, key, body string) *macronode.Admitted {
	c := &macronode.Call{
		Method: "POST", IdempotencyKey: key, Binding: &binding, CorrID: "first",
		Body: strings.NewReader(body), Length: int64(len(body)), Header: macronode.Header{},
	}
	c.AddParam("thing", "a")
	return &macronode.Admitted{Call: c, Tenant: t, ReplyBytes: macronode.NoLimit}
}

func keys(t testing.TB, kv store.KV) (n int) {
	t.Helper()
	err := kv.View(context.Background(), func(r store.Reader) error {
		return r.Scan([]byte("idem/"), []byte("idem0"), func(_, _ []byte) bool { n++; return true })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func want(t testing.TB, err error, k macronode.Kind) {
	t.Helper()
	if err == nil || macronode.KindOf(err) != k {
		t.Fatalf("error %v, want %s", err, k)
	}
}

// counter is a handler that changes something and keeps its reply with it.
func counter(kv store.KV, ran *int) Handler {
	return func(ctx context.Context, a *macronode.Admitted, body []byte, c *Claim) (*macronode.Reply, error) {
		*ran++
		r := &macronode.Reply{
			Status: 201, ContentType: "application/json",
			Header: macronode.Header{"Location": {"/x"}, "Multi": {"1", "2"}}, Body: fmt.Appendf(nil, `{"ran":%d}`, *ran),
		}
		return r, kv.Update(ctx, func(tx store.Tx) error {
			if err := tx.Set([]byte("thing"), body); err != nil {
				return err
			}
			return c.Keep(tx, r)
		})
	}
}

func TestReplay(t *testing.T) {
	k, kv, clk := setup(t)
	ran := 0
	h := k.Wrap(counter(kv, &ran))
	ctx := context.Background()
	first, err := h(ctx, call(tenant(1), "k", "body"))
	if err != nil || first.Header.Get(ReplayedHeader) != "" {
		t.Fatal(err, first)
	}
	for range 3 {
		clk.advance(7 * time.Hour)
		r, err := h(ctx, call(tenant(1), "k", "body"))
		if err != nil || r.Status != 201 || r.ContentType != first.ContentType || !bytes.Equal(r.Body, first.Body) ||
			r.Header.Get("Location") != "/x" || len(r.Header["Multi"]) != 2 || r.Header.Get(ReplayedHeader) != "true" {
			t.Fatalf("replay: %v %+v", err, r)
		}
	}
	_, err = h(ctx, call(tenant(1), "k", "other"))
	want(t, err, macronode.IdempotencyMismatch)
	if ran != 1 {
		t.Fatalf("ran %d times", ran)
	}
	// Another tenant's key, another key, no key: each runs.
	for _, a := range []*macronode.Admitted{call(tenant(2), "k", "body"), call(tenant(1), "k2", "body"), call(tenant(1), "", "body"), call(tenant(1), "", "body")} {
		if r, err := h(ctx, a); err != nil || r.Header.Get(ReplayedHeader) != "" {
			t.Fatal(err, r)
		}
	}
	if ran != 5 {
		t.Fatalf("ran %d times", ran)
	}
	// After a day the key is free, swept or not.
	clk.advance(3 * time.Hour)
	if r, err := h(ctx, call(tenant(1), "k", "other")); err != nil || r.Header.Get(ReplayedHeader) != "" {
		t.Fatal(err, r)
	}
	// The sweep of the first record's time leaves the second one alone.
	if n, err := k.Sweep(ctx, clk.now()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if r, err := h(ctx, call(tenant(1), "k", "other")); err != nil || r.Header.Get(ReplayedHeader) != "true" {
		t.Fatal(err, r)
	}
}

func TestKeyShape(t *testing.T) {
	k, _, _ := setup(t)
	for key, ok := range map[string]bool{
		"a": true, "!~": true, strings.Repeat("x", 128): true,
		strings.Repeat("x", 129): false, "a b": false, "a\n": false, "ä": false, "\x7f": false, " ": false,
	} {
		c, err := k.Open(context.Background(), call(tenant(1), key, ""))
		if (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
		if err != nil {
			want(t, err, macronode.Malformed)
		}
		c.Release()
	}
}

func TestRunning(t *testing.T) {
	k, kv, _ := setup(t)
	ctx := context.Background()
	c, err := k.Open(ctx, call(tenant(1), "k", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, view := range []*Keeper{k, k.For(time.Hour)} {
		_, err = view.Open(ctx, call(tenant(1), "k", ""))
		want(t, err, macronode.IdempotencyRunning)
	}
	other := binding
	other.Op = "thing.get"
	a := call(tenant(1), "k", "")
	a.Call.Binding = &other
	oc, err := k.Open(ctx, a)
	if err != nil {
		t.Fatal("another op's key:", err)
	}
	oc.Release()
	c.Release()
	c.Release()
	// Nothing was kept, so the key is free.
	c, err = k.Open(ctx, call(tenant(1), "k", ""))
	if err != nil || c.Recorded() {
		t.Fatal(err)
	}
	if err := kv.Update(ctx, func(tx store.Tx) error { return c.Keep(tx, &macronode.Reply{}) }); !errors.Is(err, errUnmatched) {
		t.Fatalf("kept before Match: %v", err)
	}
	c.Release()
	if len(k.running) != 0 {
		t.Fatal("claims are left")
	}
}

// Calls that can only be replays do not exclude each other.
func TestReplaysTogether(t *testing.T) {
	k, kv, _ := setup(t)
	ran := 0
	ctx := context.Background()
	if _, err := k.Wrap(counter(kv, &ran))(ctx, call(tenant(1), "k", "b")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := k.Open(ctx, call(tenant(1), "k", "b"))
		if err != nil || !c.Recorded() {
			t.Fatal(err)
		}
		defer c.Release()
	}
}

// Of many calls at once one runs; the others are told so or get its answer.
func TestConcurrent(t *testing.T) {
	k, kv, _ := setup(t)
	var ran, conflicts atomic.Int64
	h := k.Wrap(func(ctx context.Context, a *macronode.Admitted, body []byte, c *Claim) (*macronode.Reply, error) {
		ran.Add(1)
		r := &macronode.Reply{Body: []byte("once")}
		return r, kv.Update(ctx, func(tx store.Tx) error { return c.Keep(tx, r) })
	})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			r, err := h(context.Background(), call(tenant(1), "k", "b"))
			switch {
			case err == nil && string(r.Body) == "once":
			case macronode.KindOf(err) == macronode.IdempotencyRunning:
				conflicts.Add(1)
			default:
				t.Errorf("%v %+v", err, r)
			}
		})
	}
	wg.Wait()
	if ran.Load() != 1 {
		t.Fatalf("ran %d times", ran.Load())
	}
}

// Two processes over one store: the transaction decides.
func TestTwoKeepers(t *testing.T) {
	k, kv, clk := setup(t)
	k2 := New(Config{KV: kv, Now: clk.now})
	ctx := context.Background()
	c1, _, err1 := k.Begin(ctx, call(tenant(1), "k", ""), Hash("r"))
	c2, _, err2 := k2.Begin(ctx, call(tenant(1), "k", ""), Hash("r"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	keep := func(c *Claim) error {
		return kv.Update(ctx, func(tx store.Tx) error { return c.Keep(tx, &macronode.Reply{}) })
	}
	if err := keep(c1); err != nil {
		t.Fatal(err)
	}
	want(t, keep(c2), macronode.IdempotencyRunning)
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err  error
		kept bool
	}{
		{macronode.Errorf(macronode.NotFound, "no such thing"), true},
		{macronode.Errorf(macronode.Conflict, "taken"), true},
		{macronode.Errorf(macronode.PreconditionFailed, "no"), true},
		{macronode.Errorf(macronode.Invalid, "no"), true},
		{macronode.Errorf(macronode.BadDigest, "no"), true},
		{macronode.Errorf(macronode.QuotaBytes, "full"), false},
		{macronode.Errorf(macronode.TooLarge, "full"), false},
		{macronode.Errorf(macronode.Overload, "busy"), false},
		{macronode.Wrap(macronode.DiskFull, "", store.ErrFull), false},
		{errors.New("boom"), false},
		{context.Canceled, false},
	} {
		k, kv, _ := setup(t)
		ran := 0
		h := k.Wrap(func(ctx context.Context, _ *macronode.Admitted, _ []byte, cl *Claim) (*macronode.Reply, error) {
			ran++
			// The change fails after its reply was kept: both are undone.
			err := kv.Update(ctx, func(tx store.Tx) error {
				if err := cl.Keep(tx, &macronode.Reply{Body: []byte("never")}); err != nil {
					return err
				}
				return c.err
			})
			return nil, err
		})
		_, err := h(context.Background(), call(tenant(1), "k", ""))
		if !errors.Is(err, c.err) {
			t.Fatalf("%v became %v", c.err, err)
		}
		a := call(tenant(1), "k", "")
		a.CorrID = "second"
		r, err := h(context.Background(), a)
		if c.kept {
			problem, jerr := json.Marshal(macronode.AsError(c.err).Problem("first"))
			if jerr != nil {
				t.Fatal(jerr)
			}
			if err != nil || ran != 1 || !bytes.Equal(r.Body, problem) || r.Header.Get(ReplayedHeader) != "true" {
				t.Errorf("%v: replayed %v %+v", c.err, err, r)
			}
		} else if !errors.Is(err, c.err) || ran != 2 || keys(t, kv) != 0 {
			t.Errorf("%v: second try %v, ran %d, %d keys", c.err, err, ran, keys(t, kv))
		}
	}
}

// A handler that changed nothing did not keep its reply; Wrap does. Replies of
// 5xx are not kept, streams cannot be.
func TestUnkeptReplies(t *testing.T) {
	for _, c := range []struct {
		reply macronode.Reply
		keys  int
		ok    bool
	}{
		{macronode.Reply{Body: []byte("{}")}, 2, true},
		{macronode.Reply{Status: 204}, 2, true},
		{macronode.Reply{Status: 409}, 2, true},
		{macronode.Reply{Status: 503}, 0, true},
		{macronode.Reply{Body: make([]byte, MaxReplyBytes+1)}, 0, false},
		{macronode.Reply{Stream: stream{}}, 0, false},
	} {
		k, kv, _ := setup(t)
		h := k.Wrap(func(context.Context, *macronode.Admitted, []byte, *Claim) (*macronode.Reply, error) {
			return &c.reply, nil
		})
		_, err := h(context.Background(), call(tenant(1), "k", ""))
		if (err == nil) != c.ok || keys(t, kv) != c.keys {
			t.Errorf("%d with %d bytes: %v, %d keys", c.reply.Status, len(c.reply.Body), err, keys(t, kv))
		}
	}
}

type stream struct{}

func (stream) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (stream) Close() error                     { return nil }

func TestBodies(t *testing.T) {
	k, _, _ := setup(t)
	var got []byte
	h := k.Wrap(func(_ context.Context, _ *macronode.Admitted, b []byte, _ *Claim) (*macronode.Reply, error) {
		got = b
		return &macronode.Reply{}, nil
	})
	small := binding
	small.MaxBody = 4
	for _, c := range []struct {
		r    io.Reader
		l    int64
		b    *macronode.Binding
		kind macronode.Kind
	}{
		{strings.NewReader("abcd"), 4, &small, macronode.Internal},
		{strings.NewReader("abcd"), -1, &small, macronode.Internal},
		{iotest.OneByteReader(strings.NewReader("abcd")), -1, &binding, macronode.Internal},
		{strings.NewReader("abcde"), -1, &small, macronode.TooLarge},
		{strings.NewReader("abcde"), 5, &small, macronode.TooLarge},
		{strings.NewReader("abc"), 4, &small, macronode.ClientGone},
		{iotest.ErrReader(io.ErrUnexpectedEOF), -1, &small, macronode.ClientGone},
		{iotest.ErrReader(macronode.Errorf(macronode.Timeout, "slow")), -1, &small, macronode.Timeout},
	} {
		a := call(tenant(1), "", "")
		a.Call.Body, a.Length, a.Call.Binding = c.r, c.l, c.b
		_, err := h(context.Background(), a)
		if c.kind != macronode.Internal {
			want(t, err, c.kind)
		} else if err != nil || string(got) != "abcd" {
			t.Fatalf("%v %q", err, got)
		}
	}
	a := call(tenant(1), "", "")
	a.Call.Body = nil
	if _, err := h(context.Background(), a); err != nil || got != nil {
		t.Fatal(err, got)
	}
}

func TestRequestFingerprint(t *testing.T) {
	base := Request(call(tenant(1), "k", "b"), []byte("b"))
	same := call(tenant(9), "other", "b")
	same.Header["X-Other"] = []string{"1"}
	if Request(same, []byte("b")) != base {
		t.Error("what is no part of the request counts")
	}
	seen := map[Fingerprint]string{base: "base"}
	for name, change := range map[string]func(a *macronode.Admitted) string{
		"body":   func(*macronode.Admitted) string { return "c" },
		"query":  func(a *macronode.Admitted) string { a.Query = "x=1"; return "b" },
		"query2": func(a *macronode.Admitted) string { a.Query = "x=2"; return "b" },
		"param":  func(a *macronode.Admitted) string { a.ResetParams(); a.AddParam("thing", "z"); return "b" },
		"type":   func(a *macronode.Admitted) string { a.Header["Content-Type"] = []string{"x/y"}; return "b" },
		"match":  func(a *macronode.Admitted) string { a.Header["If-Match"] = []string{`"1"`}; return "b" },
		"none":   func(a *macronode.Admitted) string { a.Header["If-None-Match"] = []string{`"1"`}; return "b" },
	} {
		a := call(tenant(1), "k", "b")
		fp := Request(a, []byte(change(a)))
		if was, ok := seen[fp]; ok {
			t.Errorf("%s has the fingerprint of %s", name, was)
		}
		seen[fp] = name
	}
	x, y := call(tenant(1), "k", ""), call(tenant(1), "k", "")
	x.Query, y.Query = "a=1&b=2", "b=2&a=1"
	if Request(x, nil) != Request(y, nil) {
		t.Error("the order of arguments counts")
	}
	if Hash("a", "bc") == Hash("ab", "c") || Hash("a") == Hash("a", "") {
		t.Error("parts run together")
	}
}

func TestSweepAndPurge(t *testing.T) {
	k, kv, clk := setup(t)
	ctx := context.Background()
	ran := 0
	short, long := k.For(time.Hour).Wrap(counter(kv, &ran)), k.Wrap(counter(kv, &ran))
	for i := range 3*sweepBatch + 7 {
		if _, err := short(ctx, call(tenant(1), fmt.Sprint("s", i), "")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		for _, n := range []byte{1, 2} {
			if _, err := long(ctx, call(tenant(n), fmt.Sprint("l", i), "")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n, err := k.Sweep(ctx, clk.now()); n != 0 || err != nil {
		t.Fatal("swept too early:", n, err)
	}
	clk.advance(time.Hour)
	if n, err := k.Sweep(ctx, clk.now()); n != 3*sweepBatch+7 || err != nil {
		t.Fatal(n, err)
	}
	if n := keys(t, kv); n != 40 {
		t.Fatalf("%d keys are left", n)
	}
	for range 2 {
		if err := k.Purge(ctx, tenant(1).ID); err != nil {
			t.Fatal(err)
		}
	}
	if n := keys(t, kv); n != 20 {
		t.Fatalf("%d keys are left", n)
	}
	if r, err := long(ctx, call(tenant(2), "l1", "")); err != nil || r.Header.Get(ReplayedHeader) != "true" {
		t.Fatal(err, r)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	text := rapid.StringN(0, 20, 60)
	rapid.Check(t, func(t *rapid.T) {
		r := record{
			expires: rapid.Int64Range(0, 1<<50).Draw(t, "expires"), status: rapid.IntRange(0, 599).Draw(t, "status"),
			ctype: text.Draw(t, "type"), body: rapid.SliceOf(rapid.Byte()).Draw(t, "body"), fp: Hash(text.Draw(t, "fp")),
		}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			if r.header == nil {
				r.header = macronode.Header{}
			}
			r.header[text.Draw(t, "name")] = rapid.SliceOfN(text, 0, 4).Draw(t, "values")
		}
		got, err := decodeRecord(r.encode())
		if err != nil || !bytes.Equal(got.encode(), r.encode()) || got.status != r.status || got.fp != r.fp {
			t.Fatalf("%v: %+v became %+v", err, r, got)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	r := record{expires: 1, status: 200, ctype: "a/b", header: macronode.Header{"X": {"1", "2"}}, body: []byte("body")}
	f.Add(r.encode())
	f.Add([]byte{1})
	f.Add(append(bytes.Clone(r.encode()[:43]), 0xff, 0xff, 0xff, 0xff, 0x7f))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if len(r.body) > len(b) || len(r.header) > maxFields {
			t.Fatal("more came out than went in")
		}
		if again, err := decodeRecord(r.encode()); err != nil || !bytes.Equal(again.body, r.body) {
			t.Fatal(err)
		}
	})
}
