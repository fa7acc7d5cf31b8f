// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/wall/policy"
)

// readFile reads a file that a command was given.
func readFile(path string) ([]byte, error) {
	text, err := disk.Real().ReadFile(path, MaxFileBytes)
	if err != nil {
		return nil, Exitf(macronode.ExitConfig, "%w", err)
	}
	return text, nil
}

// ReadSignature reads the envelope beside a bundle; nil where there is none.
func ReadSignature(f *disk.FS, file string) ([]byte, error) {
	sig, err := f.ReadFile(file+".sig", MaxFileBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return sig, err
}

// CheckBundle judges the keys and values of the bundle in file and, where dir is
// given, its hash, signature, signer and version against that data directory.
func CheckBundle(file, dir, allowRollback string) (*config.Loaded, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	if dir == "" {
		return config.Check(text, file, Features())
	}
	d, err := Open(disk.Real(), dir)
	if err != nil {
		return nil, err
	}
	return d.LoadBundle(text, file, config.Overrides{AllowRollback: config.Setting{Value: allowRollback}})
}

// LoadBundle judges a whole bundle against this directory.
func (d Dir) LoadBundle(text []byte, file string, o config.Overrides) (*config.Loaded, error) {
	// Keys and values come first: where both are wrong, they decide the exit code.
	if _, err := config.Check(text, file, Features()); err != nil {
		return nil, err
	}
	trust, err := d.Trust(o.Trust.Value)
	if err != nil {
		return nil, err
	}
	applied, err := d.Applied()
	if err != nil {
		return nil, err
	}
	sig, err := ReadSignature(d.FS, file)
	if err != nil {
		return nil, Exitf(macronode.ExitTrust, "signature: %w", err)
	}
	return config.Load(text, file, sig, config.Options{Trust: trust, Applied: applied, AllowRollback: o.AllowRollback.Value, Features: Features()})
}

// SignedBundle is what SignBundle made.
type SignedBundle struct {
	File    string `json:"file"`
	Version uint64 `json:"version"`
	Hash    string `json:"bundle_hash"`
	Signer  string `json:"signer"`
}

// SignBundle writes the hash (and with bump the next version) into the bundle in
// file, and its signature beside it. It refuses to sign what would not load.
func SignBundle(file, dir, key string, bump bool, log *slog.Logger) (*SignedBundle, error) {
	text, err := readFile(file)
	if err != nil {
		return nil, err
	}
	ref, err := bundle.ParseRef(key)
	if err != nil || ref.Kind != bundle.RefKey {
		return nil, Exitf(macronode.ExitUsage, "--key %q: want KMS:key/NAME", key)
	}
	meta, err := config.ReadMeta(text, file)
	if err != nil {
		return nil, err
	}
	version := meta.Version
	if bump {
		d, err := Open(disk.Real(), dir)
		if err != nil {
			return nil, err
		}
		applied, err := d.Applied()
		if err != nil {
			return nil, err
		}
		version = max(version, applied.Version) + 1
	}
	sealed, err := config.Seal(text, version, bundle.Ref{Kind: bundle.RefKey, Name: ref.Name}.String())
	if err != nil {
		return nil, err
	}
	if _, err := config.Check(sealed, file, Features()); err != nil {
		return nil, fmt.Errorf("not signed, for it would not load:\n%w", err)
	}
	k, err := OpenKeys(dir, log)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	signers, err := k.signers(ref)
	if err != nil {
		return nil, err
	}
	if err := WriteSigned(disk.Real(), file, sealed, signers); err != nil {
		return nil, err
	}
	if meta, err = config.ReadMeta(sealed, file); err != nil {
		return nil, err
	}
	return &SignedBundle{File: file, Version: meta.Version, Hash: meta.Hash.String(), Signer: meta.Signer}, nil
}

// WriteSigned writes the signature first: a reader between the two writes sees
// a signature that does not fit, never an unsigned bundle.
func WriteSigned(f *disk.FS, file string, text []byte, signers []bundle.Signer) error {
	env, err := bundle.Sign(bundle.ConfigType, text, signers...)
	if err != nil {
		return err
	}
	sig, err := env.Encode()
	if err != nil {
		return err
	}
	if err := f.ReplaceFile(file+".sig", sig, 0o644); err != nil {
		return err
	}
	return f.ReplaceFile(file, text, 0o644)
}

// PolicyVerifier checks policy envelopes against the directory's trust anchors,
// which are read each time: they are changed only on the machine.
func (d Dir) PolicyVerifier(trustPath string) policy.VerifierFunc {
	return func(envelope []byte) ([]byte, error) {
		trust, err := d.Trust(trustPath)
		if err != nil {
			return nil, err
		}
		env, err := bundle.Decode(envelope)
		if err != nil {
			return nil, err
		}
		if _, err := bundle.Verify(env, bundle.PolicyType, trust); err != nil {
			return nil, err
		}
		return env.Payload, nil
	}
}

// SealPolicy signs a payload with a key of purpose bundle.
func SealPolicy(signers []bundle.Signer) policy.SignFunc {
	return func(typ string, payload []byte) ([]byte, error) {
		env, err := bundle.Sign(typ, payload, signers...)
		if err != nil {
			return nil, err
		}
		return env.Encode()
	}
}

// SignatureKeyIDs are the keys that claim to have signed the bundle in file; none
// where there is no signature.
func SignatureKeyIDs(file string) ([]string, error) {
	sig, err := ReadSignature(disk.Real(), file)
	if err != nil || sig == nil {
		return []string{}, err
	}
	env, err := bundle.Decode(sig)
	if err != nil {
		return nil, Exitf(macronode.ExitTrust, "%s.sig: %w", file, err)
	}
	ids := make([]string, len(env.Signatures))
	for i, s := range env.Signatures {
		ids[i] = s.KeyID
	}
	return ids, nil
}

// WriteFile writes a command's output file, durably. It replaces the file, and so
// refuses what is no file, such as a device.
func WriteFile(path string, data []byte, private bool) error {
	if info, err := disk.Real().Stat(path); err == nil && !info.Mode().IsRegular() {
		return Exitf(macronode.ExitUsage, "%s is not a regular file", path)
	}
	mode := fs.FileMode(0o644)
	if private {
		mode = disk.FileMode
	}
	return disk.Real().ReplaceFile(path, data, mode)
}

// WriteSources writes policy sources into dir, which must be missing or empty.
func WriteSources(dir string, sources policy.Sources) error {
	d, err := Open(disk.Real(), dir)
	if err != nil {
		return err
	}
	if empty, err := d.Empty(); err != nil || !empty {
		return errors.Join(err, Exitf(macronode.ExitUsage, "%s is not empty", d.Path))
	}
	if err := d.FS.MkdirAllSync(d.Path); err != nil {
		return err
	}
	for name, text := range sources {
		if err := d.FS.ReplaceFile(filepath.Join(d.Path, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
