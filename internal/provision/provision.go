// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package provision makes data directories: keys, trust anchors, a first policy
// and config bundle, the first capabilities.
package provision

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/node/parts"
	"github.com/rustyonions/macronode/internal/store"
	"github.com/rustyonions/macronode/internal/svc/access"
	"github.com/rustyonions/macronode/internal/svc/kms"
	"github.com/rustyonions/macronode/internal/svc/kms/keystore"
	"github.com/rustyonions/macronode/internal/svc/omnigate"
	"github.com/rustyonions/macronode/internal/svc/registry/chain"
	"github.com/rustyonions/macronode/internal/wall/policy"
	"github.com/rustyonions/macronode/internal/wall/policy/mark"
	"github.com/rustyonions/macronode/registry"
)

// Values of Options.TLS.
const (
	TLSSelfSigned = "self-signed"
	TLSNone       = "none"
)

// Options say what a new data directory is for.
type Options struct {
	Dir         string // missing or empty
	HTTP, OAP   string // addresses; "": the defaults
	Tenant      string // label of a first tenant; "": none
	TenantID    string // the id that it has on another node; "": a new one
	TLS         string // TLSSelfSigned or TLSNone; "": self-signed
	RecoveryOut string // "": no recovery export
	// Registry is an export of the registry that the node follows, RegistryID the id
	// that it must have; "": the node begins one of its own, any.
	Registry, RegistryID string
	Dev                  bool // a development node: drills, default addresses of development
}

