// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package register is ronctl's commands about the registry: looking at it, proposing
// changes, signing decisions offline, and verifying what a node says of it.
package register

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/register"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/registry"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	connect Connect
}

// Command is "ronctl registry".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	return cli.Group("registry", "Who the nodes, services and signers are; proposals and their approval", "  ronctl registry ls\n  ronctl registry propose --title 'second node' --node eu-2,b3:HEX,10.0.0.2:34000\n  ronctl registry approve b3:HEX --kms KMS:key/registry",
		a.head(), a.log(), a.ls(), a.show(), a.proposals(), a.propose(), a.keygen(), a.sign(),
		a.decide(registry.Approve), a.decide(registry.Reject), a.withdraw(), a.watch(), a.export(), a.verify())
}

func (a *app) dial(c *cobra.Command) (context.Context, *register.Registry, error) {
	ctx, cl, err := a.connect(c)
	if err != nil {
		return nil, nil, err
	}
	return ctx, register.New(cl), nil
}

// trust gives what does not verify its exit code.
func trust(err error) error {
	if errors.Is(err, register.ErrUnverified) {
		return cli.Exit(err, macronode.ExitTrust)
	}
	return err
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

// pin is the flag --registry.
func pin(c *cobra.Command, id *string) {
	c.Flags().StringVar(id, "registry", "", "id of the registry that it must be; known from elsewhere, not from the node")
}

func checkPin(id string) error {
	if _, err := b3.Parse(id); id != "" && err != nil {
		return cli.Usagef("--registry %q: it is b3: and 64 hex digits, the hash of the registry's first entry", id)
	}
	return nil
}

func (a *app) head() *cobra.Command {
	var want string
	c := &cobra.Command{
		Use: "head", Short: "Print where the registry's chain ends, verified by its writer's signature", Args: cli.NoArgs,
		Example: "  ronctl registry head\n  ronctl registry head --registry b3:HEX --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkPin(want); err != nil {
				return err
			}
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			h, err := r.Head(ctx)
			if err != nil {
				return trust(err)
			}
			if want != "" && h.Registry != want {
				return cli.Exit(fmt.Errorf("this is the registry %s", h.Registry), macronode.ExitTrust)
			}
			doc := map[string]any{"registry": h.Registry, "size": h.Size, "head": h.Head.Head, "state": h.State, "signers": h.Signers, "tree": h.Tree,
				"ts_ms": h.TSMS, "writer": h.Writer, "first": h.First, "signed": len(h.Signed) > 0}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "registry\t%s\nentries\t%d\nlast entry\t%s\ncommitted\t%s\nstate\t%s\nsigners\t%s\nwriter\t%s\n", h.Registry, h.Size, h.Head.Head, stamp(h.TSMS), h.State, h.Signers, h.Writer)
				if h.First > 0 {
					fmt.Fprintf(w, "kept from\tentry %d\n", h.First)
				}
				if h.Signed == nil {
					fmt.Fprintf(w, "signature\tnone yet\n")
				} else {
					fmt.Fprintf(w, "signature\tgood, by the writer\n")
				}
			})
		},
	}
	pin(c, &want)
	return c
}

// changesOf is "put node/eu-1, revoke node/eu-2".
func changesOf(p *registry.Proposal) string {
	var all []string
	for i := range p.Changes {
		c := &p.Changes[i]
		if c.Op == registry.OpCheckpoint {
			all = append(all, fmt.Sprintf("checkpoint of %d entries", c.Size))
			continue
		}
		all = append(all, string(c.Op)+" "+c.Key().String())
	}
	return strings.Join(all, ", ")
}

// signersOf are the keys whose signatures stand in a list, "NAME#vN".
func signersOf(list []registry.Signature) string {
	var all []string
	for _, s := range list {
		if name, _, _ := strings.Cut(s.KeyID, "/"); len(all) == 0 || all[len(all)-1] != name {
			all = append(all, name)
		}
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, " ")
}

func (a *app) log() *cobra.Command {
	var from uint64
	var limit int
	c := &cobra.Command{
		Use: "log", Short: "List the registry's entries, each proven to be in the chain", Args: cli.NoArgs,
		Example: "  ronctl registry log\n  ronctl registry log --from 10 --limit 5 --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			entries := []registry.Entry{}
			for limit == 0 || len(entries) < limit {
				n := registry.MaxRange
				if limit > 0 {
					n = min(n, limit-len(entries))
				}
				l, err := r.Log(ctx, from, n)
				if err != nil {
					return trust(err)
				}
				entries = append(entries, l.Entries...)
				from = l.Entries[len(l.Entries)-1].Seq + 1
				if from == 1 && l.First > 1 {
					from = l.First
				}
				if from >= l.Head.Size {
					break
				}
			}
			return a.Print(map[string]any{"entries": entries}, func(w io.Writer) {
				fmt.Fprintln(w, "SEQ\tCOMMITTED\tSIGNED BY\tCHANGES\tTITLE")
				for i := range entries {
					e := &entries[i]
					fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", e.Seq, stamp(e.TSMS), signersOf(e.Signatures), changesOf(&e.Proposal), e.Proposal.Title)
				}
			})
		},
	}
	c.Flags().Uint64Var(&from, "from", 0, "place of the first entry")
	c.Flags().IntVar(&limit, "limit", 0, "entries at most; 0: all")
	return c
}

