// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/keyservice"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/svc/kms/locked"
)

// RootSealedName is the root secret as the key service sealed it.
const RootSealedName = "root.sealed"

const (
	rootSecretBytes = 32
	maxSealedBytes  = 64 << 10
	// servicePatience is how long a start waits for a key service that is away.
	servicePatience = 30 * time.Second
)

// sealedRoot is the content of root.sealed.
type sealedRoot struct {
	V      int    `json:"v"`      // 1
	Sealed []byte `json:"sealed"` // what the service made of it
}

func (d Dir) service(setting string) (*keyservice.Service, error) {
	s, err := keyservice.Parse(setting, keyservice.Options{FS: d.FS, In: d.In, CredentialsDir: os.Getenv("CREDENTIALS_DIRECTORY")})
	if err != nil {
		return nil, Exitf(macronode.ExitConfig, "kms.root: %w", err)
	}
	return s, nil
}

// serviceRoot is the root that a key service opens.
func (d Dir) serviceRoot(setting string) (keystore.Root, error) {
	s, err := d.service(setting)
	if err != nil {
		return keystore.Root{}, err
	}
	return keystore.Root{Kind: keystore.Service, Path: setting, Fetch: func(a *locked.Arena) (*locked.Secret, error) {
		return d.fetchRoot(s, a)
	}}, nil
}

func (d Dir) fetchRoot(s *keyservice.Service, a *locked.Arena) (*locked.Secret, error) {
	text, err := d.FS.ReadFile(d.At(RootSealedName), maxSealedBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; seal it with macronode kms seal-root", d.At(RootSealedName), err)
	}
	if err != nil {
		return nil, err
	}
	var doc sealedRoot
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if dec.Decode(&doc) != nil || doc.V != 1 || len(doc.Sealed) == 0 || dec.More() {
		return nil, Exitf(macronode.ExitConfig, "%s is damaged: restore it from a backup, or the root from the recovery export", d.At(RootSealedName))
	}
	ctx, patience := context.Background(), time.Duration(0)
	var away func(error)
	if d.Unseal != nil {
		ctx, patience, away = d.Unseal.Context, servicePatience, d.Unseal.Away
	}
	plain, err := s.Open(ctx, doc.Sealed, patience, away)
	if err != nil {
		return nil, err
	}
	if len(plain) != rootSecretBytes {
		clear(plain)
		return nil, keystore.ErrWrongRoot
	}
	return a.Take(plain), nil
}

// SealRoot seals the keystore of the directory at path, which nobody may hold, by
// a new root that the key service to seals and opens. The old root, which is from
// or, where that is "", what the bundle says, opens it no more.
func SealRoot(ctx context.Context, path, to, from string) error {
	d, err := Open(disk.Real(), path)
	if err != nil {
		return err
	}
	if !keyservice.Is(to) {
		return Exitf(macronode.ExitUsage, "--to: %w", keyservice.ErrURL)
	}
	s, err := d.service(to)
	if err != nil {
		return err
	}
	return d.reseal(from, func(a *locked.Arena) (keystore.Root, error) {
		secret := a.Make(rootSecretBytes)
		root := keystore.Root{Kind: keystore.Service, Path: to, Secret: secret}
		if _, err := rand.Read(secret.Bytes()); err != nil {
			return root, err
		}
		sealed, err := s.Seal(ctx, secret.Bytes())
		if err != nil {
			return root, serviceExit(err)
		}
		// What it sealed it must open, before anything depends on it.
		back, err := s.Open(ctx, sealed, 0, nil)
		if err != nil {
			return root, serviceExit(err)
		}
		same := bytes.Equal(back, secret.Bytes())
		clear(back)
		if !same {
			return root, errors.New("the key service opens another secret than it sealed")
		}
		text, err := json.Marshal(sealedRoot{1, sealed})
		if err != nil {
			return root, err
		}
		return root, d.FS.ReplaceFile(d.At(RootSealedName), append(text, '\n'), disk.FileMode)
	})
}

// serviceExit gives a failure of a key service its exit code.
func serviceExit(err error) error {
	switch {
	case errors.Is(err, keyservice.ErrAway):
		return Exitf(macronode.ExitNotReady, "%w", err)
	case errors.Is(err, keyservice.ErrRefused):
		return Exitf(macronode.ExitConfig, "%w", err)
	}
	return err
}
