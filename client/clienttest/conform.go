// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package clienttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Conform uses a node by way of c as programs do, and returns what was not as it
// should be, all of it; nil: nothing. The capability of c must allow everything
// with objects. What is stored is deleted again.
func Conform(ctx context.Context, c *client.Client) error {
	s := &suite{ctx: ctx, c: c, rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"readiness", s.readiness}, {"put and get", s.putAndGet}, {"streams", s.streams}, {"ranges", s.ranges}, {"conditions", s.conditions}, {"go on", s.goOn},
		{"wrong address", s.wrongAddress}, {"list", s.list}, {"delete", s.remove}, {"idempotency keys", s.keys}, {"bad questions", s.badQuestions},
		{"contexts", s.contexts}, {"bodies that fail", s.badBodies}, {"many at once", s.many}, {"clean up", s.cleanUp},
	} {
		if err := part.do(); err != nil {
			s.errs = append(s.errs, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	return errors.Join(s.errs...)
}

type suite struct {
	ctx  context.Context
	c    *client.Client
	rand *rand.Rand
	errs []error

	mu   sync.Mutex
	kept []b3.Addr
}

// bytes are n that no other test has.
func (s *suite) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(s.rand.Uint32())
	}
	return p
}

func (s *suite) put(data []byte, o client.PutOptions) (client.Put, error) {
	put, err := s.c.Put(s.ctx, bytes.NewReader(data), o)
	if err != nil {
		return put, err
	}
	s.mu.Lock()
	s.kept = append(s.kept, put.Addr)
	s.mu.Unlock()
	if put.Addr != b3.Sum(data) || put.Size != int64(len(data)) {
		return put, fmt.Errorf("%d bytes are stored as %+v", len(data), put)
	}
	return put, nil
}

// refused reports whether err is a refusal with one of these statuses.
func refused(err error, status ...int) bool {
	var e *client.Error
	return errors.As(err, &e) && slices.Contains(status, e.Status)
}

func (s *suite) readiness() error {
	r, err := s.c.Ready(s.ctx)
	if err == nil && !r.Ready {
		err = errors.New("the node says that it is not ready")
	}
	return err
}

// sizes are around what matters: nothing, a group, a chunk, a frame.
var sizes = []int{0, 1, 1000, b3.GroupBytes - 1, b3.GroupBytes, b3.GroupBytes + 1, 32 << 10, 32<<10 + 1, 64 << 10, 64<<10 + 1, 256<<10 + 3, 1<<20 + 1, 3<<20 + 7}

func (s *suite) putAndGet() error {
	for _, n := range sizes {
		data := s.bytes(n)
		put, err := s.put(data, client.PutOptions{ContentType: "text/x-test"})
		if err != nil || put.Existed && n > 0 {
			return fmt.Errorf("%d bytes: %+v, %w", n, put, errors.Join(err))
		}
		if again, err := s.put(data, client.PutOptions{Addr: put.Addr}); err != nil || !again.Existed {
			return fmt.Errorf("%d bytes again: %+v, %w", n, again, errors.Join(err))
		}
		var out bytes.Buffer
		if _, err := s.c.Get(s.ctx, put.Addr, &out, client.GetOptions{}); err != nil || !bytes.Equal(out.Bytes(), data) {
			return fmt.Errorf("%d of %d bytes come back: %w", out.Len(), n, errors.Join(err))
		}
		stat, err := s.c.Stat(s.ctx, put.Addr)
		if err != nil || stat.Size != int64(n) || stat.ContentType != "text/x-test" && n > 0 {
			return fmt.Errorf("%d bytes: stat says %+v, %w", n, stat, errors.Join(err))
		}
		// Without proofs.
		text, err := s.c.Text(s.ctx, "/o/"+put.Addr.String(), math.MaxInt64)
		if err != nil || !bytes.Equal(text, data) {
			return fmt.Errorf("%d bytes: %d come as they are: %w", n, len(text), errors.Join(err))
		}
	}
	return nil
}

// streams are bodies that nobody knows the length of, and that come in drops.
func (s *suite) streams() error {
	for _, n := range []int{0, 10, 70_000, 2<<20 + 5} {
		data := s.bytes(n)
		put, err := s.c.Put(s.ctx, io.MultiReader(bytes.NewReader(data[:n/3]), bytes.NewReader(data[n/3:])), client.PutOptions{})
		if err != nil || put.Addr != b3.Sum(data) || put.Size != int64(n) {
			return fmt.Errorf("%d bytes: %+v, %w", n, put, errors.Join(err))
		}
		s.kept = append(s.kept, put.Addr)
	}
	return nil
}

