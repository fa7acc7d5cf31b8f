// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storage_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

func TestConditionalGet(t *testing.T) {
	d, tn := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1)
	for _, n := range []int{100, 100_000} {
		body := storagetest.Bytes(n, 1)
		addr := d.MustPut(tn, body)
		tag := `"` + addr + `"`
		for _, c := range []struct {
			header string // lines "Name: value"
			status int
			n      int // body bytes
		}{
			{"", 200, n},
			{"If-None-Match: " + tag, 304, 0},
			{"If-None-Match: W/" + tag, 304, 0},
			{"If-None-Match: *", 304, 0},
			{"If-None-Match: " + tag + "\nRange: bytes=0-9", 304, 0},
			{`If-None-Match: "x"`, 200, n},
			{"If-Match: " + tag, 200, n},
			{"If-Match: *\nRange: bytes=0-9", 206, 10},
			{`If-Match: "x"`, 412, 0},
			{"Range: bytes=0-9", 206, 10},
			{"Range: bytes=0-9\nIf-Range: " + tag, 206, 10},
			{"Range: bytes=0-9\nIf-Range: W/" + tag, 200, n},
			{"Range: bytes=0-9\nIf-Range: \"x\"", 200, n},
			{"Range: bytes=0-9\nIf-Range: Tue, 15 Nov 1994 12:45:26 GMT", 200, n},
			{"Range: bytes=999999-\nIf-Range: \"x\"", 200, n},
			{"Range: bytes=999999-", 416, 0},
			{"Range: bytes=-0", 416, 0},
			{"Range: bytes=5-1", 200, n},
			{"Range: bytes=0-9,20-29", 206, -1},
			{"Range: bytes=0-9,5-29", 206, 30},
		} {
			h := macronode.Header{}
			for line := range strings.Lines(c.header) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				h.Set(name, value)
			}
			a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Header: h})
			status := 0
			if err != nil {
				status = macronode.KindOf(err).Info().Status
			} else {
				status = a.Status
			}
			if status != c.status || (err == nil && c.n >= 0 && len(a.Body) != c.n) {
				t.Errorf("%q of %d: %d %v, want %d", c.header, n, status, err, c.status)
			}
			if err == nil && (a.Header.Get("Etag") != tag || a.Header.Get("Accept-Ranges") != "bytes") {
				t.Errorf("%q: header %v", c.header, a.Header)
			}
		}
	}
}

func TestMultipartRanges(t *testing.T) {
	d, tn := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1)
	for _, n := range []int{1000, 400_000} {
		body := storagetest.Bytes(n, 1)
		addr := d.MustPut(tn, body)
		spec := fmt.Sprintf("bytes=-10,0-0,100-199,150-299,%d-%d", n/2, n-20)
		want := []string{
			fmt.Sprintf("%d-%d", n-10, n-1), "0-0", "100-299", fmt.Sprintf("%d-%d", n/2, n-20),
		}
		a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: addr, Header: macronode.Header{"Range": {spec}}})
		if err != nil || a.Status != 206 || a.Header.Get("Content-Range") != "" {
			t.Fatal(err, a)
		}
		media, params, err := mime.ParseMediaType(a.Type)
		if err != nil || media != "multipart/byteranges" {
			t.Fatal(err, a.Type)
		}
		r := multipart.NewReader(bytes.NewReader(a.Body), params["boundary"])
		for _, w := range want {
			p, err := r.NextPart()
			if err != nil {
				t.Fatal(err)
			}
			var lo, hi int
			if _, err := fmt.Sscanf(w, "%d-%d", &lo, &hi); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(p)
			if err != nil || !bytes.Equal(got, body[lo:hi+1]) {
				t.Fatalf("%s: %d bytes, %v", w, len(got), err)
			}
			if cr := p.Header.Get("Content-Range"); cr != fmt.Sprintf("bytes %s/%d", w, n) || p.Header.Get("Content-Type") != "application/octet-stream" {
				t.Fatalf("%s: %v", w, p.Header)
			}
		}
		if _, err := r.NextPart(); err != io.EOF {
			t.Fatal(err)
		}
	}
}

// What a tenant stored cannot run in the node's origin.
func TestServedSafely(t *testing.T) {
	d, tn := storagetest.NewDriver(t, memEnv(t)), storagetest.Tenant(1)
	for i, c := range []struct {
		ctype  string
		attach bool
	}{
		{"", true},
		{"text/html", true},
		{"application/pdf", true},
		{"image/png", false},
		{"IMAGE/svg+xml", false},
		{"audio/ogg", false},
		{"video/webm; codecs=vp9", false},
		{"imagex/png", true},
	} {
		body := storagetest.Bytes(100, uint64(i))
		r := storagetest.Request{Tenant: tn, Op: "object.post", Body: body}
		if c.ctype != "" {
			r.Header = macronode.Header{"Content-Type": {c.ctype}}
		}
		if _, err := d.Do(r); err != nil {
			t.Fatal(err)
		}
		a, err := d.Do(storagetest.Request{Tenant: tn, Op: "object.get", Addr: storagetest.Addr(body)})
		if err != nil {
			t.Fatal(err)
		}
		if c.ctype == "" {
			c.ctype = "application/octet-stream"
		}
		if a.Type != c.ctype || (a.Header.Get("Content-Disposition") == "attachment") != c.attach ||
			a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Content-Security-Policy") != "sandbox" ||
			!strings.HasPrefix(a.Header.Get("Cache-Control"), "private, immutable") {
			t.Errorf("%s: %s %v", c.ctype, a.Type, a.Header)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	for _, n := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, tn := storagetest.NewDriver(b, memEnv(b)), storagetest.Tenant(1)
			r := storagetest.Request{Tenant: tn, Op: "object.get", Addr: d.MustPut(tn, storagetest.Bytes(n, 1))}
			call := d.Prepare(r)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				reply, err := call.Do()
				if err != nil {
					b.Fatal(err)
				}
				if reply.Stream != nil {
					if _, err := reply.Stream.WriteTo(io.Discard); err != nil {
						b.Fatal(err)
					}
					_ = reply.Stream.Close()
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, key := range []string{"", "keyed"} {
		b.Run("1024"+key, func(b *testing.B) {
			d, tn := storagetest.NewDriver(b, memEnv(b)), storagetest.Tenant(1)
			d.Serve()
			body := storagetest.Bytes(1<<10, 1)
			call := d.Prepare(storagetest.Request{Tenant: tn, Op: "object.post", Body: body})
			i := uint64(0)
			b.SetBytes(1 << 10)
			b.ReportAllocs()
			for b.Loop() {
				i++
				for j := range 8 {
					body[j] = byte(i >> (8 * j))
				}
				if key != "" {
					call.Call.IdempotencyKey = fmt.Sprint(i)
				}
				if _, err := call.Do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
