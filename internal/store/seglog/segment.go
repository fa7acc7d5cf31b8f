// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package seglog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
)

// fillBytes of zeros are written at once.
const fillBytes = 1 << 20

// segment is one file. Only its writer changes it, and nothing but file and
// filling after it was made.
type segment struct {
	head
	codec
	// lost: no copy of the head is whole, so nothing can be read.
	lost bool
	// short: the file ends before its last block.
	short bool

	file disk.File // to write; of the active one and of one to come
	// guarded by Log.mu
	filling bool // zeros are being written
	hurry   bool // somebody waits for the end of that
}

// limit is where frames end.
func (s *segment) limit() int64 { return s.size - blockBytes }

// roomy reports whether total bytes of frames fit into an empty segment.
func (s *segment) roomy(total int64) bool {
	return firstFrame+frameHead+total+tailRoom <= s.limit()
}

func (s *segment) pos(off int64) store.Pos { return store.MakePos(s.number, off) }

func (l *Log) path(name string) string { return l.fs.PathJoin(l.c.Dir, name) }

// readSegment reads the head of a segment's file. One that is lost is returned too.
func (l *Log) readSegment(number uint32) (*segment, error) {
	file, err := l.fs.Open(l.path(fileName(number)))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // nothing was written
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var b [headBytes]byte
	for _, off := range []int64{0, secondHead, fi.Size() - blockBytes} {
		if n, err := file.ReadAt(b[:], max(off, 0)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		} else if n < headBytes {
			continue
		}
		h, err := parseHead(b[:])
		if errors.Is(err, ErrNewer) {
			return nil, err
		}
		if err != nil || h.number != number {
			continue
		}
		return &segment{head: h, codec: h.codec(), short: fi.Size() < h.size}, nil
	}
	return &segment{head: head{number: number, size: fi.Size()}, lost: true}, nil
}

// writeAt writes b at off.
func writeAt(file disk.File, b []byte, off int64) error {
	n, err := file.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// makeFitting is makeSegment of the size that is due, or of the largest below that
// which leaves as much room again, so that the log gets as far as the disk reaches;
// the smallest needs no more than its own. With deep that one may take half of the
// reserve: it is for records that free space.
func (l *Log) makeFitting(number uint32, need int64, deep bool, spares *[]string) (*segment, error) {
	size, least := l.sizeOf(number, need), l.leastOf(need)
	reserve := l.reserve.Load()
	for {
		room := 2 * size
		if size <= least {
			room = size
			if deep {
				reserve /= 2
			}
		}
		s, err := l.makeSegment(number, size, room, reserve, spares)
		if size <= least || !errors.Is(err, store.ErrFull) {
			return s, err
		}
		size = max(least, size/4&^(blockBytes-1))
	}
}

// makeSegment makes the file of a segment, all of whose blocks are allocated,
// durably, name included: from a file that held a segment before, where there is
// one of that size, which is then no more in spares. ErrFull where there is none and
// the disk has less than room beside the reserve. Only one may run at a time.
func (l *Log) makeSegment(number uint32, size, room, reserve int64, spares *[]string) (*segment, error) {
	s := &segment{head: head{number: number, log: l.id, size: size}}
	var salt [8]byte
	_, _ = rand.Read(salt[:]) // never fails
	s.salt = binary.LittleEndian.Uint64(salt[:])
	var name string
	for len(*spares) > 0 && !s.reused {
		name, *spares = (*spares)[0], (*spares)[1:]
		fi, err := l.fs.Stat(l.path(name))
		if err == nil && fi.Size() == size {
			s.reused = true
		} else if err = errors.Join(err, l.fs.Remove(l.path(name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if !s.reused {
		if err := l.spaceFor(room, reserve); err != nil {
			return nil, err
		}
		name = spareName()
	}
	s.codec = s.head.codec()
	err := l.fillHead(s, name)
	if err == nil {
		err = l.fs.Rename(l.path(name), l.path(fileName(number)))
	}
	if err == nil {
		err = l.fs.SyncDir(l.c.Dir)
	}
	if err == nil {
		return s, nil
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		if rerr := l.fs.Remove(l.path(name)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			l.log.Warn("an unfinished segment stays", "event", "log_segment_left", "name", name, "error", rerr)
		}
	}
	if disk.IsFull(err) {
		err = fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return nil, err
}

func spareName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s%016x", sparePrefix, binary.LittleEndian.Uint64(b[:]))
}

// spaceFor returns ErrFull unless the disk has size bytes beside the reserve.
func (l *Log) spaceFor(size, reserve int64) error {
	free, err := l.fs.Free(l.c.Dir)
	if err != nil {
		return err
	}
	if free-reserve < size {
		return fmt.Errorf("%w: a segment needs %d bytes, %d bytes free, %d of them reserved", store.ErrFull, size, free, reserve)
	}
	return nil
}

// fillHead opens the file, allocates its blocks and writes the copies of the head.
func (l *Log) fillHead(s *segment, name string) (err error) {
	if s.file, err = l.fs.OpenReadWrite(l.path(name), vfs.WriteCategoryUnspecified); err != nil {
		return err
	}
	whole := false
	if err := s.file.Preallocate(0, s.size); errors.Is(err, errors.ErrUnsupported) {
		whole = true // what is written has blocks, too
	} else if err != nil {
		return err
	}
	b := make([]byte, blockBytes)
	h := s.head.append(nil)
	copy(b, h)
	copy(b[secondHead:], h)
	if err := writeAt(s.file, b, 0); err != nil {
		return err
	}
	clear(b[secondHead:])
	if err := writeAt(s.file, b, s.limit()); err != nil {
		return err
	}
	var zeros []byte
	for off := int64(firstFrame); whole && !s.reused && off < s.limit(); off += fillBytes {
		if zeros, err = s.zero(zeros, off, min(off+fillBytes, s.limit())); err != nil {
			return err
		}
	}
	return s.file.SyncData()
}

// zero writes zeros, fillBytes at most, out of b or what takes its place.
func (s *segment) zero(b []byte, off, end int64) ([]byte, error) {
	if b == nil {
		b = make([]byte, fillBytes)
	}
	return b, writeAt(s.file, b[:end-off], off)
}
