// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage"
)

// Run runs the suite over the stores that open returns.
func Run(t *testing.T, open func(t *testing.T) Env) {
	for _, c := range []struct {
		name string
		f    func(*testing.T, Env)
	}{
		{"RoundTrip", roundTrip},
		{"PutAgain", putAgain},
		{"WrongDigest", wrongDigest},
		{"Truncated", truncated},
		{"Encodings", encodings},
		{"Stranger", stranger},
		{"DeleteFreesBytes", deleteFreesBytes},
		{"DeleteUnderReader", deleteUnderReader},
		{"ListPages", listPages},
		{"QuotaRace", quotaRace},
		{"QuotaEarly", quotaEarly},
		{"Idempotency", idempotency},
		{"Purge", purge},
		{"Orphans", orphans},
		{"Slices", slices},
		{"SliceShapes", sliceShapes},
		{"Churn", churn},
		{"RangesOfLargeObject", rangesOfLargeObject},
	} {
		t.Run(c.name, func(t *testing.T) { c.f(t, open(t)) })
	}
}

func roundTrip(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	var total int64
	for i, n := range []int{0, 1, 1024, 16 << 10, 16<<10 + 1, 64 << 10, 64<<10 + 1, 300_000, 3 << 20} {
		body := Bytes(n, uint64(i))
		for _, op := range []macronode.Op{"object.put", "object.post"} {
			r := Request{Tenant: tn, Op: op, Body: body, Header: macronode.Header{"Content-Type": {"text/plain"}}}
			if op == "object.put" {
				r.Addr = Addr(body)
			}
			a, err := d.Do(r)
			if err != nil {
				t.Fatalf("%s of %d: %v", op, n, err)
			}
			p := a.Put(t)
			existed := op == "object.post"
			wantStatus := 201
			if existed {
				wantStatus = 200
			}
			if a.Status != wantStatus || p != (storage.Put{Addr: Addr(body), Size: int64(n), Existed: existed}) || a.Header.Get("Location") != "/o/"+p.Addr {
				t.Fatalf("%s of %d: %d %+v %v", op, n, a.Status, p, a.Header)
			}
		}
		total += int64(n)
		a, err := d.Do(Request{Tenant: tn, Op: "object.get", Addr: Addr(body)})
		if err != nil || a.Status != 200 || !bytes.Equal(a.Body, body) || a.Type != "text/plain" || a.Header.Get("Etag") != `"`+Addr(body)+`"` {
			t.Fatalf("get of %d: %v %+v", n, err, a)
		}
		h, err := d.Do(Request{Tenant: tn, Op: "object.stat", Addr: Addr(body), Header: macronode.Header{"Range": {"bytes=0-0"}}})
		if err != nil || h.Status != 200 || h.Body != nil || h.Length != int64(n) || h.Type != a.Type || fmt.Sprint(h.Header) != fmt.Sprint(a.Header) {
			t.Fatalf("head of %d: %v %+v, get said %+v", n, err, h, a.Header)
		}
	}
	if b, o := d.Usage(tn); b != total || o != 9 {
		t.Fatalf("usage %d bytes %d objects, want %d and 9", b, o, total)
	}
}

// putAgain: the object stays, its first type too, and the spare bytes go.
func putAgain(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	body := Bytes(5000, 1)
	for i := range 3 {
		a, err := d.Do(Request{Tenant: tn, Op: "object.post", Body: body, Header: macronode.Header{"Content-Type": {fmt.Sprintf("text/x%d", i)}}})
		if err != nil || a.Put(t).Existed != (i > 0) {
			t.Fatalf("put %d: %v %+v", i, err, a)
		}
	}
	d.Serve()
	Eventually(t, func() bool { return d.Stored() == 1 })
	a, err := d.Do(Request{Tenant: tn, Op: "object.get", Addr: Addr(body)})
	if err != nil || a.Type != "text/x0" || !bytes.Equal(a.Body, body) {
		t.Fatalf("get: %v %+v", err, a)
	}
	if b, o := d.Usage(tn); b != 5000 || o != 1 {
		t.Fatalf("usage %d %d", b, o)
	}
}