func (s *suite) ranges() error {
	size := int64(200_000)
	data := s.bytes(int(size))
	put, err := s.put(data, client.PutOptions{})
	if err != nil {
		return err
	}
	for _, r := range [][2]int64{{0, 1}, {0, size}, {0, math.MaxInt64}, {1, 16383}, {16383, 2}, {100_000, 65_536}, {size - 1, 1}, {size - 1, 100}, {5, 0}} {
		got, err := s.c.GetRange(s.ctx, put.Addr, r[0], r[1])
		if err != nil {
			return fmt.Errorf("%v: %w", r, err)
		}
		out, err := io.ReadAll(got)
		if err = errors.Join(err, got.Close()); err != nil || !bytes.Equal(out, data[r[0]:min(r[0]+min(r[1], size), size)]) {
			return fmt.Errorf("%v: %d bytes, %w", r, len(out), errors.Join(err))
		}
	}
	if _, err := s.c.GetRange(s.ctx, put.Addr, size, 1); !refused(err, 416) {
		return fmt.Errorf("behind the end: %w", errors.Join(err))
	}
	// A reader that is closed in the middle leaves nothing behind that hurts.
	got, err := s.c.GetRange(s.ctx, put.Addr, 0, size)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(got, make([]byte, 10))
	return errors.Join(err, got.Close())
}

func (s *suite) conditions() error {
	data := s.bytes(1000)
	put, err := s.put(data, client.PutOptions{})
	if err != nil {
		return err
	}
	ask := func(name, value string) (int, string, error) {
		resp, err := s.c.Do(s.ctx, client.Request{Method: "GET", Path: "/o/" + put.Addr.String(), Header: http.Header{name: {value}}})
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Content-Range") + " " + string(text), err
	}
	if code, _, err := ask("If-None-Match", `"`+put.Addr.String()+`"`); err != nil || code != 304 {
		return fmt.Errorf("what is known comes with status %d, %w", code, errors.Join(err))
	}
	if code, text, err := ask("Range", "bytes=10-19"); err != nil || code != 206 || text != "bytes 10-19/1000 "+string(data[10:20]) {
		return fmt.Errorf("a range comes with status %d, %w", code, errors.Join(err))
	}
	return nil
}

// goOn gets what is left of an object that is there in part.
func (s *suite) goOn() error {
	data := s.bytes(300_000)
	put, err := s.put(data, client.PutOptions{})
	if err != nil {
		return err
	}
	have := func(p []byte) *io.SectionReader { return io.NewSectionReader(bytes.NewReader(p), 0, int64(len(p))) }
	var out bytes.Buffer
	if n, err := s.c.Get(s.ctx, put.Addr, &out, client.GetOptions{Have: have(data[:100_001])}); err != nil || n != 199_999 || !bytes.Equal(out.Bytes(), data[100_001:]) {
		return fmt.Errorf("%d bytes: %w", n, errors.Join(err))
	}
	bad := slices.Clone(data[:100_001])
	bad[50_000] ^= 1
	var damage *client.DamageError
	if _, err := s.c.Get(s.ctx, put.Addr, io.Discard, client.GetOptions{Have: have(bad)}); !errors.As(err, &damage) || damage.Off > 50_000 || damage.Off+damage.Len <= 50_000 {
		return fmt.Errorf("damage at 50000 is found as: %w", errors.Join(err))
	}
	return nil
}

func (s *suite) wrongAddress() error {
	data := s.bytes(5000)
	if _, err := s.c.Put(s.ctx, bytes.NewReader(data), client.PutOptions{Addr: b3.Sum(data[1:])}); !refused(err, 422) {
		return fmt.Errorf("other bytes than the address's: %w", errors.Join(err))
	}
	for _, addr := range []b3.Addr{b3.Sum(data), b3.Sum(data[1:])} {
		if _, err := s.c.Stat(s.ctx, addr); !refused(err, 404) {
			return fmt.Errorf("refused bytes are there: %w", errors.Join(err))
		}
	}
	return nil
}

