// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"sync"

	"lukechampine.com/blake3"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// Names of the files that are not records.
const (
	rootFile     = "root"
	manifestFile = "manifest"
	copySuffix   = ".copy"
	// PublicFile holds the public keys.
	PublicFile = "public.json"
)

// maxPublicBytes bounds public.json.
const maxPublicBytes = 64 << 20

// Errors of a store as a whole.
var (
	// ErrAbsent: the directory holds no keystore.
	ErrAbsent = errors.New("keystore: there is none in this directory")
	// ErrExists: the directory holds one already.
	ErrExists = errors.New("keystore: there is one in this directory already")
	// ErrDamaged: both copies of the root or of the manifest are damaged. A
	// recovery export mends the former.
	ErrDamaged = errors.New("keystore: damaged")
	// ErrRolledBack: the store is older than it was known to be.
	ErrRolledBack = errors.New("keystore: it was put back to an older state")
	// ErrReadOnly: it was opened to read.
	ErrReadOnly = errors.New("keystore: opened to read only")
	// ErrFull: MaxRecords reached.
	ErrFull = errors.New("keystore: too many records")
)

// Options of Open.
type Options struct {
	// Log hears of mended damage and of memory that cannot be locked; nil: nobody.
	Log *slog.Logger
	// MinEpoch is the last epoch that the caller remembers; 0: none.
	MinEpoch uint64
	// ReadOnly writes nothing, not even to mend: for one who signs beside the
	// process that holds the directory. What that process changes meanwhile may
	// look damaged; opening again tells.
	ReadOnly bool
}

// Store is a keystore directory, opened. One process at a time has one open;
// its caller holds the lock of the data directory.
type Store struct {
	fs    *disk.FS
	dir   string
	log   *slog.Logger
	arena *locked.Arena
	id    [idBytes]byte

	readOnly bool

	mu          sync.RWMutex
	closed      bool
	stale       bool // the disk's manifest may not be the one in memory
	copyBehind  bool // the manifest's second copy is older
	m           *manifest
	recordKey   *locked.Secret
	manifestKey *locked.Secret
}

// Create makes an empty keystore in dir, which is made where it is missing. The
// data key is new; nothing is open afterwards. ErrExists where there is one.
func Create(f *disk.FS, dir string, root Root) error {
	if err := vacant(f, dir); err != nil {
		return err
	}
	a := locked.New(nil)
	defer a.Close()
	sec, err := root.read(f, a)
	if err != nil {
		return err
	}
	dataKey := a.Make(keyBytes)
	var id [idBytes]byte
	if _, err := rand.Read(dataKey.Bytes()); err != nil {
		return err
	}
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	if err := f.MkdirAllSync(dir); err != nil {
		return err
	}
	mk := subkey(a, contextManifest, dataKey)
	m := &manifest{epoch: 1}
	b, err := seal(mk.Bytes(), &header{kind: kindManifest, suite: suiteXChaCha, id: id, generation: m.epoch}, m.encode())
	if err != nil {
		return err
	}
	// The root comes last: without it there is no store yet, and Create can be
	// done again after a crash.
	for _, name := range []string{manifestFile + copySuffix, manifestFile} {
		if err := f.ReplaceFile(f.PathJoin(dir, name), b, disk.FileMode); err != nil {
			return err
		}
	}
	return writeRoot(f, a, dir, id, 1, sec, dataKey)
}

// vacant fails where dir holds a keystore, or what is left of one.
func vacant(f *disk.FS, dir string) error {
	names, err := f.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if name == rootFile || name == rootFile+copySuffix || isRecordFile(name) {
			return ErrExists
		}
	}
	return err
}

