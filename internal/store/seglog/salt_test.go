// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// content is what a scan finds.
func content(t *testing.T, fs *disk.FS) (records []string) {
	t.Helper()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	err = l.Scan(0, func(_ store.Pos, b []byte) error { records = append(records, string(b)); return nil }, func(store.Pos, int64) {})
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return records
}

// TestSalt: frames are good at their place in their segment, and nowhere else.
func TestSalt(t *testing.T) {
	fs := disk.Mem()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	places, err := l.Stage(false, []byte("one....."), []byte("two....."), []byte("three..."))
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	name := testDir + "/" + fileName(1)
	b, err := fs.ReadFile(name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	first := b[places[0].Offset():places[1].Offset()]
	for what, change := range map[string]func(b []byte){
		"another salt": func(b []byte) {
			h, err := parseHead(b)
			if err != nil {
				t.Fatal(err)
			}
			h.salt ^= 1 << 50
			for _, at := range []int{0, secondHead, len(b) - blockBytes} {
				copy(b[at:], h.append(nil))
			}
		},
		"another place": func(b []byte) { copy(b[places[1].Offset():], first) },
	} {
		image, c := disk.Mem(), bytes.Clone(b)
		change(c)
		if err := errors.Join(image.MkdirAllSync(testDir), image.ReplaceFile(name, c, disk.FileMode)); err != nil {
			t.Fatal(err)
		}
		got := content(t, image)
		if what == "another salt" && len(got) != 0 || what == "another place" && len(got) != 2 {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestCutStaysCut: a record behind a torn one is cut off. When the log has grown to
// just before it, it does not come back.
func TestCutStaysCut(t *testing.T) {
	fs := disk.Crashable()
	l, _, err := openTiny(fs, testDir)
	if err != nil {
		t.Fatal(err)
	}
	// One lot of two records that was written and not synced: the first is torn.
	places, err := l.Stage(false, bytes.Repeat([]byte("a"), 40), []byte("never acknowledged"))
	if err != nil {
		t.Fatal(err)
	}
	name := testDir + "/" + fileName(1)
	l.mu.Lock()
	b, err := fs.ReadFile(name, 1<<20)
	copy(b[l.lots[0].off:], l.lots[0].buf)
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	b[places[0].Offset()+frameHead] ^= 1
	image := disk.Crashable()
	if err := errors.Join(image.MkdirAllSync(testDir), image.ReplaceFile(name, b, disk.FileMode), l.Close()); err != nil {
		t.Fatal(err)
	}
	l, found, err := openTiny(image, testDir)
	if err != nil || found.TornAt != places[0] || found.TornBytes == 0 {
		t.Fatalf("%+v, %v", found, err)
	}
	// What is added ends where the record that was cut off begins: behind two marks.
	n := places[1].Offset() - l.next - 2*frameHead
	if _, err = l.StageOne(false, nil, make([]byte, n)); err == nil {
		err = l.Sync(t.Context())
	}
	crashed := image.Crash(0, 1) // without the mark of the next lot
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	got := content(t, crashed)
	if len(got) != 1 {
		t.Errorf("%d records", len(got))
	}
	for _, r := range got {
		if r == "never acknowledged" {
			t.Error("it came back")
		}
	}
}
