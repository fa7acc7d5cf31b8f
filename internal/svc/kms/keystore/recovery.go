// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package keystore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// maxRecoveryBytes bounds a recovery file.
const maxRecoveryBytes = 64 << 10

// ErrRecovery: the text is no recovery export, or another store's.
var ErrRecovery = errors.New("keystore: not a recovery export of this keystore")

// Reseal seals the data key under another root. The old root opens the store no
// more; recovery exports stay good, and so does any older copy of the directory
// with the old root.
func Reseal(f *disk.FS, dir string, from, to Root) error {
	a := locked.New(nil)
	defer a.Close()
	dataKey, h, err := openRoot(f, a, dir, from, slog.New(slog.DiscardHandler), true)
	if err != nil {
		return err
	}
	sec, err := to.read(f, a)
	if err != nil {
		return err
	}
	return writeRoot(f, a, dir, h.id, h.generation+1, sec, dataKey)
}

// ExportRecovery returns a recovery file for the keystore in dir: whoever has it
// and a copy of the directory has every key, so it belongs off the machine.
//
// Without recipients it is text: comment lines that begin with "#", then one
// line, "ronrecovery1_" and the base64url without padding of the store's id (16
// bytes), its data key (32 bytes) and the first 4 bytes of the BLAKE3 of both.
// With recipients it is that text in an age file, armored. It stays good until
// the data key changes, which nothing does today.
func ExportRecovery(f *disk.FS, dir string, root Root, recipients ...age.Recipient) ([]byte, error) {
	a := locked.New(nil)
	defer a.Close()
	dataKey, h, err := openRoot(f, a, dir, root, slog.New(slog.DiscardHandler), true)
	if err != nil {
		return nil, err
	}
	raw := append(bytes.Clone(h.id[:]), dataKey.Bytes()...)
	defer clear(raw)
	line := encodeKey(recoveryPrefix, raw)
	defer clear(line)
	text := fmt.Appendf(nil, "# Recovery export of macronode keystore %x.\n"+
		"# Whoever has this and a copy of the keystore has every key in it.\n"+
		"# Keep it off the machine. \"macronode kms restore-root\" takes it.\n%s", h.id, line)
	if len(recipients) == 0 {
		return text, nil
	}
	defer clear(text)
	var out bytes.Buffer
	aw := armor.NewWriter(&out)
	w, err := age.Encrypt(aw, recipients...)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), aw.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Restore gives the keystore in dir a new root, by a recovery export; it serves
// where the old root is lost, or both copies of the root file are damaged. An
// age file needs the identities that open it. The export is proved against the
// manifest before anything is written. Errors: ErrRecovery, ErrDamaged.
func Restore(f *disk.FS, dir string, export []byte, to Root, identities ...age.Identity) error {
	if len(export) > maxRecoveryBytes {
		return ErrRecovery
	}
	text, err := openExport(export, identities)
	if err != nil {
		return err
	}
	defer clear(text)
	raw, err := decodeKey(recoveryPrefix, recoveryLine(text), idBytes+keyBytes)
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrRecovery, err)
	}
	defer clear(raw)
	a := locked.New(nil)
	defer a.Close()
	dataKey := a.Copy(raw[idBytes:])
	s := &Store{fs: f, dir: dir, log: slog.New(slog.DiscardHandler), arena: a, id: [idBytes]byte(raw[:idBytes])}
	s.manifestKey = subkey(a, contextManifest, dataKey)
	if _, err := s.readManifest(); err != nil {
		return fmt.Errorf("%w (%w)", ErrRecovery, err)
	}
	sec, err := to.read(f, a)
	if err != nil {
		return err
	}
	// A generation above that of what is there; where neither copy is whole,
	// both are replaced anyway.
	var generation uint64
	if t, err := readTwin(f, f.PathJoin(dir, rootFile), kindRoot); err == nil {
		generation = t.found[0].h.generation
	}
	return writeRoot(f, a, dir, s.id, generation+1, sec, dataKey)
}

// openExport removes the age layer where there is one.
func openExport(export []byte, identities []age.Identity) ([]byte, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(export), []byte(armor.Header)) {
		return bytes.Clone(export), nil
	}
	if len(identities) == 0 {
		return nil, fmt.Errorf("%w: it is an age file; decrypt it first, or give its identity", ErrRecovery)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(export)), identities...)
	if err != nil {
		return nil, fmt.Errorf("%w: age does not open it", ErrRecovery)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxRecoveryBytes))
	if err != nil {
		clear(text)
		return nil, fmt.Errorf("%w: age does not open it", ErrRecovery)
	}
	return text, nil
}

// recoveryLine is the first line that is neither empty nor a comment.
func recoveryLine(text []byte) []byte {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return line
		}
	}
	return nil
}
