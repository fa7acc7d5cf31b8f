// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

// What a stream does wrong, and what a client must then see.
func TestBrokenStreams(t *testing.T) {
	boom := macronode.Errorf(macronode.Integrity, "damaged")
	data := make([]byte, 100_000)
	partial := func(n int, err error) streamFunc {
		return func(w io.Writer) (int64, error) {
			m, werr := w.Write(data[:n])
			return int64(m), errors.Join(werr, err)
		}
	}
	cases := []struct {
		name  string
		reply macronode.Reply
		whole int // status where the failure comes early enough for an answer
	}{
		{"before the first byte", macronode.Reply{Stream: partial(0, boom), Length: 100_000}, 502},
		{"while all is buffered", macronode.Reply{Stream: partial(100, boom), Length: 100_000}, 502},
		{"in the middle", macronode.Reply{Stream: partial(70_000, boom), Length: 100_000}, 0},
		{"at the very end", macronode.Reply{Stream: partial(100_000, boom), Length: 100_000}, 0},
		{"at the end of a buffer", macronode.Reply{Stream: partial(bufferBytes, boom), Length: bufferBytes}, 502},
		{"chunked", macronode.Reply{Stream: partial(70_000, boom), Length: -1}, 0},
		{"short", macronode.Reply{Stream: partial(70_000, nil), Length: 100_000}, 0},
		{"finished too early", macronode.Reply{Stream: finished(data[:90_000], 20_000), Length: 100_000}, 0},
		{"finished too late", macronode.Reply{Stream: finished(data, 80_000), Length: 90_000}, 0},
		{"finished with too much", macronode.Reply{Stream: finished(data, 0), Length: 90_000}, 500},
		{"long", macronode.Reply{Stream: partial(70_000, nil), Length: 60_000}, 500},
	}
	var next atomic.Pointer[macronode.Reply]
	serve := func(_ context.Context, _ *macronode.Call, send macronode.Send) error {
		r := *next.Load()
		return send(&r)
	}
	conf, pool := serverTLS(t)
	plain, secure := start(t, serve, options{}), start(t, serve, options{tls: conf})
	clients := map[string]*http.Client{"h1": {Transport: &http.Transport{}}, "h2": h2client(t, pool)}
	for _, c := range cases {
		next.Store(&c.reply)
		for proto, client := range clients {
			t.Run(c.name+"/"+proto, func(t *testing.T) {
				url := "http://" + plain.addr
				if proto == "h2" {
					url = "https://" + secure.addr
				}
				resp, err := client.Get(url)
				if err != nil {
					if c.whole != 0 {
						t.Fatal(err)
					}
					return // broken off before the client saw a head
				}
				defer resp.Body.Close()
				if c.whole != 0 {
					if b, err := io.ReadAll(resp.Body); resp.StatusCode != c.whole || err != nil || problem(t, string(b)).Status != c.whole || resp.Header.Get("Content-Type") != ProblemType {
						t.Errorf("%d %q %v, want %d", resp.StatusCode, b, err, c.whole)
					}
					return
				}
				if n, err := io.Copy(io.Discard, resp.Body); err == nil {
					t.Errorf("a clean end after %d bytes", n)
				}
			})
		}
		t.Run(c.name+"/1.0", func(t *testing.T) {
			_, br := plain.raw("GET / HTTP/1.0\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil && c.whole == 0 {
				t.Error("a clean end")
			}
		})
	}
}

// A client of few lines: a request whose body is too large and sent in one go,
// then one read.
func TestIngressOversizeIsReadable(t *testing.T) {
	r := start(t, hello, options{})
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	n := 1<<20 + 1
	if _, err := fmt.Fprintf(c, "POST /ingress HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("X", n)); err != nil {
		t.Fatalf("sending: %v", err)
	}
	b := make([]byte, 1024)
	m, err := c.Read(b)
	if err != nil || !bytes.HasPrefix(b[:m], []byte("HTTP/1.1 413 ")) || !bytes.Contains(b[:m], []byte("too_large")) {
		t.Fatalf("%q, %v", b[:m], err)
	}
	// The answer does not wait for the body.
	_, br := r.raw("POST /ingress HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
	if resp, _ := r.answer(br, "POST"); resp.StatusCode != 413 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
	chunks := strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 17)
	if resp, _ := r.do("POST /ingress HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n\r\n"); resp.StatusCode != 413 {
		t.Errorf("chunked: %d", resp.StatusCode)
	}
	if !slices.Contains(r.rejected(), macronode.TooLarge) {
		t.Error("nobody counted it")
	}
}
