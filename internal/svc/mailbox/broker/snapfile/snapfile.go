// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package snapfile keeps the mailbox's snapshots in files of a directory: the
// latest and the one before it, so that damage to one leaves another to start
// from. A snapshot is a stream in blocks, each with its checksum and its place in
// the stream, closed by a block that says how many there were: one that is short,
// damaged or put together of two is never taken for whole.
//
//	header: "macronode-snap 1" (16 bytes)
//	block:  length (4) | CRC-32C over number (8) and data (4) | data
//	end:    length 0   | CRC-32C over number (8)
//
// Numbers are little-endian; blocks count from 0.
package snapfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

const (
	magic      = "macronode-snap 1"
	prefix     = "snapshot-"
	tempPrefix = ".tmp-"
	blockBytes = 64 << 10
	headBytes  = 8
	// kept is how many snapshots stay.
	kept = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Dir is a directory of snapshots. One Dir may use it at a time; its methods are
// not safe for concurrent use.
type Dir struct {
	fs   *disk.FS
	path string
	next uint64
	bad  map[uint64]bool // found damaged: they are not among the kept
}

// Open returns the snapshots of path, which is made where it is missing. What an
// interrupted Save left is removed.
func Open(fsys *disk.FS, path string) (*Dir, error) {
	if err := fsys.MkdirAllSync(path); err != nil {
		return nil, err
	}
	if err := fsys.RemoveTemp(path); err != nil {
		return nil, err
	}
	d := &Dir{fs: fsys, path: path, next: 1, bad: make(map[uint64]bool)}
	numbers, err := d.numbers()
	if err != nil {
		return nil, err
	}
	if len(numbers) > 0 {
		d.next = numbers[0] + 1
	}
	return d, nil
}

// numbers lists the snapshots, newest first.
func (d *Dir) numbers() ([]uint64, error) {
	names, err := d.fs.List(d.path)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, name := range names {
		text, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(text, 16, 64); err == nil && d.name(n) == name {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, nil
}

func (d *Dir) name(n uint64) string { return fmt.Sprintf("%s%016x", prefix, n) }

// Save makes what write writes the latest snapshot. It is durable and whole when
// Save returns nil; after an error the ones before are as they were. seal runs
// when all is written and before the snapshot takes its name: an error from it
// undoes everything. store.ErrFull where the disk is full.
func (d *Dir) Save(write func(io.Writer) error, seal func() error) (err error) {
	temp := d.fs.PathJoin(d.path, tempPrefix+d.name(d.next))
	defer func() {
		if err != nil {
			_ = d.fs.Remove(temp) // the first error is the one to tell
		}
		if disk.IsFull(err) {
			err = fmt.Errorf("%w: %w", store.ErrFull, err)
		}
	}()
	if err = d.write(temp, write); err != nil {
		return err
	}
	if err = seal(); err != nil {
		return err
	}
	if err = d.fs.Rename(temp, d.fs.PathJoin(d.path, d.name(d.next))); err != nil {
		return err
	}
	d.next++
	if err = d.fs.SyncDir(d.path); err != nil {
		return err
	}
	return d.prune()
}

// prune removes all but the latest that are not known to be damaged.
func (d *Dir) prune() error {
	numbers, err := d.numbers()
	if err != nil {
		return err
	}
	whole, removed := 0, false
	for _, n := range numbers {
		if !d.bad[n] && whole < kept {
			whole++
			continue
		}
		if err := d.fs.Remove(d.fs.PathJoin(d.path, d.name(n))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(d.bad, n)
		removed = true
	}
	if !removed {
		return nil
	}
	return d.fs.SyncDir(d.path)
}

func (d *Dir) write(path string, write func(io.Writer) error) (err error) {
	f, err := d.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &writer{to: f, buf: make([]byte, headBytes, headBytes+blockBytes)}
	if _, err := f.Write([]byte(magic)); err != nil {
		return err
	}
	if err := write(w); err != nil {
		return err
	}
	if err := w.end(); err != nil {
		return err
	}
	return f.Sync()
}

// Load offers the snapshots to read, newest first, until it takes one, and says
// how many it did not take. store.ErrNotFound where there is none at all,
// store.ErrCorrupt where there are and read took none. The reader answers
// store.ErrCorrupt where the snapshot is damaged, and io.EOF at its proven end
// alone.
func (d *Dir) Load(read func(io.Reader) error) (refused int, err error) {
	numbers, err := d.numbers()
	if err != nil {
		return 0, err
	}
	if len(numbers) == 0 {
		return 0, store.ErrNotFound
	}
	var all error
	for _, n := range numbers {
		err := d.read(d.fs.PathJoin(d.path, d.name(n)), read)
		if err == nil {
			return refused, nil
		}
		if errors.Is(err, store.ErrCorrupt) {
			d.bad[n] = true
		}
		all = errors.Join(all, fmt.Errorf("%s: %w", d.name(n), err))
		refused++
	}
	return refused, fmt.Errorf("%w: no snapshot can be read: %w", store.ErrCorrupt, all)
}

func (d *Dir) read(path string, read func(io.Reader) error) error {
	f, err := d.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // nothing was written
	r, err := NewReader(f)
	if err != nil {
		return err
	}
	return read(r)
}

// writer cuts a stream into blocks.
type writer struct {
	to     io.Writer
	buf    []byte // room for the head, then data
	number uint64
}

func (w *writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:take]...)
		p = p[take:]
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *writer) flush() error {
	data := w.buf[headBytes:]
	binary.LittleEndian.PutUint32(w.buf, uint32(len(data)))
	binary.LittleEndian.PutUint32(w.buf[4:], sum(w.number, data))
	w.number++
	_, err := w.to.Write(w.buf)
	w.buf = w.buf[:headBytes]
	return err
}

func (w *writer) end() error {
	if len(w.buf) > headBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return w.flush()
}

func sum(number uint64, data []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, data)
}

// reader is the other way round.
type reader struct {
	from   *bufio.Reader
	buf    []byte
	rest   []byte // of buf, not yet read
	number uint64
	err    error
}

// NewReader returns the stream within a snapshot's bytes; store.ErrCorrupt where
// they do not begin like one.
func NewReader(from io.Reader) (io.Reader, error) {
	r := &reader{from: bufio.NewReaderSize(from, blockBytes+headBytes), buf: make([]byte, blockBytes)}
	var head [len(magic)]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil || string(head[:]) != magic {
		return nil, fmt.Errorf("%w: not a snapshot", store.ErrCorrupt)
	}
	return r, nil
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.err = r.block()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) block() error {
	var head [headBytes]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return r.damaged(err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > blockBytes {
		return r.damaged(nil)
	}
	if _, err := io.ReadFull(r.from, r.buf[:n]); err != nil {
		return r.damaged(err)
	}
	if sum(r.number, r.buf[:n]) != binary.LittleEndian.Uint32(head[4:]) {
		return r.damaged(nil)
	}
	r.number++
	if n == 0 {
		return io.EOF
	}
	r.rest = r.buf[:n]
	return nil
}

// damaged keeps errors of the disk apart from a file that is short or altered.
func (r *reader) damaged(err error) error {
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	return fmt.Errorf("%w: block %d of a snapshot", store.ErrCorrupt, r.number)
}
