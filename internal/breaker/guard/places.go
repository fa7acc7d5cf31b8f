// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package guard

import (
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/breaker"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Names of the node's own dependencies.
const (
	MetadataName = "metadata"
	ObjectsName  = "objects"
	KeystoreName = "keystore"
	PolicyName   = "policy_source"
)

const (
	// storeStall is how long nothing may come back from a store: longer than a
	// busy disk takes, shorter than a request may last.
	storeStall = 10 * time.Second
	// nearRetry is for what policy depends on: policy must be back within a
	// second of its source, so the source is tried often.
	nearRetry = 250 * time.Millisecond
	// lockoutBound: while policy's source is held off nobody is allowed anything,
	// the operator included, so it ends by itself.
	lockoutBound = 30 * time.Second
)

// Metadata puts a breaker before kv.
func Metadata(r *breaker.Registry, kv store.KV) (*KV, *breaker.Breaker) {
	b := r.Add(breaker.Config{Name: MetadataName, Stall: storeStall, Probe: ProbeKV(kv), Required: true})
	return NewKV(kv, b), b
}

// ObjectStore puts a breaker before o.
func ObjectStore(r *breaker.Registry, o store.Objects) *Objects {
	return NewObjects(o, r.Add(breaker.Config{Name: ObjectsName, Stall: storeStall, Probe: ProbeObjects(o), Required: true}))
}

// Keystore puts a breaker before a vault. It retries soon and cannot be held open
// for long, for the policy bundle lies there.
func Keystore(r *breaker.Registry) func(kms.Vault) kms.Vault {
	return func(v kms.Vault) kms.Vault {
		return NewVault(v, r.Add(breaker.Config{Name: KeystoreName, OpenFor: nearRetry, MaxOpenFor: nearRetry, Trials: 1, Stall: storeStall,
			Probe: ProbeVault(v), MaxHeldOpen: lockoutBound, Required: true}))
	}
}

// Policy makes the breaker of the policy source. Its service reads all the time,
// so there is no probe.
func Policy(r *breaker.Registry) *breaker.Breaker {
	return r.Add(breaker.Config{Name: PolicyName, Refusal: macronode.PolicyUnavailable, Failures: 3, OpenFor: nearRetry, MaxOpenFor: nearRetry,
		Trials: 1, Judge: breaker.Strict, MaxHeldOpen: lockoutBound, Required: true})
}
