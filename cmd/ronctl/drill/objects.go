// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/ronctl/drill/scrape"
)

// maxMetricsBytes bounds what is read of /metrics.
const maxMetricsBytes = 8 << 20

// object is something stored whose bytes are known.
type object struct {
	addr b3.Addr
	data []byte
}

// newObject makes random bytes: no store makes them fewer, and where they lie on
// the disk they can be found.
func newObject(size int) object {
	data := make([]byte, size)
	var key [32]byte
	for i := 0; i < len(key); i += 8 {
		word := rand.Uint64()
		for j := range 8 {
			key[i+j] = byte(word >> (8 * j))
		}
	}
	rand.NewChaCha8(key).Read(data) // it does not fail
	return object{b3.Sum(data), data}
}

func (s *scene) put(ctx context.Context, o object) error {
	_, err := s.tenant.Put(ctx, bytes.NewReader(o.data), client.PutOptions{Addr: o.addr})
	return err
}

// get returns the bytes of an answer as they came, also where it broke off; the
// client's own verification has no part in it. A range is first-last, or empty.
func (s *scene) get(ctx context.Context, o object, byteRange string) ([]byte, error) {
	h := http.Header{}
	if byteRange != "" {
		h.Set("Range", "bytes="+byteRange)
	}
	resp, err := s.tenant.Do(ctx, client.Request{Method: http.MethodGet, Path: "/o/" + o.addr.String(), Header: h})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, int64(len(o.data))+1))
}

// right reads an object whole and compares every byte.
func (s *scene) right(ctx context.Context, objects ...object) error {
	for _, o := range objects {
		got, err := s.get(ctx, o, "")
		if err != nil {
			return fmt.Errorf("%s: %w", o.addr, err)
		}
		if !bytes.Equal(got, o.data) {
			return fmt.Errorf("%s: WRONG BYTES: %d came, %d were stored", o.addr, len(got), len(o.data))
		}
	}
	return nil
}

// refused wants err to be a refusal with this status and code.
func refused(err error, status int, code string) error {
	var p *client.Error
	switch {
	case err == nil:
		return fmt.Errorf("it was not refused, %d %s was expected", status, code)
	case !errors.As(err, &p):
		return fmt.Errorf("%d %s was expected: %w", status, code, err)
	case p.Status != status || p.Code != code:
		return fmt.Errorf("%d %s was expected, not: %w", status, code, err)
	}
	return nil
}

// holds wants the tenant's list to be exactly these objects, each of them right,
// and the usage to be their sum.
func (s *scene) holds(ctx context.Context, objects []object) error {
	want := make(map[b3.Addr]object, len(objects))
	var sum int64
	for _, o := range objects {
		want[o.addr] = o
		sum += int64(len(o.data))
	}
	seen := 0
	for cursor := ""; ; {
		page, err := s.tenant.List(ctx, "", cursor, 0)
		if err != nil {
			return err
		}
		for _, l := range page.Objects {
			if _, ok := want[l.Addr]; !ok {
				return fmt.Errorf("%s is listed and was deleted, or never put", l.Addr)
			}
			seen++
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if seen != len(want) {
		return fmt.Errorf("%d of %d objects are listed", seen, len(want))
	}
	usage, err := s.operator.Usage(ctx, s.tenantName)
	if err != nil {
		return err
	}
	if usage.Objects != int64(seen) || usage.StoredBytes != sum {
		return fmt.Errorf("usage says %d objects of %d bytes, there are %d of %d", usage.Objects, usage.StoredBytes, seen, sum)
	}
	return s.right(ctx, objects...)
}

// metric sums the samples of a metric whose labels contain every given text.
func (s *scene) metric(ctx context.Context, name string, labels ...string) (float64, error) {
	text, err := s.tenant.Text(ctx, "/metrics", maxMetricsBytes)
	if err != nil {
		return 0, err
	}
	return scrape.Sum(string(text), name, labels...)
}

// took runs f and returns how long that took.
func took(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
