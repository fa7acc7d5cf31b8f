// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/datadir"
	"github.com/rustyonions/macronode/internal/disk"
	"github.com/rustyonions/macronode/internal/provision"
)

// devTenant is the label of development mode's tenant.
const devTenant = "dev"

// PrepareDev makes the development data directory where it is missing, and
// points o at it.
func PrepareDev(ctx context.Context, o *Options) error {
	for flag, addr := range map[string]string{"--http": o.HTTP, "--oap": o.OAP} {
		if addr == "" {
			continue
		}
		if err := loopback(addr); err != nil {
			return datadir.Exitf(macronode.ExitUsage, "%s %s: %w", flag, addr, err)
		}
	}
	d, err := datadir.Open(disk.Real(), o.Dir)
	if err != nil {
		return err
	}
	o.Dir, o.dev = d.Path, true
	o.Bundle = d.At(datadir.BundleName)
	if d.Exists(datadir.IncompleteName) {
		// Nothing in it was ever in use.
		if err := d.Clear(); err != nil {
			return err
		}
	}
	if d.Exists(datadir.BundleName) {
		return nil
	}
	_, err = provision.Init(ctx, provision.Options{Dir: d.Path, Tenant: devTenant, TLS: provision.TLSNone, Dev: true})
	return err
}

func loopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	ip, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return errors.New("development mode listens on loopback addresses alone")
	}
	return nil
}
