// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package revoked is what ronctl does about revocations.
package revoked

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/revocation"
)

// Revoked makes the commands for revocations.
type Revoked struct {
	*cli.Terminal
	// Connect prepares the client that flags and environment describe.
	Connect func(c *cobra.Command) (context.Context, *client.Client, error)
	// Held is the capability that an argument gives.
	Held func(args []string) (*capability.Token, error)
}

// Commands are the subcommands of cap.
func (a *Revoked) Commands() []*cobra.Command { return []*cobra.Command{a.revoke(), a.list()} }

func (a *Revoked) revoke() *cobra.Command {
	var kid, tenant string
	c := &cobra.Command{
		Use: "revoke [ID|TOKEN|@FILE]", Short: "Kill a capability and all that was narrowed from it, or all of a key or tenant", Args: cli.MaxArgs(1),
		Long: "Kill a capability and all that was narrowed from it. With --kid, all that this version of a tenant's minting key made; with\n" +
			"--tenant alone, all capabilities that the tenant has. What is minted afterwards is good: where the newest key is revoked, the\n" +
			"node makes another first. It holds on the node from before the answer on, and over restarts.",
		Example: "  ronctl cap revoke 5f0c…\n  ronctl cap revoke @leaked.cap\n  ronctl cap revoke --tenant acme --kid v3\n  ronctl cap revoke --tenant acme",
		RunE: func(c *cobra.Command, args []string) error {
			keys := c.Flags().Changed("kid") || c.Flags().Changed("tenant")
			switch {
			case keys == (len(args) == 1):
				return cli.Usagef("name a capability, or --kid or --tenant")
			case c.Flags().Changed("kid") && kid == "" || c.Flags().Changed("tenant") && tenant == "":
				return cli.Usagef("--kid and --tenant are not empty")
			case keys:
				return a.revokeKeys(c, tenant, kid)
			}
			id := args[0]
			if strings.HasPrefix(id, "@") || strings.HasPrefix(id, capability.TextPrefix) {
				tok, err := a.Held(args)
				if err != nil {
					return err
				}
				id = tok.LeafID().String()
			}
			ctx, cl, err := a.Connect(c)
			if err != nil {
				return err
			}
			if err := cl.Revoke(ctx, id); err != nil {
				return err
			}
			return a.Print(map[string]string{"revoked": id}, func(w io.Writer) { fmt.Fprintln(w, "revoked", id) })
		},
	}
	c.Flags().StringVar(&kid, "kid", "", "key id, as cap show shows it: kill all that this minting key made")
	c.Flags().StringVar(&tenant, "tenant", "", "whose key, id or label; alone: kill all capabilities of the tenant")
	return c
}

func (a *Revoked) revokeKeys(c *cobra.Command, tenant, kid string) error {
	ctx, cl, err := a.Connect(c)
	if err != nil {
		return err
	}
	out, err := cl.RevokeKeys(ctx, tenant, kid)
	if err != nil {
		return err
	}
	return a.Print(out, func(w io.Writer) {
		fmt.Fprintf(w, "revoked all of tenant %s made with %s\n", out.Tenant, strings.Join(out.KIDs, ", "))
	})
}

func (a *Revoked) list() *cobra.Command {
	var export, verify, adopt, nodeID, keyFile string
	c := &cobra.Command{
		Use: "revocations", Short: "List what is revoked; export, verify or import the signed list", Args: cli.NoArgs,
		Long: "List what is revoked. --export writes the list as the node signed it; --verify checks such a file offline, with the node's id or\n" +
			"public key alone; --import gives a node back what it had signed before a restore.",
		Example: "  ronctl cap revocations\n  ronctl cap revocations --export revoked.dsse\n  ronctl cap revocations --verify revoked.dsse --node-id b3:…\n  ronctl cap revocations --import revoked.dsse",
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := givenNode(nodeID, keyFile)
			switch {
			case err != nil:
				return err
			case verify != "" && export == "" && adopt == "":
				if id == "" {
					return cli.Usagef("--verify needs --node-id or --public-key: a list that vouches for itself proves nothing")
				}
				return a.verifyRevocations(verify, id)
			case export != "" && adopt == "" && verify == "":
				return a.exportRevocations(c, export, id)
			case adopt != "" && export == "" && verify == "":
				return a.importRevocations(c, adopt)
			case export != "" || adopt != "" || verify != "":
				return cli.Usagef("one of --export, --verify and --import")
			}
			ctx, cl, err := a.Connect(c)
			if err != nil {
				return err
			}
			all := []client.Revocation{}
			for cursor := ""; ; {
				page, next, err := cl.Revocations(ctx, cursor, revocation.MaxEntries)
				if err != nil {
					return err
				}
				all = append(all, page...)
				if next == "" {
					break
				}
				if next == cursor {
					return errors.New("the node's list does not go on")
				}
				cursor = next
			}
			return a.Print(all, func(w io.Writer) { printRevocations(w, all) })
		},
	}
	f := c.Flags()
	f.StringVar(&export, "export", "", "write the signed list to this file, - is stdout")
	f.StringVar(&verify, "verify", "", "verify this file, offline, and show what it revokes")
	f.StringVar(&adopt, "import", "", "give the node what this file revokes")
	f.StringVar(&nodeID, "node-id", "", "id of the node that signed: b3:…, as /version shows it")
	f.StringVar(&keyFile, "public-key", "", "PEM file with the node's public key, instead of its id")
	return c
}

