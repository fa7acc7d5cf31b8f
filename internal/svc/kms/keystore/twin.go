// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// openRoot returns the data key and the root file's header.
func openRoot(f *disk.FS, a *locked.Arena, dir string, root Root, log *slog.Logger, mend bool) (*locked.Secret, header, error) {
	sec, err := root.read(f, a)
	if err != nil {
		return nil, header{}, err
	}
	defer sec.wipe()
	t, err := readTwin(f, f.PathJoin(dir, rootFile), kindRoot)
	if err != nil {
		return nil, header{}, err
	}
	// A crash in Reseal leaves one copy by the old root and one by the new:
	// either opens, and is then the one that stays.
	var wrong error
	for _, c := range t.found {
		if c.h.name != string(sec.kind) || c.h.suite != sec.suite() {
			wrong = errors.Join(wrong, fmt.Errorf("%w: %s, not %s", ErrRootKind, c.h.name, sec.kind))
			continue
		}
		dataKey, err := sec.openKey(a, c.h.bytes(), c.body)
		if err != nil {
			wrong = err
			continue
		}
		if mend && (len(t.damaged) > 0 || len(t.found) == 2 && t.found[0].h.generation != t.found[1].h.generation) {
			for _, name := range t.damaged {
				log.Warn("keystore: a copy of the root was damaged and is mended", "event", "kms_mended", "file", name)
			}
			for _, name := range []string{rootFile, rootFile + copySuffix} {
				if err := f.ReplaceFile(f.PathJoin(dir, name), c.raw, disk.FileMode); err != nil {
					dataKey.Wipe()
					return nil, header{}, err
				}
			}
		}
		return dataKey, c.h, nil
	}
	return nil, header{}, wrong
}

// twin is what the two copies of a file hold: those that are whole, newest
// first, and the names of those that are not.
type twin struct {
	found   []copyOf
	damaged []string
}

type copyOf struct {
	h    header
	body []byte
	raw  []byte
}

// readTwin reads both copies. It fails where neither is whole: ErrAbsent where
// neither is there, else ErrDamaged.
func readTwin(f *disk.FS, p string, kind uint8) (twin, error) {
	var t twin
	absent := 0
	var why error
	for _, name := range []string{p, p + copySuffix} {
		raw, err := f.ReadFile(name, maxEnvelopeBytes)
		if errors.Is(err, fs.ErrNotExist) {
			absent++
			t.damaged = append(t.damaged, f.PathBase(name))
			continue
		}
		if err == nil || errors.Is(err, disk.ErrTooLarge) {
			var h header
			var body []byte
			h, body, err = parseEnvelope(raw)
			if err == nil && h.kind == kind {
				t.found = append(t.found, copyOf{h, body, raw})
				continue
			}
			if errors.Is(err, errNewer) {
				return twin{}, err
			}
		}
		if err != nil && !errors.Is(err, errDamaged) {
			return twin{}, err // the disk's failure is not damage
		}
		why = err
		t.damaged = append(t.damaged, f.PathBase(name))
	}
	switch {
	case absent == 2:
		return twin{}, ErrAbsent
	case len(t.found) == 0:
		return twin{}, fmt.Errorf("%w: both copies of %s (%v)", ErrDamaged, f.PathBase(p), why)
	case len(t.found) == 2 && t.found[1].h.generation > t.found[0].h.generation:
		t.found[0], t.found[1] = t.found[1], t.found[0]
	}
	return t, nil
}

// readManifest sets s.m from the disk. fellBack says that a copy was damaged.
func (s *Store) readManifest() (fellBack bool, err error) {
	t, err := readTwin(s.fs, s.fs.PathJoin(s.dir, manifestFile), kindManifest)
	if errors.Is(err, ErrAbsent) {
		return false, fmt.Errorf("%w: both copies of %s are missing", ErrDamaged, manifestFile)
	}
	if err != nil {
		return false, err
	}
	damaged := t.damaged
	var m *manifest
	for _, c := range t.found {
		got, err := s.openManifest(c)
		if err != nil {
			damaged = append(damaged, fmt.Sprintf("%s of epoch %d", manifestFile, c.h.generation))
			continue
		}
		if m == nil {
			m = got
		}
	}
	if m == nil {
		return false, fmt.Errorf("%w: no copy of %s is this store's", ErrDamaged, manifestFile)
	}
	for _, name := range damaged {
		s.log.Warn("keystore: a copy of the manifest was damaged and is mended", "event", "kms_mended", "file", name)
	}
	s.m = m
	s.copyBehind = len(t.found) == 2 && t.found[0].h.generation != t.found[1].h.generation
	return len(damaged) > 0, nil
}

func (s *Store) openManifest(c copyOf) (*manifest, error) {
	if c.h.id != s.id || c.h.suite != suiteXChaCha {
		return nil, errSeal
	}
	plain, err := openBody(s.arena, s.manifestKey.Bytes(), c.h.bytes(), c.body)
	if err != nil {
		return nil, err
	}
	defer plain.Wipe()
	return decodeManifest(c.h.generation, plain.Bytes())
}

// writeManifest commits m. An error leaves open which manifest the disk has;
// a failing second copy is no error, for the change is durable by then.
func (s *Store) writeManifest(m *manifest) error {
	b, err := seal(s.manifestKey.Bytes(), &header{kind: kindManifest, suite: suiteXChaCha, id: s.id, generation: m.epoch}, m.encode())
	if err != nil {
		return err
	}
	p := s.fs.PathJoin(s.dir, manifestFile)
	if err := s.fs.ReplaceFile(p, b, disk.FileMode); err != nil {
		s.stale = true
		return err
	}
	s.m, s.copyBehind = m, false
	if err := s.fs.ReplaceFile(p+copySuffix, b, disk.FileMode); err != nil {
		s.copyBehind = true
		s.log.Warn("keystore: the manifest's second copy was not written", "event", "kms_copy_failed", "reason", err.Error())
	}
	return nil
}