// Eventually waits for what background work brings about.
func Eventually(t testing.TB, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		if ok() {
			return
		}
		<-tick.C
	}
	t.Fatal("it did not come about")
}

func wrongDigest(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	for _, n := range []int{0, 10, 200_000} {
		_, err := d.Do(Request{Tenant: tn, Op: "object.put", Addr: Addr([]byte("other")), Body: Bytes(n, 2)})
		want(t, err, macronode.BadDigest)
	}
	for _, addr := range []string{"", "b3:", "b3:zz", "B3:" + Addr(nil)[3:], "b3:" + string(bytes.ToUpper([]byte(Addr(nil)[3:]))), Addr(nil) + "0"} {
		for _, op := range []macronode.Op{"object.put", "object.get", "object.stat", "object.delete"} {
			_, err := d.Do(Request{Tenant: tn, Op: op, Addr: addr})
			want(t, err, macronode.Malformed)
		}
	}
	nothing(t, d, tn)
}

// nothing checks that no trace of an upload is left.
func nothing(t *testing.T, d *Driver, tn *macronode.Tenant) {
	t.Helper()
	if b, o := d.Usage(tn); b != 0 || o != 0 || d.Stored() != 0 {
		t.Fatalf("left behind: usage %d bytes %d objects, %d stored", b, o, d.Stored())
	}
}

func truncated(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	body := Bytes(200_000, 3)
	for _, c := range []struct {
		name string
		r    func() io.Reader
		l    int64
		kind macronode.Kind
	}{
		{"short of its length", func() io.Reader { return bytes.NewReader(body[:199_999]) }, 200_000, macronode.ClientGone},
		{"longer than its length", func() io.Reader { return bytes.NewReader(body) }, 199_999, macronode.Malformed},
		{"empty", func() io.Reader { return bytes.NewReader(nil) }, 200_000, macronode.ClientGone},
		{"broken off", func() io.Reader {
			return io.MultiReader(bytes.NewReader(body[:100_000]), iotest.ErrReader(io.ErrUnexpectedEOF))
		}, -1, macronode.ClientGone},
		{"broken at once", func() io.Reader { return iotest.ErrReader(errors.New("reset")) }, 10, macronode.ClientGone},
		{"stalled", func() io.Reader {
			return io.MultiReader(bytes.NewReader(body), iotest.ErrReader(macronode.Errorf(macronode.Timeout, "slow")))
		}, -1, macronode.Timeout},
	} {
		for _, op := range []macronode.Op{"object.put", "object.post"} {
			r := Request{Tenant: tn, Op: op, Reader: c.r(), Length: c.l, Key: "k"}
			if op == "object.put" {
				r.Addr = Addr(body)
			}
			_, err := d.Do(r)
			if err == nil || macronode.KindOf(err) != c.kind {
				t.Fatalf("%s: %v, want %s", c.name, err, c.kind)
			}
		}
	}
	nothing(t, d, tn)
	// The key is free: the client tries again.
	if _, err := d.Do(Request{Tenant: tn, Op: "object.put", Addr: Addr(body), Body: body, Key: "k"}); err != nil {
		t.Fatal(err)
	}
}

