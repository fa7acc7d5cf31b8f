// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package caveats

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// readKey reads a 32-byte key from a file: raw, or as one line of hex or base64.
// A key is never an argument: those are for all to see.
func readKey(path string) (*[capability.KeyBytes]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key %s: others may read it; chmod 600 it first", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", path, err)
	}
	defer clear(b)
	if len(b) == capability.KeyBytes {
		return (*[capability.KeyBytes]byte)(slices.Clone(b)), nil
	}
	line := strings.TrimSpace(string(b))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.Strict().DecodeString, base64.RawURLEncoding.Strict().DecodeString,
	} {
		if key, err := decode(line); err == nil && len(key) == capability.KeyBytes {
			return (*[capability.KeyBytes]byte)(key), nil
		}
	}
	return nil, fmt.Errorf("key %s: it is not 32 bytes, raw or as one line of hex or base64", path)
}

// Parties makes the commands for third-party caveats.
type Parties struct {
	*cli.Terminal
	// Held is the capability that an argument or, without one, the flags and the
	// environment give.
	Held func(args []string) (*capability.Token, error)
	// Read is a token given as itself or as @FILE.
	Read func(arg string) (string, error)
}

// Commands are the subcommands of cap.
func (a *Parties) Commands() []*cobra.Command {
	group := cli.Group("third-party", "Make a capability hold only with a third party's discharge", "  ronctl cap third-party --help", a.add())
	return []*cobra.Command{group, a.tickets(), a.discharge(), a.bind()}
}

func (a *Parties) add() *cobra.Command {
	var n Flags
	var location, keyID, keyFile string
	c := &cobra.Command{
		Use: "add", Short: "Add a third-party caveat, offline; prints the new token", Args: cli.NoArgs,
		Long: "Add a third-party caveat, offline: the new token holds only together with a discharge, which the third party at --location\n" +
			"makes of the caveat's ticket (ronctl cap tickets, ronctl cap discharge). The file holds the 32-byte key that you and the third\n" +
			"party share under --key-id. --actions, --expires and their like go into the ticket: they are what the third party is asked to\n" +
			"hold to.",
		Example: "  ronctl cap third-party add --cap @team.cap --location https://sso.example/ --key-id sso-1 --key-file sso.key >guarded.cap",
		RunE: func(c *cobra.Command, _ []string) error {
			tok, err := a.Held(nil)
			if err != nil {
				return err
			}
			ask, err := n.Caveats(time.Now(), c.Flags().Changed)
			if err != nil {
				return err
			}
			if location == "" || keyID == "" || keyFile == "" {
				return cli.Usagef("cap third-party add needs --location, --key-id and --key-file")
			}
			key, err := readKey(keyFile)
			if err != nil {
				return err
			}
			defer clear(key[:])
			if tok, err = tok.AddThirdParty(location, keyID, key, ask...); err != nil {
				return err
			}
			doc := map[string]string{"token": tok.Text(), "leaf_id": tok.LeafID().String()}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintln(w, tok.Text()) })
		},
	}
	n.Register(c.Flags())
	c.Flags().StringVar(&location, "location", "", "where discharges are to be had, a URL")
	c.Flags().StringVar(&keyID, "key-id", "", "name of the shared key: 1 to 64 of a-z 0-9 . _ -")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the shared key: 32 bytes, or a line of hex or base64; mode 0600")
	return c
}

func (a *Parties) tickets() *cobra.Command {
	return &cobra.Command{
		Use: "tickets [TOKEN|@FILE]", Short: "Show the tickets to take to third parties, offline", Args: cli.MaxArgs(1),
		Example: "  ronctl cap tickets @guarded.cap",
		RunE: func(_ *cobra.Command, args []string) error {
			tok, err := a.Held(args)
			if err != nil {
				return err
			}
			docs := Tickets(tok)
			return a.Print(docs, func(w io.Writer) {
				for _, d := range docs {
					fmt.Fprintf(w, "%s\t%s\n", d.Location, d.Ticket)
				}
			})
		},
	}
}

// Ticket is what to take to a third party.
type Ticket struct {
	Location string `json:"location"`
	KeyID    string `json:"key_id"`
	Ticket   string `json:"ticket"`
}

