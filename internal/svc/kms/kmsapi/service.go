// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package kmsapi offers the node's keys and objects to callers: the routes, what
// they read and answer, and the memory of idempotency keys. What may be done with
// a key is decided by package kms, which this one only asks.
//
// Names are the node's, not a tenant's: every route refuses capabilities of any
// tenant but the built-in "system", before policy's word counts for anything, so
// that a lax policy for one tenant does not open the operator's keys to it.
//
// Objects are read back by the node alone: no route returns their bytes.
//
// # Idempotency-Key
//
// Create, rotate and drop keep their answers in the metadata store, as every
// change of the node does, for 24 hours and over restarts. Sign, wrap and put
// keep theirs in memory alone: what they are asked with may be secret, and not
// even a hash of it leaves the keystore. Verify, unwrap and the lists answer the
// same by nature, and keep nothing: an unwrapped secret is not remembered.
package kmsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/kms"
)

// Name is the service's name in config, metrics and events.
const Name = "ron-kms"

// Service offers the store to callers.
type Service struct {
	store   *kms.Store
	idem    *idem.Keeper
	replays *replays
}

var _ macronode.Service = (*Service)(nil)

// New makes the service over a store, which stays its owner's to close. Now may
// be nil: time.Now.
func New(store *kms.Store, keeper *idem.Keeper, now func() time.Time) *Service {
	if now == nil {
		now = time.Now
	}
	return &Service{store: store, idem: keeper, replays: newReplays(now)}
}

// Name is "ron-kms".
func (*Service) Name() string { return Name }

// Serve waits for ctx: nothing runs on its own.
func (*Service) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready returns nil while the store is open. Damaged records do not make it fail:
// the others work, and who needs a damaged one is not ready for that reason.
func (s *Service) Ready(context.Context) error {
	return s.store.Ready()
}

// operator admits capabilities of the system tenant alone: key names are the
// node's.
func operator(a *macronode.Admitted) error {
	if a.Principal == nil || a.Principal.Kind != macronode.Capability || a.Tenant == nil || a.Tenant.ID != macronode.SystemTenant {
		return macronode.Errorf(macronode.Denied, "the KMS is the operator's")
	}
	return nil
}

// readBody reads the whole body, which the wall has bounded.
func readBody(a *macronode.Admitted) ([]byte, error) {
	if a.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(a.Body)
	if err != nil {
		var e *macronode.Error
		if errors.As(err, &e) {
			return nil, e
		}
		return nil, macronode.Wrap(macronode.Malformed, "the body ended early", err)
	}
	return b, nil
}

// decode reads a JSON body into v, strictly. The error says nothing of the
// values, which may be secrets.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return macronode.Errorf(macronode.Malformed, "the body is not the JSON object that this route takes")
	}
	return nil
}

func reply(status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: status, ContentType: "application/json", Body: b, Length: int64(len(b))}, nil
}
