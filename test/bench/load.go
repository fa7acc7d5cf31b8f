// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
)

// content makes the i-th object of a size: incompressible, and the same in every
// process.
func content(size int64, i int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(size))
	binary.LittleEndian.PutUint64(seed[8:], uint64(i))
	out := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(out)
	return out
}

// post makes a request whose body can be sent again.
func post(url string, body []byte) (*http.Request, error) {
	return http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
}

// newClient keeps one connection a worker alive.
func newClient(workers int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: workers, MaxIdleConns: workers, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}}
}

// send returns the reply's body; anything but 2xx is an error.
func send(c *http.Client, req *http.Request) ([]byte, error) {
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", req.Method, req.URL.Path, res.Status, body)
	}
	return body, nil
}

// writer makes bodies that nobody has seen before: random bytes that begin with
// a number of their own.
type writer struct {
	buf  []byte
	next uint64
}

// newWriters makes one for each worker; run makes their numbers differ from
// those of other runs.
func newWriters(workers int, size int64, run uint64) []*writer {
	all := make([]*writer, workers)
	for w := range all {
		all[w] = &writer{buf: content(size, w), next: run<<40 | uint64(w)<<32}
	}
	return all
}

// body is valid until the next call.
func (w *writer) body() []byte {
	w.next++
	binary.BigEndian.PutUint64(w.buf, w.next)
	return w.buf
}

// store puts objects 0 to n-1 of a size and returns their paths.
func store(ctx context.Context, s *server, size int64, n int) ([]string, error) {
	const workers = 8
	client := newClient(workers)
	defer client.CloseIdleConnections()
	paths := make([]string, n)
	errs := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < n && errs[w] == nil && ctx.Err() == nil; i += workers {
				name := fmt.Sprintf("o-%d-%d", size, i)
				paths[i], errs[w] = storeOne(ctx, client, s, name, content(size, i))
			}
		})
	}
	group.Wait()
	return paths, errors.Join(append(errs, ctx.Err())...)
}

// storeOne puts an object and returns its path.
func storeOne(ctx context.Context, c *http.Client, s *server, name string, body []byte) (string, error) {
	req, err := s.put(name, body)
	if err != nil {
		return "", err
	}
	reply, err := send(c, req.WithContext(ctx))
	if err != nil {
		return "", err
	}
	return s.path(name, reply)
}
