// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package register

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client/register"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/registry"
)

func (a *app) keygen() *cobra.Command {
	var out, name string
	var version uint64
	var classical bool
	c := &cobra.Command{
		Use: "keygen --name NAME -o FILE", Short: "Make a signer's key: FILE is secret, FILE.pub is for the registry", Args: cli.NoArgs,
		Example: "  ronctl registry keygen --name alice -o alice.key\n  ronctl registry keygen --name alice --version 2 -o alice2.key",
		RunE: func(*cobra.Command, []string) error {
			if out == "" || name == "" {
				return cli.Usagef("--name and -o are needed")
			}
			k, err := registry.NewKey(name, version, !classical, rand.Reader)
			if err != nil {
				return cli.Usage(err)
			}
			secret, err := k.Encode()
			if err != nil {
				return err
			}
			if err := writeSecret(out, secret); err != nil {
				return err
			}
			anchor := k.Anchor()
			public, err := json.MarshalIndent(anchor, "", "  ")
			if err != nil {
				return err
			}
			if err := os.WriteFile(out+".pub", append(public, '\n'), 0o644); err != nil {
				return err
			}
			return a.Print(map[string]any{"key": registry.KeyName(&anchor), "hybrid": anchor.Hybrid(), "file": out, "public": out + ".pub"}, func(w io.Writer) {
				fmt.Fprintf(w, "key\t%s\nsecret\t%s (keep it off the node, with a copy)\npublic\t%s.pub\n", registry.KeyName(&anchor), out, out)
			})
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "file for the key; it must not be there")
	f.StringVar(&name, "name", "", "who signs with it")
	f.Uint64Var(&version, "version", 1, "which key of this name; each new one has a higher version")
	f.BoolVar(&classical, "ed25519-only", false, "without ML-DSA-65")
	return c
}

// writeSecret makes a file that nobody else can read, and replaces none.
func writeSecret(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// hand is what signs.
type hand struct {
	key, kms, name string
	version        uint64
}

func (h *hand) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&h.key, "key", "", "file with a key that keygen wrote, or an Ed25519 key in PEM (PKCS #8)")
	f.StringVar(&h.kms, "kms", "", "key of the node's key service, such as KMS:key/registry")
	f.StringVar(&h.name, "key-name", "", "name of a key in PEM")
	f.Uint64Var(&h.version, "key-version", 1, "version of a key in PEM")
}

// sign makes the signatures of one signer. r may be nil for a key in a file.
func (h *hand) sign(ctx context.Context, r *register.Registry, p *registry.Proposal, d registry.Decision) ([]registry.Signature, error) {
	id, err := p.Addr()
	if err != nil {
		return nil, err
	}
	if h.kms != "" {
		return r.SignWith(ctx, id, d, h.kms)
	}
	text, err := readFile(h.key, registry.MaxKeyFileBytes)
	if err != nil {
		return nil, err
	}
	k, err := registry.ParsePrivateKey(text, h.name, h.version)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.key, err)
	}
	of, err := b3.Parse(p.Registry)
	if err != nil {
		return nil, err
	}
	return registry.Sign(of, id, d, k.Halves()...)
}

// checked is the proposal, held to the registry that it must be of.
func checked(p *registry.Proposal, want string) (*registry.Proposal, error) {
	if want != "" && p.Registry != want {
		return nil, cli.Exit(fmt.Errorf("the proposal is for the registry %s", p.Registry), macronode.ExitTrust)
	}
	return p, nil
}

func (a *app) sign() *cobra.Command {
	var h hand
	var out, want string
	var reject bool
	c := &cobra.Command{
		Use: "sign FILE|ADDRESS", Short: "Sign a decision on a proposal; with a key in a file and the proposal in another, offline", Args: cli.ExactArgs(1),
		Long: "sign prints what it signs and makes a file with the signature, which approve or reject\nbrings to the node. With the proposal in a file and --key no node is spoken to. The\naddress of a proposal that a node shows is computed anew from what it says: what is\nprinted is what is signed.",
		Example: "  ronctl registry show b3:HEX --output json | jq .proposal > p.json   # where there is a network\n  ronctl registry sign p.json --key alice.key -o alice.sig            # where there is none\n  ronctl registry approve b3:HEX alice.sig\n" +
			"  ronctl registry sign b3:HEX --kms KMS:key/registry -o node.sig",
		RunE: func(c *cobra.Command, args []string) error {
			if (h.key == "") == (h.kms == "") {
				return cli.Usagef("--key or --kms is needed, one of them")
			}
			p, r, ctx, err := a.proposalOf(c, args[0], h.kms != "")
			if err != nil {
				return err
			}
			if p, err = checked(p, want); err != nil {
				return err
			}
			d := registry.Approve
			if reject {
				d = registry.Reject
			}
			list, err := h.sign(ctx, r, p, d)
			if err != nil {
				return err
			}
			id, err := p.Addr()
			if err != nil {
				return err
			}
			text, err := json.MarshalIndent(signed{id.String(), d, list}, "", "  ")
			if err != nil {
				return err
			}
			if out == "" {
				fmt.Fprintf(a.Out, "%s\n", text)
				return nil
			}
			if err := os.WriteFile(out, append(text, '\n'), 0o644); err != nil {
				return err
			}
			return a.Print(map[string]any{"proposal": id, "decision": d, "file": out}, func(w io.Writer) {
				fmt.Fprintf(w, "signed\t%s\nproposal\t%s\nregistry\t%s\ntitle\t%s\n", d, id, p.Registry, p.Title)
				tellChanges(w, p)
				fmt.Fprintf(w, "by\t%s\nsignature\t%s\n", signersOf(list), out)
			})
		},
	}
	h.flags(c)
	pin(c, &want)
	c.Flags().StringVarP(&out, "out", "o", "", "file for the signature; otherwise it is printed")
	c.Flags().BoolVar(&reject, "reject", false, "sign a rejection")
	return c
}

