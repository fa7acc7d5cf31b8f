// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/mark"
)

// PolicyMark is how far the directory's policy has come; the zero Mark in one
// that knows none. Beside a running node the keystore is read.
func (k *Keys) PolicyMark() (mark.Mark, error) {
	if err := k.unseal(); err != nil {
		return mark.Mark{}, err
	}
	return NewPolicyMark(k.store).Mark()
}

// SignPolicy adds the key's signatures to an envelope of payload; to, where it is
// not nil, is an envelope of the same payload whose signatures are kept. With
// install, "NAME" or "NAME@vN", the envelope is kept as that KMS object too; the
// version it has there is returned.
func (k *Keys) SignPolicy(ctx context.Context, payload []byte, to *bundle.Envelope, key, install string) (envelope []byte, kept *kms.ObjectInfo, err error) {
	ref, err := bundle.ParseRef(key)
	if err != nil || ref.Kind != bundle.RefKey {
		return nil, nil, Exitf(macronode.ExitUsage, "--key %q: want KMS:key/NAME", key)
	}
	target, err := bundle.ParseRef("KMS:obj/" + install)
	if install != "" && err != nil {
		return nil, nil, Exitf(macronode.ExitUsage, "--install %q: want NAME or NAME@vN", install)
	}
	signers, err := k.signers(ref)
	if err != nil {
		return nil, nil, err
	}
	seal := SealPolicy(signers)
	if to != nil {
		seal = func(string, []byte) ([]byte, error) {
			env, err := to.Add(signers...)
			if err != nil {
				return nil, err
			}
			return env.Encode()
		}
	}
	if envelope, err = policy.Seal(payload, seal); err != nil || install == "" {
		return envelope, nil, err
	}
	info, err := k.PutObject(ctx, target.Name, target.Version, envelope)
	if err != nil {
		return nil, nil, err
	}
	return envelope, &info, nil
}

// SignPolicy signs payload with the keys of the directory at dir: see
// [Keys.SignPolicy].
func SignPolicy(ctx context.Context, payload []byte, dir, key, install string, log *slog.Logger) (envelope []byte, kept *kms.ObjectInfo, err error) {
	k, err := OpenKeys(dir, log)
	if err != nil {
		return nil, nil, err
	}
	defer k.Close()
	return k.SignPolicy(ctx, payload, nil, key, install)
}

// PolicySigners says who signed an envelope, by the data directory's trust
// anchors, and how many must have. The error is of those that are not enough; the
// rest is told with it.
type PolicySigners struct {
	Signed    []string `json:"signed"` // NAME#vN of the anchors whose signatures verify
	Threshold int      `json:"threshold"`
}

// VerifyPolicy checks an envelope's signatures against the data directory's
// trust anchors and returns its payload and who signed it.
func VerifyPolicy(envelope []byte, dir string) ([]byte, PolicySigners, error) {
	d, err := Open(disk.Real(), dir)
	if err != nil {
		return nil, PolicySigners{}, err
	}
	trust, err := d.Trust("")
	if err != nil {
		return nil, PolicySigners{}, err
	}
	env, err := bundle.Decode(envelope)
	if err != nil {
		return nil, PolicySigners{}, Exitf(macronode.ExitTrust, "%w", err)
	}
	by := PolicySigners{Signed: []string{}, Threshold: trust.Policy.Threshold}
	// Whoever counts alone counts among others.
	one := *trust
	one.Policy.Threshold = 1
	if signed, err := bundle.Verify(env, bundle.PolicyType, &one); err == nil {
		for _, s := range signed {
			by.Signed = append(by.Signed, s.String())
		}
	}
	if _, err := bundle.Verify(env, bundle.PolicyType, trust); err != nil {
		return nil, by, Exitf(macronode.ExitTrust, "%w", err)
	}
	return env.Payload, by, nil
}

// NextPolicy is what a new bundle of this directory should say of itself: the
// version after the one in force, at least the one asked for, and which bundle it
// follows. Where no mark is known it is the version asked for, following nothing.
func (k *Keys) NextPolicy(want int64) (version int64, previous string, err error) {
	m, err := k.PolicyMark()
	if err != nil {
		return 0, "", fmt.Errorf("policy mark: %w", err)
	}
	if m.IsZero() {
		return max(want, 1), "", nil
	}
	return max(want, m.Version+1), m.InForce().Hash, nil
}
