// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package inspect looks at a data directory without running it: whether a start
// would succeed, and whether its stores are whole.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/lifecycle"
	"github.com/rustyonions/macronode/internal/listen/certs"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// Severities of findings.
const (
	severityError   = "ERROR"
	severityWarning = "WARNING"
)

// minOpenFiles is what a node with default connection limits may need.
const minOpenFiles = 20000

// earliestClock is before any build of this node: a clock that says less is wrong.
var earliestClock = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// Finding is the outcome of one check.
type Finding struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Severity string `json:"severity,omitempty"` // of a failed one: ERROR or WARNING
	Detail   string `json:"detail"`
	Fix      string `json:"fix,omitempty"`
}

// CheckReport is what Check found.
type CheckReport struct {
	Findings []Finding `json:"findings"`
	Failed   int       `json:"failed"`
	ExitCode int       `json:"exit_code"`
	held     bool      // a node runs from the directory
}

func (r *CheckReport) add(name string, err error, ok, severity, fix string) bool {
	f := Finding{Name: name, OK: err == nil, Detail: ok}
	if err != nil {
		f.Severity, f.Detail, f.Fix = severity, err.Error(), fix
		r.Failed++
		if severity == severityError && r.ExitCode == macronode.ExitOK {
			r.ExitCode = datadir.ExitCode(err)
		}
	}
	r.Findings = append(r.Findings, f)
	return err == nil
}

// Check looks at everything that a start would need, without starting. bundle
// may be empty: the one in dir; dir may be empty: the bundle's.
func Check(ctx context.Context, bundle, dir string) (*CheckReport, error) {
	if bundle == "" {
		if dir == "" {
			return nil, datadir.Exitf(macronode.ExitUsage, "check needs --config FILE or --data DIR")
		}
		d, err := datadir.Open(disk.Real(), dir)
		if err != nil {
			return nil, err
		}
		bundle = d.At(datadir.BundleName)
	}
	r := &CheckReport{Findings: []Finding{}}
	text, err := disk.Real().ReadFile(bundle, datadir.MaxFileBytes)
	if !r.add("config file", err, bundle, severityError, "give the path of a config bundle") {
		return r, nil
	}
	judged, err := config.Check(text, bundle, datadir.Features())
	if !r.add("config keys and values", err, "accepted", severityError, "correct the file, then: macronode bundle sign "+bundle+" --data DIR --bump") {
		return r, nil
	}
	if dir == "" {
		dir = judged.Config.Data.Dir
	}
	d, err := datadir.Open(disk.Real(), dir)
	if err != nil {
		return nil, err
	}
	r.machine(ctx)
	if r.directory(d) {
		loaded, err := d.LoadBundle(text, bundle, config.Overrides{})
		if r.add("config signature and version", err, "accepted by "+d.At(datadir.TrustName), severityError, "sign it again: macronode bundle sign "+bundle+" --data "+d.Path+" --bump") {
			r.keys(ctx, d, loaded)
		}
		r.space(d, &judged.Config)
		r.mailbox(d)
	}
	r.ports(&judged.Config)
	return r, nil
}

// machine checks what the node needs of the machine.
func (r *CheckReport) machine(ctx context.Context) {
	var clock error
	if now := time.Now(); now.Before(earliestClock) {
		clock = fmt.Errorf("the clock says %s", now.UTC().Format(time.RFC3339))
	}
	r.add("clock", clock, time.Now().UTC().Format(time.RFC3339), severityError, "set the clock: capabilities expire by it")
	r.add("entropy", lifecycle.Entropy(ctx), "the kernel's generator is initialised", severityError, "wait for the kernel, or give the machine a source of randomness")
	var lim unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	if err == nil && lim.Cur < minOpenFiles {
		err = fmt.Errorf("the process may open %d files", lim.Cur)
	}
	r.add("open files", err, fmt.Sprintf("%d allowed", lim.Cur), severityWarning, "raise LimitNOFILE (systemd) or ulimit -n to 1048576")
}

