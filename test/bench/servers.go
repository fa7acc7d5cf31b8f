// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/operate"
	"github.com/rustyonions/macronode/test/bench/report"
	"github.com/rustyonions/macronode/test/bench/sigv4"
)

// server is one of those that are compared.
type server struct {
	*children.Proc
	name    string
	url     string
	command string // as shown in the report
	version string
	dir     string
	node    *operate.Node // where it is one
	// getHeader is what a read needs: a header's name and value, or nothing.
	getHeader [2]string
	// put makes the request that stores a body under a name of our choice; the
	// node names it by its bytes.
	put func(name string, body []byte) (*http.Request, error)
	// path finds the path of a stored object from the name and the reply.
	path  func(name string, reply []byte) (string, error)
	again func(context.Context) (*server, error) // starts it anew on the same data
}

// startNode makes a data directory and runs the node on it: plain HTTP on
// loopback, everything else as init leaves it, but for the size of the cache.
func (b *bench) startNode(ctx context.Context, cache int64) (*server, error) {
	if cache <= 0 {
		return b.startNodeWith(ctx, "settings as init leaves them", nil)
	}
	return b.startNodeWith(ctx, fmt.Sprintf("[data] cache_bytes = %d", cache), func(n *operate.Node) error {
		return n.Edit(ctx, operate.Set("data", map[string]string{"cache_bytes": strconv.FormatInt(cache, 10)}))
	})
}

// startNodeWith has setUp change the new directory before the node runs on it.
func (b *bench) startNodeWith(ctx context.Context, note string, setUp func(*operate.Node) error) (*server, error) {
	dir, err := b.scratch("macronode")
	if err != nil {
		return nil, err
	}
	n, err := operate.Init(ctx, b.set.bin, dir)
	if err == nil && setUp != nil {
		err = setUp(n)
	}
	if err != nil {
		return nil, err
	}
	token, err := n.Token()
	if err != nil {
		return nil, err
	}
	version, err := n.Tool(ctx, "version")
	if err != nil {
		return nil, err
	}
	s := &server{
		name: "macronode", url: n.URL, dir: dir, version: firstLine(version), node: n,
		command:   "`macronode run --config DIR/macronode.bundle.toml --data DIR` after `macronode init --tls none --tenant bench`, " + note,
		getHeader: [2]string{"Authorization", "Bearer " + token},
	}
	s.put = func(_ string, body []byte) (*http.Request, error) {
		req, err := post(s.url+"/o", body)
		if err == nil {
			req.Header.Set(s.getHeader[0], s.getHeader[1])
		}
		return req, err
	}
	s.path = func(_ string, reply []byte) (string, error) {
		var r struct{ Addr string }
		if err := json.Unmarshal(reply, &r); err != nil || r.Addr == "" {
			return "", fmt.Errorf("no address in the reply %q", reply)
		}
		return "/o/" + r.Addr, nil
	}
	s.again = func(ctx context.Context) (*server, error) {
		next := *s
		var err error
		next.Proc, err = n.Run(ctx, &b.procs, filepath.Join(dir, "log"))
		return &next, err
	}
	return s.again(ctx)
}

// bucket is the one that MinIO is asked for.
const bucket = "bench"

// startMinIO runs MinIO on one local drive with its defaults, which sync every
// object before the reply, and makes a bucket that anyone may read.
func (b *bench) startMinIO(ctx context.Context) (*server, error) {
	s, _, err := b.startMinIOWith(ctx)
	return s, err
}

