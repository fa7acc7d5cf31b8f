// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/fileobj"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/storage/fsck"
)

// FsckOptions says what Fsck does.
type FsckOptions struct {
	Repair, Quick bool
	FromExport    string // file: an export of the audit log, to restore it from
	Progress      func(phase string, done, total, bytes int64)
}

// FsckReport is what Fsck found in a data directory.
type FsckReport struct {
	*fsck.Result
	Keystore string   `json:"keystore"` // "whole", "damaged", or why it was not looked at
	Mailbox  *Mailbox `json:"mailbox,omitempty"`
	Audit    *Audit   `json:"audit,omitempty"`
	ExitCode int      `json:"exit_code"`
	Outcome  string   `json:"outcome"` // "clean", "repaired", "repairable" or "lost"
}

// Fsck checks the stores of a node that does not run, and with Repair mends what
// can be mended without a loss. Opening them does what a start does: it replays
// the log and removes what was never finished.
func Fsck(ctx context.Context, dir string, o FsckOptions) (*FsckReport, error) {
	d, err := datadir.Open(disk.Real(), dir)
	if err != nil {
		return nil, err
	}
	if !d.Exists(datadir.MetaDir) {
		return nil, datadir.Exitf(macronode.ExitUsage, "%s: no node has kept anything here", d.Path)
	}
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	r := &FsckReport{}
	if r.Result, err = checkStores(ctx, d, o); err != nil {
		return nil, err
	}
	if err := r.checkMailbox(ctx, d, o); err != nil {
		return nil, err
	}
	if err := r.checkAudit(ctx, d, o); err != nil {
		return nil, err
	}
	r.checkKeystore(d)
	r.judge()
	return r, nil
}

func (r *FsckReport) judge() {
	switch {
	case r.Lost > 0:
		r.ExitCode, r.Outcome = macronode.ExitLost, "lost"
	case r.Left > 0:
		r.ExitCode, r.Outcome = macronode.ExitFailed, "repairable"
	case r.Fixed > 0:
		r.ExitCode, r.Outcome = macronode.ExitRepaired, "repaired"
	default:
		r.ExitCode, r.Outcome = macronode.ExitOK, "clean"
	}
}

// lostKeys is the kind of damage to the keystore.
const lostKeys = "lost_keys"

func checkStores(ctx context.Context, d datadir.Dir, o FsckOptions) (*fsck.Result, error) {
	quiet := slog.New(slog.DiscardHandler)
	lost := func(err error) (*fsck.Result, error) {
		if !errors.Is(err, store.ErrCorrupt) {
			return nil, parts.FormatError(parts.FormatError(err, pebblekv.ErrNewer), fileobj.ErrNewer)
		}
		return &fsck.Result{Lost: 1, Counts: map[string]int64{fsck.LostMetadata: 1},
			Findings: []fsck.Finding{{Kind: fsck.LostMetadata, Subject: "metadata", Detail: err.Error()}}}, nil
	}
	meta, err := parts.OpenMeta(d, parts.Unreserved(), quiet, func(error) {})
	if err != nil {
		return lost(err)
	}
	defer meta.Close()
	objects, err := fileobj.Open(fileobj.Config{FS: d.FS, Dir: d.At(datadir.ObjectsDir), Logger: quiet})
	if err != nil {
		return lost(err)
	}
	defer objects.Close()
	opts := fsck.Options{Repair: o.Repair, Quick: o.Quick, NowMS: time.Now().UnixMilli()}
	if o.Progress != nil {
		opts.Progress = func(p fsck.Progress) { o.Progress(p.Phase, p.Done, p.Total, p.Bytes) }
	}
	return fsck.Check(ctx, meta, objects, opts)
}

// checkKeystore opens the keystore, where its root secret is at hand.
func (r *FsckReport) checkKeystore(d datadir.Dir) {
	r.Keystore = "whole"
	text, err := d.FS.ReadFile(d.At(datadir.BundleName), datadir.MaxFileBytes)
	if err != nil {
		r.Keystore = fmt.Sprintf("not looked at: no config bundle: %v", err)
		return
	}
	judged, err := config.Check(text, d.At(datadir.BundleName), datadir.Features())
	if err != nil {
		r.Keystore = fmt.Sprintf("not looked at: %v", err)
		return
	}
	keys, err := d.OpenKeystore(judged.Config.KMS.Root, kms.Options{Log: slog.New(slog.DiscardHandler)}, true)
	if err != nil {
		if datadir.ExitCode(err) == macronode.ExitConfig { // the root is not here, or not this one
			r.Keystore = fmt.Sprintf("not looked at: %v", err)
			return
		}
		r.lostKey("keystore", err.Error())
		return
	}
	defer keys.Close()
	bad := keys.Damaged()
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		r.lostKey(name, bad[name])
	}
}

func (r *FsckReport) lostKey(subject, detail string) {
	r.Keystore = "damaged"
	r.Lost++
	r.Counts[lostKeys]++
	r.Findings = append(r.Findings, fsck.Finding{Kind: lostKeys, Subject: subject, Detail: detail})
}
