// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package names

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/client/names"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	signed "github.com/rustyonions/macronode/name/document"
)

// opened is the file of that name; "-" is standard input.
func (a *app) opened(path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(a.In), nil
	}
	return os.Open(path)
}

func (a *app) importCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Set many names, a JSON document a line as export writes them; - is standard input", Args: cli.ExactArgs(1),
		Long: "import sets the names of a file. A line may have if_version: the version that the name must have, 0 where it must not be there.\n" +
			"Lines that cannot be done are told, the others are done; the exit code is 1 where there are such.",
		Example: "  ronctl name export > names.ndjson\n  ronctl name import names.ndjson",
		RunE: func(c *cobra.Command, args []string) error {
			f, err := a.opened(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			out, err := names.Import(ctx, cl, f)
			if err != nil && out.Imported+out.Failed == 0 {
				return err
			}
			shown := a.Print(out, func(w io.Writer) {
				fmt.Fprintf(w, "imported %d, failed %d\n", out.Imported, out.Failed)
				for _, l := range out.Lines {
					fmt.Fprintf(w, "line %d\t%s\t%s\t%s\n", l.Line, l.Name, l.Code, l.Detail)
				}
			})
			switch {
			case err != nil || shown != nil:
				return errors.Join(err, shown)
			case out.Failed > 0:
				return cli.ExitSilently(fmt.Errorf("%d lines were not done", out.Failed), macronode.ExitFailed)
			}
			return nil
		},
	}
}

func (a *app) exportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export [PREFIX]", Short: "Print all names, a JSON document a line, as import reads them", Args: cli.MaxArgs(1), Example: "  ronctl name export > names.ndjson\n  ronctl name export site.",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			return names.Export(ctx, cl, first(args), a.Out)
		},
	}
}

func (a *app) document() *cobra.Command {
	var nodeID string
	c := &cobra.Command{
		Use: "document", Short: "Print all names as a document that the node signed, of one moment", Args: cli.NoArgs,
		Long: "document prints the tenant's names as the node signed them: DSSE envelopes, one for each page, all of one moment. Everybody who\n" +
			"knows the node's id can verify it offline (see: ronctl name verify). Without --node-id the node's own word is taken for its id.",
		Example: "  ronctl name document > names.dsse\n  ronctl name verify names.dsse --node-id b3:…",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			if nodeID == "" {
				if nodeID, err = cl.NodeID(ctx); err != nil {
					return err
				}
			}
			_, err = names.Document(ctx, cl, nodeID, a.Out)
			return trust(err)
		},
	}
	c.Flags().StringVar(&nodeID, "node-id", "", "the node that must have signed; empty: as the node says")
	return c
}

// trust gives a document that does not verify its exit code.
func trust(err error) error {
	if errors.Is(err, signed.ErrNotVerified) {
		return cli.Exit(err, macronode.ExitTrust)
	}
	return err
}

// maxDocument bounds a document that is read.
const maxDocument = 1 << 30

// Verified is what verify says of a good document.
type Verified struct {
	Tenant   string `json:"tenant"`
	NodeID   string `json:"node_id"`
	IssuedMS int64  `json:"issued_ms"`
	Revision uint64 `json:"revision"`
	Names    int    `json:"names"`
}

func (a *app) verify() *cobra.Command {
	var nodeID string
	var show bool
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify a signed document of names offline; - is standard input", Args: cli.ExactArgs(1),
		Long: "verify checks a document that ronctl name document wrote, with the node's id alone and no connection: that the node signed it, and\n" +
			"that no name was left out, added or changed. A document that vouches for itself proves nothing, so --node-id is needed. Exit code 4\nwhere it does not verify.",
		Example: "  ronctl name verify names.dsse --node-id b3:…\n  ronctl name verify names.dsse --node-id b3:… --names --output json",
		RunE: func(_ *cobra.Command, args []string) error {
			if nodeID == "" {
				return cli.Usagef("--node-id is needed: a document that vouches for itself proves nothing")
			}
			f, err := a.opened(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			pages, err := signed.Read(io.LimitReader(f, maxDocument), nodeID)
			if err != nil {
				return trust(err)
			}
			p := &pages[0]
			v := Verified{Tenant: p.Tenant, NodeID: p.NodeID, IssuedMS: p.IssuedMS, Revision: p.Revision}
			list := []names.Name{}
			for i := range pages {
				v.Names += len(pages[i].Names)
				for _, e := range pages[i].Names {
					list = append(list, names.Name{Name: e.Name, Addr: e.Addr, Version: e.Version, TTL: int64(e.TTL), Meta: e.Meta, CreatedMS: e.CreatedMS, UpdatedMS: e.UpdatedMS})
				}
			}
			if show {
				return a.printList("names", list)
			}
			return a.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "good: %d names of tenant %s, revision %d, signed by %s at %s\n", v.Names, v.Tenant, v.Revision, v.NodeID, stamp(v.IssuedMS))
			})
		},
	}
	c.Flags().StringVar(&nodeID, "node-id", "", "the node that must have signed")
	c.Flags().BoolVar(&show, "names", false, "print the names")
	return c
}
