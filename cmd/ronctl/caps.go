// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// narrowing is what --actions and its like say.
type narrowing struct {
	actions, resources, methods, confine, nets []string
	expires                                    time.Duration
	maxBytes                                   int64
	rate, node                                 string
}

func (n *narrowing) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&n.actions, "actions", nil, "actions allowed: object:get,name:*")
	f.StringSliceVar(&n.resources, "resources", nil, "resources allowed: object/b3:…,topic/jobs*")
	f.StringSliceVar(&n.methods, "methods", nil, "HTTP methods allowed")
	f.StringSliceVar(&n.confine, "confine", nil, "services allowed: svc-storage")
	f.StringSliceVar(&n.nets, "ip", nil, "networks to come from, CIDR")
	f.DurationVar(&n.expires, "expires", 0, "valid this long from now")
	f.Int64Var(&n.maxBytes, "max-bytes", 0, "request plus response bytes of one call")
	f.StringVar(&n.rate, "rate", "", "requests a second and burst: PER_S/BURST")
	f.StringVar(&n.node, "for-node", "", "the one node_id that may accept it")
}

func (n *narrowing) parseRate() (perSec, burst int64, err error) {
	if n.rate == "" {
		return 0, 0, nil
	}
	a, b, ok := strings.Cut(n.rate, "/")
	perSec, err1 := strconv.ParseInt(a, 10, 64)
	burst, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil || perSec < 0 || burst < 1 {
		return 0, 0, cli.Usagef("--rate is PER_S/BURST, for example 10/20, not %q", n.rate)
	}
	return perSec, burst, nil
}

// check refuses a list that is given and empty: it would narrow nothing, where
// the intent, from a script's empty variable perhaps, was to allow little.
func (n *narrowing) check(changed func(string) bool) error {
	for _, l := range []struct {
		flag  string
		items []string
	}{{"actions", n.actions}, {"resources", n.resources}, {"methods", n.methods}, {"confine", n.confine}, {"ip", n.nets}} {
		if changed(l.flag) && (len(l.items) == 0 || slices.Contains(l.items, "")) {
			return cli.Usagef("--%s is empty", l.flag)
		}
	}
	for _, t := range []struct{ flag, text string }{{"rate", n.rate}, {"for-node", n.node}} {
		if changed(t.flag) && t.text == "" {
			return cli.Usagef("--%s is empty", t.flag)
		}
	}
	return nil
}

// caveats are the flags as caveats, for narrowing offline.
func (n *narrowing) caveats(now time.Time, changed func(string) bool) ([]capability.Caveat, error) {
	if err := n.check(changed); err != nil {
		return nil, err
	}
	var out []capability.Caveat
	if n.expires < 0 || n.maxBytes < 0 {
		return nil, cli.Usagef("--expires and --max-bytes are not negative")
	}
	if changed("expires") {
		out = append(out, capability.ExpiresAt(now.Add(n.expires).Unix()))
	}
	for _, l := range []struct {
		items []string
		make  func(...string) capability.Caveat
	}{{n.actions, capability.OnActions}, {n.resources, capability.OnResources}, {n.methods, capability.ByMethods}, {n.confine, capability.ConfinedTo}} {
		if len(l.items) > 0 {
			out = append(out, l.make(l.items...))
		}
	}
	if len(n.nets) > 0 {
		var nets []netip.Prefix
		for _, s := range n.nets {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return nil, cli.Usagef("--ip: %v", err)
			}
			nets = append(nets, p)
		}
		out = append(out, capability.FromNets(nets...))
	}
	if changed("max-bytes") {
		out = append(out, capability.AtMostBytes(n.maxBytes))
	}
	perSec, burst, err := n.parseRate()
	if err != nil {
		return nil, err
	}
	if n.rate != "" {
		out = append(out, capability.AtRate(perSec, burst))
	}
	if n.node != "" {
		out = append(out, capability.ForNode(n.node))
	}
	for _, c := range out {
		if err := c.Err(); err != nil {
			return nil, cli.Usage(err)
		}
	}
	return out, nil
}

func (a *app) capCommand() *cobra.Command {
	return cli.Group("cap", "Show, narrow, mint and revoke capabilities", "  ronctl cap show --cap @macronode-data/tenant.cap",
		a.capShow(), a.capAttenuate(), a.capMint(), a.capRevoke(), a.capRevocations())
}

// heldCap is the token that the flags and the environment give; offline.
func (a *app) heldCap(args []string) (*capability.Token, error) {
	text := ""
	if len(args) == 1 {
		var err error
		if text, err = readCap(args[0]); err != nil {
			return nil, err
		}
	} else {
		t, err := a.target()
		if err != nil {
			return nil, err
		}
		text = t.token
	}
	if text == "" {
		return nil, cli.Usagef("no capability: give --cap TOKEN or --cap @FILE, or set RON_CAP")
	}
	return capability.Parse(text)
}

