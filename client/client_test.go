// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/rustyonions/macronode"
)

const testToken = "ron1_c2VjcmV0LXNlY3JldA"

func dial(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	if speaksOAP(t) {
		return dialOAP(t, h, Options{Token: testToken})
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := Dial(s.URL, Options{Token: testToken})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func problem(w http.ResponseWriter, k macronode.Kind, retryAfter string) {
	p := macronode.Errorf(k, "said so").Problem("01J0000000000000000000CORR")
	p.RetryAfterMS = 0
	w.Header().Set("Content-Type", "application/problem+json")
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func TestRetryRules(t *testing.T) {
	post := func(mutate func(*Request)) Request {
		r := Request{Method: "POST", Path: "/x", Body: strings.NewReader("abcdef"), Length: 6}
		if mutate != nil {
			mutate(&r)
		}
		return r
	}
	for name, tc := range map[string]struct {
		req   Request
		kind  macronode.Kind
		tries int32
	}{
		"get":                      {Request{Method: "GET", Path: "/x"}, macronode.Overload, 3},
		"head":                     {Request{Method: "HEAD", Path: "/x"}, macronode.Overload, 3},
		"delete":                   {Request{Method: "DELETE", Path: "/x"}, macronode.Draining, 3},
		"put":                      {post(func(r *Request) { r.Method = "PUT" }), macronode.QuotaRate, 3},
		"post":                     {post(nil), macronode.Overload, 1},
		"post that may repeat":     {post(func(r *Request) { r.Repeat = true }), macronode.Overload, 3},
		"put that cannot seek":     {post(func(r *Request) { r.Method, r.Body = "PUT", io.MultiReader(r.Body) }), macronode.Overload, 1},
		"get, not found":           {Request{Method: "GET", Path: "/x"}, macronode.NotFound, 1},
		"get, denied":              {Request{Method: "GET", Path: "/x"}, macronode.Denied, 1},
		"get, stored bytes quota":  {Request{Method: "GET", Path: "/x"}, macronode.QuotaBytes, 1},
		"get, damaged":             {Request{Method: "GET", Path: "/x"}, macronode.Integrity, 1},
		"get, deadline":            {Request{Method: "GET", Path: "/x"}, macronode.DeadlineExceeded, 3},
		"get, server's own mishap": {Request{Method: "GET", Path: "/x"}, macronode.Internal, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			c := dial(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if tc.req.Body != nil && string(body) != "abcdef" {
					t.Errorf("try %d sent %q", tries.Load(), body)
				}
				tries.Add(1)
				problem(w, tc.kind, "")
			})
			c.retries = 2
			_, err := c.Do(t.Context(), tc.req)
			var refused *Error
			if !errors.As(err, &refused) || refused.Status != tc.kind.Info().Status {
				t.Fatalf("got %v", err)
			}
			if tries.Load() != tc.tries {
				t.Errorf("%d tries, want %d", tries.Load(), tc.tries)
			}
		})
	}
}

func TestRetryEndsWell(t *testing.T) {
	var tries atomic.Int32
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			conn, _, err := w.(http.Hijacker).Hijack() // breaks without an answer
			if err == nil {
				conn.Close()
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	})
	in := strings.NewReader("0123456789")
	in.Seek(4, io.SeekStart) // a repeat starts where the caller stood
	resp, err := c.Do(t.Context(), Request{Method: "PUT", Path: "/x", Body: in, Length: 6})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "456789" || tries.Load() != 2 {
		t.Errorf("%q after %d tries", b, tries.Load())
	}
}

// TestEarlyRefusal answers before the body was read: the transport may still be
// reading when the next try begins. Bites with -race.
func TestEarlyRefusal(t *testing.T) {
	var tries atomic.Int32
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) <= 2 {
			problem(w, macronode.Overload, "")
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if n != 4<<20 || err != nil {
			t.Errorf("got %d bytes, %v", n, err)
		}
	})
	resp, err := c.Do(t.Context(), Request{Method: "PUT", Path: "/x", Body: strings.NewReader(strings.Repeat("x", 4<<20)), Length: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

type failing struct{ io.ReadSeeker }

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

func TestBodyThatFailsIsNotRetried(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	start := time.Now()
	_, err := c.Do(t.Context(), Request{Method: "PUT", Path: "/x", Body: failing{strings.NewReader("abc")}, Length: 3})
	var body *bodyError
	if !errors.As(err, &body) || again(err) {
		t.Errorf("%v after %s", err, time.Since(start))
	}
}

func TestPause(t *testing.T) {
	for _, tc := range []struct {
		header, body string
		least, most  time.Duration
	}{
		{"2", "{}", 2 * time.Second, 2600 * time.Millisecond},
		{"", `{"status":503,"retry_after_ms":500}`, 500 * time.Millisecond, 700 * time.Millisecond},
		{"9", `{"status":503,"retry_after_ms":500}`, 500 * time.Millisecond, 700 * time.Millisecond},
		{"86400", "", maxWait, maxWait},
		{"9223372036854775807", "", maxWait, maxWait},
		{"", `{"status":503,"retry_after_ms":9223372036854775807}`, maxWait, maxWait},
		{"-5", "", 0, 100 * time.Millisecond},
		{"", `{"status":503,"retry_after_ms":-9223372036854775808}`, 0, 100 * time.Millisecond},
		{"Wed, 21 Oct 2015 07:28:00 GMT", "", 0, 100 * time.Millisecond},
	} {
		resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {tc.header}}, Body: io.NopCloser(strings.NewReader(tc.body))}
		err := refusal(resp)
		if d := pause(err, 0); d < tc.least || d > tc.most {
			t.Errorf("%q %q: waits %s, want %s to %s", tc.header, tc.body, d, tc.least, tc.most)
		}
	}
	for try := range 100 {
		if d := pause(io.EOF, try); d < 0 || d > 6400*time.Millisecond {
			t.Errorf("try %d waits %s", try, d)
		}
	}
}

