// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/oap"
	"github.com/rustyonions/macronode/oap/mux"
)

// wire is a session of OAP/1 with a node, and nothing of a client above it.
type wire struct {
	t   testing.TB
	s   *mux.Session
	cap []byte
}

// token is a capability file in the form of the wire.
func token(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := capability.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return tok.CBOR()
}

// connect dials the node's OAP/1 port, with TLS where its directory has a
// certificate to trust.
func (n *node) connect() net.Conn {
	n.t.Helper()
	pem, err := os.ReadFile(filepath.Join(n.dir, "tls.crt"))
	var c net.Conn
	if err != nil {
		c, err = net.DialTimeout("tcp", n.OAP, patience)
	} else {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			n.t.Fatal("tls.crt holds no certificate")
		}
		c, err = tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", n.OAP, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13})
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// oap is a session with the capability in file.
func (n *node) oap(file string) *wire {
	n.t.Helper()
	s, err := mux.New(n.connect(), mux.Config{Opener: true, UA: "test", ChunkBytes: 64 << 10, SetAside: true, HelloTimeout: patience,
		IdleTimeout: 2 * patience, StallTimeout: patience, WriteTimeout: patience})
	if err != nil {
		n.t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); s.Run(context.Background()) }()
	n.t.Cleanup(func() { s.Close(); <-ran })
	return &wire{n.t, s, token(n.t, file)}
}

// reply is what a call came to.
type reply struct {
	code    int
	head    oap.AnswerHead
	body    []byte
	problem macronode.Problem
	err     error // the session's or the stream's, none for a problem
}

func (w *wire) open(app uint16, h oap.RequestHead, body []byte, end bool) (*mux.Stream, error) {
	raw, err := h.Append(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.s.Open(ctx, mux.Start{App: app, Cap: w.cap, Head: raw, Body: body, End: end})
}

func (w *wire) call(app uint16, op string, args map[string]string, header macronode.Header, body []byte) reply {
	h := oap.RequestHead{Op: macronode.Op(op), Headers: header, Length: int64(len(body))}
	for k, v := range args {
		h.Args = append(h.Args, macronode.Arg{Name: k, Value: v})
	}
	st, err := w.open(app, h, body, true)
	if err != nil {
		return reply{err: err}
	}
	return finish(st)
}

// finish reads an answer to its end.
func finish(st *mux.Stream) (r reply) {
	defer st.Close()
	first, err := st.Head()
	if err == nil {
		var n int
		if r.head, n, err = oap.ParseAnswerHead(first); err == nil {
			st.Skip(n)
			var b bytes.Buffer
			_, err = st.WriteTo(&b)
			r.body = b.Bytes()
		}
	}
	r.code, r.err = int(st.Code()), err
	if e, ok := errors.AsType[*mux.StreamError](err); ok {
		if r.err = nil; json.Unmarshal(e.Problem, &r.problem) != nil {
			r.err = fmt.Errorf("%d with a payload that is no problem", e.Code)
		}
	}
	return r
}

// want fails the test unless the call was answered with code.
func (r reply) want(t testing.TB, what string, code int) reply {
	t.Helper()
	if r.err != nil || r.code != code {
		t.Errorf("%s: %d %s %s, %v; want %d", what, r.code, r.problem.Code, r.problem.Detail, r.err, code)
	}
	return r
}

// TestOAP drives a node over OAP/1 alone: objects, keys, capabilities and
// operators' operations, over TLS and without.
func TestOAP(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		n := startDev(t, t.TempDir())
		drive(t, n)
		otherTenant(t, n)
	})
	t.Run("tls", func(t *testing.T) {
		top := t.TempDir()
		n := &node{t: t, dir: filepath.Join(top, "data"), file: filepath.Join(top, "endpoints.json")}
		n.macronode("init", "--data", n.dir, "--http", "127.0.0.1:0", "--oap", "127.0.0.1:0", "--tenant", "acme").must(t, 0)
		n.run()
		n.TenantCap, n.OperatorCap = filepath.Join(n.dir, "tenant.cap"), filepath.Join(n.dir, "operator.cap")
		drive(t, n)
	})
}

