// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package register

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/register"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/registry"
)

// draft is what a proposal is made of.
type draft struct {
	title, reason, out      string
	life                    time.Duration
	files, nodes            []string
	removes, revokes        []string
	addSigners, dropSigners []string
	threshold               int
	writer                  string
	supersedes              []string
	checkpoint              bool
}

func (a *app) propose() *cobra.Command {
	var d draft
	var file string
	c := &cobra.Command{
		Use: "propose --title TEXT CHANGE...", Short: "Propose changes; signers approve them by the address that is printed", Args: cli.NoArgs,
		Long: "propose makes one proposal of all the changes named, which are made together or not at\nall. What each replaces is looked up now; where that has changed when the proposal would\nbe committed, it is refused. With -o nothing is proposed: the proposal is written to a\nfile, to be looked at, signed, and proposed with --file.",
		Example: "  ronctl registry propose --title 'second node' --node eu-2,b3:HEX,10.0.0.2:34000\n  ronctl registry propose --title 'two must agree' --add-signer alice.pub --add-signer bob.pub --threshold 2\n" +
			"  ronctl registry propose --title 'bob left' --drop-signer bob\n  ronctl registry propose --title 'node stolen' --revoke eu-2\n  ronctl registry propose --title 'search' --put search.json",
		RunE: func(c *cobra.Command, _ []string) error {
			if file != "" {
				return a.proposeFile(c, file)
			}
			if d.title == "" {
				return cli.Usagef("--title is needed: it is what signers see first")
			}
			ctx, r, err := a.dial(c)
			if err != nil {
				return err
			}
			p, err := d.make(ctx, r)
			if err != nil {
				return err
			}
			if d.out == "" {
				made, err := r.Propose(ctx, p, "")
				if err != nil {
					return trust(err)
				}
				return a.tell(made)
			}
			text, err := p.Encode()
			if err != nil {
				return err
			}
			id, err := p.Addr()
			if err != nil {
				return err
			}
			if err := os.WriteFile(d.out, append(text, '\n'), 0o644); err != nil {
				return err
			}
			return a.Print(map[string]any{"proposal": id, "file": d.out}, func(w io.Writer) { fmt.Fprintf(w, "proposal\t%s\nfile\t%s\n", id, d.out) })
		},
	}
	f := c.Flags()
	f.StringVar(&d.title, "title", "", "what it is, on one line")
	f.StringVar(&d.reason, "reason", "", "why, on one line")
	f.StringVarP(&d.out, "out", "o", "", "write the proposal to this file and propose nothing")
	f.DurationVar(&d.life, "expires", 7*24*time.Hour, "how long it may be approved, at most 720h")
	f.StringArrayVar(&d.files, "put", nil, "file with a descriptor (JSON) to put; may be given again")
	f.StringArrayVar(&d.nodes, "node", nil, "node to put: NAME,NODE_ID,HOST:PORT[,REGION]; may be given again")
	f.StringArrayVar(&d.removes, "remove", nil, "KIND/NAME to remove; may be given again")
	f.StringArrayVar(&d.revokes, "revoke", nil, "name of a node to remove and bar for good; may be given again")
	f.StringArrayVar(&d.addSigners, "add-signer", nil, "file with a public key that keygen wrote; may be given again")
	f.StringArrayVar(&d.dropSigners, "drop-signer", nil, "NAME, or NAME#vN of one key, that signs no more; may be given again")
	f.IntVar(&d.threshold, "threshold", 0, "how many signers must agree from then on; 0: as it is")
	f.StringVar(&d.writer, "writer", "", "id of the node that commits from then on; propose it there")
	f.StringArrayVar(&d.supersedes, "supersedes", nil, "address of a proposal that ends when this one is committed; may be given again")
	f.BoolVar(&d.checkpoint, "checkpoint", false, "vouch for all entries so far, so that nodes may drop them")
	f.StringVar(&file, "file", "", "propose what this file holds, which -o wrote, and nothing else")
	return c
}

