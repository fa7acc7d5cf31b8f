// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package storagetest

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
)

// slices: a slice verifies with nothing but the address, whatever range it is of.
func slices(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	for _, size := range []int{0, 1, 1024, 1025, 16 << 10, 16<<10 + 1, 100_000, 128<<10 + 1, 1_000_000} {
		body := Bytes(size, uint64(size))
		addr, err := b3.Parse(d.MustPut(tn, body))
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range []int{0, 4} {
			accept := "text/html, application/vnd.bao;group=" + strconv.Itoa(group)
			for _, r := range sliceRanges(size) {
				q := Request{Tenant: tn, Op: "object.get", Addr: addr.String(), Header: macronode.Header{"Accept": {accept}}}
				off, n := int64(0), int64(size)
				if r != nil {
					off, n = r[0], r[1]
					q.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
				}
				a, err := d.Do(q)
				if err != nil || a.Status != 200 || a.Type != "application/vnd.bao;group="+strconv.Itoa(group) {
					t.Fatalf("%d bytes, group %d, %v: %v", size, group, r, err)
				}
				got, err := io.ReadAll(b3.NewSliceReader(bytes.NewReader(a.Body), addr, group, off, n))
				if err != nil || !bytes.Equal(got, body[off:off+n]) {
					t.Fatalf("%d bytes, group %d, %v: %d back, %v", size, group, r, len(got), err)
				}
				if want := `"` + addr.String() + ";bao=" + strconv.Itoa(group) + `"`; a.Header.Get("Etag") != want || a.Header.Get("Vary") != "Accept" {
					t.Fatalf("header %v", a.Header)
				}
			}
		}
	}
}

func sliceRanges(size int) [][]int64 {
	n := int64(size)
	ranges := [][]int64{nil}
	for _, r := range [][2]int64{{0, 1}, {n - 1, 1}, {n / 2, 1}, {n / 3, n / 3}, {16383, 2}, {1023, 2}, {0, n}} {
		if r[0] >= 0 && r[1] > 0 && r[0]+r[1] <= n {
			ranges = append(ranges, []int64{r[0], r[1]})
		}
	}
	return ranges
}

// sliceShapes: what a slice shares with a plain read, and what it does not.
func sliceShapes(t *testing.T, e Env) {
	d, tn := NewDriver(t, e), Tenant(1)
	body := Bytes(50_000, 1)
	addr := d.MustPut(tn, body)
	ask := func(accept, rng string, more ...string) (*Answer, error) {
		h := macronode.Header{"Accept": {accept}}
		if rng != "" {
			h.Set("Range", rng)
		}
		for i := 0; i < len(more); i += 2 {
			h.Set(more[i], more[i+1])
		}
		return d.Do(Request{Tenant: tn, Op: "object.get", Addr: addr, Header: h})
	}
	for _, accept := range []string{"", "*/*", "application/*", "application/vnd.bao;group=3", "application/vnd.bao;group=4;q=0", "application/vnd.baobab", "application/vnd.bao;;"} {
		if a, err := ask(accept, ""); err != nil || a.Type != "application/octet-stream" || !bytes.Equal(a.Body, body) {
			t.Errorf("Accept %q: %v", accept, err)
		}
	}
	const groups = "application/vnd.bao;group=4"
	for _, accept := range []string{groups, "application/vnd.bao; group=4; q=0.5, */*", `Application/Vnd.Bao;group="4"`} {
		if a, err := ask(accept, ""); err != nil || a.Type != groups || len(a.Body) != 8+3*64+50_000 {
			t.Errorf("Accept %q: %v", accept, err)
		}
	}
	if a, err := ask("application/vnd.bao", ""); err != nil || a.Type != "application/vnd.bao;group=0" {
		t.Errorf("without a group: %v", err)
	}
	_, err := ask(groups, "bytes=0-1,40000-40001")
	want(t, err, macronode.RangeNotSatisfiable)
	_, err = ask(groups, "bytes=50000-")
	want(t, err, macronode.RangeNotSatisfiable)
	whole, err := ask(groups, "")
	if err != nil {
		t.Fatal(err)
	}
	if a, err := ask(groups, "", "If-None-Match", whole.Header.Get("Etag")); err != nil || a.Status != 304 || len(a.Body) > 0 {
		t.Errorf("304: %v", err)
	}
	if a, err := ask(groups, "", "If-None-Match", `"`+addr+`"`); err != nil || a.Status != 200 {
		t.Errorf("the plain bytes' tag: %v", err)
	}
	if a, err := ask(groups, "lines=1-2"); err != nil || !bytes.Equal(a.Body, whole.Body) {
		t.Errorf("an unknown unit: %v", err)
	}
	a, err := d.Do(Request{Tenant: tn, Op: "object.stat", Addr: addr, Header: macronode.Header{"Accept": {groups}}})
	if err != nil || a.Type != groups || a.Length != int64(len(whole.Body)) {
		t.Errorf("HEAD: %v", err)
	}
	_, err = d.Do(Request{Tenant: tn, Op: "object.get", Addr: addr, Header: macronode.Header{"Accept": {groups}}, Budget: 50_100})
	want(t, err, macronode.TooLarge)
	_, err = d.Do(Request{Tenant: Tenant(2), Op: "object.get", Addr: addr, Header: macronode.Header{"Accept": {groups}}})
	want(t, err, macronode.NotFound)
}