// Report says what was made, and where.
type Report struct {
	Dir         string `json:"dir"`
	Bundle      string `json:"bundle"`
	Trust       string `json:"trust"`
	OperatorCap string `json:"operator_cap"`
	Tenant      string `json:"tenant,omitempty"`
	TenantLabel string `json:"tenant_label,omitempty"`
	TenantCap   string `json:"tenant_cap,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	NodeID      string `json:"node_id"`
	Registry    string `json:"registry"` // its id
	Recovery    string `json:"recovery,omitempty"`
}

// creation is one run of Init.
type creation struct {
	Options
	datadir.Dir
	keys    *kms.Store
	tenant  macronode.TenantID
	export  []byte  // of the registry to follow
	follows b3.Addr // its id
	report  *Report
}

// Init makes a data directory. It never asks. An init that was interrupted
// leaves a directory that the next one, and every other command, refuses.
func Init(ctx context.Context, o Options) (*Report, error) {
	if o.TLS == "" {
		o.TLS = TLSSelfSigned
	}
	if o.TLS != TLSSelfSigned && o.TLS != TLSNone {
		return nil, datadir.Exitf(macronode.ExitUsage, "--tls is %s or %s, not %q", TLSSelfSigned, TLSNone, o.TLS)
	}
	if o.TenantID != "" {
		id, err := macronode.ParseTenantID(o.TenantID)
		if err != nil || id.IsZero() || id == macronode.SystemTenant || id == macronode.AnonymousTenant || o.Tenant == "" {
			return nil, datadir.Exitf(macronode.ExitUsage, "--tenant-id %q: it is the id, a ULID, of the tenant that --tenant names", o.TenantID)
		}
	}
	if o.Tenant != "" && !access.ValidLabel(o.Tenant) {
		return nil, datadir.Exitf(macronode.ExitUsage, "--tenant %q: a label is 1 to 63 of a-z, 0-9 and -, and does not begin with -", o.Tenant)
	}
	d, err := datadir.Open(disk.Real(), o.Dir)
	if err != nil {
		return nil, err
	}
	empty, err := d.Empty()
	if err != nil {
		return nil, err
	}
	if !empty {
		if d.Exists(datadir.IncompleteName) {
			return nil, datadir.Exitf(macronode.ExitConfig, "%s: an earlier init did not finish; nothing in it is in use: remove it and run init again", d.Path)
		}
		return nil, datadir.Exitf(macronode.ExitConfig, "%s is not empty; init makes a new data directory", d.Path)
	}
	if o.RecoveryOut != "" {
		if _, err := d.FS.Stat(o.RecoveryOut); err == nil {
			return nil, datadir.Exitf(macronode.ExitUsage, "--recovery-out %s is there already", o.RecoveryOut)
		}
	}
	export, follows, err := o.readExport(d.FS)
	if err != nil {
		return nil, err
	}
	if err := d.FS.MkdirAllSync(d.Path); err != nil {
		return nil, err
	}
	lock, err := d.FS.LockDir(d.Path)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	c := &creation{Options: o, Dir: d, export: export, follows: follows, report: &Report{
		Dir: d.Path, Bundle: d.At(datadir.BundleName), Trust: d.At(datadir.TrustName), OperatorCap: d.At(datadir.OperatorCapName)}}
	return c.report, c.run(ctx)
}

func (c *creation) run(ctx context.Context) error {
	if err := c.Write(datadir.IncompleteName, []byte("an init is under way, or was interrupted\n"), disk.FileMode); err != nil {
		return err
	}
	if c.Tenant != "" {
		c.tenant = macronode.TenantID(ulid.MustNew(ulid.Now(), rand.Reader))
		if c.TenantID != "" {
			c.tenant, _ = macronode.ParseTenantID(c.TenantID) // it was looked at first
		}
	}
	if err := c.makeKeys(ctx); err != nil {
		return err
	}
	defer c.keys.Close()
	for _, step := range []func(context.Context) error{c.makeCertificate, c.makeTrust, c.makePolicy, c.makeCaps, c.makeRecovery} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return c.FS.RemoveSync(c.At(datadir.IncompleteName))
}

func (c *creation) makeKeys(ctx context.Context) error {
	rootKey := c.At(datadir.RootKeyName)
	if err := keystore.WriteKeyFile(c.FS, rootKey); err != nil {
		return err
	}
	if err := keystore.Create(c.FS, c.At(datadir.KeystoreDir), keystore.Root{Kind: keystore.KeyFile, Path: rootKey}); err != nil {
		return err
	}
	var err error
	if c.keys, err = c.OpenKeystore(config.DefaultKMSRoot, kms.Options{}, false); err != nil {
		return err
	}
	for _, s := range []kms.Spec{
		{Name: datadir.KeyRelease, Alg: kms.Ed25519MLDSA65, Purpose: kms.PurposeBundle},
		{Name: datadir.KeyPolicy, Alg: kms.Ed25519MLDSA65, Purpose: kms.PurposeBundle},
		{Name: datadir.KeyNode, Alg: kms.P256, Purpose: kms.PurposeNode},
		{Name: datadir.KeyTLS, Alg: kms.P256, Purpose: kms.PurposeTLS},
		{Name: datadir.KeyAudit, Alg: kms.Ed25519MLDSA44, Purpose: kms.PurposeAudit},
	} {
		if _, _, err := c.keys.Create(ctx, s); err != nil {
			return fmt.Errorf("key %s: %w", s.Name, err)
		}
	}
	c.report.NodeID, err = c.keys.NodeID()
	return err
}

func (c *creation) makeCertificate(ctx context.Context) error {
	if c.TLS == TLSNone {
		return nil
	}
	spec := kms.CertSpec{DNS: []string{"localhost"}, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, CommonName: "macronode " + c.report.NodeID}
	if host, err := os.Hostname(); err == nil && host != "localhost" && host != "" {
		spec.DNS = append(spec.DNS, host)
	}
	if host, _, err := net.SplitHostPort(c.HTTP); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() && !ip.IsLoopback() {
			spec.IPs = append(spec.IPs, ip)
		}
	}
	pem, err := c.keys.SelfSigned(bundle.Ref{Kind: bundle.RefKey, Name: datadir.KeyTLS}, kms.PurposeTLS, spec)
	if err != nil {
		return err
	}
	if _, _, err := c.keys.PutObject(ctx, datadir.ObjCertChain, 0, pem); err != nil {
		return err
	}
	c.report.Certificate = c.At(datadir.CertName)
	return c.Write(datadir.CertName, pem, 0o644)
}

// makeTrust makes the two signing keys the anchors of their purposes.
func (c *creation) makeTrust(context.Context) error {
	config, err := c.anchor(datadir.KeyRelease)
	if err != nil {
		return err
	}
	policy, err := c.anchor(datadir.KeyPolicy)
	if err != nil {
		return err
	}
	trust := bundle.Trust{V: 1, Config: bundle.Role{Threshold: 1, Anchors: []bundle.Anchor{config}},
		Policy: bundle.Role{Threshold: 1, Anchors: []bundle.Anchor{policy}}}
	text, err := trust.Encode()
	if err != nil {
		return err
	}
	return c.Write(datadir.TrustName, text, disk.FileMode)
}

func (c *creation) anchor(name string) (bundle.Anchor, error) {
	a := bundle.Anchor{Name: name, Version: 1}
	halves, err := c.keys.Signers(bundle.Ref{Kind: bundle.RefKey, Name: name}, kms.PurposeBundle)
	for _, h := range halves {
		switch h.Alg() {
		case bundle.AlgEd25519:
			a.Ed25519 = h.Public()
		case bundle.AlgMLDSA65:
			a.MLDSA65 = h.Public()
		}
	}
	return a, err
}

func (c *creation) signers(name string) ([]bundle.Signer, error) {
	return datadir.Signers(c.keys, bundle.Ref{Kind: bundle.RefKey, Name: name})
}

// makePolicy makes the policy bundle and the config bundle that pins it.
func (c *creation) makePolicy(ctx context.Context) error {
	var sources policy.Sources
	switch {
	case c.Dev:
		sources = policy.DevSources(c.tenant)
	case c.Tenant != "":
		sources = policy.InitSources(c.tenant)
	default:
		sources = policy.InitSources()
	}
	payload, _, err := policy.Build(sources, policy.Meta{Version: 1, Issued: time.Now()})
	if err != nil {
		return err
	}
	signers, err := c.signers(datadir.KeyPolicy)
	if err != nil {
		return err
	}
	envelope, err := policy.Seal(payload, datadir.SealPolicy(signers))
	if err != nil {
		return err
	}
	if _, _, err := c.keys.PutObject(ctx, datadir.ObjPolicy, 1, envelope); err != nil {
		return err
	}
	pin, err := bundle.ParseDigest(policy.Hash(payload))
	if err != nil {
		return err
	}
	m, err := mark.Mark{}.Advance(mark.Bundle{Version: 1, Hash: pin.String()}, true)
	if err != nil {
		return err
	}
	if err := datadir.NewPolicyMark(c.keys).Set(ctx, m); err != nil {
		return err
	}
	return c.makeBundle(pin)
}

func (c *creation) makeBundle(pin bundle.Digest) error {
	release := bundle.Ref{Kind: bundle.RefKey, Name: datadir.KeyRelease}
	o := config.GenOptions{
		Version: 1, Signer: release, Bind: c.HTTP, OAPBind: c.OAP, Drills: c.Dev,
		RequiredServices: parts.RequiredNames(), PolicyBundle: bundle.Ref{Kind: bundle.RefObject, Name: datadir.ObjPolicy, Version: 1}, PolicyHash: pin,
	}
	if c.Dev {
		o.Title, o.Bind, o.OAPBind = "macronode development bundle", config.DefaultDevBind, config.DefaultDevOAP
		o.Facets = omnigate.Names
	}
	if c.TLS == TLSSelfSigned && !c.Dev {
		o.TLSKey, o.TLSChain = bundle.Ref{Kind: bundle.RefKey, Name: datadir.KeyTLS}, bundle.Ref{Kind: bundle.RefObject, Name: datadir.ObjCertChain}
	}
	text, err := config.Generate(o)
	if err != nil {
		return err
	}
	signers, err := c.signers(datadir.KeyRelease)
	if err != nil {
		return err
	}
	return datadir.WriteSigned(c.FS, c.At(datadir.BundleName), text, signers)
}

// makeCaps makes the registry, the tenants and their first capabilities.
func (c *creation) makeCaps(ctx context.Context) error {
	kv, err := parts.OpenMeta(c.Dir, parts.Unreserved(), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return err
	}
	defer kv.Close()
	acc, err := parts.NewAccess(ctx, kv, c.keys, parts.AccessDeps{})
	if err != nil {
		return err
	}
	if c.report.Registry, err = c.makeRegistry(ctx, kv); err != nil {
		return err
	}
	if err := writeCap(ctx, acc, c.Dir, macronode.SystemTenant, datadir.OperatorCapName); err != nil {
		return err
	}
	if c.Tenant == "" {
		return nil
	}
	if _, err := acc.Ensure(ctx, c.tenant, c.Tenant, macronode.UnlimitedQuota()); err != nil {
		return err
	}
	c.report.Tenant, c.report.TenantLabel, c.report.TenantCap = c.tenant.String(), c.Tenant, c.At(datadir.TenantCapName)
	return writeCap(ctx, acc, c.Dir, c.tenant, datadir.TenantCapName)
}

// makeRegistry begins a registry, or takes over the one that the node follows.
func (c *creation) makeRegistry(ctx context.Context, kv store.KV) (string, error) {
	if c.Options.Registry == "" {
		id, err := parts.FoundRegistry(ctx, kv, c.keys, c.report.NodeID)
		return id.String(), err
	}
	id, err := chain.Join(ctx, kv, bytes.NewReader(c.export), c.follows)
	return id.String(), err
}

// readExport reads and verifies the export of the registry to follow, before anything
// is made.
func (o *Options) readExport(fs *disk.FS) (export []byte, id b3.Addr, err error) {
	if o.Registry == "" {
		if o.RegistryID != "" {
			return nil, id, datadir.Exitf(macronode.ExitUsage, "--registry-id is of the registry that --registry brings")
		}
		return nil, id, nil
	}
	if export, err = fs.ReadFile(o.Registry, maxExportBytes); err != nil {
		return nil, id, err
	}
	v, err := registry.VerifyAny(bytes.NewReader(export))
	if err == nil && v.Head == nil {
		err = errors.New("its end is not signed")
	}
	if err == nil && o.RegistryID != "" && v.State.Registry().String() != o.RegistryID {
		err = fmt.Errorf("it is the registry %s", v.State.Registry())
	}
	if err != nil {
		return nil, id, datadir.Exitf(macronode.ExitTrust, "%s: %w", o.Registry, err)
	}
	return export, v.State.Registry(), nil
}

// maxExportBytes bounds an export of a registry that is read.
const maxExportBytes = 256 << 20

func (c *creation) makeRecovery(context.Context) error {
	if c.RecoveryOut == "" {
		return nil
	}
	export, err := keystore.ExportRecovery(c.FS, c.At(datadir.KeystoreDir), keystore.Root{Kind: keystore.KeyFile, Path: c.At(datadir.RootKeyName)})
	if err != nil {
		return err
	}
	path, err := c.FS.Abs(c.RecoveryOut)
	if err != nil {
		return err
	}
	c.report.Recovery = path
	return c.FS.ReplaceFile(path, export, disk.FileMode)
}

// writeCap mints a capability for all that policy lets the tenant do.
func writeCap(ctx context.Context, acc *access.Service, d datadir.Dir, tenant macronode.TenantID, name string) error {
	token, err := acc.MintFor(ctx, tenant)
	if err != nil {
		return err
	}
	return d.Write(name, []byte(token.Text()+"\n"), disk.FileMode)
}
