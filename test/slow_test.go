// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
)

const (
	// slowSize of each upload; slowFirst of it is sent at once, more than one chunk,
	// so that the node has begun to store it.
	slowSize, slowFirst = 200_000, 70_000
	// slowEvery is when an upload sends its next few bytes.
	slowEvery = 3 * time.Second
	// slowDialers connect at a time, slowPerIP from one address.
	slowDialers, slowPerIP = 64, 500
	// slowMemory is what an upload under way may cost the node: its buffers, a
	// chunk, a piece to hash and the state of a connection.
	slowMemory = 320 << 10
	// idleMemory is what a node with nothing to do may hold.
	idleMemory = 160 << 20
)

// trickle is an upload that hardly moves.
type trickle struct {
	seed    uint64
	status  int           // 0: it got no answer
	header  http.Header   // of the answer
	waited  time.Duration // for a refusal
	err     error
	refused bool
}

// crowd are uploads that are under way together.
type crowd struct {
	t       *testing.T
	host    string
	token   string
	release chan struct{} // closed: those that finish send the rest, the others go
	opened  sync.WaitGroup
	over    sync.WaitGroup
	all     []*trickle
}

// finishes says which of the uploads are completed in the end.
func (u *trickle) finishes() bool { return u.seed%4 == 0 }

func (c *crowd) open(slots chan struct{}, u *trickle) {
	defer c.over.Done()
	opened := sync.OnceFunc(func() { <-slots; c.opened.Done() })
	defer opened()
	from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+u.seed/slowPerIP))}
	conn, err := (&net.Dialer{LocalAddr: from}).DialContext(c.t.Context(), "tcp", c.host)
	if err != nil {
		u.err = err
		return
	}
	defer conn.Close()
	data := content(u.seed, slowSize)
	begun := time.Now()
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil)
		if err != nil {
			u.err = err
			return
		}
		io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
		u.status, u.header, u.waited = resp.StatusCode, resp.Header, time.Since(begun)
	}()
	fmt.Fprintf(conn, "POST /o HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", c.token, slowSize)
	sent := slowFirst
	conn.Write(data[:sent]) // a refusal may come first, and is read
	opened()
	tick := time.NewTicker(slowEvery)
	defer tick.Stop()
	for {
		select {
		case <-answered:
			u.refused = true
			return
		case <-tick.C:
			conn.Write(data[sent : sent+16])
			sent += 16
			continue
		case <-c.release:
		}
		break
	}
	if u.finishes() {
		conn.Write(data[sent:])
		<-answered
		return
	}
	conn.Close()
	<-answered
	u.err = nil
}

// start opens n uploads and returns once each has sent its first part.
func (c *crowd) start(n int) {
	c.opened.Add(n)
	c.over.Add(n)
	slots := make(chan struct{}, slowDialers)
	for range n {
		u := &trickle{seed: uint64(len(c.all))}
		c.all = append(c.all, u)
		slots <- struct{}{}
		go c.open(slots, u)
	}
	c.opened.Wait()
}

// peak returns the most memory that the node has had.
func (n *node) peak() int64 {
	n.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return kib << 10
		}
	}
	n.t.Fatal("no VmHWM")
	return 0
}

// unfinished counts the files of uploads under way.
func (n *node) unfinished() (count int) {
	n.t.Helper()
	filepath.WalkDir(filepath.Join(n.dir, "objects", "tmp"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			count++
		}
		return nil
	})
	return count
}

// crowdSize is how many uploads the limit on open files allows here: the node has
// a connection for each, and a file for each that it lets in.
func crowdSize(t *testing.T) int {
	t.Helper()
	want := envInt(t, "MACRONODE_SLOW_UPLOADS", 1000)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := (int(min(limit.Max, 1<<20)) - 1000) * 100 / 185; most < want {
		t.Logf("the limit of %d open files allows %d uploads, not %d", limit.Max, most, want)
		want = most
	}
	if want < 200 {
		t.Fatalf("%d uploads are no crowd", want)
	}
	return want
}

// TestSlowUploads: a thousand uploads that hardly move (MACRONODE_SLOW_UPLOADS
// sets the number) fill the node's places for writes. What is too much is refused
// at once; probes, control and reads are answered; memory stays bounded; and when
// they are gone, nothing of them is left.
func TestSlowUploads(t *testing.T) {
	crowdOf := crowdSize(t)
	places := crowdOf * 2 / 5 // so that some are too many, even of those that are let in one after the other
	n := startSigned(t, section("server", fmt.Sprintf("max_conns = %d\nmax_inflight = %d\nstall_timeout = \"60s\"", crowdOf+2000, places)))
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	known := []byte("read me while they crawl")
	if resp, text := n.request("POST", "/o", nil, bytes.NewReader(known)); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	idle := n.peak()
	c := &crowd{t: t, host: strings.TrimPrefix(n.HTTP, "http://"), token: strings.TrimSpace(string(token)), release: make(chan struct{})}
	release := sync.OnceFunc(func() { close(c.release); c.over.Wait() })
	defer release()
	begun := time.Now()
	c.start(crowdOf)
	opened := time.Since(begun)
	inflight := func() int { return int(n.metric("inflight_requests", "svc-storage")) }
	refused := func() int { return int(n.metric("rejected_total", `reason="overload"`)) }
	settled := func() bool { return inflight()+refused() == len(c.all) }
	n.await("settled", settled)
	// A burst that takes all of the processors is let in more slowly than there are
	// places: others come until the places for writes are taken.
	full := places - places/8
	for range 50 {
		if inflight() == full {
			break
		}
		c.start(min(full-inflight()+5, 50))
		n.await("settled", settled)
	}
	running, tooMany := inflight(), refused()
	if running != full || tooMany == 0 {
		t.Errorf("%d of %d uploads run, %d were refused", running, crowdOf, tooMany)
	}
	slowest := n.amongCrowd(b3.Sum(known).String(), known)
	peak := n.peak()
	t.Logf("%d uploads in %s: %d run, %d were refused; memory was %d MiB and went to %d (%d KiB each); others waited %s at most",
		crowdOf, opened.Round(time.Millisecond), running, tooMany, idle>>20, peak>>20, (peak-idle)>>10/int64(running), slowest.Round(time.Millisecond))
	if bound := idleMemory + int64(running)*slowMemory; peak > bound {
		t.Errorf("memory went to %d bytes, %d are allowed", peak, bound)
	}
	release()
	c.judge(n, tooMany)
}