// signed is a file with signatures.
type signed struct {
	Proposal   string               `json:"proposal"`
	Decision   registry.Decision    `json:"decision"`
	Signatures []registry.Signature `json:"signatures"`
}

// proposalOf reads a proposal from a file, or asks the node by its address. A node is
// spoken to where online says so, too.
func (a *app) proposalOf(c *cobra.Command, arg string, online bool) (*registry.Proposal, *register.Registry, context.Context, error) {
	id, err := b3.Parse(arg)
	if err != nil && !online {
		p, err := readProposal(arg)
		return p, nil, c.Context(), err
	}
	ctx, r, derr := a.dial(c)
	if derr != nil {
		return nil, nil, nil, derr
	}
	if err != nil {
		p, err := readProposal(arg)
		return p, r, ctx, err
	}
	p, err := r.Proposal(ctx, id)
	if err != nil {
		return nil, nil, nil, trust(err)
	}
	return p.Proposal, r, ctx, nil
}

// decide is approve and reject.
func (a *app) decide(d registry.Decision) *cobra.Command {
	var h hand
	var want, reason string
	short := map[registry.Decision]string{
		registry.Approve: "Approve a proposal with signatures; with enough of them it is committed",
		registry.Reject:  "Reject a proposal with signatures; once the others are too few, it is closed",
	}[d]
	c := &cobra.Command{
		Use: string(d) + " ADDRESS [SIGNATURE-FILE...]", Short: short, Args: cli.MinArgs(1),
		Example: "  ronctl registry " + string(d) + " b3:HEX alice.sig bob.sig\n  ronctl registry " + string(d) + " b3:HEX --key alice.key\n  ronctl registry " + string(d) + " b3:HEX --kms KMS:key/registry",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := b3.Parse(args[0])
			if err != nil {
				return cli.Usagef("%q is not the address of a proposal", args[0])
			}
			if len(args) == 1 && h.key == "" && h.kms == "" || h.key != "" && h.kms != "" {
				return cli.Usagef("a file with a signature, --key or --kms is needed")
			}
			list, err := readSignatures(id, d, args[1:])
			if err != nil {
				return err
			}
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			if h.key != "" || h.kms != "" {
				p, err := r.Proposal(ctx, id)
				if err != nil {
					return trust(err)
				}
				if _, err := checked(p.Proposal, want); err != nil {
					return err
				}
				own, err := h.sign(ctx, r, p.Proposal, d)
				if err != nil {
					return err
				}
				list = append(list, own...)
			}
			var p *register.Proposal
			if d == registry.Approve {
				p, err = r.Approve(ctx, id, list)
			} else {
				p, err = r.Reject(ctx, id, list, reason)
			}
			if err != nil {
				return trust(err)
			}
			return a.tell(p)
		},
	}
	h.flags(c)
	pin(c, &want)
	if d == registry.Reject {
		c.Flags().StringVar(&reason, "reason", "", "why, on one line")
	}
	return c
}

func readSignatures(id b3.Addr, d registry.Decision, files []string) (list []registry.Signature, err error) {
	for _, path := range files {
		text, err := readFile(path, registry.MaxSignaturesBytes)
		if err != nil {
			return nil, err
		}
		var s signed
		if err := json.Unmarshal(text, &s); err != nil || len(s.Signatures) == 0 {
			return nil, fmt.Errorf("%s: it is no file that sign wrote", path)
		}
		if s.Proposal != id.String() || s.Decision != d {
			return nil, fmt.Errorf("%s: it is signed to %s %s", path, s.Decision, strings.TrimSpace(s.Proposal))
		}
		list = append(list, s.Signatures...)
	}
	return list, nil
}

func (a *app) withdraw() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use: "withdraw ADDRESS", Short: "Withdraw a proposal, with the capability that made it", Args: cli.ExactArgs(1), Example: "  ronctl registry withdraw b3:HEX --reason 'wrong port'",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := b3.Parse(args[0])
			if err != nil {
				return cli.Usagef("%q is not the address of a proposal", args[0])
			}
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			p, err := r.Withdraw(ctx, id, reason)
			if err != nil {
				return trust(err)
			}
			return a.tell(p)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, on one line")
	return c
}
