// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/test/bench/openloop"
	"github.com/rustyonions/macronode/test/bench/operate"
)

const (
	stormSpan  = 3 * time.Second
	stormRead  = 1 << 20
	stormWrite = 64 << 10
	stormConns = 96 // of the tenant that makes the storm
	calmConns  = 6  // of each of the others
)

// storm is a node with few places and tenants of equal weight, of which the
// first asks for all it can.
type storm struct {
	*node
	t       *testing.T
	tenants []operate.Tenant
	paths   []string // an object of each
}

func startStorm(t *testing.T) *storm {
	t.Helper()
	s := &storm{t: t, node: startSigned(t, section("server", "max_inflight = 8"))}
	o := &operate.Node{Bin: binary(t, "macronode"), Data: s.dir, URL: s.HTTP}
	var err error
	if s.tenants, err = o.Tenants(t.Context(), "storm", "a", "b", "c"); err == nil {
		err = o.Policy(t.Context(), s.tenants...)
	}
	if err == nil {
		err = o.Reload(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.tenants {
		data := content(uint64(i)+1<<50, stormRead)
		if resp, text := s.request("POST", "/o", s.as(i), bytes.NewReader(data)); resp.StatusCode != 201 {
			t.Fatalf("%s: %d %s", s.tenants[i].Label, resp.StatusCode, text)
		}
		s.paths = append(s.paths, "/o/"+b3.Sum(data).String())
	}
	return s
}

func (s *storm) as(tenant int) http.Header {
	return http.Header{"Authorization": {"Bearer " + s.tenants[tenant].Token}}
}

// rage has all tenants read, or write, as fast as they are answered; the first
// with many connections. meanwhile is called until it is over.
func (s *storm) rage(write bool, seed uint64, meanwhile func()) *openloop.Result {
	s.t.Helper()
	host := strings.TrimPrefix(s.HTTP, "http://")
	spec := &openloop.Spec{Addr: host, Span: stormSpan, Grace: patience, Timeout: patience, Seed: seed}
	for i, t := range s.tenants {
		f := openloop.Flow{Name: t.Label, From: fmt.Sprintf("127.0.0.%d", i+2), Conns: calmConns, Good: 200, Bytes: stormRead,
			Heads: []string{"GET " + s.paths[i] + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + t.Token + "\r\n\r\n"}}
		if write {
			f.Body, f.Good, f.Bytes = stormWrite, 201, -1
			f.Heads = []string{"POST /o HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + t.Token + "\r\nContent-Length: " + strconv.Itoa(stormWrite) + "\r\n\r\n"}
		}
		if i == 0 {
			f.Conns = stormConns
		}
		spec.Flows = append(spec.Flows, f)
	}
	type outcome struct {
		res *openloop.Result
		err error
	}
	over := make(chan outcome, 1)
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	go func() {
		res, err := openloop.Run(ctx, spec)
		over <- outcome{res, err}
	}()
	for {
		select {
		case o := <-over:
			if o.err != nil {
				s.t.Fatal(o.err)
			}
			return o.res
		default:
			meanwhile()
		}
	}
}

// control asks what an operator asks, and probes.
func (s *storm) control(operator string) {
	s.t.Helper()
	header := http.Header{"Authorization": {"Bearer " + operator}}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/v1/admin/status", "/v1/tenants"} {
		begun := time.Now()
		if resp, text := s.request("GET", path, header, nil); resp.StatusCode != 200 {
			s.t.Errorf("%s in the storm: %d %.300s", path, resp.StatusCode, text)
		}
		if took := time.Since(begun); took > 10*time.Second {
			s.t.Errorf("%s in the storm took %s", path, took)
		}
	}
}

// refusal asks as the storm's tenant, and reports whether that was refused. A
// refusal says when to come again, twice and alike.
func (s *storm) refusal() bool {
	s.t.Helper()
	resp, text := s.request("GET", s.paths[0], s.as(0), nil)
	if resp.StatusCode == 200 {
		return false
	}
	var p struct {
		Status       int    `json:"status"`
		Code         string `json:"code"`
		Reason       string `json:"reason"`
		RetryAfterMS int64  `json:"retry_after_ms"`
	}
	seconds, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 64)
	switch {
	case resp.StatusCode != 429 && resp.StatusCode != 503:
		s.t.Errorf("a refusal with %d: %.300s", resp.StatusCode, text)
	case !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(text, &p) != nil:
		s.t.Errorf("a refusal that is no problem: %v %.300s", resp.Header, text)
	case p.Status != resp.StatusCode || p.Code == "" || p.Reason == "":
		s.t.Errorf("a refusal that does not say why: %s", text)
	case err != nil || seconds < 1 || p.RetryAfterMS < 1 || seconds < p.RetryAfterMS/1000 || seconds > p.RetryAfterMS/1000+1:
		s.t.Errorf("come again in %q s, %d ms", resp.Header.Get("Retry-After"), p.RetryAfterMS)
	}
	return true
}

// judge looks at what a storm left.
func (s *storm) judge(what string, res *openloop.Result, least int) {
	s.t.Helper()
	total := 0
	for _, f := range res.Flows {
		total += f.Done
	}
	s.t.Logf("%s: %d good answers, of which the storm had %d; %s", what, total, res.Flows[0].Done, res.Answers())
	refused := 0
	for i, f := range res.Flows {
		for code, n := range f.Codes {
			if status, _, _ := strings.Cut(code, " "); status == "429" || status == "503" {
				refused += n
			} else if status != "200" && status != "201" {
				s.t.Errorf("%s: %s was answered %s, %d times", what, f.Name, code, n)
			}
		}
		if i > 0 && f.Done*100 < total*least {
			s.t.Errorf("%s: %s had %d of %d good answers", what, f.Name, f.Done, total)
		}
	}
	if !res.Tidy() {
		s.t.Errorf("%s: %s", what, res.Answers())
	}
	if refused == 0 || total == 0 {
		s.t.Errorf("%s: %d good answers, %d refusals: no storm", what, total, refused)
	}
}

// What each of three others gets at least, in hundredths, beside a tenant with
// sixteen times their connections; fair are 25. Writes come back later than those
// who wait are kept, so that with six connections nobody always has one in the queue.
const leastRead, leastWrite = 15, 5

// calm waits until nobody is served any more, and then wants every call served.
func (s *storm) calm(seed uint64) {
	s.t.Helper()
	s.await("rid of the storm", func() bool {
		return s.metric("inflight_requests", "svc-storage") == 0 && s.metric("open_connections", `wire="http"`) < 20
	})
	for i := range s.tenants {
		s.await("open to "+s.tenants[i].Label, func() bool {
			resp, _ := s.request("GET", s.paths[i], s.as(i), nil)
			return resp.StatusCode == 200
		})
	}
	for n := range 25 {
		for i, t := range s.tenants {
			if resp, text := s.request("GET", s.paths[i], s.as(i), nil); resp.StatusCode != 200 || len(text) != stormRead {
				s.t.Fatalf("after the storm, %s: %d %.300s", t.Label, resp.StatusCode, text)
			}
			if resp, text := s.request("POST", "/o", s.as(i), bytes.NewReader(content(seed<<32|uint64(n*8+i), 4096))); resp.StatusCode != 201 {
				s.t.Fatalf("after the storm, %s: %d %s", t.Label, resp.StatusCode, text)
			}
		}
	}
}

// TestStorm: a tenant that asks for everything does not starve the others, is
// refused in form, keeps nobody from steering the node, and leaves nothing
// behind: storms of a kind do not add up.
func TestStorm(t *testing.T) {
	s := startStorm(t)
	operator, err := os.ReadFile(s.OperatorCap)
	if err != nil {
		t.Fatal(err)
	}
	var goroutines, memory []float64
	for round := range uint64(3) {
		for _, write := range []bool{false, true} {
			what := fmt.Sprintf("round %d, writing %t", round+1, write)
			seen, least := 0, leastRead
			if write {
				least = leastWrite
			}
			res := s.rage(write, round*2+1, func() {
				s.control(strings.TrimSpace(string(operator)))
				if !write && s.refusal() {
					seen++
				}
			})
			if !write && seen == 0 {
				t.Errorf("%s: no refusal was looked at", what)
			}
			s.judge(what, res, least)
			s.calm(round*2 + map[bool]uint64{true: 1}[write])
		}
		http.DefaultClient.CloseIdleConnections()
		s.await("quiet", func() bool { return s.metric("open_connections", `wire="http"`) <= 2 })
		goroutines = append(goroutines, s.metric("go_goroutines"))
		memory = append(memory, s.metric("process_resident_memory_bytes"))
	}
	t.Logf("goroutines %v, memory %v", goroutines, memory)
	if goroutines[2] > goroutines[0]+16 {
		t.Errorf("goroutines after each round: %v", goroutines)
	}
	if memory[2] > memory[0]*1.5+32<<20 {
		t.Errorf("memory after each round: %v", memory)
	}
}
