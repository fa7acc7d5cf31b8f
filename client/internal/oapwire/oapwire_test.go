// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package oapwire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client/internal/oapserve"
	"github.com/rustyonions/macronode/client/internal/optable"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// node is one over connections in memory.
type node struct {
	*oapserve.Server
	*Transport
	dials atomic.Int32
	fail  atomic.Bool // to connect
}

func start(t *testing.T, h http.HandlerFunc, maxStreams int) *node {
	t.Helper()
	n := &node{Server: oapserve.New(oapserve.Config{Handler: h, Table: optable.New(nil), MaxStreams: maxStreams})}
	var conns sync.WaitGroup
	n.Transport = New(Config{UA: "test", DialTimeout: 10 * time.Second, IdleTimeout: time.Minute, Connect: func(context.Context) (net.Conn, error) {
		n.dials.Add(1)
		if n.fail.Load() {
			return nil, errors.New("no way there")
		}
		a, b := net.Pipe()
		conns.Go(func() { n.ServeConn(a) })
		return b, nil
	}})
	t.Cleanup(func() {
		n.Transport.Close()
		n.Server.Close()
		conns.Wait()
	})
	return n
}

func request(t *testing.T, method, path string, body io.Reader, length int64) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "oap://node"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return r
}

func answerOf(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(text)), err
}

// TestEncode: what a request says in the terms of OAP/1, and nothing beside.
func TestEncode(t *testing.T) {
	tr := New(Config{})
	now := time.Now()
	ctx, cancel := context.WithDeadline(t.Context(), now.Add(1500*time.Microsecond))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "PUT", "oap://node/o/b3:ab", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	tok := mint(t)
	r.Header = http.Header{"Authorization": {"Bearer " + tok.Text()}, "X-Ron-Discharge": {tok.Text() + ", " + tok.Text()}, "Idempotency-Key": {"k"},
		"Traceparent": {"00-x"}, "Content-Type": {"text/plain"}, "Expect": {"100-continue"}, "User-Agent": {"u"}, "Accept": {"a", "b"}}
	q, err := tr.encode(r, now)
	if err != nil {
		t.Fatal(err)
	}
	h, n, err := oap.ParseRequestHead(q.head)
	if err != nil || n != len(q.head) {
		t.Fatal(n, err)
	}
	if h.Op != "object.put" || q.app != 1 || !slices.Equal(h.Args, []macronode.Arg{{Name: "addr", Value: "b3:ab"}}) || h.Length != 3 ||
		h.IdempotencyKey != "k" || h.TraceParent != "00-x" || h.DeadlineMS != 2 {
		t.Errorf("%+v of %d", h, q.app)
	}
	if len(h.Headers) != 2 || h.Headers.Get("Content-Type") != "text/plain" || !slices.Equal(h.Headers["Accept"], []string{"a", "b"}) {
		t.Errorf("headers %v", h.Headers)
	}
	if raw := tok.CBOR(); !bytes.Equal(q.cap, slices.Concat(raw, raw, raw)) {
		t.Errorf("a capability of %d bytes", len(q.cap))
	}
	for name, bad := range map[string]func(*http.Request){
		"no bearer":     func(r *http.Request) { r.Header.Set("Authorization", "Basic x") },
		"no token":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer ron1_!") },
		"bad discharge": func(r *http.Request) { r.Header.Set("X-Ron-Discharge", "ron2_") },
		"too long":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer ron1_"+strings.Repeat("A", 90_000)) },
		"no operation":  func(r *http.Request) { r.URL.Path = "/nowhere" },
		"a long head":   func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 9000)) },
		"a bad field":   func(r *http.Request) { r.Header["X"] = []string{"a\nb"} },
	} {
		r := r.Clone(ctx)
		if bad(r); true {
			if _, err := tr.encode(r, now); err == nil {
				t.Errorf("%s is taken", name)
			}
		}
	}
	if _, err := tr.encode(r, now.Add(time.Second)); err != errNoTime {
		t.Errorf("with no time left: %v", err)
	}
}

