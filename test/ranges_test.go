// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/b3"
)

// nginx serves the files of a folder on a Unix socket, as another reading of
// RFC 9110, and returns a client for it.
func nginx(t *testing.T, files map[string][]byte) *http.Client {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatal("nginx is not installed; run: make setup")
		}
	}
	dir, err := os.MkdirTemp("", "mn") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	socket, conf := filepath.Join(dir, "s"), filepath.Join(dir, "conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; default_type application/octet-stream;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	server { listen unix:%[2]s; root %[1]s; max_ranges 16; etag on; }
}
`, dir, socket)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	log := &tail{}
	cmd := exec.Command(program, "-p", dir, "-e", "stderr", "-c", conf)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	t.Cleanup(c.CloseIdleConnections)
	until(t, "nginx listens", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return c
}

// answer is what a server said about bytes.
type answer struct {
	status       int
	contentRange string
	body         string // of a single answer
	parts        []answer
}

func (a answer) String() string {
	s := fmt.Sprintf("%d %q %d bytes", a.status, a.contentRange, len(a.body))
	for _, p := range a.parts {
		s += fmt.Sprintf(" [%s %d bytes]", p.contentRange, len(p.body))
	}
	return s
}

func (a answer) same(b answer) bool {
	if a.status != b.status || a.contentRange != b.contentRange || a.body != b.body || len(a.parts) != len(b.parts) {
		return false
	}
	for i := range a.parts {
		if !a.parts[i].same(b.parts[i]) {
			return false
		}
	}
	return true
}

// ask makes one request and takes the answer apart. What a server says about a
// refusal in words is its own.
func ask(t *testing.T, c *http.Client, method, url string, h http.Header) (answer, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = h.Clone()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if method == "GET" && resp.ContentLength != int64(len(body)) {
		t.Errorf("Content-Length %d, %d bytes came", resp.ContentLength, len(body))
	}
	a := answer{status: resp.StatusCode, contentRange: resp.Header.Get("Content-Range"), body: string(body)}
	media, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case a.status == 206 && media == "multipart/byteranges":
		a.body = ""
		r := multipart.NewReader(bytes.NewReader(body), params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v in %q", err, body)
			}
			text, err := io.ReadAll(p)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Header.Get("Content-Type"); got != "application/octet-stream" {
				t.Errorf("a part has the type %q", got)
			}
			a.parts = append(a.parts, answer{contentRange: p.Header.Get("Content-Range"), body: string(text)})
		}
	case a.status >= 300:
		a.body = ""
	}
	return a, resp.Header
}

// span is what a row of the table expects: bytes first to last.
type span struct{ first, last int }

// expect is the answer that RFC 9110 section 14 has for a file and the spans.
func expect(file []byte, method string, status int, spans ...span) answer {
	a := answer{status: status}
	one := func(s span) answer {
		return answer{contentRange: fmt.Sprintf("bytes %d-%d/%d", s.first, s.last, len(file)), body: string(file[s.first : s.last+1])}
	}
	switch {
	case status == 416:
		a.contentRange = fmt.Sprintf("bytes */%d", len(file))
	case len(spans) == 1:
		a = one(spans[0])
		a.status = status
	case len(spans) > 1:
		for _, s := range spans {
			a.parts = append(a.parts, one(s))
		}
	case status == 200 && method == "GET":
		a.body = string(file)
	}
	return a
}

// rangeRow asks for a range of a file. nginx answers the same, but where differs
// says how it does and why the node does not.
type rangeRow struct {
	file    string
	ask     string // the Range; | parts it from If-Range, where ETAG is the server's own
	status  int
	spans   []span
	differs string
	nginx   int // status there, where it differs
	method  string
}

var rangeRows = []rangeRow{
	// One range.
	{file: "hundred", ask: "bytes=0-0", status: 206, spans: []span{{0, 0}}},
	{file: "hundred", ask: "bytes=0-99", status: 206, spans: []span{{0, 99}}},
	{file: "hundred", ask: "bytes=0-", status: 206, spans: []span{{0, 99}}},
	{file: "hundred", ask: "bytes=99-", status: 206, spans: []span{{99, 99}}},
	{file: "hundred", ask: "bytes=40-1000", status: 206, spans: []span{{40, 99}}},
	{file: "hundred", ask: "bytes=-1", status: 206, spans: []span{{99, 99}}},
	{file: "hundred", ask: "bytes=-100", status: 206, spans: []span{{0, 99}}},
	{file: "hundred", ask: "bytes=-1000", status: 206, spans: []span{{0, 99}}},
	{file: "hundred", ask: "bytes=100-", status: 416},
	{file: "hundred", ask: "bytes=100-200", status: 416},
	{file: "hundred", ask: "bytes=-0", status: 416},
	{file: "hundred", ask: "bytes= 1-2", status: 206, spans: []span{{1, 2}}},
	{file: "hundred", ask: "BYTES=1-2", status: 206, spans: []span{{1, 2}}},
	{file: "hundred", ask: "bytes=00000000001-2", status: 206, spans: []span{{1, 2}}},
	{file: "one", ask: "bytes=0-0", status: 206, spans: []span{{0, 0}}},
	{file: "one", ask: "bytes=1-", status: 416},
	{file: "large", ask: "bytes=16383-16384", status: 206, spans: []span{{16383, 16384}}},
	{file: "large", ask: "bytes=65535-131072", status: 206, spans: []span{{65535, 131072}}},
	{file: "large", ask: "bytes=299999-", status: 206, spans: []span{{299999, 299999}}},
	{file: "large", ask: "bytes=-262144", status: 206, spans: []span{{300000 - 262144, 299999}}},

	// Several.
	{file: "hundred", ask: "bytes=0-1,10-11", status: 206, spans: []span{{0, 1}, {10, 11}}},
	{file: "hundred", ask: "bytes=10-11,0-1", status: 206, spans: []span{{10, 11}, {0, 1}}},
	{file: "hundred", ask: "bytes=0-1 , 10-11", status: 206, spans: []span{{0, 1}, {10, 11}}},
	{file: "hundred", ask: "bytes=0-1,-1", status: 206, spans: []span{{0, 1}, {99, 99}}},
	{file: "hundred", ask: "bytes=0-1,200-", status: 206, spans: []span{{0, 1}}},
	{file: "hundred", ask: "bytes=200-,300-400", status: 416},
	{file: "hundred", ask: "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30", status: 206,
		spans: []span{{0, 0}, {2, 2}, {4, 4}, {6, 6}, {8, 8}, {10, 10}, {12, 12}, {14, 14}, {16, 16}, {18, 18}, {20, 20}, {22, 22}, {24, 24}, {26, 26}, {28, 28}, {30, 30}}},
	{file: "large", ask: "bytes=0-99999,200000-299999", status: 206, spans: []span{{0, 99999}, {200000, 299999}}},
	{file: "hundred", ask: "bytes=0-1,2-3", status: 206, spans: []span{{0, 1}, {2, 3}}}, // adjacent is not overlapping

	// Not bytes.
	{file: "hundred", ask: "lines=0-1", status: 200},
	{file: "hundred", ask: "0-1", status: 200},
	{file: "hundred", ask: "bytes=", status: 200},

	// If-Range.
	{file: "hundred", ask: "bytes=0-1|ETAG", status: 206, spans: []span{{0, 1}}},
	{file: "hundred", ask: `bytes=0-1|"other"`, status: 200},
	{file: "hundred", ask: "bytes=0-1|W/ETAG", status: 200},
	{file: "hundred", ask: "bytes=0-1|Sun, 06 Nov 1994 08:49:37 GMT", status: 200},
	{file: "hundred", ask: "bytes=500-|ETAG", status: 416},
	{file: "hundred", ask: `bytes=500-|"other"`, status: 200},

	// Where the node means to differ.
	{file: "hundred", ask: "bytes=0-50,40-60", status: 206, spans: []span{{0, 60}}, nginx: 206, differs: "what overlaps is merged, so that no byte is sent twice (section 15.3.7.2: MAY coalesce)"},
	{file: "hundred", ask: "bytes=0-,0-,0-", status: 206, spans: []span{{0, 99}}, nginx: 200, differs: "merged first; nginx sends the whole where the ranges add up to more than the file"},
	{file: "hundred", ask: "bytes=0-9,50-59,5-14", status: 206, spans: []span{{0, 14}, {50, 59}}, nginx: 206, differs: "merged into the first of them"},
	{file: "hundred", ask: "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30,32-32", status: 416, nginx: 200, differs: "17 ranges are refused, rather than answered with more than was asked for"},
	{file: "hundred", ask: "bytes=ab", status: 200, nginx: 416, differs: "a Range that is not valid is ignored (section 14.2: MAY)"},
	{file: "hundred", ask: "bytes=x-y", status: 200, nginx: 416, differs: "not valid: ignored"},
	{file: "hundred", ask: "bytes=5", status: 200, nginx: 416, differs: "not valid: ignored"},
	{file: "hundred", ask: "bytes=-", status: 200, nginx: 416, differs: "not valid: ignored"},
	{file: "hundred", ask: "bytes=9-5", status: 200, nginx: 416, differs: "last before first is not valid: ignored"},
	{file: "hundred", ask: "bytes=0-1,x", status: 200, nginx: 416, differs: "not valid in a part is not valid: ignored"},
	{file: "hundred", ask: "bytes=0-99999999999999999999", status: 206, spans: []span{{0, 99}}, nginx: 416, differs: "a number has any number of digits (section 14.1.1)"},
	{file: "hundred", ask: "bytes=0-1,,5-6", status: 206, spans: []span{{0, 1}, {5, 6}}, nginx: 416, differs: "a list may have empty elements (section 5.6.1.2)"},
	{file: "hundred", ask: "bytes=0-1", method: "HEAD", status: 200, nginx: 206, differs: "Range is of GET alone (section 14.2)"},
	{file: "empty", ask: "bytes=-5", status: 200, nginx: 200, differs: "a suffix of nothing is all there is"},
}

// TestRanges puts the same questions to the node and to nginx, over the same
// bytes: the table, and random ranges that both must answer alike, as many as
// MACRONODE_RANDOM_RANGES says.
func TestRanges(t *testing.T) {
	files := map[string][]byte{"empty": {}, "one": []byte("x"), "hundred": content(1, 100), "large": content(2, 300_000)}
	n := startDev(t, t.TempDir())
	other := nginx(t, files)
	token, err := os.ReadFile(n.TenantCap)
	if err != nil {
		t.Fatal(err)
	}
	urls := make(map[string]string)
	for name, text := range files {
		if resp, out := n.request("POST", "/o", nil, bytes.NewReader(text)); resp.StatusCode != 201 {
			t.Fatalf("%d %s", resp.StatusCode, out)
		}
		urls[name] = n.HTTP + "/o/" + b3.Sum(text).String()
	}
	both := func(method, file, ask_ string) (ours, theirs answer) {
		t.Helper()
		ranges, ifRange, _ := strings.Cut(ask_, "|")
		one := func(c *http.Client, url string, h http.Header) answer {
			if ifRange != "" {
				_, head := ask(t, c, "HEAD", url, h)
				h.Set("If-Range", strings.Replace(ifRange, "ETAG", head.Get("Etag"), 1))
			}
			h.Set("Range", ranges)
			a, _ := ask(t, c, method, url, h)
			return a
		}
		return one(http.DefaultClient, urls[file], http.Header{"Authorization": {"Bearer " + strings.TrimSpace(string(token))}}),
			one(other, "http://nginx/"+file, http.Header{})
	}
	for _, r := range rangeRows {
		if r.method == "" {
			r.method = "GET"
		}
		ours, theirs := both(r.method, r.file, r.ask)
		if want := expect(files[r.file], r.method, r.status, r.spans...); !ours.same(want) {
			t.Errorf("%s %s %q: %v, want %v", r.method, r.file, r.ask, ours, want)
		}
		switch {
		case r.differs == "" && !ours.same(theirs):
			t.Errorf("%s %s %q: the node %v, nginx %v", r.method, r.file, r.ask, ours, theirs)
		case r.differs != "" && (theirs.status != r.nginx || ours.same(theirs) && r.file != "empty"):
			t.Errorf("%s %s %q: nginx %v, the table says that it differs with %d", r.method, r.file, r.ask, theirs, r.nginx)
		}
	}
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	random := envInt(t, "MACRONODE_RANDOM_RANGES", 300)
	for range random {
		file := []string{"one", "hundred", "large"}[rnd.IntN(3)]
		question := apart(rnd, len(files[file]))
		if ours, theirs := both("GET", file, question); !ours.same(theirs) || ours.status == 200 {
			t.Errorf("seed %d: %s %q: the node %v, nginx %v", seed, file, question, ours, theirs)
		}
	}
	t.Logf("%d rows, %d random questions", len(rangeRows), random)
}

// apart draws up to 16 ranges that do not overlap, some of them beyond the end.
func apart(rnd *rand.Rand, size int) string {
	var specs []string
	at := 0
	for range 1 + rnd.IntN(16) {
		first := at + rnd.IntN(size/4+2)
		last := first + rnd.IntN(size/4+2)
		specs = append(specs, fmt.Sprintf("%d-%d", first, last))
		if at = last + 1; at > size+10 {
			break
		}
	}
	rnd.Shuffle(len(specs), func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
	return "bytes=" + strings.Join(specs, ",")
}
