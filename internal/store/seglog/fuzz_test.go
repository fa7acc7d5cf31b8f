// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"bytes"
	"hash/crc32"
	"testing"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// FuzzSegment opens a log of one segment that holds anything behind a good head.
// Whatever is found there is a record with its own checksum, and the log goes on.
func FuzzSegment(f *testing.F) {
	h := head{number: 1, salt: 7, size: 24 << 10}
	c := h.codec()
	good := c.appendHead(nil, kindMark, firstFrame, firstFrame, 0, 0)
	good = c.appendHead(good, kindRecord, firstFrame+frameHead, firstFrame, 5, crc32.Checksum([]byte("hello"), castagnoli))
	good = append(good, "hello\x00\x00\x00"...)
	f.Add([]byte{}, true)
	f.Add(good, true)
	f.Add(append(good, good...), true)
	f.Add(append([]byte("garbage."), good...), false)
	f.Add(c.appendHead(good, kindSeal, firstFrame+frameHead+24, firstFrame, 0, 0), true)
	f.Fuzz(func(t *testing.T, frames []byte, whole bool) {
		b := make([]byte, firstFrame, h.size)
		copy(b, h.append(nil))
		b = append(b, frames[:min(len(frames), int(h.size)-firstFrame)]...)
		if whole {
			b = append(b, make([]byte, int(h.size)-len(b))...)
		}
		fs := disk.Mem()
		if err := fs.MkdirAllSync(testDir); err != nil {
			t.Fatal(err)
		}
		if err := fs.ReplaceFile(testDir+"/"+fileName(1), b, disk.FileMode); err != nil {
			t.Fatal(err)
		}
		l, _, err := openTiny(fs, testDir)
		if err != nil {
			t.Fatal(err)
		}
		var before, after []store.Pos
		scan := func(list *[]store.Pos) {
			if err := l.Scan(0, func(p store.Pos, r []byte) error {
				*list = append(*list, p)
				got, err := l.Read(p, nil)
				if err != nil || !bytes.Equal(got, r) {
					t.Fatalf("%x: scanned and not read: %v", uint64(p), err)
				}
				return nil
			}, func(_ store.Pos, n int64) {
				if n <= 0 {
					t.Fatalf("%d bytes are damaged", n)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		scan(&before)
		p, err := l.StageOne(false, nil, []byte("more"))
		if err == nil {
			err = l.Sync(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		scan(&after)
		if len(after) != len(before)+1 || after[len(before)] != p {
			t.Fatalf("%d records and one more are %d", len(before), len(after))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
