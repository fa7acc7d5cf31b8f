// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package openloop

import (
	"bytes"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const size = 300_000

// origin answers as servers do: in full, with a refusal, in chunks, or by
// hanging up.
type origin struct {
	mu     sync.Mutex
	bodies map[[prefix]byte]int
	from   map[string]int
	slow   time.Duration
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	o.mu.Lock()
	o.from[host]++
	o.mu.Unlock()
	switch r.URL.Path {
	case "/slow":
		<-time.After(o.slow)
		fallthrough
	case "/get":
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(bytes.Repeat([]byte("\r\n\r\n0\r\n\r\n"), size/9+1)[:size])
	case "/put":
		var b [prefix]byte
		if _, err := io.ReadFull(r.Body, b[:]); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if n, _ := io.Copy(io.Discard, r.Body); n+prefix != r.ContentLength {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		o.mu.Lock()
		o.bodies[b]++
		o.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	case "/early": // an answer before the body was read
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"code":"overload"}`)
	case "/bare":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/chunks":
		w.WriteHeader(http.StatusTooManyRequests)
		for range 3 {
			_, _ = w.Write(make([]byte, 7000))
			_ = http.NewResponseController(w).Flush()
		}
	case "/hangup":
		panic(http.ErrAbortHandler)
	}
}

func head(method, path string, body int) string {
	return method + " " + path + " HTTP/1.1\r\nHost: test\r\nContent-Length: " + strconv.Itoa(body) + "\r\n\r\n"
}

func try(t *testing.T, o *origin, span time.Duration, flows ...Flow) *Result {
	t.Helper()
	o.bodies, o.from = map[[prefix]byte]int{}, map[string]int{}
	srv := httptest.NewServer(o)
	defer srv.Close()
	res, err := Run(t.Context(), &Spec{Addr: strings.TrimPrefix(srv.URL, "http://"), Span: span, Grace: 20 * time.Second, Timeout: 20 * time.Second, Seed: 1, Flows: flows})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestAnswersAreCounted(t *testing.T) {
	o := &origin{}
	flow := func(name, from, head string, body, good int, length int64) Flow {
		return Flow{Name: name, From: from, Rate: 200, Conns: 4, Heads: []string{head}, Body: body, Good: good, Bytes: length}
	}
	res := try(t, o, 500*time.Millisecond,
		flow("get", "127.0.0.2", head("GET", "/get", 0), 0, 200, size),
		flow("put", "127.0.0.3", head("PUT", "/put", 100_000), 100_000, 201, -1),
		flow("early", "127.0.0.4", head("PUT", "/early", 100_000), 100_000, 201, -1),
		flow("bare", "127.0.0.5", head("GET", "/bare", 0), 0, 200, -1),
		flow("chunks", "127.0.0.6", head("GET", "/chunks", 0), 0, 200, -1),
		flow("hangup", "127.0.0.7", head("GET", "/hangup", 0), 0, 200, -1),
		flow("wrong", "127.0.0.8", head("GET", "/get", 0), 0, 200, size+1))
	for i, want := range []string{"200", "201", "503 overload", "503", "429", "", "200"} {
		f := res.Flows[i]
		good, sent := f.Name == "get" || f.Name == "put", f.Due-f.Unsent
		switch {
		case f.Due < 50 || sent < 5: // a slow machine sends fewer
			t.Errorf("%s: %d requests were due, %d sent", f.Name, f.Due, sent)
		case want == "" && (f.Unanswered != sent || f.Reopened < sent):
			t.Errorf("%s: of %d, %d had no answer, %d connections were opened again", f.Name, sent, f.Unanswered, f.Reopened)
		case want != "" && (f.Codes[want] != sent || f.Unanswered > 0):
			t.Errorf("%s: of %d: %v, %d without an answer", f.Name, sent, f.Codes, f.Unanswered)
		case good && (len(f.AdmittedUS) != sent || len(f.RefusedUS) > 0 || f.Done == 0 || f.Wrong > 0):
			t.Errorf("%s: of %d, %d admitted, %d refused, %d done, %d wrong", f.Name, sent, len(f.AdmittedUS), len(f.RefusedUS), f.Done, f.Wrong)
		case !good && (len(f.AdmittedUS) > 0 || f.Done > 0):
			t.Errorf("%s: %d admitted, %d done", f.Name, len(f.AdmittedUS), f.Done)
		}
		if wrong := f.Wrong > 0; wrong != (f.Name == "wrong") {
			t.Errorf("%s: %d have the wrong length", f.Name, f.Wrong)
		}
		if bare := f.Bare > 0; bare != (f.Name == "bare" || f.Name == "chunks") {
			t.Errorf("%s: %d refusals do not say when to come again", f.Name, f.Bare)
		}
	}
	if len(o.from) != 7 {
		t.Errorf("requests came from %v", o.from)
	}
	if n := len(o.bodies); n < res.Flows[1].Codes["201"] {
		t.Errorf("%d bodies in %d requests", n, res.Flows[1].Due)
	}
	for b, n := range o.bodies {
		if n > 1 {
			t.Errorf("body %x came %d times", b[8:], n)
		}
	}
}

// A server that is slow is charged for those who wait for a connection too, not
// only for those it serves.
func TestTimeCountsFromTheSchedule(t *testing.T) {
	o := &origin{slow: 50 * time.Millisecond}
	res := try(t, o, time.Second, Flow{Name: "slow", From: "127.0.0.2", Rate: 40, Conns: 1, Heads: []string{head("GET", "/slow", 0)}, Good: 200, Bytes: size})
	f := res.Flows[0]
	if f.Due < 15 || f.Queued == 0 || len(f.AdmittedUS)+f.Unsent != f.Due || len(res.LagUS) != f.Due {
		t.Fatalf("%d due, %d waited, %d answered, %d not sent, %d lags", f.Due, f.Queued, len(f.AdmittedUS), f.Unsent, len(res.LagUS))
	}
	// One connection does 20 a second at most: half of them wait.
	if f.Done > 20 {
		t.Errorf("%d answers in a second", f.Done)
	}
	if slices.Max(f.AdmittedUS) < 100_000 {
		t.Errorf("nobody waited longer than %d us", slices.Max(f.AdmittedUS))
	}
}

func TestClosedLoop(t *testing.T) {
	o := &origin{slow: 10 * time.Millisecond}
	res := try(t, o, 300*time.Millisecond, Flow{Name: "closed", From: "127.0.0.2", Conns: 3, Heads: []string{head("GET", "/slow", 0), head("GET", "/get", 0)}, Good: 200, Bytes: size})
	f := res.Flows[0]
	if f.Done < 3 || f.Done > 3*31*2 || f.Codes["200"] != f.Due || f.Unanswered > 0 {
		t.Errorf("%+v", f.Codes)
	}
}

func TestSpec(t *testing.T) {
	ok := Flow{From: "127.0.0.1", Conns: 1, Heads: []string{"x"}}
	for name, s := range map[string]Spec{
		"no address": {Span: 1, Timeout: 1, Flows: []Flow{ok}},
		"no flow":    {Addr: "127.0.0.1:1", Span: 1, Timeout: 1},
		"no span":    {Addr: "127.0.0.1:1", Timeout: 1, Flows: []Flow{ok}},
		"no conns":   {Addr: "127.0.0.1:1", Span: 1, Timeout: 1, Flows: []Flow{{From: "127.0.0.1", Heads: []string{"x"}}}},
		"short body": {Addr: "127.0.0.1:1", Span: 1, Timeout: 1, Flows: []Flow{{From: "127.0.0.1", Conns: 1, Heads: []string{"x"}, Body: 15}}},
		"nobody":     {Addr: "127.0.0.1:1", Span: 1, Timeout: 1, Flows: []Flow{ok}}, // nobody listens
	} {
		if _, err := Run(t.Context(), &s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseHead(t *testing.T) {
	a, ok := parseHead([]byte("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 12\r\nRETRY-AFTER: 1\r\nConnection: Close\r\n"))
	if !ok || a.status != 503 || a.length != 12 || a.total != 12 || !a.retry || !a.close || a.chunked {
		t.Errorf("%+v, %v", a, ok)
	}
	for _, bad := range []string{"", "HTTP/2 200", "HTTP/1.1 2x0 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", "HTTP/1.1 200 OK\r\nnothing\r\n"} {
		if _, ok := parseHead([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOutcome(t *testing.T) {
	r := &Result{Seconds: 2, Flows: []FlowResult{
		{Name: "a", Due: 10, Done: 4, Codes: map[string]int{"200": 4, "503 overload": 6}, AdmittedUS: []uint32{4000, 1000, 3000, 2000}, RefusedUS: []uint32{1}},
		{Name: "b", Due: 2, Done: 2, Codes: map[string]int{"200": 2}, AdmittedUS: []uint32{9000, 8000}},
	}}
	all, a := func(string) bool { return true }, func(n string) bool { return n == "a" }
	if r.Good(all) != 3 || r.Good(a) != 2 || r.Asked(all) != 6 {
		t.Errorf("rates %g, %g, %g", r.Good(all), r.Good(a), r.Asked(all))
	}
	if r.At(a, 50, Admitted) != 2 || r.At(all, 99, Admitted) != 9 || !math.IsNaN(r.At(func(n string) bool { return n == "b" }, 99, Refused)) {
		t.Errorf("percentiles %g, %g", r.At(a, 50, Admitted), r.At(all, 99, Admitted))
	}
	if got := r.Answers(); got != "6 × 200, 6 × 503 overload" || !r.Tidy() {
		t.Errorf("answers %q, tidy %t", got, r.Tidy())
	}
	for name, spoil := range map[string]func(*FlowResult){
		"no answer": func(f *FlowResult) { f.Unsent++ }, "1 × no answer": func(f *FlowResult) { f.Unanswered++ }, "wrong length": func(f *FlowResult) { f.Wrong++ },
		"Retry-After": func(f *FlowResult) { f.Bare++ }, "opened again": func(f *FlowResult) { f.Reopened++ },
	} {
		bad := Result{Seconds: 1, Flows: slices.Clone(r.Flows)}
		if spoil(&bad.Flows[1]); bad.Tidy() || !strings.Contains(bad.Answers(), name) {
			t.Errorf("%s: tidy %t, %q", name, bad.Tidy(), bad.Answers())
		}
	}
}
