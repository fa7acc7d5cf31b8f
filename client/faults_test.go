// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// TestAnswerOutlivesWrite: the node refuses in the middle of a body and closes at
// once, so that what is still sent is answered by a reset. The refusal is heard
// all the same.
func TestAnswerOutlivesWrite(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer ln.Close()
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			if _, err := http.ReadRequest(r); err == nil {
				io.CopyN(io.Discard, r, 64<<10)
				body := `{"title":"Too large","status":413,"code":"too_large"}`
				fmt.Fprintf(conn, "HTTP/1.1 413 X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
			}
			conn.Close() // with bytes unread: a reset
		}
	})
	c, err := Dial("http://"+ln.Addr().String(), Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 50 {
		_, err := c.Do(t.Context(), Request{Method: "POST", Path: "/x", Body: io.MultiReader(bytes.NewReader(make([]byte, 1<<20))), Length: 1 << 20})
		var refused *Error
		if !errors.As(err, &refused) || refused.Code != "too_large" {
			t.Fatalf("got %v", err)
		}
	}
}

// jealous is a body that must not be read by two, nor after it was given back.
type jealous struct {
	*bytes.Reader
	t       *testing.T
	reading atomic.Int32
	back    atomic.Bool
}

func (j *jealous) Read(p []byte) (int, error) {
	if j.reading.Add(1) > 1 {
		j.t.Error("two read at once")
	}
	defer j.reading.Add(-1)
	if j.back.Load() {
		j.t.Error("read after the call returned")
	}
	return j.Reader.Read(p[:min(len(p), 4<<10)])
}

// TestBodyIsGivenBack: whatever the node does in the middle of a body, nobody
// reads it any more once Put returned, and never do two tries at once.
func TestBodyIsGivenBack(t *testing.T) {
	data := pattern(1 << 20)
	var tries atomic.Int32
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 10_000)
		switch tries.Add(1) % 4 {
		case 0:
			problem(w, macronode.Overload, "")
		case 1:
			problem(w, macronode.Denied, "")
		case 2:
			json.NewEncoder(w).Encode(Put{Addr: b3.Sum(data)})
		case 3:
			panic(http.ErrAbortHandler)
		}
	})
	for range 20 {
		j := &jealous{Reader: bytes.NewReader(data), t: t}
		c.Put(t.Context(), j, PutOptions{})
		j.back.Store(true)
	}
}

// TestCallEndsWhileBodyWaits: a body that waits for input, as a terminal does,
// holds nobody up whose context ended or whose node went away.
func TestCallEndsWhileBodyWaits(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			arrived, gone := make(chan struct{}), make(chan struct{})
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.ReadFull(r.Body, make([]byte, 4))
				arrived <- struct{}{}
				<-gone
				if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
					conn.Close()
				}
			})
			s := httptest.NewUnstartedServer(h)
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			defer s.Close()
			c, err := Dial(s.URL, Options{InsecureTLS: secure})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, cancels := range []bool{true, false} {
				ctx, cancel := context.WithCancel(t.Context())
				pr, pw := io.Pipe()
				go func() {
					pw.Write(make([]byte, 128<<10)) // less would stay in net/http's buffer
					<-arrived
					if cancels {
						cancel()
					}
					gone <- struct{}{}
				}()
				_, err := c.Put(ctx, pr, PutOptions{})
				if err == nil || errors.Is(err, context.Canceled) != cancels {
					t.Errorf("cancelled %v: got %v", cancels, err)
				}
				cancel()
				pw.Close()
			}
		})
	}
}

// TestGetGoesOn breaks the connection several times on the way.
func TestGetGoesOn(t *testing.T) {
	data := pattern(100_000)
	var ranges []string
	c := dial(t, serve(data, func(p []byte) []byte { return p[:min(len(p), 30_000)] }, &ranges))
	var out bytes.Buffer
	n, err := c.Get(t.Context(), b3.Sum(data), &out, GetOptions{Unproven: true})
	if err != nil || n != 100_000 || !bytes.Equal(out.Bytes(), data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if want := []string{"", "bytes=30000-", "bytes=60000-", "bytes=90000-"}; !slices.Equal(ranges, want) {
		t.Errorf("ranges %q", ranges)
	}
}

// TestGetGivesUp: a node that brings next to nothing does not hold a Get for ever.
func TestGetGivesUp(t *testing.T) {
	data := pattern(100_000)
	var ranges []string
	c := dial(t, serve(data, func(p []byte) []byte { return p[:1] }, &ranges))
	c.retries = 3
	n, err := c.Get(t.Context(), b3.Sum(data), io.Discard, GetOptions{Unproven: true})
	if n != 4 || !errors.Is(err, io.ErrUnexpectedEOF) || len(ranges) != 4 {
		t.Errorf("%d bytes, %v, %q", n, err, ranges)
	}
}

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		n := f.room
		f.room = 0
		return n, errors.New("no space left")
	}
	f.room -= len(p)
	return len(p), nil
}

