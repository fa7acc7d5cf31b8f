// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package snapfile

import (
	"bytes"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
)

// TestPruneDamaged: what was found damaged goes before an older one that is whole.
func TestPruneDamaged(t *testing.T) {
	fsys := disk.Mem()
	d := open(t, fsys)
	flip := func(n uint64) {
		t.Helper()
		path := "snap/" + d.name(n)
		b, err := fsys.ReadFile(path, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := fsys.ReplaceFile(path, b, disk.FileMode); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint64(2) {
		save(t, d, content(n+1, 300))
	}
	flip(2)
	d = open(t, fsys)
	if got, refused, err := load(d); err != nil || refused != 1 || !bytes.Equal(got, content(1, 300)) {
		t.Fatalf("%d refused, %v", refused, err)
	}
	save(t, d, content(3, 300))
	flip(3)
	if got, refused, err := load(d); err != nil || refused != 1 || !bytes.Equal(got, content(1, 300)) {
		t.Fatalf("the one that is whole was removed: %d refused, %v", refused, err)
	}
	names, err := fsys.List("snap")
	if err != nil || len(names) != kept {
		t.Errorf("%d files are kept, %v", len(names), err)
	}
}
