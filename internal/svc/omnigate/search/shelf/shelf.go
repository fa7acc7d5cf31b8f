// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package shelf keeps full-text indexes, one for each tenant: what one holds is
// another tenant's under no query, because no query is asked of two.
//
//	DIR/TENANT/GENERATION/   an index, as its library writes it
//	DIR/quarantine/          the last one that was found damaged
//
// An index is made of what the stores hold and can be made again: it is never the
// only place of anything. Its files are written by the library, not through the
// node's disk layer; what is in them is verified by checksum when they are opened.
package shelf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/index/scorch"
	"github.com/blevesearch/bleve/v2/mapping"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
)

// ErrDamaged says that an index is not what this package wrote, or is not there. It is
// set aside and built again.
var ErrDamaged = errors.New("shelf: the index is damaged")

// ErrTooBroad says that a query matches too many different words.
var ErrTooBroad = errors.New("shelf: too many words begin so")

const quarantine = "quarantine"

// Shelf is the directory of indexes. It is safe for concurrent use; who opens an
// index opens it once at a time.
type Shelf struct {
	fs  *disk.FS
	dir string // "": in memory
}

// New returns a shelf below dir. Without dir, or on a file system that is not the
// machine's, indexes are held in memory alone and gone when they are closed.
func New(f *disk.FS, dir string) *Shelf {
	if f == nil || !f.Real() {
		dir = ""
	}
	return &Shelf{fs: f, dir: dir}
}

// Memory reports whether indexes are held in memory alone.
func (s *Shelf) Memory() bool { return s.dir == "" }

func (s *Shelf) tenantDir(t macronode.TenantID) string { return path.Join(s.dir, t.String()) }

func (s *Shelf) at(t macronode.TenantID, gen uint64) string {
	return path.Join(s.tenantDir(t), strconv.FormatUint(gen, 10))
}

// settings of an index. Few segments in memory at once keep ingestion small.
func settings() map[string]any {
	return map[string]any{
		"scorchPersisterOptions": map[string]any{"MemoryPressurePauseThreshold": 4},
		"bolt_timeout":           "2s",
	}
}

// Create makes an empty index; what is in its place is removed.
func (s *Shelf) Create(t macronode.TenantID, m Meta) (x *Index, err error) {
	defer guard(&err)
	dir := ""
	if !s.Memory() {
		dir = s.at(t, m.Generation)
		if err := s.fs.MkdirAllSync(s.tenantDir(t)); err != nil {
			return nil, err
		}
		if err := s.fs.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	b, err := bleve.NewUsing(dir, mapping.NewIndexMapping(), scorch.Name, scorch.Name, settings())
	if err != nil {
		return nil, err
	}
	x = &Index{b: b, tenant: t, meta: m}
	if err := b.SetInternal(metaKey, m.encode()); err != nil {
		_ = b.Close()
		return nil, err
	}
	return x, nil
}

// Open opens the index of a generation, whose files it verifies. ErrDamaged where it is
// missing or not whole.
func (s *Shelf) Open(t macronode.TenantID, gen uint64) (x *Index, err error) {
	defer guard(&err)
	if s.Memory() {
		return nil, ErrDamaged
	}
	dir := s.at(t, gen)
	if !s.Exists(t, gen) {
		return nil, fmt.Errorf("%w: it is missing", ErrDamaged)
	}
	b, err := bleve.OpenUsing(dir, settings())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	x = &Index{b: b, tenant: t}
	v, err := b.GetInternal(metaKey)
	if err == nil {
		x.meta, err = decodeMeta(v)
	}
	if err == nil && x.meta.Generation != gen {
		err = ErrDamaged
	}
	if err == nil {
		err = s.verify(b)
	}
	if err != nil {
		_ = b.Close()
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return x, nil
}

// verify reads the segments that an index is made of and compares the checksums at their
// ends. What a process that was killed left half written is none of them.
func (s *Shelf) verify(b bleve.Index) (err error) {
	raw, err := b.Advanced()
	if err != nil {
		return err
	}
	r, err := raw.Reader() // while it is held no segment is removed
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	snapshot, ok := r.(*scorch.IndexSnapshot)
	if !ok {
		return fmt.Errorf("shelf: a reader of type %T", r)
	}
	for _, part := range snapshot.Segments() {
		if f, ok := part.Segment().(interface{ Path() string }); ok {
			if err := s.verifyFile(f.Path()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Shelf) verifyFile(name string) (err error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() < 8 {
		return fmt.Errorf("%w: a segment is cut off", ErrDamaged)
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(f, 0, fi.Size()-4), make([]byte, 256<<10)); err != nil {
		return err
	}
	var want [4]byte
	if _, err := f.ReadAt(want[:], fi.Size()-4); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(want[:]) != sum.Sum32() {
		return fmt.Errorf("%w: the checksum of a segment is wrong", ErrDamaged)
	}
	return nil
}

// Exists reports whether there is a directory of the generation.
func (s *Shelf) Exists(t macronode.TenantID, gen uint64) bool {
	if s.Memory() {
		return false
	}
	_, err := s.fs.Stat(s.at(t, gen))
	return err == nil
}

// SetAside moves a damaged index, which is closed, to the quarantine, in the place of the
// one that was there.
func (s *Shelf) SetAside(t macronode.TenantID, gen uint64) error {
	if !s.Exists(t, gen) {
		return nil
	}
	to := path.Join(s.dir, quarantine)
	if err := s.fs.RemoveAll(to); err != nil {
		return err
	}
	if err := s.fs.MkdirAllSync(to); err != nil {
		return err
	}
	return s.fs.Rename(s.at(t, gen), path.Join(to, t.String()+"-"+strconv.FormatUint(gen, 10)))
}

// Sweep removes every generation of the tenant but one, which may be 0.
func (s *Shelf) Sweep(t macronode.TenantID, keep uint64) error {
	if s.Memory() {
		return nil
	}
	names, err := s.fs.List(s.tenantDir(t))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != strconv.FormatUint(keep, 10) {
			if err := s.fs.RemoveAll(path.Join(s.tenantDir(t), name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove removes everything of the tenant, set aside or not.
func (s *Shelf) Remove(t macronode.TenantID) error {
	if s.Memory() {
		return nil
	}
	names, err := s.fs.List(path.Join(s.dir, quarantine))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, t.String()+"-") {
			if err := s.fs.RemoveAll(path.Join(s.dir, quarantine, name)); err != nil {
				return err
			}
		}
	}
	if err := s.fs.RemoveAll(s.tenantDir(t)); err != nil {
		return err
	}
	if _, err := s.fs.Stat(s.dir); err != nil {
		return nil
	}
	return s.fs.SyncDir(s.dir)
}

// guard makes damage of a panic: the library trusts its files.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, r)
	}
}
