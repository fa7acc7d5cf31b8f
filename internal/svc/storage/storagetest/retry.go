// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/rustyonions/macronode"
)

func idempotency(t *testing.T, e Env) {
	d, tn, other := NewDriver(t, e), Tenant(1), Tenant(2)
	for _, n := range []int{10, 200_000} {
		body := Bytes(n, 12)
		r := Request{Tenant: tn, Op: "object.put", Addr: Addr(body), Body: body, Key: fmt.Sprint("k", n)}
		first, err := d.Do(r)
		if err != nil || first.Header.Get("Idempotency-Replayed") != "" {
			t.Fatal(err, first)
		}
		stored := d.Stored()
		again, err := d.Do(r)
		if err != nil || again.Status != 201 || !bytes.Equal(again.Body, first.Body) || again.Header.Get("Idempotency-Replayed") != "true" ||
			again.Header.Get("Location") != first.Header.Get("Location") {
			t.Fatalf("replay: %v %+v", err, again)
		}
		if d.Stored() != stored {
			t.Fatal("a replay stored bytes")
		}
		for _, change := range []func(*Request){
			func(r *Request) { r.Body, r.Addr = Bytes(n, 13), Addr(Bytes(n, 13)) },
			func(r *Request) { r.Body = Bytes(n, 13) },
			func(r *Request) { r.Header = macronode.Header{"Content-Type": {"text/plain"}} },
		} {
			r := r
			change(&r)
			_, err := d.Do(r)
			want(t, err, macronode.IdempotencyMismatch)
		}
		r.Tenant = other
		if a, err := d.Do(r); err != nil || a.Status != 201 || a.Header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("another tenant's key: %v %+v", err, a)
		}
	}
	// A final refusal is kept; the problem is rendered once.
	r := Request{Tenant: tn, Op: "object.put", Addr: Addr([]byte("x")), Body: []byte("y"), Key: "bad"}
	_, err := d.Do(r)
	want(t, err, macronode.BadDigest)
	problem, jerr := json.Marshal(macronode.AsError(err).Problem("corr-1"))
	if jerr != nil {
		t.Fatal(jerr)
	}
	a, err := d.Do(r)
	if err != nil || a.Status != 422 || !bytes.Equal(a.Body, problem) || a.Type != "application/problem+json" {
		t.Fatalf("replay of a refusal: %v %+v", err, a)
	}
	// A delete's second try is answered as the first was.
	addr := d.MustPut(tn, []byte("gone"))
	for i := range 2 {
		a, err := d.Do(Request{Tenant: tn, Op: "object.delete", Addr: addr, Key: "del"})
		if err != nil || a.Status != 204 || (a.Header.Get("Idempotency-Replayed") == "true") != (i == 1) {
			t.Fatalf("delete %d: %v %+v", i, err, a)
		}
	}
	// A first call that still runs.
	pr, pw := io.Pipe()
	started := &signalReader{r: pr, read: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := d.Do(Request{Tenant: tn, Op: "object.post", Reader: started, Length: -1, Key: "slow"})
		done <- err
	}()
	<-started.read
	_, err = d.Do(Request{Tenant: tn, Op: "object.post", Body: []byte("slow"), Key: "slow"})
	want(t, err, macronode.IdempotencyRunning)
	_, _ = pw.Write([]byte("slow"))
	_ = pw.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if a, err := d.Do(Request{Tenant: tn, Op: "object.post", Body: []byte("slow"), Key: "slow"}); err != nil || a.Header.Get("Idempotency-Replayed") != "true" {
		t.Fatalf("replay: %v %+v", err, a)
	}
}

// signalReader says when it is first read.
type signalReader struct {
	r    io.Reader
	once sync.Once
	read chan struct{}
}

func (r *signalReader) Read(p []byte) (int, error) {
	r.once.Do(func() { close(r.read) })
	return r.r.Read(p)
}