func drive(t *testing.T, n *node) {
	w, op := n.oap(n.TenantCap), n.oap(n.OperatorCap)
	body := content(1, 3_000_000)
	addr := b3.Sum(body).String()
	at := map[string]string{"addr": addr}
	var put struct {
		Addr    string
		Size    int64
		Existed bool
	}
	r := w.call(macronode.AppObject, "object.put", at, macronode.Header{"Content-Type": {"image/png"}}, body).want(t, "put", 201)
	if err := json.Unmarshal(r.body, &put); err != nil || put.Addr != addr || put.Size != int64(len(body)) || put.Existed || r.head.Headers.Get("Location") != "/o/"+addr {
		t.Errorf("%s %v", r.body, r.head.Headers)
	}
	w.call(macronode.AppObject, "object.post", nil, nil, body).want(t, "the same again", 200)
	if r := w.call(macronode.AppObject, "object.get", at, nil, nil).want(t, "get", 200); !bytes.Equal(r.body, body) || r.head.Length != int64(len(body)) ||
		r.head.Headers.Get("Content-Type") == "" || r.head.Headers.Get("Etag") != `"`+addr+`"` {
		t.Errorf("%d bytes of %d, %v", len(r.body), r.head.Length, r.head.Headers)
	}
	if r := w.call(macronode.AppObject, "object.get", at, macronode.Header{"Range": {"bytes=1000000-1000099"}}, nil).want(t, "range", 206); !bytes.Equal(r.body, body[1_000_000:1_000_100]) {
		t.Errorf("%d bytes", len(r.body))
	}
	if r := w.call(macronode.AppObject, "object.stat", at, nil, nil).want(t, "stat", 200); r.head.Length != int64(len(body)) || len(r.body) != 0 {
		t.Errorf("%+v", r.head)
	}
	w.call(macronode.AppObject, "object.get", at, macronode.Header{"If-None-Match": {`"` + addr + `"`}}, nil).want(t, "unchanged", 304)
	if r := w.call(macronode.AppObject, "object.list", map[string]string{"limit": "5"}, nil, nil).want(t, "list", 200); !bytes.Contains(r.body, []byte(addr)) {
		t.Errorf("%s", r.body)
	}
	w.call(macronode.AppObject, "object.put", map[string]string{"addr": b3.Sum(nil).String()}, nil, []byte("x")).want(t, "wrong digest", 422)
	w.call(macronode.AppObject, "object.delete", at, nil, nil).want(t, "delete", 204)
	w.call(macronode.AppObject, "object.get", at, nil, nil).want(t, "deleted", 404)

	op.call(macronode.AppKMS, "kms.create", nil, nil, []byte(`{"name":"wire","purpose":"app","alg":"ed25519"}`)).want(t, "key", 201)
	op.call(macronode.AppKMS, "kms.public", map[string]string{"key": "wire"}, nil, nil).want(t, "public half", 200)
	w.call(macronode.AppKMS, "kms.public", map[string]string{"key": "wire"}, nil, nil).want(t, "a tenant", 403)
	op.call(macronode.AppNode, "admin.status", nil, nil, nil).want(t, "status", 200)
	w.call(macronode.AppNode, "version", nil, nil, nil).want(t, "version", 200)
	op.call(macronode.AppRegistry, "registry.head", nil, nil, nil).want(t, "the registry's head", 200)
	w.call(macronode.AppRegistry, "registry.head", nil, nil, nil).want(t, "a tenant at the registry", 403)
	w.call(77, "object.get", at, nil, nil).want(t, "a family that nobody knows", 501)
	w.call(macronode.AppObject, "object.dance", nil, nil, nil).want(t, "an operation that is not there", 404)
	w.call(macronode.AppObject, "object.list", nil, nil, nil).want(t, "the session lives", 200)
	if n.metric("oap_frames_total", `kind="start"`, `dir="in"`) < 15 || n.metric("http_responses_total", "GET /o/{addr}", `code="206"`) != 1 {
		t.Error("what was called is not counted")
	}
}