func mint(t *testing.T) *capability.Token {
	t.Helper()
	tok, err := capability.Mint(capability.NewKey(&[32]byte{1}), macronode.TenantID{1}, "v1", [16]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestPoolGrows: calls share a connection up to what the node takes on one, and
// connections are made one at a time.
// Each call carries its own capability, whichever the one before had.
func TestCapabilityOfEachCall(t *testing.T) {
	tr := New(Config{})
	a := mint(t)
	b, err := a.Attenuate(capability.NotBefore(1))
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(t *capability.Token) string { return "Bearer " + t.Text() }
	for i, c := range []struct {
		text       string
		discharges []string
		want       []byte
	}{
		{bearer(a), nil, a.CBOR()}, {bearer(a), nil, a.CBOR()}, {bearer(b), nil, b.CBOR()}, {"", nil, nil},
		{bearer(b), []string{a.Text()}, slices.Concat(b.CBOR(), a.CBOR())}, {bearer(b), nil, b.CBOR()},
	} {
		if got, err := tr.capability(c.text, c.discharges); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%d: %d bytes, %v; want %d", i, len(got), err, len(c.want))
		}
	}
}

func TestPoolGrows(t *testing.T) {
	const most, calls = 4, 18
	release := make(chan struct{})
	var inside atomic.Int32
	n := start(t, func(w http.ResponseWriter, _ *http.Request) {
		inside.Add(1)
		<-release
		io.WriteString(w, "{}")
	}, most)
	var wg sync.WaitGroup
	errs := make(chan error, calls)
	for range calls {
		wg.Go(func() {
			text, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0)))
			if err == nil && text != "200 {}" {
				err = errors.New(text)
			}
			errs <- err
		})
	}
	await(t, func() bool { return inside.Load() == calls })
	close(release)
	wg.Wait()
	for range calls {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got, want := n.Transport.Conns(), uint64((calls+most-1)/most); got != want || int(n.dials.Load()) != int(want) {
		t.Errorf("%d connections, %d dials for %d calls of %d each, want %d", got, n.dials.Load(), calls, most, want)
	}
	if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0))); err != nil || n.dials.Load() != (calls+most-1)/most {
		t.Errorf("a call later: %v, %d dials", err, n.dials.Load())
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("waited in vain")
		}
	}
}

// TestIdleConnectionsEnd: after a while without calls, and not before; Close ends
// the idle ones at once, and the others with their last call.
func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		n := start(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				<-hold
			}
		}, 0)
		call := func() {
			t.Helper()
			if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0))); err != nil {
				t.Fatal(err)
			}
		}
		open := func() int {
			synctest.Wait()
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.conns)
		}
		call()
		<-time.After(50 * time.Second)
		call()
		<-time.After(50 * time.Second)
		if got := open(); got != 1 || n.dials.Load() != 1 {
			t.Errorf("%d connections, %d made, before the time", got, n.dials.Load())
		}
		<-time.After(11 * time.Second)
		if got := open(); got != 0 {
			t.Errorf("%d connections behind the time", got)
		}
		call()
		n.Transport.Close()
		if got := open(); got != 0 {
			t.Errorf("%d connections after Close", got)
		}
		answer := make(chan error)
		go func() {
			_, err := answerOf(n.RoundTrip(request(t, "POST", "/o", nil, 0)))
			answer <- err
		}()
		synctest.Wait()
		n.Transport.Close()
		if got := open(); got != 1 {
			t.Errorf("%d connections after Close in the middle of a call", got)
		}
		close(hold)
		if err := <-answer; err != nil {
			t.Error(err)
		}
		if got := open(); got != 0 {
			t.Errorf("%d connections after the last call", got)
		}
		if n.dials.Load() != 3 {
			t.Errorf("%d dials", n.dials.Load())
		}
	})
}

// TestContextThatIsOver: nothing is sent for it.
func TestContextThatIsOver(t *testing.T) {
	var calls atomic.Int64
	n := start(t, func(http.ResponseWriter, *http.Request) { calls.Add(1) }, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0).WithContext(ctx))); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n.dials.Load() != 0 || calls.Load() != 0 {
		t.Errorf("%d connections and %d calls were made", n.dials.Load(), calls.Load())
	}
}

// TestDialFails: all who wait hear why, and the next call tries again.
func TestDialFails(t *testing.T) {
	n := start(t, func(http.ResponseWriter, *http.Request) {}, 0)
	n.fail.Store(true)
	for range 2 {
		if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0))); err == nil || !strings.Contains(err.Error(), "no way there") {
			t.Errorf("got %v", err)
		}
	}
	n.fail.Store(false)
	if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0))); err != nil || n.dials.Load() != 3 {
		t.Errorf("%v after %d dials", err, n.dials.Load())
	}
}

// TestBodyLengths: a body that is longer or shorter than announced is called off,
// whether it goes with the first frame or after it.
func TestBodyLengths(t *testing.T) {
	var got atomic.Int64
	n := start(t, func(w http.ResponseWriter, r *http.Request) {
		m, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			got.Store(m)
		}
	}, 0)
	for _, size := range []int64{1, 100, inlineBytes, inlineBytes + 1, 300_000} {
		body := make([]byte, size)
		for _, by := range []int64{-1, 0, 1} {
			if size+by == 0 {
				continue // that would be a body of unknown length
			}
			got.Store(-1)
			_, err := answerOf(n.RoundTrip(request(t, "POST", "/o", io.MultiReader(bytes.NewReader(body)), size+by)))
			switch {
			case by == 0 && (err != nil || got.Load() != size):
				t.Errorf("%d bytes: %d arrive, %v", size, got.Load(), err)
			case by > 0 && !errors.Is(err, errShortBody), by < 0 && !errors.Is(err, errLongBody):
				t.Errorf("%d bytes announced as %d: %v", size, size+by, err)
			}
		}
	}
}

