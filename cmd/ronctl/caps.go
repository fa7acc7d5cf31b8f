// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/caveats"
	"github.com/rustyonions/macronode/cmd/ronctl/revoked"
)

func (a *app) capCommand() *cobra.Command {
	c := cli.Group("cap", "Show, narrow, mint and revoke capabilities", "  ronctl cap show --cap @macronode-data/tenant.cap",
		a.capShow(), a.capAttenuate(), a.capMint())
	parties := caveats.Parties{Terminal: &a.Terminal, Held: a.heldCap, Read: readCap}
	c.AddCommand(parties.Commands()...)
	revocations := revoked.Revoked{Terminal: &a.Terminal, Connect: a.connect, Held: a.heldCap}
	c.AddCommand(revocations.Commands()...)
	return c
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
				Bound   bool               `json:"bound,omitempty"`
				Caveats []caveat           `json:"caveats"`
				Tickets []caveats.Ticket   `json:"tickets,omitempty"`
			}{tok.Tenant(), tok.KeyID(), tok.LeafID().String(), tok.Bound(), []caveat{}, caveats.Tickets(tok)}
			for _, c := range tok.Caveats() {
				doc.Caveats = append(doc.Caveats, caveat{c.Type().String(), c.String()})
			}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "tenant\t%s\nkid\t%s\nleaf id\t%s\n", doc.Tenant, doc.KID, doc.LeafID)
				for _, c := range doc.Caveats {
					fmt.Fprintf(w, "caveat\t%s\n", c.Value)
				}
				for _, k := range doc.Tickets {
					fmt.Fprintf(w, "ticket\t%s\t%s\n", k.Location, k.Ticket)
				}
			})
		},
	}
}

func (a *app) capAttenuate() *cobra.Command {
	var n caveats.Flags
	c := &cobra.Command{
		Use: "attenuate", Short: "Narrow a capability, offline; prints the new token", Args: cli.NoArgs,
		Example: "  ronctl cap attenuate --cap @macronode-data/tenant.cap --actions object:get --expires 1h",
		RunE: func(c *cobra.Command, _ []string) error {
			tok, err := a.heldCap(nil)
			if err != nil {
				return err
			}
			list, err := n.Caveats(time.Now(), c.Flags().Changed)
			if err != nil {
				return err
			}
			if len(list) == 0 {
				return cli.Usagef("nothing to narrow by; see: ronctl cap attenuate --help")
			}
			if tok, err = tok.Attenuate(list...); err != nil {
				return err
			}
			doc := map[string]string{"token": tok.Text(), "leaf_id": tok.LeafID().String()}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintln(w, tok.Text()) })
		},
	}
	n.Register(c.Flags())
	return c
}

func (a *app) capMint() *cobra.Command {
	var n caveats.Flags
	var tenant, key string
	c := &cobra.Command{
		Use: "mint", Short: "Make a new capability; prints the token", Args: cli.NoArgs,
		Example: "  ronctl cap mint --tenant acme --actions 'object:*' --expires 720h",
		RunE: func(c *cobra.Command, _ []string) error {
			if n.Node != "" || n.ClientCert != "" {
				return cli.Usagef("--for-node and --client-cert narrow offline: use cap attenuate on the minted token")
			}
			// The same checks as offline, so that what is wrong is never sent.
			if _, err := n.Caveats(time.Now(), c.Flags().Changed); err != nil {
				return err
			}
			perSec, burst, err := n.ParseRate()
			if err != nil {
				return err
			}
			if c.Flags().Changed("expires") && n.Expires < time.Second {
				return cli.Usagef("--expires is at least 1s")
			}
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			req := client.MintRequest{Tenant: tenant, Actions: n.Actions, Resources: n.Resources, Methods: n.Methods, Confine: n.Confine,
				IPNets: n.Nets, ExpiresS: int64(n.Expires / time.Second)}
			if c.Flags().Changed("max-bytes") {
				req.MaxBytes = &n.MaxBytes
			}
			if n.Rate != "" {
				req.Rate = &client.Rate{PerSec: perSec, Burst: burst}
			}
			minted, err := cl.Mint(ctx, req, key)
			if err != nil {
				return err
			}
			return a.Print(minted, func(w io.Writer) { fmt.Fprintln(w, minted.Token) })
		},
	}
	n.Register(c.Flags())
	c.Flags().StringVar(&tenant, "tenant", "", "whose: id or label; default the caller's own")
	c.Flags().StringVar(&key, "idempotency-key", "", "makes a repeated call answer as the first did")
	return c
}
