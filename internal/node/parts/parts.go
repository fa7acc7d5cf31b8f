// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package parts makes what a running node and the commands beside it have in
// common: the metadata store, ron-auth, the place of the pinned policy.
package parts

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/listen/gateway"
	"github.com/rustyonions/macronode/internal/listen/oapd"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/store/pebblekv"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/audit"
	"github.com/rustyonions/macronode/internal/svc/index"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/identity"
	"github.com/rustyonions/macronode/internal/svc/kms/kmsapi"
	"github.com/rustyonions/macronode/internal/svc/kms/minting"
	"github.com/rustyonions/macronode/internal/svc/mailbox"
	"github.com/rustyonions/macronode/internal/svc/naming"
	"github.com/rustyonions/macronode/internal/svc/omnigate"
	"github.com/rustyonions/macronode/internal/svc/ops"
	"github.com/rustyonions/macronode/internal/svc/registry"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/wall/admit"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/quota"
	"github.com/rustyonions/macronode/revocation"
)

// KeysSource is the pinned policy bundle, in the keystore.
type KeysSource struct {
	Keys *kms.Store
	Ref  bundle.Ref
}

// Fetch implements policy.Source.
func (s KeysSource) Fetch(context.Context) ([]byte, error) {
	data, _, err := s.Keys.Object(s.Ref)
	return data, err
}

// maxMetaCache bounds the part of data.cache_bytes that goes to metadata.
const maxMetaCache = 64 << 20

// MetaCache is the part of data.cache_bytes that goes to the blocks of metadata;
// the rest is for objects.
func MetaCache(c *config.Config) int64 { return min(int64(c.Data.CacheBytes)/8, maxMetaCache) }

// Unreserved is the config of commands that work on a directory without running
// it: what they write is little, and a full disk is no reason not to.
func Unreserved() config.Config {
	c := config.Default()
	c.Data.ReserveBytes = 0
	return c
}

// OpenMeta opens the metadata store.
func OpenMeta(d datadir.Dir, c config.Config, log *slog.Logger, fatal func(error)) (*pebblekv.KV, error) {
	return pebblekv.Open(pebblekv.Config{FS: d.FS, Dir: d.At(datadir.MetaDir), ReserveBytes: int64(c.Data.ReserveBytes),
		CacheBytes: MetaCache(&c), Logger: log, Fatal: fatal})
}

// AccessDeps are the neighbours of ron-auth; all may be missing while a data
// directory is being made.
type AccessDeps struct {
	NodeID  string
	Audit   macronode.Auditor
	Storage *storage.Service
	Naming  *naming.Service
	Mailbox *mailbox.Service
	Further []access.Purger // of what else keeps something of tenants
	Meter   *quota.Meter
	Admit   *admit.Controller
	Idem    *idem.Keeper
	Quota   func() macronode.Quota
	Told    func([]revocation.Entry)
	Metrics access.Metrics
	Log     *slog.Logger
}

// NewAccess makes ron-auth over the metadata store and the keystore.
func NewAccess(ctx context.Context, kv store.KV, keys *kms.Store, deps AccessDeps) (*access.Service, error) {
	c := access.Config{KV: kv, Keys: minting.Keys{Store: keys}, NodeID: deps.NodeID, Signer: func() (revocation.Signer, error) { return identity.Of(keys) }, Audit: deps.Audit, Idem: deps.Idem, DefaultQuota: deps.Quota, Told: deps.Told, Metrics: deps.Metrics, Log: deps.Log}
	if c.Audit == nil {
		c.Audit = noAudit{}
	}
	if c.Idem == nil {
		c.Idem = idem.New(idem.Config{KV: kv})
	}
	if deps.Storage != nil {
		c.Purgers = append(c.Purgers, deps.Storage)
		c.Stored = deps.Storage.Usage
	}
	if deps.Naming != nil {
		c.Purgers = append(c.Purgers, deps.Naming)
	}
	if deps.Mailbox != nil {
		c.Purgers = append(c.Purgers, deps.Mailbox)
	}
	c.Purgers = append(append(c.Purgers, deps.Further...), c.Idem)
	if deps.Meter != nil {
		c.Purgers = append(c.Purgers, deps.Meter, deps.Admit)
		c.InFlight = deps.Meter.InFlight
	}
	return access.New(ctx, c)
}

// noAudit is the auditor of a data directory that is being made: there is no
// node yet to record anything for.
type noAudit struct{}

func (noAudit) Record(macronode.AuditEvent)                        {}
func (noAudit) Append(context.Context, macronode.AuditEvent) error { return nil }

// FormatError gives a store that is newer than this binary its exit code.
func FormatError(err, newer error) error {
	if errors.Is(err, newer) {
		return datadir.Exitf(macronode.ExitConfig, "%w; run the version that wrote it, or restore a snapshot of this one's", err)
	}
	return err
}

// ServiceNames are the names of a node's services in start order: label values
// that must be known before the services are made.
func ServiceNames() []string {
	return []string{ops.Name, audit.Name, kmsapi.Name, access.Name, policy.Name, storage.Name, naming.Name, mailbox.Name, registry.Name, index.Name, omnigate.Name, gateway.Name, oapd.Name}
}

// RequiredNames are the services that a generated bundle requires: all but the
// facets, without which a node is as useful as it must be.
func RequiredNames() []string {
	return slices.DeleteFunc(ServiceNames(), func(name string) bool { return name == omnigate.Name })
}