// amongCrowd asks for what must be answered while the places for writes are all
// taken, and returns how long the slowest answer took.
func (n *node) amongCrowd(addr string, known []byte) (slowest time.Duration) {
	t := n.t
	t.Helper()
	operator, err := os.ReadFile(n.OperatorCap)
	if err != nil {
		t.Fatal(err)
	}
	control := http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(operator))}}
	for range 20 {
		for _, r := range []struct {
			method, path string
			header       http.Header
			status       int
			body         []byte
		}{
			{"GET", "/healthz", nil, 200, nil},
			{"GET", "/readyz", nil, 200, nil},
			{"GET", "/metrics", nil, 200, nil},
			{"GET", "/o/" + addr, nil, 200, known},
			{"GET", "/v1/objects", nil, 200, nil},
			{"GET", "/v1/admin/status", control, 200, nil},
			{"GET", "/v1/tenants/acme/usage", control, 200, nil},
			{"POST", "/o", nil, 503, nil},
		} {
			begun := time.Now()
			resp, text := n.request(r.method, r.path, r.header, strings.NewReader(map[bool]string{true: "one more"}[r.method == "POST"]))
			slowest = max(slowest, time.Since(begun))
			if resp.StatusCode != r.status || r.body != nil && !bytes.Equal(text, r.body) {
				t.Errorf("%s %s: %d %.200s", r.method, r.path, resp.StatusCode, text)
			}
			if r.status == 503 && (resp.Header.Get("Retry-After") == "" || !bytes.Contains(text, []byte(`"code":"overload"`))) {
				t.Errorf("the refusal: %v %s", resp.Header, text)
			}
		}
	}
	if slowest > 3*time.Second {
		t.Errorf("an answer took %s", slowest)
	}
	return slowest
}

// judge looks at every upload, and at what is left of them all.
func (c *crowd) judge(n *node, tooMany int) {
	t := c.t
	t.Helper()
	var stored, refused int
	var waits []time.Duration
	for _, u := range c.all {
		switch {
		case u.err != nil && !errors.Is(u.err, net.ErrClosed):
			t.Errorf("upload %d: %v", u.seed, u.err)
		case u.refused:
			refused++
			waits = append(waits, u.waited)
			if u.status != 503 || u.header.Get("Retry-After") == "" {
				t.Errorf("upload %d: %d %v", u.seed, u.status, u.header)
			}
		case u.finishes():
			stored++
			if u.status != 201 {
				t.Errorf("upload %d: %d", u.seed, u.status)
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	slices.Sort(waits)
	if refused != tooMany || waits[len(waits)-1] > 5*time.Second {
		t.Errorf("%d refusals, %d are counted; the slowest after %s", refused, tooMany, waits[len(waits)-1])
	}
	t.Logf("%d were completed; refusals took %s in the median, %s at most", stored, waits[len(waits)/2].Round(time.Microsecond), waits[len(waits)-1].Round(time.Microsecond))
	n.await("rid of the crowd", func() bool {
		return n.metric("inflight_requests", "svc-storage") == 0 && n.metric("open_connections", `wire="http"`) < 20 && n.unfinished() == 0
	})
	used, objects := n.stored("acme")
	if want := int64(stored)*slowSize + 24; used != want || objects != int64(stored)+1 {
		t.Errorf("usage is %d objects of %d bytes, %d of %d were acknowledged", objects, used, stored+1, want)
	}
	// Exactly what is left of a quota can be used: nothing is reserved.
	quota{bytes: used + slowSize}.set(t, n, "acme")
	if resp, text := n.request("POST", "/o", nil, bytes.NewReader(content(1<<50, slowSize))); resp.StatusCode != 201 {
		t.Errorf("after the crowd: %d %s", resp.StatusCode, text)
	}
	for _, u := range c.all {
		if u.status != 201 || u.seed%16 != 0 {
			continue
		}
		data := content(u.seed, slowSize)
		if resp, text := n.request("GET", "/o/"+b3.Sum(data).String(), nil, nil); resp.StatusCode != 200 || !bytes.Equal(text, data) {
			t.Errorf("upload %d: %d, %d bytes", u.seed, resp.StatusCode, len(text))
		}
	}
}