// directory checks the data directory's existence, modes and lock.
func (r *CheckReport) directory(d datadir.Dir) bool {
	info, err := d.FS.Stat(d.Path)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a directory")
	}
	if err == nil && d.Exists(datadir.IncompleteName) {
		err = errors.New("an init did not finish here")
	}
	if !r.add("data directory", err, d.Path, severityError, "make one with: macronode init --data "+d.Path) {
		return false
	}
	mode, err := d.FS.Mode(d.Path)
	if err == nil && mode&0o077 != 0 {
		err = fmt.Errorf("its mode is %04o: others may look in", mode)
	}
	r.add("data directory mode", err, fmt.Sprintf("%04o", mode), severityError, "chmod 0700 "+d.Path)
	lock, err := d.FS.LockDir(d.Path)
	if err == nil {
		err = lock.Close()
	}
	var held *disk.HeldError
	severity := severityError
	if errors.As(err, &held) {
		severity, r.held = severityWarning, true // a running node is no fault
	}
	r.add("data directory lock", err, "free", severity, "a node runs from this directory; its ports and stores are in use")
	return true
}

// space checks that writes would be accepted.
func (r *CheckReport) space(d datadir.Dir, c *config.Config) {
	free, err := d.FS.Free(d.Path)
	if err == nil && free < int64(c.Data.ReserveBytes) {
		err = fmt.Errorf("%d bytes are free, the reserve is %d: writes would be refused", free, int64(c.Data.ReserveBytes))
	}
	r.add("disk space", err, fmt.Sprintf("%d bytes free", free), severityError, "free some space, or lower data.reserve_bytes")
}

// keys checks that the keystore opens and that the pinned policy is good.
func (r *CheckReport) keys(ctx context.Context, d datadir.Dir, l *config.Loaded) {
	c := &l.Config
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return // told by directory
	}
	defer lock.Close()
	store, err := d.OpenKeystore(c.KMS.Root, kms.Options{Log: slog.New(slog.DiscardHandler)}, true)
	if errors.Is(err, keystore.ErrSealed) {
		r.add("keystore", nil, "its root is in shares: not opened, and neither policy nor certificate was looked at", severityError, "")
		return
	}
	if !r.add("keystore", err, "opens", severityError, "see kms.root, or restore it: macronode kms restore-root") {
		return
	}
	defer store.Close()
	var damaged error
	if bad := store.Damaged(); len(bad) > 0 {
		damaged = fmt.Errorf("damaged records: %v", bad)
	}
	r.add("keystore records", damaged, "whole", severityError, "restore the data directory from a backup, or make the records again")
	svc, err := policy.New(policy.Config{Source: parts.KeysSource{Keys: store, Ref: c.Policy.BundleKMS}, Verifier: d.PolicyVerifier(""), Pin: c.Policy.BundleHash.String(), CacheTTL: policy.DefaultCacheTTL})
	if err == nil {
		var set *policy.Set
		if set, err = svc.PrepareFrom(ctx, parts.KeysSource{Keys: store, Ref: c.Policy.BundleKMS}, c.Policy.BundleHash.String()); err == nil {
			err = r.judge(d, store, set, l)
		}
	}
	r.add("policy bundle", err, c.Policy.BundleKMS.String(), severityError, "build and install it: macronode policy build SRCDIR -o FILE --data "+d.Path+" --install NAME@vN")
	if c.Server.TLS.Enabled {
		cert, err := store.Certificate(ctx, c.Server.TLS.KMSKey, c.Server.TLS.CertChain)
		var warning error
		if err == nil {
			if err, warning = certs.Inspect(cert, c.Server.TLS.OCSP); err != nil {
				err = datadir.Exitf(macronode.ExitConfig, "%w", err)
			}
		}
		if r.add("certificate", err, c.Server.TLS.CertChain.String(), severityError, "put a chain that fits the key: macronode kms put-object") {
			r.add("certificate lasts", warning, "until "+cert.Leaf.NotAfter.UTC().Format(time.RFC3339), severityWarning, "make a new one: macronode runbook, Certificates")
		}
	}
}

// judge asks whether the policy would be refused as an older one.
func (r *CheckReport) judge(d datadir.Dir, store *kms.Store, set *policy.Set, l *config.Loaded) error {
	applied, err := d.Applied()
	if err == nil {
		_, err = datadir.JudgePolicy(set, l, applied, "", datadir.NewPolicyMark(store))
	}
	return err
}

// ports checks that the listeners' addresses can be bound.
func (r *CheckReport) ports(c *config.Config) {
	severity := severityError
	if r.held {
		severity = severityWarning // that node has them
	}
	for _, l := range [][2]string{{"server.bind", c.Server.Bind}, {"server.admin_bind", c.Server.AdminBind}, {"oap.bind", c.OAP.Bind}} {
		if l[1] == "" {
			continue
		}
		bound, err := net.Listen("tcp", l[1])
		if err == nil {
			err = bound.Close()
		}
		r.add(l[0], err, l[1]+" can be bound", severity, "stop what uses the port, or choose another")
	}
}