// otherTenant makes a tenant and a capability of its own, and ends that, all over
// the wire.
func otherTenant(t *testing.T, n *node) {
	op := n.oap(n.OperatorCap)
	op.call(macronode.AppAccess, "tenant.create", nil, nil, []byte(`{"label":"acme"}`)).want(t, "tenant", 201)
	r := op.call(macronode.AppAccess, "cap.mint", nil, nil, []byte(`{"tenant":"acme"}`)).want(t, "capability", 201)
	var minted struct{ Token string }
	if err := json.Unmarshal(r.body, &minted); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "acme.cap")
	if err := os.WriteFile(file, []byte(minted.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	other := n.oap(file)
	other.call(macronode.AppObject, "object.list", nil, nil, nil).want(t, "no policy is for it", 403)
	op.call(macronode.AppAccess, "cap.revoke", nil, nil, fmt.Appendf(nil, `{"tenant":"acme"}`)).want(t, "revoke", 200)
	other.call(macronode.AppObject, "object.list", nil, nil, nil).want(t, "revoked", 401)
}

// TestKillOAP: what was acknowledged over OAP/1 is there after kill -9.
func TestKillOAP(t *testing.T) {
	n := startDev(t, t.TempDir())
	var mu sync.Mutex
	acked := make(map[string]int)
	for round := range 3 {
		w := n.oap(n.TenantCap)
		var wg sync.WaitGroup
		var done atomic.Int64
		for worker := range 16 {
			wg.Go(func() {
				for i := 0; ; i++ {
					seed := uint64(round)<<32 | uint64(worker)<<16 | uint64(i)
					size := 100 + 7000*(i%3)
					body := content(seed, size)
					if i%5 == 4 {
						size = 300_000
						body = content(seed, size)
					}
					r := w.call(macronode.AppObject, "object.post", nil, nil, body)
					if r.err != nil {
						return // the node is gone
					}
					if r.code == 503 && r.problem.Retryable {
						continue // a busy machine: nothing was promised
					}
					if r.code != 201 {
						t.Errorf("%d %s", r.code, r.problem.Code)
						return
					}
					mu.Lock()
					acked[b3.Sum(body).String()] = size
					mu.Unlock()
					if done.Add(1) == 150 {
						go n.kill()
					}
				}
			})
		}
		wg.Wait()
		n.kill()
		n.start()
		w = n.oap(n.TenantCap)
		for addr, size := range acked {
			if r := w.call(macronode.AppObject, "object.get", map[string]string{"addr": addr}, nil, nil).want(t, addr, 200); len(r.body) != size || b3.Sum(r.body).String() != addr {
				t.Fatalf("%s: %d bytes, want %d", addr, len(r.body), size)
			}
		}
	}
	if len(acked) < 450 {
		t.Errorf("%d objects were acknowledged", len(acked))
	}
}

// TestDrainOAP: GOAWAY, then what runs finishes, new streams are refused as
// retryable, and after undrain a new connection serves.
func TestDrainOAP(t *testing.T) {
	n := startDev(t, t.TempDir())
	w := n.oap(n.TenantCap)
	body := content(2, 4<<20)
	st, err := w.open(macronode.AppObject, oap.RequestHead{Op: "object.post", Length: int64(len(body))}, body[:1<<20], false)
	if err != nil {
		t.Fatal(err)
	}
	n.await("reading", func() bool { return n.metric("oap_streams") == 1 })
	n.operate("node", "drain").must(t, 0)
	n.await("draining", w.s.Draining)
	if r := w.call(macronode.AppObject, "object.list", nil, nil, nil); !errors.Is(r.err, mux.ErrDraining) {
		t.Errorf("on a connection that is to end: %d, %v", r.code, r.err)
	}
	late := n.oap(n.TenantCap)
	if r := late.call(macronode.AppObject, "object.list", nil, nil, nil).want(t, "while draining", 503); r.problem.Code != "draining" || !r.problem.Retryable {
		t.Errorf("%+v", r.problem)
	}
	n.oap(n.OperatorCap).call(macronode.AppNode, "admin.status", nil, nil, nil).want(t, "operators", 200)
	if _, err := st.Write(body[1<<20:]); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	finish(st).want(t, "what was under way", 201)
	select {
	case <-w.s.Done():
	case <-time.After(patience):
		t.Fatal("the connection does not end after its last stream")
	}
	n.oap(n.OperatorCap).call(macronode.AppNode, "admin.undrain", nil, nil, []byte(`{}`)).want(t, "undrain", 200)
	n.oap(n.TenantCap).call(macronode.AppObject, "object.get", map[string]string{"addr": b3.Sum(body).String()}, nil, nil).want(t, "afterwards", 200)
	if code := n.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// TestStreamsOAP: a stream over max_streams is refused on its own, and bulk streams
// do not keep small ones waiting: hundreds of those pass while the bulk moves.
func TestStreamsOAP(t *testing.T) {
	n := startSigned(t, section("oap", "max_streams = 8"))
	file := filepath.Join(n.dir, "tenant.cap")
	w := n.oap(file)
	bulk := content(3, 96<<20)
	w.call(macronode.AppObject, "object.post", nil, nil, bulk).want(t, "bulk", 201)
	w.call(macronode.AppObject, "object.post", nil, nil, []byte("small")).want(t, "small", 201)
	addr := func(b []byte) map[string]string { return map[string]string{"addr": b3.Sum(b).String()} }
	var wg sync.WaitGroup
	var moving atomic.Int64
	moving.Store(2)
	for range 2 {
		wg.Go(func() {
			defer moving.Add(-1)
			if r := w.call(macronode.AppObject, "object.get", addr(bulk), nil, nil).want(t, "bulk", 200); !bytes.Equal(r.body, bulk) {
				t.Errorf("%d bytes", len(r.body))
			}
		})
	}
	passed := 0
	for moving.Load() == 2 {
		if r := w.call(macronode.AppObject, "object.get", addr([]byte("small")), nil, nil); r.err != nil || string(r.body) != "small" {
			t.Fatalf("%+v", r)
		}
		passed++
	}
	wg.Wait()
	t.Logf("%d small objects passed two of 96 MiB", passed)
	if passed < 20 {
		t.Errorf("%d small objects passed while the bulk moved", passed)
	}

	// Nine uploads that do not end, from a client that does not count.
	c := n.connect()
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	hello, err := oap.NewHello(1, oap.Hello{UA: "greedy"})
	if err != nil {
		t.Fatal(err)
	}
	frames := []oap.Frame{hello}
	h := oap.RequestHead{Op: "object.post", Length: 100}
	raw, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 9 {
		frames = append(frames, oap.Frame{Header: oap.Header{Flags: oap.REQ | oap.START, App: macronode.AppObject, Corr: uint64(2*i + 1)}, Cap: token(t, file), Payload: raw})
	}
	var b []byte
	for i := range frames {
		if b, err = oap.Append(b, &frames[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	in := oap.NewReader(c, 0)
	for {
		f, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		if f.Corr == 17 && f.Flags&oap.RESP != 0 {
			var p macronode.Problem
			if err := json.Unmarshal(f.Payload, &p); err != nil || f.Code != 503 || p.Code != "overload" || f.Flags != oap.RESP|oap.END {
				t.Errorf("%+v %s", f.Header, f.Payload)
			}
			return
		}
		if f.Flags&oap.RESP != 0 && f.Corr != 1 {
			t.Fatalf("%+v %s", f.Header, f.Payload)
		}
	}
}
