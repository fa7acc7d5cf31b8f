// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"

	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
)

func TestBudgetsThatMakeNoSense(t *testing.T) {
	for _, bad := range []RetryBudget{{Ratio: -0.1}, {Ratio: 1.1}, {Burst: -1}} {
		if _, err := Dial("http://127.0.0.1:1", Options{RetryBudget: bad}); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

// TestRetriesStayInBudget: a node that refuses everything gets a tenth more calls
// than were made, and a few; not five times as many.
func TestRetriesStayInBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int64
		c, err := Dial("http://node:1", Options{RetryBudget: RetryBudget{Burst: 5}})
		if err != nil {
			t.Fatal(err)
		}
		c.wire = answering(func(*http.Request) *http.Response {
			tries.Add(1)
			return refusing(macronode.Overload)
		})
		var spent int
		for range 200 {
			_, err := c.Do(t.Context(), Request{Method: "GET", Path: "/x"})
			var refused *Error
			if !errors.As(err, &refused) || refused.Code != "overload" {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "too many calls fail") {
				spent++
			}
		}
		s := c.Stats()
		// The waits earn a little too.
		if s.Calls != 200 || s.Retries < 25 || s.Retries > 45 || uint64(tries.Load()) != s.Calls+s.Retries || s.NoBudget != uint64(spent) || spent < 150 {
			t.Errorf("%+v, %d tries, %d calls ended for the budget", s, tries.Load(), spent)
		}
	})
}

// TestWaitsNotInVain: where the node asks for more time than the caller has, the
// call ends at once.
func TestWaitsNotInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Dial("http://node:1", Options{})
		if err != nil {
			t.Fatal(err)
		}
		var tries int
		c.wire = answering(func(*http.Request) *http.Response {
			tries++
			r := refusing(macronode.Overload)
			r.Header.Set("Retry-After", "5")
			return r
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		began := time.Now()
		_, err = c.Do(ctx, Request{Method: "GET", Path: "/x"})
		var refused *Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &refused) || time.Since(began) != 0 || tries != 1 || c.Stats().Retries != 0 {
			t.Errorf("%v after %s and %d tries", err, time.Since(began), tries)
		}
		// With time enough it waits as long as the node asked for, and a little.
		long, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		c.retries = 1
		if _, err = c.Do(long, Request{Method: "GET", Path: "/x"}); time.Since(began) < 5*time.Second || time.Since(began) > 7*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// answering is a wire without a network.
type answering func(*http.Request) *http.Response

func (a answering) do(r *http.Request) (*http.Response, error) { return a(r), nil }
func (a answering) close()                                     {}
func (a answering) conns() uint64                              { return 0 }

func refusing(k macronode.Kind) *http.Response {
	w := httptest.NewRecorder()
	problem(w, k, "")
	return w.Result()
}

// TestNoPlaintextCapability: a capability leaves this machine encrypted or not at
// all, unless that is asked for.
func TestNoPlaintextCapability(t *testing.T) {
	var calls, dialled atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer s.Close()
	// far is a connection to the test's server that says it went elsewhere.
	far := func(ctx context.Context, _ string) (net.Conn, error) {
		dialled.Add(1)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Listener.Addr().String())
		return elsewhere{conn}, err
	}
	for _, tc := range []struct {
		node          string
		token         string
		plaintext     bool
		dialled, want int32
	}{
		{"http://192.0.2.1:80", testToken, false, 0, 0}, // told from the address
		{"http://[::ffff:192.0.2.1]:80", testToken, false, 0, 0},
		{"http://node.example:80", testToken, false, 1, 0}, // told from where it went
		{"http://localhost:80", testToken, false, 1, 0},    // a name may lie
		{"http://node.example:80", testToken, true, 1, 1},
		{"http://node.example:80", "", false, 1, 1}, // there is nothing to read
	} {
		calls.Store(0)
		dialled.Store(0)
		c, err := Dial(tc.node, Options{Token: tc.token, Plaintext: tc.plaintext, DialTCP: far})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Text(t.Context(), "/x", 1)
		if refused := errors.Is(err, ErrPlaintext); refused != (tc.want == 0) || calls.Load() != tc.want || dialled.Load() != tc.dialled || c.Stats().Retries != 0 {
			t.Errorf("%+v: %v, %d calls, %d connections", tc, err, calls.Load(), dialled.Load())
		}
		c.Close()
	}
	c, err := Dial(s.URL, Options{Token: testToken})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Text(t.Context(), "/x", 1); err != nil {
		t.Errorf("to this machine: %v", err)
	}
}

type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

// TestPlaces: which addresses mean what.
func TestPlaces(t *testing.T) {
	cert := Options{InsecureTLS: true}
	for _, tc := range []struct {
		node string
		o    Options
		want place
	}{
		{"http://h", Options{}, place{host: "h"}},
		{"https://h:1/", Options{}, place{tls: true, host: "h:1"}},
		{"oap://h:1", Options{}, place{oap: true, tls: true, host: "h:1"}},
		{"oap://127.0.0.1:1", Options{}, place{oap: true, host: "127.0.0.1:1"}},
		{"oap://[::1]:1", Options{}, place{oap: true, host: "[::1]:1"}},
		{"oap://localhost:1", Options{}, place{oap: true, host: "localhost:1"}},
		{"oap://localhost.example:1", Options{}, place{oap: true, tls: true, host: "localhost.example:1"}},
		{"oap://127.0.0.1:1", cert, place{oap: true, tls: true, host: "127.0.0.1:1"}},
		{"oaps://127.0.0.1:1", Options{}, place{oap: true, tls: true, host: "127.0.0.1:1"}},
		{"oap+plain://h:1", Options{}, place{oap: true, host: "h:1"}},
		{"oap+plain://h:1", cert, place{oap: true, host: "h:1"}},
	} {
		if got, err := parsePlace(tc.node, &tc.o); err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.node, got, err)
		}
	}
	for _, bad := range []string{"oap://h", "oap://h:", "oap:///x", "oap://h:1/x", "oap+tls://h:1", "oap://u@h:1"} {
		if _, err := parsePlace(bad, &Options{}); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