func encode(t *testing.T, coding string, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&buf)
	if coding == "zstd" {
		z, err := zstd.NewWriter(&buf, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func encodings(t *testing.T, e Env) {
	tn := Tenant(1)
	d := NewDriver(t, e, func(c *storage.Config) {
		c.Limits = storage.Limits{MaxObjectBytes: 8 << 20, ChunkBytes: 64 << 10, DecompressRatio: 10, DecompressBytes: 2 << 20}
	})
	text := []byte(fmt.Sprintf("%x", Bytes(4000, 4))) // shrinks to a half
	for _, coding := range []string{"gzip", "zstd"} {
		for _, c := range []struct {
			name string
			body []byte
			kind macronode.Kind // Internal: it is stored
		}{
			{"text", encode(t, coding, text), macronode.Internal},
			{"bomb", encode(t, coding, make([]byte, 7<<20)), macronode.DecompressLimit},
			{"small bomb", encode(t, coding, make([]byte, 100_000)), macronode.DecompressLimit},
			{"not encoded", []byte("plain text, really"), macronode.Malformed},
			{"cut off", encode(t, coding, text)[:2000], macronode.Malformed},
			{"rubbish after the end", append(encode(t, coding, text), "rubbish"...), macronode.Malformed},
			{"too large an object", encode(t, coding, Bytes(8<<20+1, 6)), macronode.TooLarge},
		} {
			for _, known := range []bool{true, false} {
				r := Request{Tenant: tn, Op: "object.post", Reader: iotest.HalfReader(bytes.NewReader(c.body)), Length: -1}
				if known {
					r.Length = int64(len(c.body))
				}
				r.Header = macronode.Header{"Content-Encoding": {coding}}
				a, err := d.Do(r)
				if c.kind != macronode.Internal {
					if err == nil || macronode.KindOf(err) != c.kind {
						t.Errorf("%s %s (length known: %v): %v, want %s", coding, c.name, known, err, c.kind)
					}
					continue
				}
				if err != nil || a.Put(t).Addr != Addr(text) || a.Put(t).Size != int64(len(text)) {
					t.Fatalf("%s %s: %v %+v", coding, c.name, err, a)
				}
			}
		}
	}
	for _, coding := range []string{"gzip", "zstd"} {
		for _, whole := range [][]byte{nil, encode(t, coding, text)} {
			for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("reset")} {
				body := io.MultiReader(bytes.NewReader(whole), iotest.ErrReader(cause))
				_, err := d.Do(Request{Tenant: tn, Op: "object.post", Reader: body, Length: -1, Header: macronode.Header{"Content-Encoding": {coding}}})
				want(t, err, macronode.ClientGone)
			}
		}
	}
	// More than decompress_bytes, though well within the ratio.
	big := encode(t, "zstd", []byte(fmt.Sprintf("%x", Bytes(3_000_000, 5))))
	_, err := d.Do(Request{Tenant: tn, Op: "object.post", Body: big, Header: macronode.Header{"Content-Encoding": {"zstd"}}})
	want(t, err, macronode.DecompressLimit)
	// A window beyond what a sender may ask for.
	var wide bytes.Buffer
	z, err := zstd.NewWriter(&wide, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(16<<20))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := z.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = d.Do(Request{Tenant: tn, Op: "object.post", Body: wide.Bytes(), Header: macronode.Header{"Content-Encoding": {"zstd"}}})
	want(t, err, macronode.DecompressLimit)
	for _, coding := range []string{"br", "gzip, zstd", "deflate", "gzip;q=1"} {
		_, err := d.Do(Request{Tenant: tn, Op: "object.post", Body: text, Header: macronode.Header{"Content-Encoding": {coding}}})
		want(t, err, macronode.UnsupportedMedia)
	}
	if b, o := d.Usage(tn); b != int64(len(text)) || o != 1 {
		t.Fatalf("usage %d %d", b, o)
	}
}

// stranger: another tenant's object looks like none, and a put of the same
// bytes like a first put.
func stranger(t *testing.T, e Env) {
	d, owner, other := NewDriver(t, e), Tenant(1), Tenant(2)
	for _, n := range []int{100, 100_000} {
		body := Bytes(n, 7)
		addr, absent := d.MustPut(owner, body), Addr(Bytes(n, 8))
		for _, r := range []Request{
			{Op: "object.get"}, {Op: "object.stat"}, {Op: "object.delete"},
			{Op: "object.get", Header: macronode.Header{"If-None-Match": {"*"}}},
			{Op: "object.get", Header: macronode.Header{"If-Match": {`"x"`}}},
			{Op: "object.get", Header: macronode.Header{"Range": {"bytes=999999-"}}},
			{Op: "object.delete", Key: fmt.Sprint("k", n)},
		} {
			r.Tenant, r.Addr = other, addr
			_, err := d.Do(r)
			want(t, err, macronode.NotFound)
			r.Addr, r.Key = absent, ""
			_, err2 := d.Do(r)
			if fmt.Sprint(macronode.AsError(err)) != fmt.Sprint(macronode.AsError(err2)) {
				t.Fatalf("%s: a stranger can tell: %v from %v", r.Op, err, err2)
			}
		}
		a, err := d.Do(Request{Tenant: other, Op: "object.list"})
		if err != nil || string(a.Body) != `{"objects":[],"cursor":""}` {
			t.Fatalf("list: %v %s", err, a.Body)
		}
		stored := d.Stored()
		a, err = d.Do(Request{Tenant: other, Op: "object.put", Addr: addr, Body: body})
		if err != nil || a.Status != 201 || a.Put(t).Existed {
			t.Fatalf("put: %v %+v", err, a)
		}
		if d.Stored() != stored+1 {
			t.Fatal("a first put wrote no bytes of its own")
		}
		if b, o := d.Usage(other); b != int64(n) || o != 1 {
			t.Fatalf("usage %d %d", b, o)
		}
		if _, err := d.Do(Request{Tenant: other, Op: "object.delete", Addr: addr}); err != nil {
			t.Fatal(err)
		}
		if a, err := d.Do(Request{Tenant: owner, Op: "object.get", Addr: addr}); err != nil || !bytes.Equal(a.Body, body) {
			t.Fatalf("the owner's is gone: %v", err)
		}
	}
}

func listPages(t *testing.T, e Env) {
	d, tn, other := NewDriver(t, e), Tenant(1), Tenant(2)
	all := map[string]int64{}
	for i := range 150 {
		b := Bytes(i, uint64(i))
		all[d.MustPut(tn, b)] = int64(i)
		d.MustPut(other, append(b, 'x'))
	}
	for _, prefix := range []string{"", "b", "b3:", "b3:0", "b3:7f", "b3:abc", "b3:f"} {
		for _, limit := range []int{0, 1, 7, 1000} {
			seen := map[string]bool{}
			last, cursor := "", ""
			for {
				q := fmt.Sprintf("prefix=%s&cursor=%s", prefix, cursor)
				if limit > 0 {
					q += fmt.Sprintf("&limit=%d", limit)
				}
				a, err := d.Do(Request{Tenant: tn, Op: "object.list", Query: q})
				if err != nil {
					t.Fatalf("%s: %v", q, err)
				}
				var page storage.List
				if err := json.Unmarshal(a.Body, &page); err != nil {
					t.Fatal(err)
				}
				for _, o := range page.Objects {
					if size, ok := all[o.Addr]; !ok || size != o.Size || seen[o.Addr] || o.Addr <= last || o.CreatedMS == 0 {
						t.Fatalf("%s: bad entry %+v", q, o)
					}
					seen[o.Addr], last = true, o.Addr
				}
				if cursor = page.Cursor; cursor == "" {
					break
				}
				if want := max(limit, 1); limit > 0 && len(page.Objects) != want {
					t.Fatalf("%s: a page of %d that is not the last", q, len(page.Objects))
				}
			}
			n := 0
			for addr := range all {
				if len(addr) >= len(prefix) && addr[:len(prefix)] == prefix {
					n++
				}
			}
			if n != len(seen) {
				t.Fatalf("prefix %q limit %d: %d listed, want %d", prefix, limit, len(seen), n)
			}
		}
	}
	for _, q := range []string{"limit=0", "limit=1001", "limit=x", "cursor=zz", "prefix=b3:AB", "prefix=b3:g", "prefix=x", "prefix=b33", "lmit=3", "prefix=" + Addr(nil) + "0"} {
		_, err := d.Do(Request{Tenant: tn, Op: "object.list", Query: q})
		if err == nil || macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%s: %v", q, err)
		}
	}
}

func rangesOfLargeObject(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	body := Bytes(1_000_000, 16)
	addr := d.MustPut(tn, body)
	for _, c := range [][2]int{{0, 0}, {0, 999_999}, {16383, 16385}, {65536, 131071}, {999_999, 999_999}, {123_457, 777_777}, {20_000, 20_010}} {
		a, err := d.Do(Request{Tenant: tn, Op: "object.get", Addr: addr, Header: macronode.Header{"Range": {fmt.Sprintf("bytes=%d-%d", c[0], c[1])}}})
		if err != nil || a.Status != 206 || !bytes.Equal(a.Body, body[c[0]:c[1]+1]) ||
			a.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/1000000", c[0], c[1]) {
			t.Fatalf("%v: %v %+v", c, err, a.Header)
		}
	}
}
