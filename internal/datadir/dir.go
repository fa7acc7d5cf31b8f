// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package datadir is a node's data directory: where things lie in it, who holds
// it, and what commands do with it while no node runs, or beside one that does.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/buildinfo"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/keyservice"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
)

// Names within a data directory.
const (
	BundleName      = "macronode.bundle.toml"
	TrustName       = "trust.json"
	AppliedName     = "applied.json"
	RootKeyName     = "root.key"
	CertName        = "tls.crt" // public: what clients pass as --ca
	OperatorCapName = "operator.cap"
	TenantCapName   = "tenant.cap"
	EndpointsName   = "endpoints.json"
	AdminSocketName = "admin.sock"
	KeystoreDir     = "keystore"
	MetaDir         = "meta"
	ObjectsDir      = "objects"
	MailboxDir      = "mailbox"
	AuditDir        = "audit"
	SearchDir       = "search" // indexes, which can be made again
	// IncompleteName stands in a directory whose init did not finish.
	IncompleteName = "INIT-INCOMPLETE"
)

// Names in the KMS.
const (
	KeyRelease   = "ops-release"
	KeyPolicy    = "policy"
	KeyNode      = kms.NodeKey
	KeyTLS       = "tls"
	KeyAudit     = "audit"
	KeyRegistry  = "registry"
	ObjPolicy    = "policy-bundle"
	ObjCertChain = "cert_chain"
)

// MaxFileBytes bounds the files of a data directory that are read whole.
const MaxFileBytes = 32 << 20

// ExitError is an error that ends a command with an exit code of its own.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Exitf makes an error that ends a command with code.
func Exitf(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// ExitCode is the exit code that err asks for: its own, the one of its kind, or
// 1. A nil error is 0.
func ExitCode(err error) int {
	var own *ExitError
	var held *disk.HeldError
	var conf *config.Error
	switch {
	case err == nil:
		return macronode.ExitOK
	case errors.As(err, &own):
		return own.Code
	case errors.As(err, &held):
		return macronode.ExitInUse
	case errors.As(err, &conf):
		return conf.ExitCode()
	default:
		return macronode.ExitFailed
	}
}

// Dir is a data directory and the file system that it lies on.
type Dir struct {
	FS   *disk.FS
	Path string // absolute
	// Unseal says how to wait for the root: for shares, and for a key service
	// that is away; nil: not at all.
	Unseal *Unsealing
}

// Open names the data directory at path; it need not be there yet.
func Open(f *disk.FS, path string) (Dir, error) {
	abs, err := f.Abs(path)
	return Dir{FS: f, Path: abs}, err
}

// At is the path of a name in the directory.
func (d Dir) At(name string) string { return filepath.Join(d.Path, name) }

// In resolves a path of the config: what is not absolute lies below the
// directory.
func (d Dir) In(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return d.At(path)
}

// Read returns a file of the directory.
func (d Dir) Read(name string) ([]byte, error) { return d.FS.ReadFile(d.At(name), MaxFileBytes) }

// Exists reports whether the directory has a file of that name.
func (d Dir) Exists(name string) bool {
	_, err := d.FS.Stat(d.At(name))
	return err == nil
}

// Write makes a file of the directory hold text, durably.
func (d Dir) Write(name string, text []byte, mode fs.FileMode) error {
	return d.FS.ReplaceFile(d.At(name), text, mode)
}

// Empty reports whether the directory is missing or has nothing in it that
// matters: a fresh mount has a lost+found, and a cleared directory its lock.
func (d Dir) Empty() (bool, error) {
	names, err := d.FS.List(d.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for _, n := range names {
		if n != "lost+found" && n != disk.LockName {
			return false, nil
		}
	}
	return true, nil
}

// Trust reads the trust anchors; path overrides where they lie.
func (d Dir) Trust(path string) (*bundle.Trust, error) {
	if path == "" {
		path = d.At(TrustName)
	}
	text, err := d.FS.ReadFile(path, MaxFileBytes)
	if err != nil {
		return nil, Exitf(macronode.ExitTrust, "trust anchors: %w", err)
	}
	// Whoever can write this file decides what the node believes.
	if mode, err := d.FS.Mode(path); err != nil || mode&0o022 != 0 {
		return nil, Exitf(macronode.ExitTrust, "trust anchors %s: others may write it (mode %04o); chmod 0600 it, and look at what it says", path, mode)
	}
	t, err := bundle.ParseTrust(text)
	if err != nil {
		return nil, Exitf(macronode.ExitTrust, "trust anchors %s: %w", path, err)
	}
	return t, nil
}

// Applied reads which bundle was applied last; none on a new node.
func (d Dir) Applied() (config.Applied, error) {
	text, err := d.Read(AppliedName)
	if errors.Is(err, fs.ErrNotExist) {
		return config.Applied{}, nil
	}
	if err != nil {
		return config.Applied{}, err
	}
	a, err := config.DecodeApplied(text)
	if err != nil {
		return a, Exitf(macronode.ExitTrust, "%s: %w; it says which bundle was applied last, and is not guessed: restore it, or start with --allow-rollback VERSION@HASH after removing it", d.At(AppliedName), err)
	}
	return a, nil
}

// SetApplied remembers, durably, which bundle was applied last.
func (d Dir) SetApplied(a config.Applied) error {
	text, err := a.Encode()
	if err != nil {
		return err
	}
	return d.Write(AppliedName, text, disk.FileMode)
}

// Root is the keystore's root as the config says it.
func (d Dir) Root(setting string) (keystore.Root, error) {
	if keyservice.Is(setting) {
		return d.serviceRoot(setting)
	}
	r, err := keystore.ParseRoot(setting)
	if err != nil {
		return r, Exitf(macronode.ExitConfig, "kms.root: %w", err)
	}
	if r.Kind == keystore.Systemd {
		r.CredentialsDir = os.Getenv("CREDENTIALS_DIRECTORY")
	} else {
		r.Path = d.In(r.Path)
	}
	if r.Kind == keystore.Shares && d.Unseal != nil {
		r.Gather = d.gather
	}
	return r, nil
}

// Features are what this binary was built with, as the config sees it.
func Features() config.Features {
	f := buildinfo.BuiltIn()
	return config.Features{ZK: f.ZK, Arti: f.Arti, Amnesia: f.Amnesia}
}

// Clear removes what an interrupted init left. The marker goes last, so that
// what is interrupted again is still known for what it is.
func (d Dir) Clear() error {
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return err
	}
	defer lock.Close()
	names, err := d.FS.List(d.Path)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == IncompleteName || n == disk.LockName || n == "lost+found" {
			continue
		}
		if err := d.FS.RemoveAll(d.At(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return d.FS.RemoveSync(d.At(IncompleteName))
}