// writeRoot seals dataKey and writes both copies.
func writeRoot(f *disk.FS, a *locked.Arena, dir string, id [idBytes]byte, generation uint64, sec *secret, dataKey *locked.Secret) error {
	h := &header{kind: kindRoot, suite: sec.suite(), id: id, generation: generation, name: string(sec.kind)}
	body, err := sec.sealKey(a, h.bytes(), dataKey)
	if err != nil {
		return err
	}
	b := envelope(h, body)
	for _, name := range []string{rootFile, rootFile + copySuffix} {
		if err := f.ReplaceFile(f.PathJoin(dir, name), b, disk.FileMode); err != nil {
			return err
		}
	}
	return nil
}

// Open opens the keystore in dir. Errors: ErrAbsent, ErrWrongRoot, ErrRootKind,
// ErrRootMode, ErrDamaged, ErrRolledBack, or what the disk said.
func Open(f *disk.FS, dir string, root Root, o Options) (*Store, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{fs: f, dir: dir, log: log, readOnly: o.ReadOnly}
	s.arena = locked.New(func(err error) {
		log.Warn("secrets are in memory that can be swapped out", "event", "kms_memory_unlocked", "reason", err.Error())
	})
	if err := s.open(root, o.MinEpoch); err != nil {
		s.arena.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(root Root, minEpoch uint64) error {
	dataKey, h, err := openRoot(s.fs, s.arena, s.dir, root, s.log, !s.readOnly)
	if err != nil {
		return err
	}
	defer dataKey.Wipe()
	s.id = h.id
	s.recordKey = subkey(s.arena, contextRecord, dataKey)
	s.manifestKey = subkey(s.arena, contextManifest, dataKey)
	fellBack, err := s.readManifest()
	if err != nil {
		return err
	}
	if s.m.epoch < minEpoch {
		return fmt.Errorf("%w: its epoch is %d, and was %d", ErrRolledBack, s.m.epoch, minEpoch)
	}
	if s.readOnly {
		return nil
	}
	if fellBack || s.copyBehind {
		if err := s.writeManifest(s.m); err != nil {
			return err
		}
	}
	if fellBack {
		return nil // what looks left over may be the lost copy's: keep it this time
	}
	return s.sweep()
}

// sweep removes what an interrupted change left behind.
func (s *Store) sweep() error {
	if err := s.fs.RemoveTemp(s.dir); err != nil {
		return err
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	keep := make(map[string]bool, len(s.m.records))
	for name, e := range s.m.records {
		keep[fileName(name, e.generation)] = true
	}
	for _, name := range names {
		if isRecordFile(name) && !keep[name] {
			if err := s.fs.Remove(s.fs.PathJoin(s.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ready returns with s fit for a change, after an earlier one may have failed
// half way. It needs s.mu.
func (s *Store) ready() error {
	if s.closed {
		return kms.ErrVaultClosed
	}
	if !s.stale {
		return nil
	}
	if _, err := s.readManifest(); err != nil {
		return err
	}
	s.stale = false
	return nil
}

// writable is ready, for changes.
func (s *Store) writable() error {
	if s.readOnly {
		return ErrReadOnly
	}
	return s.ready()
}

// Names lists the records.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready() != nil {
		return nil
	}
	return s.m.names()
}

// Load unseals a record; see kms.Vault.
func (s *Store) Load(name string, f func(plain []byte) error) error {
	plain, err := s.load(name)
	if err != nil {
		return err
	}
	defer plain.Wipe()
	return f(plain.Bytes())
}

func (s *Store) load(name string) (*locked.Secret, error) {
	s.mu.RLock()
	if s.stale {
		s.mu.RUnlock()
		s.mu.Lock()
		err := s.ready()
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		s.mu.RLock()
	}
	defer s.mu.RUnlock()
	if s.closed {
		return nil, kms.ErrVaultClosed
	}
	e, ok := s.m.records[name]
	if !ok {
		return nil, kms.ErrNoRecord
	}
	damaged := func(why string) error { return &kms.DamagedError{Name: name, Why: why} }
	raw, err := s.fs.ReadFile(s.fs.PathJoin(s.dir, fileName(name, e.generation)), maxEnvelopeBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("its file is missing")
	}
	if errors.Is(err, disk.ErrTooLarge) {
		return nil, damaged("its file is too large")
	}
	if err != nil {
		return nil, err
	}
	h, body, err := parseEnvelope(raw)
	if errors.Is(err, errNewer) {
		return nil, err
	}
	if err != nil {
		return nil, damaged("its file is torn or has changed bytes")
	}
	if h.kind != kindRecord || h.suite != suiteXChaCha || h.id != s.id || h.name != name || h.generation != e.generation {
		return nil, damaged(fmt.Sprintf("another record lies in its place (%q, generation %d)", h.name, h.generation))
	}
	if blake3.Sum256(raw) != e.sum {
		return nil, damaged("it is not the copy that was last written")
	}
	plain, err := openBody(s.arena, s.recordKey.Bytes(), h.bytes(), body)
	if err != nil {
		return nil, damaged("its seal does not open")
	}
	return plain, nil
}

// Save seals plain under name; see kms.Vault.
func (s *Store) Save(name string, plain []byte) error {
	if !validName(name) || len(plain) == 0 || len(plain) > kms.MaxRecordBytes {
		return fmt.Errorf("keystore: record %q: bad name or size", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	m := s.m.clone()
	old, had := m.records[name]
	if !had && len(m.records) >= MaxRecords {
		return ErrFull
	}
	m.epoch++
	raw, err := seal(s.recordKey.Bytes(), &header{kind: kindRecord, suite: suiteXChaCha, id: s.id, generation: m.epoch, name: name}, plain)
	if err != nil {
		return err
	}
	if m.records == nil {
		m.records = make(map[string]entry)
	}
	m.records[name] = entry{m.epoch, blake3.Sum256(raw)}
	if err := s.fs.ReplaceFile(s.fs.PathJoin(s.dir, fileName(name, m.epoch)), raw, disk.FileMode); err != nil {
		return err
	}
	if err := s.writeManifest(m); err != nil {
		return err
	}
	if had {
		s.drop(name, old)
	}
	return nil
}

// Remove drops a record; see kms.Vault.
func (s *Store) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	old, ok := s.m.records[name]
	if !ok {
		return kms.ErrNoRecord
	}
	m := s.m.clone()
	m.epoch++
	delete(m.records, name)
	if err := s.writeManifest(m); err != nil {
		return err
	}
	s.drop(name, old)
	return nil
}

// drop removes a file that the manifest no longer names. Failing that, the next
// Open does it. While a copy of the manifest still names it, it stays.
func (s *Store) drop(name string, e entry) {
	if !s.copyBehind {
		_ = s.fs.Remove(s.fs.PathJoin(s.dir, fileName(name, e.generation)))
	}
}

// Epoch is the number of changes kept; see kms.Vault.
func (s *Store) Epoch() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.epoch
}

// Records is a copy of what the manifest holds: generation by name. For fsck.
func (s *Store) Records() map[string]uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[string]uint64, len(s.m.records))
	for name, e := range maps.All(s.m.records) {
		out[name] = e.generation
	}
	return out
}

// Public returns the content of public.json; nil where there is none.
func (s *Store) Public() ([]byte, error) {
	b, err := ReadPublic(s.fs, s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// SavePublic replaces public.json.
func (s *Store) SavePublic(doc []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return kms.ErrVaultClosed
	case s.readOnly:
		return ErrReadOnly
	}
	return s.fs.ReplaceFile(s.fs.PathJoin(s.dir, PublicFile), doc, disk.FileMode)
}

// ReadPublic reads public.json of the keystore in dir; it needs no root and no
// lock, and proves nothing: what guards it is the directory's mode.
func ReadPublic(f *disk.FS, dir string) ([]byte, error) {
	return f.ReadFile(f.PathJoin(dir, PublicFile), maxPublicBytes)
}

// Arena is where this store's secrets lie.
func (s *Store) Arena() *locked.Arena { return s.arena }

// Close wipes the keys and everything else in the arena. No secret of it may be
// in use. A second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.arena.Close()
	}
	return nil
}