func (a *app) capShow() *cobra.Command {
	return &cobra.Command{
		Use: "show [TOKEN|@FILE]", Short: "Show what a capability says, offline", Example: "  ronctl cap show @macronode-data/tenant.cap",
		Args: cli.MaxArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			tok, err := a.heldCap(args)
			if err != nil {
				return err
			}
			type caveat struct {
				Type  string `json:"type"`
				Value string `json:"value"`
			}
			doc := struct {
				Tenant  macronode.TenantID `json:"tenant"`
				KID     string             `json:"kid"`
				LeafID  string             `json:"leaf_id"`
				Caveats []caveat           `json:"caveats"`
			}{tok.Tenant(), tok.KeyID(), tok.LeafID().String(), []caveat{}}
			for _, c := range tok.Caveats() {
				doc.Caveats = append(doc.Caveats, caveat{c.Type().String(), c.String()})
			}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "tenant\t%s\nkid\t%s\nleaf id\t%s\n", doc.Tenant, doc.KID, doc.LeafID)
				for _, c := range doc.Caveats {
					fmt.Fprintf(w, "caveat\t%s\n", c.Value)
				}
			})
		},
	}
}

func (a *app) capAttenuate() *cobra.Command {
	var n narrowing
	c := &cobra.Command{
		Use: "attenuate", Short: "Narrow a capability, offline; prints the new token", Args: cli.NoArgs,
		Example: "  ronctl cap attenuate --cap @macronode-data/tenant.cap --actions object:get --expires 1h",
		RunE: func(c *cobra.Command, _ []string) error {
			tok, err := a.heldCap(nil)
			if err != nil {
				return err
			}
			caveats, err := n.caveats(time.Now(), c.Flags().Changed)
			if err != nil {
				return err
			}
			if len(caveats) == 0 {
				return cli.Usagef("nothing to narrow by; see: ronctl cap attenuate --help")
			}
			if tok, err = tok.Attenuate(caveats...); err != nil {
				return err
			}
			doc := map[string]string{"token": tok.Text(), "leaf_id": tok.LeafID().String()}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintln(w, tok.Text()) })
		},
	}
	n.flags(c.Flags())
	return c
}

func (a *app) capMint() *cobra.Command {
	var n narrowing
	var tenant, key string
	c := &cobra.Command{
		Use: "mint", Short: "Make a new capability; prints the token", Args: cli.NoArgs,
		Example: "  ronctl cap mint --tenant acme --actions 'object:*' --expires 720h",
		RunE: func(c *cobra.Command, _ []string) error {
			if n.node != "" {
				return cli.Usagef("--for-node narrows offline: use cap attenuate on the minted token")
			}
			// The same checks as offline, so that what is wrong is never sent.
			if _, err := n.caveats(time.Now(), c.Flags().Changed); err != nil {
				return err
			}
			perSec, burst, err := n.parseRate()
			if err != nil {
				return err
			}
			if c.Flags().Changed("expires") && n.expires < time.Second {
				return cli.Usagef("--expires is at least 1s")
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			req := client.MintRequest{Tenant: tenant, Actions: n.actions, Resources: n.resources, Methods: n.methods, Confine: n.confine,
				IPNets: n.nets, ExpiresS: int64(n.expires / time.Second)}
			if c.Flags().Changed("max-bytes") {
				req.MaxBytes = &n.maxBytes
			}
			if n.rate != "" {
				req.Rate = &client.Rate{PerSec: perSec, Burst: burst}
			}
			minted, err := cl.Mint(ctx, req, key)
			if err != nil {
				return err
			}
			return a.Print(minted, func(w io.Writer) { fmt.Fprintln(w, minted.Token) })
		},
	}
	n.flags(c.Flags())
	c.Flags().StringVar(&tenant, "tenant", "", "whose: id or label; default the caller's own")
	c.Flags().StringVar(&key, "idempotency-key", "", "makes a repeated call answer as the first did")
	return c
}

func (a *app) capRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID|TOKEN|@FILE", Short: "Kill a capability and all that was narrowed from it", Args: cli.ExactArgs(1),
		Example: "  ronctl cap revoke 5f0c…\n  ronctl cap revoke @leaked.cap",
		RunE: func(c *cobra.Command, args []string) error {
			id := args[0]
			if strings.HasPrefix(id, "@") || strings.HasPrefix(id, capability.TextPrefix) {
				tok, err := a.heldCap(args)
				if err != nil {
					return err
				}
				id = tok.LeafID().String()
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			if err := cl.Revoke(ctx, id); err != nil {
				return err
			}
			return a.Print(map[string]string{"revoked": id}, func(w io.Writer) { fmt.Fprintln(w, "revoked", id) })
		},
	}
}

func (a *app) capRevocations() *cobra.Command {
	return &cobra.Command{
		Use: "revocations", Short: "List the revoked ids", Args: cli.NoArgs, Example: "  ronctl cap revocations",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			all := []client.Revocation{}
			err = each(func(cursor string) (string, error) {
				page, next, err := cl.Revocations(ctx, cursor, 1000)
				all = append(all, page...)
				return next, err
			})
			if err != nil {
				return err
			}
			return a.Print(all, func(w io.Writer) {
				for _, r := range all {
					fmt.Fprintf(w, "%s\t%s\n", r.ID, time.UnixMilli(r.RevokedMS).UTC().Format(time.RFC3339))
				}
			})
		},
	}
}
