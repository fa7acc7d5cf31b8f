// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package part

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

type source struct {
	*bytes.Reader
	*b3.Verifier
}

func (s source) Size() int64 { return s.Verifier.Size() }

// node serves slices of data; what is not whole is broken off.
func node(t *testing.T, data []byte, whole *bool) *client.Client {
	t.Helper()
	var tree bytes.Buffer
	h := b3.NewHasher(&tree)
	h.Write(data)
	addr, _ := h.Sum()
	src := source{bytes.NewReader(data), b3.NewVerifier(addr, int64(len(data)), bytes.NewReader(tree.Bytes()))}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, last := int64(0), int64(math.MaxInt64-1)
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &last); n == 1 {
			last = math.MaxInt64 - 1
		}
		var b bytes.Buffer
		b3.WriteSlice(&b, src, b3.SliceGroups, from, last+1-from)
		w.Header().Set("Content-Type", "application/vnd.bao;group=4")
		w.Header().Set("Content-Length", fmt.Sprint(b.Len()))
		if !*whole {
			b.Truncate(b.Len() - 1)
		}
		w.Write(b.Bytes())
	}))
	t.Cleanup(s.Close)
	c, err := client.Dial(s.URL, client.Options{Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFetch(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 3*1024+5)
	whole := true
	c := node(t, data, &whole)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f := File{Addr: b3.Sum(data), Part: "f.part", Name: "f", Mode: 0o640, Most: int64(len(data))}
	read := func(name string) []byte {
		text, _ := os.ReadFile(filepath.Join(dir, name))
		return text
	}
	fetch := func() error { return Fetch(t.Context(), c, root, f) }

	// Broken off in the last 16 KiB: those before stay, and nothing else.
	whole = false
	if err := fetch(); err == nil || !bytes.Equal(read("f.part"), data[:3*b3.GroupBytes]) || read("f") != nil {
		t.Errorf("%v, %d bytes stay", err, len(read("f.part")))
	}
	whole = true
	if err := fetch(); err != nil || !bytes.Equal(read("f"), data) || read("f.part") != nil {
		t.Errorf("%v, %d bytes", err, len(read("f")))
	}
	if info, err := os.Stat(filepath.Join(dir, "f")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	// More than the object may have is another's, and no reason to begin anew.
	if err := os.WriteFile(filepath.Join(dir, "f.part"), append(bytes.Clone(data), "and more"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fetch(); err != nil || !bytes.Equal(read("f"), data) {
		t.Errorf("too much: %v, %d bytes", err, len(read("f")))
	}
	f.Most = 100
	if err := fetch(); !errors.Is(err, client.ErrTooLong) || read("f.part") != nil {
		t.Errorf("a longer object: %v, %d bytes stay", err, len(read("f.part")))
	}
	f.Most = 0
	bad := bytes.Clone(data)
	bad[b3.GroupBytes+1] ^= 1
	if err := os.WriteFile(filepath.Join(dir, "f.part"), bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fetch(); !errors.Is(err, client.ErrIntegrity) || !strings.Contains(err.Error(), "from byte 16384 on") || !bytes.Equal(read("f.part"), data[:b3.GroupBytes]) {
		t.Errorf("changed: %v, %d bytes stay", err, len(read("f.part")))
	}
}

func TestFetchRange(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 3*1024+5)
	whole := true
	c := node(t, data, &whole)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	f := File{Addr: b3.Sum(data), Part: "f.part", Name: "f", Mode: 0o644}
	for _, ok := range []bool{false, true} {
		whole = ok
		if err := os.WriteFile(filepath.Join(dir, "f.part"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := FetchRange(t.Context(), c, root, f, 20_000, 13_000)
		text, _ := os.ReadFile(filepath.Join(dir, "f"))
		if (err == nil) != ok || ok && !bytes.Equal(text, data[20_000:33_000]) || !ok && text != nil {
			t.Errorf("%v: %v, %d bytes", ok, err, len(text))
		}
		if _, err := os.Stat(filepath.Join(dir, "f.part")); err == nil {
			t.Errorf("%v: the part stays", ok)
		}
	}
}