func TestGetIntoFullDisk(t *testing.T) {
	data := pattern(100_000)
	var ranges []string
	c := dial(t, serve(data, func(p []byte) []byte { return p }, &ranges))
	n, err := c.Get(t.Context(), b3.Sum(data), &full{50_000}, GetOptions{Unproven: true})
	if n != 50_000 || err == nil || !strings.Contains(err.Error(), "no space left") || len(ranges) != 1 {
		t.Errorf("%d bytes, %v, %d calls", n, err, len(ranges))
	}
}

func TestGetTooLong(t *testing.T) {
	for name, announce := range map[string]bool{"announced": true, "not announced": false} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
				if !announce {
					w.(http.Flusher).Flush()
				}
				w.Write(pattern(1000))
			})
			for _, most := range []int64{1, 999, 1000} {
				var out bytes.Buffer
				_, err := c.Get(t.Context(), b3.Sum(pattern(1000)), &out, GetOptions{Max: most})
				if errors.Is(err, ErrTooLong) != (most < 1000) || int64(out.Len()) > most {
					t.Errorf("at most %d: %d bytes, %v", most, out.Len(), err)
				}
			}
		})
	}
}

// TestDeleteTwice: the answer of the try that did it was lost.
func TestDeleteTwice(t *testing.T) {
	var tries atomic.Int32
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 1 {
			panic(http.ErrAbortHandler)
		}
		problem(w, macronode.NotFound, "")
	})
	if err := c.Delete(t.Context(), b3.Sum(nil)); err != nil || tries.Load() != 2 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
	if err := c.Delete(t.Context(), b3.Sum(nil)); err == nil {
		t.Error("a missing object was deleted")
	}
}

// TestHopeless failures are not tried again.
func TestHopeless(t *testing.T) {
	var handshakes atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		handshakes.Add(1)
		return nil, nil
	}}
	s.StartTLS()
	defer s.Close()
	for _, tc := range []struct {
		node string
		o    Options
	}{
		{s.URL, Options{}}, // an authority nobody knows
		{"http://no-such-node.invalid:1", Options{}},
		{s.URL, Options{Token: "a\nb", InsecureTLS: true}},
	} {
		c, err := Dial(tc.node, tc.o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Do(t.Context(), Request{Method: "GET", Path: "/"})
		var dns *net.DNSError
		if temporary := errors.As(err, &dns) && !dns.IsNotFound; err == nil || again(err) && !temporary {
			t.Errorf("%s: %v", tc.node, err)
		}
		c.Close()
	}
	if handshakes.Load() > 1 {
		t.Errorf("%d handshakes", handshakes.Load())
	}
}

func TestPutOfFiles(t *testing.T) {
	calls := 0
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		got, _ := io.ReadAll(r.Body)
		if calls++; calls == 1 {
			problem(w, macronode.Overload, "")
			return
		}
		json.NewEncoder(w).Encode(Put{Addr: b3.Sum(got), Size: int64(len(got))})
	})
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, pattern(100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, "/proc/self/cmdline"} { // that one has no length
		calls = 0
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		put, err := c.Put(t.Context(), f, PutOptions{})
		if err != nil || put.Size == 0 || calls != 2 {
			t.Errorf("%s: %+v, %v, %d calls", name, put, err, calls)
		}
		f.Close()
	}
	// A pipe is an *os.File and cannot seek: once is all.
	calls = 0
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString("piped")
	w.Close()
	if _, err := c.Put(t.Context(), r, PutOptions{}); err == nil || calls != 1 {
		t.Errorf("%v, %d calls", err, calls)
	}
	r.Close()
	// A device's length of 0 is no length.
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	if _, n, ok := replayable(zero); ok {
		t.Errorf("/dev/zero has %d bytes", n)
	}
}

func TestIdleConnectionLost(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer s.Close()
	c, err := Dial(s.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 {
		resp, err := c.Do(t.Context(), Request{Method: "PUT", Path: "/x", Body: strings.NewReader("abc"), Length: 3})
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		s.CloseClientConnections()
	}
}

func TestWaitTellsWhy(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) { problem(w, macronode.Draining, "30") })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Do(ctx, Request{Method: "GET", Path: "/x"})
	var refused *Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &refused) || refused.Code != "draining" {
		t.Errorf("got %v", err)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := pattern(size)
			answer, _ := json.Marshal(Put{Addr: b3.Sum(data), Size: int64(size)})
			c := benchNode(b, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.Write(answer)
			})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Put(b.Context(), bytes.NewReader(data), PutOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := pattern(size)
			addr := b3.Sum(data)
			c := benchNode(b, serveSlices(data, &asked{}))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Get(b.Context(), addr, io.Discard, GetOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchNode(b *testing.B, h http.HandlerFunc) *Client {
	b.Helper()
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	c, err := Dial(s.URL, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}
