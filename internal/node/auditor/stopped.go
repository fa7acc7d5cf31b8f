// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package auditor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/seglog"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Stopped is the audit log of a node that does not run.
type Stopped struct {
	Dir  datadir.Dir
	KV   store.KV
	Keys *kms.Store
	Key  bundle.Ref // signs checkpoints
}

// Names of the log's folder while it is restored.
const (
	logDir     = "log"
	newDir     = "log.new"
	damagedDir = "log.damaged"
)

func (s *Stopped) at(name string) string { return filepath.Join(s.Dir.At(datadir.AuditDir), name) }

// Open opens the log as a start does.
func (s *Stopped) Open(ctx context.Context) (*tree.Tree, func() error, error) {
	ids, err := nodeIDs(s.Keys)
	if err != nil {
		return nil, nil, err
	}
	if len(ids) == 0 {
		return nil, nil, errors.New("the keystore has no node key")
	}
	a := &Auditor{d: Deps{Dir: s.Dir, KV: s.KV, Keys: s.Keys, NodeID: ids[len(ids)-1], Log: slog.New(slog.DiscardHandler)}}
	a.key.Store(&s.Key)
	return a.open(ctx, 0, 0)
}

// Restore makes the log whole from an export, or changes nothing. What it was before
// stays beside it, in a folder of its own.
func (s *Stopped) Restore(ctx context.Context, export string) (out tree.Restored, err error) {
	f, err := os.Open(export)
	if err != nil {
		return out, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	fs := s.Dir.FS
	if err := s.settle(fs); err != nil {
		return out, err
	}
	quiet := slog.New(slog.DiscardHandler)
	old, _, err := seglog.Open(seglog.Config{FS: fs, Dir: s.at(logDir), Log: quiet})
	if err != nil {
		return out, err
	}
	made, _, err := seglog.Open(seglog.Config{FS: fs, Dir: s.at(newDir), Log: quiet})
	if err != nil {
		return out, errors.Join(err, old.Close())
	}
	writer, err := tree.WriterOf(ctx, s.KV)
	r := &tree.Restore{KV: s.KV, Old: old, New: made, Export: f}
	if err == nil {
		r.Versions, err = versionsOf(s.Keys, s.Key.Name, tree.Origin(writer))
	}
	if err == nil {
		out, err = r.Build(ctx)
	}
	if err == nil {
		err = r.Commit(ctx)
	}
	if err = errors.Join(err, made.Close(), old.Close()); err != nil {
		return out, errors.Join(err, fs.RemoveAll(s.at(newDir)))
	}
	kept, err := s.free(fs)
	if err != nil {
		return out, err
	}
	if err := errors.Join(fs.Rename(s.at(logDir), kept), fs.Rename(s.at(newDir), s.at(logDir))); err != nil {
		return out, err
	}
	return out, fs.SyncDir(s.Dir.At(datadir.AuditDir))
}

// settle clears away what a restoration left that was killed. Between its last two steps
// there is no log, but a new one that is whole.
func (s *Stopped) settle(fs *disk.FS) error {
	names, err := fs.List(s.Dir.At(datadir.AuditDir))
	if err != nil {
		return err
	}
	has := map[string]bool{}
	for _, n := range names {
		has[n] = true
	}
	switch {
	case has[newDir] && !has[logDir]:
		if err := fs.Rename(s.at(newDir), s.at(logDir)); err != nil {
			return err
		}
		return fs.SyncDir(s.Dir.At(datadir.AuditDir))
	case has[newDir]:
		return fs.RemoveAll(s.at(newDir))
	}
	return nil
}

// free is a name for the damaged log that nothing has.
func (s *Stopped) free(fs *disk.FS) (string, error) {
	names, err := fs.List(s.Dir.At(datadir.AuditDir))
	if err != nil {
		return "", err
	}
	n := 1
	for _, name := range names {
		if strings.HasPrefix(name, damagedDir) {
			n++
		}
	}
	return s.at(fmt.Sprintf("%s.%d", damagedDir, n)), nil
}