func (a *app) proposeFile(c *cobra.Command, file string) error {
	p, err := readProposal(file)
	if err != nil {
		return err
	}
	ctx, r, err := a.dial(c)
	if err != nil {
		return err
	}
	made, err := r.Propose(ctx, p, "")
	if err != nil {
		return trust(err)
	}
	return a.tell(made)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

func readProposal(path string) (*registry.Proposal, error) {
	text, err := readFile(path, registry.MaxProposalBytes)
	if err != nil {
		return nil, err
	}
	p, err := registry.ParseProposal(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// make makes the proposal, whose prev members are of what is registered now.
func (d *draft) make(ctx context.Context, r *register.Registry) (*registry.Proposal, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return nil, trust(err)
	}
	var nonce [16]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	now := time.Now().UnixMilli()
	p := &registry.Proposal{V: 1, Registry: head.Registry, Nonce: hex.EncodeToString(nonce[:]), Title: d.title, Reason: d.reason,
		CreatedMS: now, ExpiresMS: now + d.life.Milliseconds(), Supersedes: slices.Sorted(slices.Values(d.supersedes))}
	m := &maker{ctx, r, p}
	for _, step := range []func(*draft) error{m.files, m.nodes, m.taken, m.signers} {
		if err := step(d); err != nil {
			return nil, err
		}
	}
	if d.checkpoint {
		p.Changes = append(p.Changes, registry.Change{Op: registry.OpCheckpoint, Size: head.Size, Head: head.Head.Head})
	}
	if len(p.Changes) == 0 {
		return nil, cli.Usagef("no change is named; see ronctl registry propose --help")
	}
	if err := p.Validate(); err != nil {
		return nil, cli.Usage(err)
	}
	return p, nil
}

// maker adds changes to a proposal.
type maker struct {
	ctx context.Context
	r   *register.Registry
	p   *registry.Proposal
}

// prev is the address of what is registered under a name; "" where nothing is.
func (m *maker) prev(k registry.Key) (string, *register.Descriptor, error) {
	d, err := m.r.Descriptor(m.ctx, k)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == 404 {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, trust(err)
	}
	return d.Addr, d, nil
}

func (m *maker) put(d *registry.Descriptor) error {
	prev, _, err := m.prev(d.Key())
	if err == nil {
		m.p.Changes = append(m.p.Changes, registry.Change{Op: registry.OpPut, Descriptor: d, Prev: prev})
	}
	return err
}

func (m *maker) files(d *draft) error {
	for _, path := range d.files {
		text, err := readFile(path, registry.MaxDescriptorBytes)
		if err != nil {
			return err
		}
		desc, err := registry.ParseDescriptor(text)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := m.put(desc); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) nodes(d *draft) error {
	for _, text := range d.nodes {
		part := strings.Split(text, ",")
		if len(part) < 3 || len(part) > 4 {
			return cli.Usagef("--node %q: it is NAME,NODE_ID,HOST:PORT[,REGION]", text)
		}
		desc := &registry.Descriptor{V: 1, Kind: registry.KindNode, Name: part[0], Node: &registry.Node{NodeID: part[1], Addr: part[2]}}
		if len(part) == 4 {
			desc.Node.Region = part[3]
		}
		if err := desc.Validate(); err != nil {
			return cli.Usagef("--node %q: %v", text, err)
		}
		if err := m.put(desc); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) taken(d *draft) error {
	take := func(op registry.Op, name string) error {
		k, err := registry.ParseKey(name)
		if err != nil {
			return cli.Usage(err)
		}
		prev, there, err := m.prev(k)
		if err != nil {
			return err
		}
		if there == nil {
			return fmt.Errorf("%s is not registered", k)
		}
		m.p.Changes = append(m.p.Changes, registry.Change{Op: op, Kind: k.Kind, Name: k.Name, Prev: prev})
		return nil
	}
	for _, name := range d.removes {
		if err := take(registry.OpRemove, name); err != nil {
			return err
		}
	}
	for _, name := range d.revokes {
		if err := take(registry.OpRevoke, string(registry.KindNode)+"/"+strings.TrimPrefix(name, "node/")); err != nil {
			return err
		}
	}
	return nil
}

// signers changes the set of signers, where anything of it is to change.
func (m *maker) signers(d *draft) error {
	if len(d.addSigners) == 0 && len(d.dropSigners) == 0 && d.threshold == 0 && d.writer == "" {
		return nil
	}
	prev, old, err := m.prev(registry.Key{Kind: registry.KindSigners, Name: registry.SignersName})
	if err != nil {
		return err
	}
	if old == nil {
		return errors.New("the node knows no signers")
	}
	next := registry.Signers{Threshold: cmp.Or(d.threshold, old.Descriptor.Signers.Threshold), Writer: cmp.Or(d.writer, old.Descriptor.Signers.Writer), Signers: slices.Clone(old.Descriptor.Signers.Signers)}
	for _, name := range d.dropSigners {
		n := len(next.Signers)
		next.Signers = slices.DeleteFunc(next.Signers, func(x bundle.Anchor) bool { return x.Name == name || registry.KeyName(&x) == name })
		if len(next.Signers) == n {
			return cli.Usagef("--drop-signer %s: no such signer", name)
		}
	}
	for _, path := range d.addSigners {
		text, err := readFile(path, registry.MaxKeyFileBytes)
		if err != nil {
			return err
		}
		var x bundle.Anchor
		if err := json.Unmarshal(text, &x); err != nil {
			return fmt.Errorf("%s: it is no public key that keygen wrote", path)
		}
		next.Signers = append(next.Signers, x)
	}
	slices.SortFunc(next.Signers, func(x, y bundle.Anchor) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), cmp.Compare(x.Version, y.Version))
	})
	m.p.Changes = append(m.p.Changes, registry.Change{Op: registry.OpPut, Prev: prev,
		Descriptor: &registry.Descriptor{V: 1, Kind: registry.KindSigners, Name: registry.SignersName, Signers: &next, Labels: old.Descriptor.Labels}})
	return nil
}