// about says on one line what a descriptor describes.
func about(d *registry.Descriptor) string {
	switch {
	case d.Node != nil:
		s := d.Node.Addr + " " + d.Node.NodeID
		if d.Node.Region != "" {
			s += " in " + d.Node.Region
		}
		return s
	case d.Service != nil:
		return strings.TrimSpace("on " + strings.Join(d.Service.Nodes, ", ") + " " + d.Service.Endpoint)
	case d.Region != nil:
		return d.Region.Title
	}
	var keys []string
	for i := range d.Signers.Signers {
		k := registry.KeyName(&d.Signers.Signers[i])
		if d.Signers.Signers[i].Hybrid() {
			k += " (hybrid)"
		}
		keys = append(keys, k)
	}
	return fmt.Sprintf("%d of %s; writer %s", d.Signers.Threshold, strings.Join(keys, ", "), d.Signers.Writer)
}

func (a *app) ls() *cobra.Command {
	var kind string
	c := &cobra.Command{
		Use: "ls", Short: "List what is registered", Args: cli.NoArgs, Example: "  ronctl registry ls\n  ronctl registry ls --kind node --output json",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			list, revoked, err := r.Descriptors(ctx, registry.Kind(kind))
			if err != nil {
				return trust(err)
			}
			if list == nil {
				list = []register.Descriptor{}
			}
			return a.Print(map[string]any{"descriptors": list, "revoked": revoked}, func(w io.Writer) {
				fmt.Fprintln(w, "NAME\tENTRY\tWHAT")
				for i := range list {
					fmt.Fprintf(w, "%s\t%d\t%s\n", list[i].Descriptor.Key(), list[i].Seq, about(list[i].Descriptor))
				}
				for _, id := range revoked {
					fmt.Fprintf(w, "(revoked)\t\t%s\n", id)
				}
			})
		},
	}
	c.Flags().StringVar(&kind, "kind", "", "node, service, region or signers alone")
	return c
}

func (a *app) show() *cobra.Command {
	return &cobra.Command{
		Use: "show KIND/NAME|ADDRESS", Short: "Show a descriptor, or a proposal by its address", Args: cli.ExactArgs(1),
		Example: "  ronctl registry show node/eu-1\n  ronctl registry show signers/signers\n  ronctl registry show b3:HEX",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := b3.Parse(args[0])
			if err == nil {
				return a.showProposal(c, id)
			}
			key, err := registry.ParseKey(args[0])
			if err != nil {
				return cli.Usagef("%q is neither KIND/NAME nor the address of a proposal", args[0])
			}
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			d, err := r.Descriptor(ctx, key)
			if err != nil {
				return trust(err)
			}
			return a.Print(d, func(w io.Writer) {
				fmt.Fprintf(w, "%s\t%s\naddress\t%s\nput by\tentry %d\n", key, about(d.Descriptor), d.Addr, d.Seq)
				for name, value := range d.Descriptor.Labels {
					fmt.Fprintf(w, "label %s\t%s\n", name, value)
				}
			})
		},
	}
}

func (a *app) showProposal(c *cobra.Command, id b3.Addr) error {
	ctx, r, err := a.dial(c)
	if err != nil {
		return err
	}
	p, err := r.Proposal(ctx, id)
	if err != nil {
		return trust(err)
	}
	return a.tell(p)
}

// tell prints a proposal.
func (a *app) tell(p *register.Proposal) error {
	return a.Print(p, func(w io.Writer) {
		fmt.Fprintf(w, "proposal\t%s\ntitle\t%s\nstate\t%s\n", p.ID, p.Proposal.Title, p.State)
		if p.Reason != "" {
			fmt.Fprintf(w, "because\t%s\n", p.Reason)
		}
		if p.State == "committed" {
			fmt.Fprintf(w, "entry\t%d\n", p.Seq)
		}
		fmt.Fprintf(w, "approved by\t%s\t(%d of %d needed)\n", or(strings.Join(p.Approved, ", "), "nobody"), p.Threshold, p.Of)
		if len(p.Rejected) > 0 {
			fmt.Fprintf(w, "rejected by\t%s\n", strings.Join(p.Rejected, ", "))
		}
		if len(p.Missing) > 0 {
			fmt.Fprintf(w, "must sign too\t%s\t(new keys show that they are held)\n", strings.Join(p.Missing, ", "))
		}
		if p.State == "open" {
			fmt.Fprintf(w, "expires\t%s\n", stamp(p.Proposal.ExpiresMS))
		}
		tellChanges(w, p.Proposal)
	})
}