// startMinIOWith adds settings to the environment and returns the keys as well.
func (b *bench) startMinIOWith(ctx context.Context, settings ...string) (s *server, keys sigv4.Keys, err error) {
	dir, err := b.scratch("minio")
	if err != nil {
		return nil, keys, err
	}
	port, err1 := children.FreePort()
	console, err2 := children.FreePort()
	if err := errors.Join(err1, err2); err != nil {
		return nil, keys, err
	}
	keys = sigv4.Keys{ID: "benchbench", Secret: fmt.Sprintf("bench-%d-%d", os.Getpid(), time.Now().UnixNano()), Region: "us-east-1"}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	env := append(settings, "MINIO_ROOT_USER="+keys.ID, "MINIO_ROOT_PASSWORD="+keys.Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off")
	p, err := b.procs.Start("minio", filepath.Join(dir, "log"), env,
		b.set.minio, "server", filepath.Join(dir, "data"), "--address", addr, "--console-address", "127.0.0.1:"+strconv.Itoa(console))
	if err != nil {
		return nil, keys, fmt.Errorf("minio (go install it, or set BENCH_MINIO): %w", err)
	}
	s = &server{Proc: p, name: "MinIO", url: "http://" + addr, dir: dir, version: moduleVersion(ctx, b.set.minio),
		command: "`" + strings.Join(append(settings, ""), " ") + "MINIO_BROWSER=off MINIO_UPDATE=off minio server DIR --address " + "127.0.0.1:PORT`, one drive; reads anonymous from a public-read bucket, writes signed (SigV4, `UNSIGNED-PAYLOAD`)"}
	s.put = func(name string, body []byte) (*http.Request, error) {
		req, err := post(s.url+"/"+bucket+"/"+name, body)
		if err != nil {
			return nil, err
		}
		req.Method = http.MethodPut
		keys.Sign(req, sigv4.Unsigned, time.Now())
		return req, nil
	}
	s.path = func(name string, _ []byte) (string, error) { return "/" + bucket + "/" + name, nil }
	if err := p.Ready(ctx, s.url+"/minio/health/ready"); err != nil {
		return nil, keys, err
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::` + bucket + `/*"]}]}`
	for _, step := range []struct{ query, body string }{{"", ""}, {"?policy=", policy}} {
		if err := setUp(ctx, keys, s.url+"/"+bucket+step.query, step.body); err != nil {
			return nil, keys, p.Failed(err)
		}
	}
	return s, keys, nil
}

// setUp makes one signed PUT. MinIO says that it is ready a little before it is,
// so a refusal is tried again for a while.
func setUp(ctx context.Context, k sigv4.Keys, url, body string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		req, err := post(url, []byte(body))
		if err != nil {
			return err
		}
		req.Method = http.MethodPut
		k.Sign(req, sigv4.Unsigned, time.Now())
		if _, err = send(http.DefaultClient, req.WithContext(ctx)); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startBare runs this program as the least that net/http can do.
func (b *bench) startBare(ctx context.Context, sizes []int64) (*server, error) {
	dir, err := b.scratch("bare")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	port, err := children.FreePort()
	if err != nil {
		return nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	command := []string{self, "bare", addr}
	for _, n := range sizes {
		command = append(command, strconv.FormatInt(n, 10))
	}
	p, err := b.procs.Start("bare", filepath.Join(dir, "log"), nil, command...)
	if err != nil {
		return nil, err
	}
	s := &server{Proc: p, name: "bare net/http", url: "http://" + addr, dir: dir, version: "of the Go above",
		command: "`bench bare 127.0.0.1:PORT SIZE…`: `w.Write` of bytes in memory, without any check"}
	return s, p.Ready(ctx, s.url+"/ready")
}

// serveBare answers /SIZE with the first object of that size.
func serveBare(args []string) error {
	mux := http.NewServeMux()
	for _, a := range args[1:] {
		n, err := strconv.ParseInt(a, 10, 64)
		if err != nil {
			return err
		}
		body := content(n, 0)
		mux.HandleFunc("GET /"+a, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body)
		})
	}
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l)
}

var moduleLine = regexp.MustCompile(`(?m)^\s*mod\s+(\S+)\s+(\S+)`)

// moduleVersion is the version a Go binary was built from.
func moduleVersion(ctx context.Context, bin string) string {
	if path, err := exec.LookPath(bin); err == nil {
		bin = path
	}
	out, err := exec.CommandContext(ctx, "go", "version", "-m", bin).Output()
	if m := moduleLine.FindSubmatch(out); err == nil && m != nil {
		return string(m[1]) + " " + string(m[2])
	}
	return "unknown version"
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// servers says what was run, and which version.
func servers(s *report.Section, list ...*server) {
	slices.SortFunc(list, func(a, b *server) int { return strings.Compare(b.name, a.name) })
	for _, v := range list {
		s.Servers = append(s.Servers, fmt.Sprintf("%s (%s): %s", v.name, v.version, v.command))
	}
}