func printRevocations(w io.Writer, list []client.Revocation) {
	for _, r := range list {
		name := r.ID
		if r.KID != "" {
			name = "kid " + r.KID
		}
		whose := "everyone's"
		if r.Tenant != "" {
			whose = r.Tenant
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, whose, time.UnixMilli(r.RevokedMS).UTC().Format(time.RFC3339))
	}
}

// givenNode is the node's id from --node-id, or that of the public key in --public-key.
func givenNode(id, keyFile string) (string, error) {
	if id != "" && keyFile != "" {
		return "", cli.Usagef("--node-id or --public-key, not both")
	}
	if keyFile == "" {
		return id, nil
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return "", cli.Exit(fmt.Errorf("%s holds no PEM public key", keyFile), macronode.ExitConfig)
	}
	return revocation.NodeID(block.Bytes), nil
}

func (a *Revoked) verifyRevocations(path, nodeID string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	pages, err := revocation.Read(f, nodeID)
	if errors.Is(err, revocation.ErrNotVerified) {
		return cli.Exit(err, macronode.ExitTrust)
	}
	if err != nil {
		return err
	}
	doc := struct {
		NodeID      string              `json:"node_id"`
		Scope       string              `json:"scope,omitempty"`
		IssuedMS    int64               `json:"issued_ms"`
		Revocations []client.Revocation `json:"revocations"`
	}{nodeID, pages[0].Scope, pages[0].IssuedMS, []client.Revocation{}}
	for _, p := range pages {
		doc.Revocations = append(doc.Revocations, p.Entries...)
	}
	return a.Print(doc, func(w io.Writer) {
		fmt.Fprintf(w, "verified: %d revocations, signed by %s at %s\n", len(doc.Revocations), nodeID, time.UnixMilli(doc.IssuedMS).UTC().Format(time.RFC3339))
		printRevocations(w, doc.Revocations)
	})
}

func (a *Revoked) exportRevocations(c *cobra.Command, path, id string) error {
	ctx, cl, err := a.Connect(c)
	if err != nil {
		return err
	}
	if id == "" {
		if id, err = cl.NodeID(ctx); err != nil {
			return err
		}
	}
	if path == "-" {
		_, err := cl.ExportRevocations(ctx, id, a.Out)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := cl.ExportRevocations(ctx, id, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	doc := map[string]any{"file": path, "node_id": id, "revocations": n}
	return a.Print(doc, func(w io.Writer) { fmt.Fprintf(w, "%d revocations, signed by %s, in %s\n", n, id, path) })
}

func (a *Revoked) importRevocations(c *cobra.Command, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cl, err := a.Connect(c)
	if err != nil {
		return err
	}
	made, dec := 0, json.NewDecoder(f)
	for pages := 0; ; pages++ {
		var page json.RawMessage
		if err := dec.Decode(&page); errors.Is(err, io.EOF) && pages > 0 {
			break
		} else if err != nil {
			return fmt.Errorf("%s holds no signed list: %w", path, err)
		}
		n, err := cl.ImportRevocations(ctx, page)
		if err != nil {
			return err
		}
		made += n
	}
	return a.Print(map[string]int{"new": made}, func(w io.Writer) { fmt.Fprintf(w, "%d revocations were new to the node\n", made) })
}