// TestAnswerLengths: an answer is as long as it says, or it is broken.
func TestAnswerLengths(t *testing.T) {
	n := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", r.URL.Query().Get("limit"))
		w.Write(make([]byte, 1000))
	}, 0)
	for limit, want := range map[string]error{"1000": nil, "1001": io.ErrUnexpectedEOF, "999": errors.ErrUnsupported, "": nil} {
		resp, err := n.RoundTrip(request(t, "GET", "/v1/objects?limit="+limit, nil, 0))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case want == nil && (err != nil || len(text) != 1000):
			t.Errorf("%q: %d bytes, %v", limit, len(text), err)
		case want == io.ErrUnexpectedEOF && !errors.Is(err, want), want != nil && err == nil, len(text) > 1000:
			t.Errorf("%q: %d bytes, %v", limit, len(text), err)
		}
	}
}

// TestLostIsNotUndone: what a session says that is over, even after GOAWAY.
func TestLostIsNotUndone(t *testing.T) {
	for _, tc := range []struct {
		err    error
		undone bool
	}{
		{mux.ErrDraining, true},
		{fmt.Errorf("%w: %w", mux.ErrClosed, mux.ErrDraining), false},
		{fmt.Errorf("%w: %w", mux.ErrClosed, io.EOF), false},
		{mux.ErrCanceled, false},
	} {
		if got := lost(tc.err); got.Undone != tc.undone || !errors.Is(got, tc.err) {
			t.Errorf("%v: undone %v", tc.err, got.Undone)
		}
	}
}

// TestHeadOfGet: a HEAD of a route that has GET alone has an answer without body.
func TestHeadOfGet(t *testing.T) {
	n := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Write(make([]byte, 100_000))
	}, 0)
	for range 3 {
		resp, err := n.RoundTrip(request(t, "HEAD", "/v1/objects", nil, 0))
		if err != nil || resp.ContentLength != 100_000 {
			t.Fatal(resp, err)
		}
		if text, err := io.ReadAll(resp.Body); err != nil || len(text) > 0 {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	if n.dials.Load() != 1 {
		t.Errorf("%d connections", n.dials.Load())
	}
}

// TestNothingIsLeft: calls that end in every way leave no goroutine and no place
// taken.
func TestNothingIsLeft(t *testing.T) {
	n := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("limit") {
		case "early":
			w.Write([]byte("x")) // before the body was read
		case "refuse":
			w.WriteHeader(503)
		case "wait":
			<-r.Context().Done()
		case "half":
			w.Header().Set("Content-Length", "100")
			w.Write(make([]byte, 50))
		default:
			io.Copy(w, r.Body)
		}
	}, 0)
	if _, err := answerOf(n.RoundTrip(request(t, "GET", "/v1/objects", nil, 0))); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 20 {
		for _, how := range []string{"early", "refuse", "wait", "half", "echo"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if how == "wait" {
				ctx, cancel = context.WithTimeout(t.Context(), 2*time.Millisecond)
			}
			pr, pw := io.Pipe()
			go func() {
				pw.Write(make([]byte, 200_000))
				pw.Close()
			}()
			r := request(t, "POST", "/o?limit="+how, pr, -1).WithContext(ctx)
			_, err := answerOf(n.RoundTrip(r))
			if how == "echo" && err != nil || how == "wait" && err == nil {
				t.Errorf("%s: %v", how, err)
			}
			pr.Close()
			cancel()
		}
	}
	await(t, func() bool { return runtime.NumGoroutine() <= before+2 })
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if c.calls != 0 {
			t.Errorf("%d places are taken", c.calls)
		}
	}
}

// TestRefusalFields: a refusal has the fields that it has over HTTP, though on this
// wire its document is all that comes.
func TestRefusalFields(t *testing.T) {
	for _, c := range []struct {
		err  *macronode.Error
		want map[string]string
	}{
		{&macronode.Error{Kind: macronode.QuotaRate, RetryAfter: 1500 * time.Millisecond, Header: macronode.Header{"Ratelimit": {`"requests";r=0;t=2`}}},
			map[string]string{"Retry-After": "2", "RateLimit": `"requests";r=0;t=2`, "WWW-Authenticate": ""}},
		{&macronode.Error{Kind: macronode.RangeNotSatisfiable, Header: macronode.Header{"Content-Range": {"bytes */7"}}}, map[string]string{"Content-Range": "bytes */7", "Retry-After": ""}},
		{&macronode.Error{Kind: macronode.Unauthenticated}, map[string]string{"WWW-Authenticate": `Bearer realm="macronode"`}},
		{&macronode.Error{Kind: macronode.TokenExpired}, map[string]string{"WWW-Authenticate": `Bearer realm="macronode", error="invalid_token"`}},
		{&macronode.Error{Kind: macronode.QuotaBytes}, map[string]string{"Retry-After": "", "X-Corr-Id": "its-id", "Content-Type": "application/problem+json"}},
	} {
		n := start(t, func(w http.ResponseWriter, _ *http.Request) {
			p := c.err.Problem("its-id")
			w.WriteHeader(p.Status)
			_ = json.NewEncoder(w).Encode(p)
		}, 10)
		resp, err := n.RoundTrip(request(t, "GET", "/version", nil, 0))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.err.Kind.Info().Status {
			t.Errorf("%s: %d", c.err, resp.StatusCode)
		}
		for name, want := range c.want {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s: %q, want %q", c.err, name, got, want)
			}
		}
	}
}