func TestWaitEndsWithContext(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, _ *http.Request) { problem(w, macronode.Overload, "30") })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, Request{Method: "GET", Path: "/x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   string
		retry  bool
	}{
		"a problem":       {429, `{"title":"Slow down","status":429,"detail":"10 a second","code":"quota_rate","retryable":true,"corr_id":"01J"}`, "Slow down: 10 a second (429 quota_rate, corr_id 01J)", true},
		"html":            {502, "<html>nginx</html>", "Bad Gateway (502, corr_id HDR)", true},
		"empty":           {503, "", "Service Unavailable (503, corr_id HDR)", true},
		"other JSON":      {404, `["x"]`, "Not Found (404, corr_id HDR)", false},
		"unknown status":  {799, "x", " (799, corr_id HDR)", false},
		"another status":  {403, `{"title":"T","status":200,"code":"c"}`, "T (403 c)", false},
		"escapes":         {403, `{"title":"a\u001b[2Jb\n","status":403}`, "a [2Jb  (403)", false},
		"longer than max": {500, `{"title":"` + strings.Repeat("x", maxProblemBytes) + `","status":500}`, "Internal Server Error (500, corr_id HDR)", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Corr-Id", "HDR")
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body)
			})
			c.retries = -1
			_, err := c.Do(t.Context(), Request{Method: "GET", Path: "/x"})
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			if err.Error() != tc.want || again(err) != tc.retry || refused.Status != tc.status {
				t.Errorf("got %q, again %v; want %q, %v", err, again(err), tc.want, tc.retry)
			}
		})
	}
}

func FuzzRefusal(f *testing.F) {
	f.Add(503, "1", []byte(`{"status":503,"retryable":true,"retry_after_ms":7}`))
	f.Add(429, "9999999999", []byte(`{"status":429,"detail":"\u001b]0;x\u0007"}`))
	f.Add(500, "x", []byte("<html>"))
	f.Fuzz(func(t *testing.T, status int, retryAfter string, body []byte) {
		resp := &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(strings.NewReader(string(body)))}
		var e *Error
		if err := refusal(resp); !errors.As(err, &e) || e.Status != status || e.RetryAfter < 0 {
			t.Fatalf("%#v", err)
		}
		if d := pause(e, 3); d < 0 || d > maxWait {
			t.Fatalf("waits %s", d)
		}
		if i := strings.IndexFunc(e.Error(), unicode.IsControl); i >= 0 {
			t.Fatalf("control character in %q", e.Error())
		}
	})
}

func TestTokenStaysSecret(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+testToken {
			t.Error("the token was not sent")
		}
		problem(w, macronode.TokenForged, "")
	}))
	gone := httptest.NewServer(nil)
	gone.Close()
	defer s.Close()
	for _, tc := range []struct{ node, token string }{{s.URL, testToken}, {gone.URL, testToken}, {gone.URL, testToken + "\n"}} {
		c, err := Dial(tc.node, Options{Token: tc.token, Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Do(t.Context(), Request{Method: "GET", Path: "/x"})
		if err == nil || strings.Contains(err.Error(), "c2VjcmV0") {
			t.Errorf("got %v", err)
		}
	}
}

func TestDialRefuses(t *testing.T) {
	for _, node := range []string{
		"", "127.0.0.1:8080", "ftp://h:1", "http://", "http://h/path", "unix://rel/path", "unix:", "http://u:hunter2@h:1", "http://u:hunter2@h:1/path",
		"http://h:1?token=hunter2", "http://u:hunter2@h:1\x7f", "http://h:1#x",
	} {
		_, err := Dial(node, Options{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", node, err)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var other atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { other.Add(1) }))
	defer s.Close()
	c := dial(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, s.URL, http.StatusTemporaryRedirect) })
	_, err := c.Do(t.Context(), Request{Method: "GET", Path: "/x"})
	var refused *Error
	if !errors.As(err, &refused) || refused.Status != 307 || other.Load() != 0 {
		t.Errorf("got %v, %d calls elsewhere", err, other.Load())
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })}
	go s.Serve(ln)
	defer s.Close()
	c, err := Dial("unix://"+path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	text, err := c.Text(t.Context(), "/hello", 3)
	if err != nil || string(text) != "/he" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestConnectionsAreReused: answers are read to their end, chunked ones too.
func TestConnectionsAreReused(t *testing.T) {
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"objects":[],"cursor":""}`)
		w.(http.Flusher).Flush()
		io.WriteString(w, "\n")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c, err := Dial(s.URL, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 {
		if _, err := c.List(t.Context(), "", "", 0); err != nil {
			t.Fatal(err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections for 20 calls in a row", conns.Load())
	}
}