// Tickets are those of tok.
func Tickets(tok *capability.Token) []Ticket {
	docs := []Ticket{}
	for _, k := range tok.Tickets() {
		docs = append(docs, Ticket{k.Location, k.KeyID, k.Text()})
	}
	return docs
}

func (a *Parties) discharge() *cobra.Command {
	var n Flags
	var ticket, keyFile string
	var met []uint
	c := &cobra.Command{
		Use: "discharge", Short: "Make a discharge of a ticket, as the third party, offline; prints it", Args: cli.NoArgs,
		Long: "Make a discharge of a ticket, as the third party, offline. --actions, --expires and their like narrow it. What the ticket asks\n" +
			"for goes into the discharge, where the node holds to it; of a private caveat, which no node knows, --met TYPE says that you\n" +
			"have checked it.",
		Example: "  ronctl cap discharge --ticket 01J…:sso-1:AbC… --key-file sso.key --expires 10m >sso.discharge",
		RunE: func(c *cobra.Command, _ []string) error {
			own, err := n.Caveats(time.Now(), c.Flags().Changed)
			if err != nil {
				return err
			}
			if ticket == "" || keyFile == "" {
				return cli.Usagef("cap discharge needs --ticket and --key-file")
			}
			k, err := capability.ParseTicket(ticket)
			if err != nil {
				return cli.Usage(err)
			}
			key, err := readKey(keyFile)
			if err != nil {
				return err
			}
			defer clear(key[:])
			o, err := k.Open(key)
			if err != nil {
				return err
			}
			asked, err := answer(o.Ask(), met)
			if err != nil {
				return err
			}
			d, err := o.Discharge(append(asked, own...)...)
			if err != nil {
				return err
			}
			doc := map[string]string{"discharge": d.Text(), "leaf_id": d.LeafID().String()}
			return a.Print(doc, func(w io.Writer) { fmt.Fprintln(w, d.Text()) })
		},
	}
	n.Register(c.Flags())
	c.Flags().StringVar(&ticket, "ticket", "", "TENANT:KEYID:TICKET, as cap tickets shows it")
	c.Flags().StringVar(&keyFile, "key-file", "", "file with the shared key: 32 bytes, or a line of hex or base64; mode 0600")
	c.Flags().UintSliceVar(&met, "met", nil, "numbers of private caveats of the ticket that you have checked")
	return c
}

// answer returns what of a ticket's caveats the discharge is to carry. One that
// no node can judge must be named in met.
func answer(ask []capability.Caveat, met []uint) (carry []capability.Caveat, err error) {
	for _, c := range ask {
		switch {
		case c.Type() <= capability.Confine && c.Type() > 0:
			carry = append(carry, c)
		case slices.Contains(met, uint(c.Type())):
		default:
			return nil, cli.Usagef("the ticket asks for %v, which no node can check: check it and say --met %d", c, uint64(c.Type()))
		}
	}
	return carry, nil
}

func (a *Parties) bind() *cobra.Command {
	return &cobra.Command{
		Use: "bind DISCHARGE|@FILE...", Short: "Bind discharges to a capability, offline; prints what X-Ron-Discharge takes", Args: cli.MinArgs(1),
		Long: "Bind discharges to a capability, offline; prints the value of the header X-Ron-Discharge. They are then good for that very\n" +
			"token, not for what is narrowed from it later. The commands of ronctl bind by themselves what --discharge names.",
		Example: "  curl -H \"Authorization: Bearer $(cat guarded.cap)\" -H \"X-Ron-Discharge: $(ronctl cap bind --cap @guarded.cap @sso.discharge)\" …",
		RunE: func(_ *cobra.Command, args []string) error {
			tok, err := a.Held(nil)
			if err != nil {
				return err
			}
			out := []string{}
			for _, arg := range args {
				text, err := a.Read(arg)
				if err != nil {
					return err
				}
				d, err := capability.Parse(text)
				if err != nil {
					return err
				}
				if d, err = tok.Bind(d); err != nil {
					return err
				}
				out = append(out, d.Text())
			}
			return a.Print(map[string][]string{"discharges": out}, func(w io.Writer) { fmt.Fprintln(w, strings.Join(out, ",")) })
		},
	}
}
