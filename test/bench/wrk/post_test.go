// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package wrk

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// TestPost: each body comes once, whole, with the header.
func TestPost(t *testing.T) {
	bin, err := exec.LookPath("wrk")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have wrk")
		}
		t.Skip("SKIPPED: there is no wrk")
	}
	body := bytes.Repeat([]byte("x"), 1024)
	var mu sync.Mutex
	seen, wrong := map[string]bool{}, 0
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			return // wrk ends in the middle
		}
		if len(b) != 1024 || !bytes.Equal(b[16:], body[16:]) || seen[string(b[:16])] || r.Header.Get("X-Key") != "v" || r.Method != "POST" || r.URL.Path != "/in" {
			wrong++
		}
		seen[string(b[:16])] = true
	}))
	defer s.Close()
	got, refused, err := Post{Bin: bin, URL: s.URL + "/in", Dir: t.TempDir(), Header: [2]string{"X-Key", "v"}, Body: body, Conns: 2, Span: time.Second}.Run(t.Context())
	if err != nil || refused != 0 || got.Rate == 0 || wrong != 0 || len(seen) < 2 {
		t.Errorf("%+v, %v; %d bodies, %d wrong", got, err, len(seen), wrong)
	}
}