func (s *suite) list() error {
	var want []b3.Addr
	for range 5 {
		put, err := s.put(s.bytes(100), client.PutOptions{})
		if err != nil {
			return err
		}
		want = append(want, put.Addr)
	}
	var last string
	found := map[b3.Addr]bool{}
	for cursor := ""; ; {
		page, err := s.c.List(s.ctx, "", cursor, 2)
		if err != nil || len(page.Objects) > 2 {
			return fmt.Errorf("a page of %d: %w", len(page.Objects), errors.Join(err))
		}
		for _, o := range page.Objects {
			if text := o.Addr.String(); text <= last {
				return errors.New("the list is not in order")
			} else {
				last = text
			}
			found[o.Addr] = true
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	for _, addr := range want {
		if !found[addr] {
			return errors.New("an object is missing from the list")
		}
	}
	page, err := s.c.List(s.ctx, want[0].String()[:20], "", 0)
	if err != nil || len(page.Objects) != 1 || page.Objects[0].Addr != want[0] {
		return fmt.Errorf("%d objects by prefix: %w", len(page.Objects), errors.Join(err))
	}
	return nil
}

func (s *suite) remove() error {
	data := s.bytes(100)
	put, err := s.put(data, client.PutOptions{})
	if err != nil {
		return err
	}
	if err := s.c.Delete(s.ctx, put.Addr); err != nil {
		return err
	}
	_, get := s.c.Get(s.ctx, put.Addr, io.Discard, client.GetOptions{})
	_, stat := s.c.Stat(s.ctx, put.Addr)
	for name, err := range map[string]error{"get": get, "stat": stat, "delete": s.c.Delete(s.ctx, put.Addr)} {
		if !refused(err, 404) {
			return fmt.Errorf("%s of what was deleted: %w", name, errors.Join(err))
		}
	}
	return nil
}

func (s *suite) keys() error {
	data, key := s.bytes(100), fmt.Sprintf("conform-%d", s.rand.Uint64())
	for range 2 {
		put, err := s.put(data, client.PutOptions{IdempotencyKey: key})
		if err != nil || put.Existed {
			return fmt.Errorf("under one key: %+v, %w", put, errors.Join(err))
		}
	}
	if _, err := s.c.Put(s.ctx, bytes.NewReader(data[1:]), client.PutOptions{IdempotencyKey: key}); !refused(err, 422) {
		return fmt.Errorf("other bytes under the same key: %w", errors.Join(err))
	}
	return nil
}

func (s *suite) badQuestions() error {
	for path, status := range map[string]int{
		"/o/b3:xyz": 400, "/o/" + strings.ToUpper(b3.Sum(nil).String()): 400, "/o/" + b3.Sum(s.bytes(9)).String(): 404,
		"/v1/objects?limit=0": 400, "/v1/objects?limit=x": 400, "/v1/objects?nonsense=1": 400,
	} {
		_, err := s.c.Text(s.ctx, path, 1)
		var e *client.Error
		if !refused(err, status) || errors.As(err, &e) && (e.Code == "" || e.CorrID == "") {
			return fmt.Errorf("%s, want %d: %w", path, status, errors.Join(err))
		}
	}
	return nil
}

func (s *suite) contexts() error {
	put, err := s.put(s.bytes(2<<20), client.PutOptions{})
	if err != nil {
		return err
	}
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.c.Stat(over, put.Addr); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a context that is over: %w", errors.Join(err))
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	r, err := s.c.GetRange(ctx, put.Addr, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		return err
	}
	cancel()
	if n, err := io.Copy(io.Discard, r); err == nil && n < 2<<20-100 {
		return errors.New("a context that ends in the middle is no error")
	}
	// A body that waits for ever ends with its context.
	ctx, cancel = context.WithCancel(s.ctx)
	pr, pw := io.Pipe()
	defer pw.Close()
	go func() {
		_, _ = pw.Write(make([]byte, 100_000))
		cancel()
	}()
	if _, err := s.c.Put(ctx, pr, client.PutOptions{}); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a body that waits: %w", errors.Join(err))
	}
	return nil
}

var errBroken = errors.New("the disk is gone")

// badBodies: a body that cannot be read stores nothing.
func (s *suite) badBodies() error {
	for _, n := range []int{0, 100, 100_000} {
		data := s.bytes(n)
		broken := io.MultiReader(bytes.NewReader(data), brokenReader{})
		if _, err := s.c.Put(s.ctx, broken, client.PutOptions{}); !errors.Is(err, errBroken) {
			return fmt.Errorf("after %d bytes: %w", n, errors.Join(err))
		}
		if n == 0 {
			continue // nothing is an object too, and may be there
		}
		if _, err := s.c.Stat(s.ctx, b3.Sum(data)); !refused(err, 404) {
			return fmt.Errorf("%d bytes of a broken body are stored: %w", n, errors.Join(err))
		}
	}
	return nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func (s *suite) many() error {
	const calls = 48
	bodies := make([][]byte, calls)
	for i := range bodies {
		bodies[i] = s.bytes(1000 + i*3000)
	}
	errs := make([]error, calls)
	var wg sync.WaitGroup
	for i, data := range bodies {
		wg.Go(func() {
			put, err := s.put(data, client.PutOptions{})
			var out bytes.Buffer
			if err == nil {
				_, err = s.c.Get(s.ctx, put.Addr, &out, client.GetOptions{})
			}
			if err == nil && !bytes.Equal(out.Bytes(), data) {
				err = errors.New("other bytes come back")
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *suite) cleanUp() error {
	for _, addr := range s.kept {
		if err := s.c.Delete(s.ctx, addr); err != nil && !refused(err, 404) {
			return err
		}
	}
	return nil
}
