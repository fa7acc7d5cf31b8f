// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package steady

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// fake is a node with one fault.
type fake struct {
	mu     sync.Mutex
	stored map[string][]byte
	tokens map[string]int
	fault  func(w http.ResponseWriter, r *http.Request) bool
	puts   int
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens[r.Header.Get("Authorization")]++
	if f.fault != nil && f.puts > objects && f.fault(w, r) {
		return
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/o":
		f.puts++
		addr := b3.Sum(body).String()
		if f.stored["/o/"+addr] == nil {
			w.WriteHeader(201)
		}
		f.stored["/o/"+addr] = bytes.Clone(body)
		_ = json.NewEncoder(w).Encode(map[string]string{"addr": addr})
	case r.Method == http.MethodGet:
		_, _ = w.Write(f.stored[r.URL.Path])
	case strings.HasSuffix(r.URL.Path, "/sign"):
		_ = json.NewEncoder(w).Encode(map[string][]byte{"signature": {1}})
	default:
		_ = json.NewEncoder(w).Encode(map[string]bool{"valid": true})
	}
}

// busy refuses so many signatures in a row for a moment.
func busy(n int) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if n == 0 || !strings.HasSuffix(r.URL.Path, "/sign") {
			return false
		}
		n--
		w.WriteHeader(503)
		_, _ = w.Write([]byte(`{"code":"overload","retry_after_ms":1}`))
		return true
	}
}

func TestLoad(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request) bool
		lost  bool   // connections end instead
		again int    // refusals to be counted
		want  string // in the first error
	}{
		"well": {},
		"other bytes": {fault: func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = w.Write([]byte("no"))
			return r.Method == "GET"
		}, want: "other bytes"},
		"refused": {fault: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/o" {
				w.WriteHeader(503)
			}
			return r.URL.Path == "/o"
		}, want: "503"},
		"invalid": {fault: func(w http.ResponseWriter, r *http.Request) bool {
			bad := strings.HasSuffix(r.URL.Path, "/verify")
			if bad {
				_, _ = w.Write([]byte(`{"valid":false}`))
			}
			return bad
		}, want: "earlier signature"},
		"told to come again": {fault: busy(5), again: 5},
		"told so for ever":   {fault: busy(1 << 30), want: "overload", again: -1},
		"connections end":    {fault: func(w http.ResponseWriter, _ *http.Request) bool { w.Header().Set("Connection", "close"); return false }, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{stored: map[string][]byte{}, tokens: map[string]int{}, fault: c.fault}
			if name == "other bytes" {
				f.fault = func(w http.ResponseWriter, r *http.Request) bool { return r.Method == "GET" && c.fault(w, r) }
			}
			s := httptest.NewTLSServer(f)
			defer s.Close()
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			l := &Load{URL: s.URL, Roots: roots, Key: "k", Operator: "o", Requests: 200, Rate: 1000, Workers: 4}
			l.Use("first")
			l.Use("second")
			got, err := l.Run(t.Context())
			if err != nil || got.Requests != 200 || l.Done() != 200 || len(got.Took) != 200 || got.Fresh != 4 {
				t.Fatalf("%d of 200, %d on their own: %v", got.Requests, got.Fresh, err)
			}
			if failed := got.Failed > 0; failed != (c.want != "") || failed && !strings.Contains(got.Errors[0], c.want) {
				t.Errorf("%d failed: %v", got.Failed, got.Errors)
			}
			if c.again >= 0 && got.Again != c.again {
				t.Errorf("told %d times to come again, not %d", got.Again, c.again)
			}
			if (got.Ended > 0) != c.lost {
				t.Errorf("%d connections ended", got.Ended)
			}
			if f.tokens["Bearer first"] < 30 || f.tokens["Bearer second"] < 30 || f.tokens["Bearer o"] < 10 {
				t.Errorf("capabilities in use: %v", f.tokens)
			}
		})
	}
}
