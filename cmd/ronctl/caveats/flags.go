// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package caveats is what ronctl does with caveats offline: flags that become
// caveats, and third parties.
package caveats

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Flags are what --actions and its like say.
type Flags struct {
	Actions, Resources, Methods, Confine, Nets []string
	Expires                                    time.Duration
	MaxBytes                                   int64
	Rate, Node, ClientCert                     string
}

// Register adds the flags to f.
func (n *Flags) Register(f *pflag.FlagSet) {
	f.StringSliceVar(&n.Actions, "actions", nil, "actions allowed: object:get,name:*")
	f.StringSliceVar(&n.Resources, "resources", nil, "resources allowed: object/b3:…,topic/jobs*")
	f.StringSliceVar(&n.Methods, "methods", nil, "HTTP methods allowed")
	f.StringSliceVar(&n.Confine, "confine", nil, "services allowed: svc-storage")
	f.StringSliceVar(&n.Nets, "ip", nil, "networks to come from, CIDR")
	f.DurationVar(&n.Expires, "expires", 0, "valid this long from now")
	f.Int64Var(&n.MaxBytes, "max-bytes", 0, "request plus response bytes of one call")
	f.StringVar(&n.Rate, "rate", "", "requests a second and burst: PER_S/BURST")
	f.StringVar(&n.ClientCert, "client-cert", "", "PEM file: good only over a connection with this client certificate")
	f.StringVar(&n.Node, "for-node", "", "the one node_id that may accept it")
}

// ParseRate reads --rate; zeros where it is not given.
func (n *Flags) ParseRate() (perSec, burst int64, err error) {
	if n.Rate == "" {
		return 0, 0, nil
	}
	a, b, ok := strings.Cut(n.Rate, "/")
	perSec, err1 := strconv.ParseInt(a, 10, 64)
	burst, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || perSec < 0 || burst < 1 {
		return 0, 0, cli.Usagef("--rate is PER_S/BURST, for example 10/20, not %q", n.Rate)
	}
	return perSec, burst, nil
}

// check refuses a list that is given and empty: it would narrow nothing, where
// the intent, from a script's empty variable perhaps, was to allow little.
func (n *Flags) check(changed func(string) bool) error {
	for _, l := range []struct {
		flag  string
		items []string
	}{{"actions", n.Actions}, {"resources", n.Resources}, {"methods", n.Methods}, {"confine", n.Confine}, {"ip", n.Nets}} {
		if changed(l.flag) && (len(l.items) == 0 || slices.Contains(l.items, "")) {
			return cli.Usagef("--%s is empty", l.flag)
		}
	}
	for _, t := range []struct{ flag, text string }{{"rate", n.Rate}, {"for-node", n.Node}, {"client-cert", n.ClientCert}} {
		if changed(t.flag) && t.text == "" {
			return cli.Usagef("--%s is empty", t.flag)
		}
	}
	return nil
}

// Caveats are the flags as caveats, for narrowing offline.
func (n *Flags) Caveats(now time.Time, changed func(string) bool) ([]capability.Caveat, error) {
	if err := n.check(changed); err != nil {
		return nil, err
	}
	var out []capability.Caveat
	if n.Expires < 0 || n.MaxBytes < 0 {
		return nil, cli.Usagef("--expires and --max-bytes are not negative")
	}
	if changed("expires") {
		out = append(out, capability.ExpiresAt(now.Add(n.Expires).Unix()))
	}
	for _, l := range []struct {
		items []string
		make  func(...string) capability.Caveat
	}{{n.Actions, capability.OnActions}, {n.Resources, capability.OnResources}, {n.Methods, capability.ByMethods}, {n.Confine, capability.ConfinedTo}} {
		if len(l.items) > 0 {
			out = append(out, l.make(l.items...))
		}
	}
	if len(n.Nets) > 0 {
		var nets []netip.Prefix
		for _, s := range n.Nets {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, cli.Usagef("--ip: %v", err)
			}
			nets = append(nets, p)
		}
		out = append(out, capability.FromNets(nets...))
	}
	if changed("max-bytes") {
		out = append(out, capability.AtMostBytes(n.MaxBytes))
	}
	perSec, burst, err := n.ParseRate()
	if err != nil {
		return nil, err
	}
	if n.Rate != "" {
		out = append(out, capability.AtRate(perSec, burst))
	}
	if n.Node != "" {
		out = append(out, capability.ForNode(n.Node))
	}
	if n.ClientCert != "" {
		sum, err := certHash(n.ClientCert)
		if err != nil {
			return nil, err
		}
		out = append(out, capability.WithClientCert(sum))
	}
	for _, c := range out {
		if err := c.Err(); err != nil {
			return nil, cli.Usage(err)
		}
	}
	return out, nil
}

// certHash is the SHA-256 of the first certificate of a PEM file, DER: the one
// that a client shows first.
func certHash(path string) (sum [32]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return sum, fmt.Errorf("client certificate: %w", err)
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return sum, fmt.Errorf("client certificate %s: the file holds no PEM certificate", path)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return sum, fmt.Errorf("client certificate %s: %w", path, err)
		}
		return sha256.Sum256(block.Bytes), nil
	}
}