func tellChanges(w io.Writer, p *registry.Proposal) {
	for i := range p.Changes {
		ch := &p.Changes[i]
		what := ""
		if ch.Descriptor != nil {
			what = about(ch.Descriptor)
		} else if ch.Op == registry.OpCheckpoint {
			what = fmt.Sprintf("%d entries, the last %s", ch.Size, ch.Head)
		}
		fmt.Fprintf(w, "%s %s\t%s\n", ch.Op, strings.Trim(ch.Key().String(), "/"), what)
	}
	if p.Reason != "" {
		fmt.Fprintf(w, "reason\t%s\n", p.Reason)
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func (a *app) proposals() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use: "proposals", Short: "List proposals", Args: cli.NoArgs, Example: "  ronctl registry proposals\n  ronctl registry proposals --state closed",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			list, err := r.Proposals(ctx, state)
			if err != nil {
				return trust(err)
			}
			if list == nil {
				list = []register.Proposal{}
			}
			return a.Print(map[string]any{"proposals": list}, func(w io.Writer) {
				fmt.Fprintln(w, "ADDRESS\tSTATE\tAPPROVED\tCHANGES\tTITLE")
				for i := range list {
					p := &list[i]
					fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s\n", p.ID, p.State, len(p.Approved), p.Threshold, changesOf(p.Proposal), p.Proposal.Title)
				}
			})
		},
	}
	c.Flags().StringVar(&state, "state", "open", "open, closed, committed, rejected, superseded, withdrawn or expired")
	return c
}

func (a *app) watch() *cobra.Command {
	var after int64
	c := &cobra.Command{
		Use: "watch", Short: "Follow commits and proposals as they happen", Args: cli.NoArgs, Example: "  ronctl registry watch\n  ronctl registry watch --after 10",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			return r.Watch(ctx, after, func(e register.Event) error {
				if a.JSON() {
					return json.NewEncoder(a.Out).Encode(map[string]any{"event": e.Kind, "id": e.ID, "data": e.Data})
				}
				var x struct {
					Title, Proposal, ID, State, Reason string
					Changes, Signed                    []string
					Lost                               uint64
				}
				if err := json.Unmarshal(e.Data, &x); err != nil {
					return err
				}
				switch e.Kind {
				case "entry":
					fmt.Fprintf(a.Out, "entry %s  %s  %s  signed by %s  proposal %s\n", e.ID, x.Title, strings.Join(x.Changes, ", "), strings.Join(x.Signed, " "), x.Proposal)
				case "proposal":
					fmt.Fprintf(a.Out, "proposal %s  %s  %s  %s\n", x.ID, x.State, x.Title, x.Reason)
				case "lost":
					fmt.Fprintf(a.Out, "%d changes of proposals were missed\n", x.Lost)
				}
				return nil
			})
		},
	}
	c.Flags().Int64Var(&after, "after", -1, "place of the last entry that was seen; -1: from now on")
	return c
}

func (a *app) export() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "export", Short: "Write the whole chain, to be verified offline or joined by a new node", Args: cli.NoArgs, Example: "  ronctl registry export -o registry.jsonl && ronctl registry verify registry.jsonl",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			if out == "-" {
				return r.Export(ctx, a.Out)
			}
			f, err := os.Create(out)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			return r.Export(ctx, f)
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "-", "file; - is standard output")
	return c
}

func (a *app) verify() *cobra.Command {
	var want string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Verify an export offline: every change by who might approve it then", Args: cli.ExactArgs(1),
		Example: "  ronctl registry verify registry.jsonl --registry b3:HEX",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := checkPin(want); err != nil {
				return err
			}
			in := a.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			v, err := registry.VerifyAny(in)
			if err == nil && want != "" && v.State.Registry().String() != want {
				err = fmt.Errorf("this is the registry %s", v.State.Registry())
			}
			if err != nil {
				return cli.Exit(err, macronode.ExitTrust)
			}
			s := v.State
			doc := map[string]any{"registry": s.Registry(), "size": s.Size(), "head": s.Head(), "state": s.Root(), "first": v.First, "signed": v.Head != nil, "descriptors": s.Len(), "writer": s.Writer()}
			return a.Print(doc, func(w io.Writer) {
				fmt.Fprintf(w, "verified\t%d entries, %d descriptors\nregistry\t%s\nlast entry\t%s\n", s.Size(), s.Len(), s.Registry(), s.Head())
				if v.First > 0 {
					fmt.Fprintf(w, "replayed from\tentry %d; the signers vouched for what was before\n", v.First)
				}
				if v.Head == nil {
					fmt.Fprintf(w, "head\tnot signed: entries may be missing at the end\n")
				} else {
					fmt.Fprintf(w, "head\tsigned by the writer, %s\n", v.Head.NodeID)
				}
				if want == "" {
					fmt.Fprintf(w, "note\twithout --registry any registry verifies, a stranger's too\n")
				}
			})
		},
	}
	pin(c, &want)
	return c
}
