// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/internal/datadir"
)

func (a *app) kmsCommand() *cobra.Command {
	return cli.Group("kms", "Keys and stored objects of a data directory", "  macronode kms list --data DIR",
		a.kmsList(), a.kmsCreate(), a.kmsRotate(), a.kmsDropVersion(), a.kmsCSR(), a.kmsImport(), a.kmsExportPublic(), a.kmsPutObject(), a.kmsExportRecovery(), a.kmsRestoreRoot(),
		a.kmsSplitRoot(), a.kmsUnseal(), a.kmsSealRoot())
}

// withKeys runs f with the keys of --data.
func (a *app) withKeys(c *cobra.Command, dir string, f func(ctx context.Context, k *datadir.Keys) error) error {
	k, err := datadir.OpenKeys(dir, a.warnings())
	if err != nil {
		return err
	}
	if err = k.Reachable(); err == nil {
		err = f(c.Context(), k)
	}
	if cerr := k.Close(); err == nil {
		err = cerr
	}
	return err
}

// withKey runs f with the keys of --data and prints the key that it returns.
func (a *app) withKey(c *cobra.Command, dir string, f func(ctx context.Context, k *datadir.Keys) (datadir.KeyInfo, error)) error {
	return a.withKeys(c, dir, func(ctx context.Context, k *datadir.Keys) error {
		info, err := f(ctx, k)
		if err != nil {
			return err
		}
		return a.Print(info, func(w io.Writer) { printKey(w, info) })
	})
}

// newKey is what the flags say of a key that is to be.
type newKey struct{ alg, purpose string }

func (n *newKey) flags(c *cobra.Command) {
	c.Flags().StringVar(&n.alg, "alg", "ed25519", "algorithm: "+datadir.KeyAlgorithms())
	c.Flags().StringVar(&n.purpose, "purpose", "app", "the one use of the key: "+datadir.KeyPurposes())
}

func printKey(w io.Writer, k datadir.KeyInfo) {
	fmt.Fprintf(w, "%s\t%s\t%s\tv%d\n", k.Name, k.Alg, k.Purpose, k.Newest().Version)
}

func (a *app) kmsList() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "list --data DIR", Short: "List keys and objects, never a secret", Args: cli.NoArgs, Example: "  macronode kms list --data DIR",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withKeys(c, dir, func(ctx context.Context, k *datadir.Keys) error {
				keys, err := k.List(ctx)
				if err != nil {
					return err
				}
				objects, err := k.Objects(ctx)
				if err != nil {
					return err
				}
				return a.Print(map[string]any{"keys": keys, "objects": objects}, func(w io.Writer) {
					for _, key := range keys {
						printKey(w, key)
					}
					for _, o := range objects {
						fmt.Fprintf(w, "KMS:obj/%s@v%d\t%d bytes\t%s\n", o.Name, o.Version, o.Size, o.Hash)
					}
				})
			})
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}

func (a *app) kmsCreate() *cobra.Command {
	var dir string
	var n newKey
	c := &cobra.Command{
		Use: "create NAME --data DIR", Short: "Make a key; one that is there already is left alone", Args: cli.ExactArgs(1),
		Example: "  macronode kms create webhook --alg ed25519 --purpose app --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := datadir.KeySpec(args[0], n.alg, n.purpose)
			if err != nil {
				return cli.Usage(err)
			}
			return a.withKey(c, dir, func(ctx context.Context, k *datadir.Keys) (datadir.KeyInfo, error) { return k.Create(ctx, spec) })
		},
	}
	a.dataFlag(c, &dir, true)
	n.flags(c)
	return c
}

func (a *app) kmsRotate() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "rotate NAME --data DIR", Short: "Add a version to a key; old ones go on verifying", Args: cli.ExactArgs(1),
		Example: "  macronode kms rotate tls --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			return a.withKey(c, dir, func(ctx context.Context, k *datadir.Keys) (datadir.KeyInfo, error) { return k.Rotate(ctx, args[0]) })
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}

func (a *app) kmsImport() *cobra.Command {
	var dir, in string
	var n newKey
	c := &cobra.Command{
		Use: "import NAME --in FILE --data DIR", Short: "Make a key of private material from a file (PEM or raw)", Args: cli.ExactArgs(1),
		Example: "  macronode kms import tls --alg ecdsa-p256 --purpose tls --in server.key --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			spec, err := datadir.KeySpec(args[0], n.alg, n.purpose)
			if err != nil {
				return cli.Usage(err)
			}
			if in == "" {
				return cli.Usagef("kms import needs --in FILE: a private key is never an argument")
			}
			material, err := readText(in)
			if err != nil {
				return err
			}
			return a.withKey(c, dir, func(ctx context.Context, k *datadir.Keys) (datadir.KeyInfo, error) {
				return k.Import(ctx, spec, material)
			})
		},
	}
	a.dataFlag(c, &dir, true)
	n.flags(c)
	c.Flags().StringVar(&in, "in", "", "file with the private key")
	return c
}

func (a *app) kmsExportPublic() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "export-public [NAME] --data DIR", Short: "Print public keys; needs neither the lock nor the root secret", Args: cli.MaxArgs(1),
		Example: "  macronode kms export-public audit --data DIR",
		RunE: func(_ *cobra.Command, args []string) error {
			doc, err := datadir.PublicKeys(dir)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				key := doc.Key(args[0])
				if key == nil {
					return fmt.Errorf("there is no public key %q", args[0])
				}
				doc.Keys = []datadir.KeyInfo{*key}
			}
			return a.Print(doc, func(w io.Writer) {
				for _, k := range doc.Keys {
					for _, v := range k.Versions {
						for _, p := range v.Public {
							fmt.Fprintf(w, "%s\n%s", p.KeyID, p.SPKIPEM)
						}
					}
				}
			})
		},
	}
	a.dataFlag(c, &dir, true)
	return c
}

func (a *app) kmsPutObject() *cobra.Command {
	var dir, in string
	var version uint64
	c := &cobra.Command{
		Use: "put-object NAME --in FILE --data DIR", Short: "Keep a file as an object's next version", Args: cli.ExactArgs(1),
		Example: "  macronode kms put-object cert_chain --in fullchain.pem --data DIR",
		RunE: func(c *cobra.Command, args []string) error {
			if in == "" {
				return cli.Usagef("kms put-object needs --in FILE")
			}
			data, err := readText(in)
			if err != nil {
				return err
			}
			return a.withKeys(c, dir, func(ctx context.Context, k *datadir.Keys) error {
				info, err := k.PutObject(ctx, args[0], version, data)
				if err != nil {
					return err
				}
				return a.Print(info, func(w io.Writer) { fmt.Fprintf(w, "KMS:obj/%s@v%d\t%s\n", info.Name, info.Version, info.Hash) })
			})
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVar(&in, "in", "", "file with the object's bytes")
	c.Flags().Uint64Var(&version, "version", 0, "version to be; above the newest. 0: the next")
	return c
}

func (a *app) kmsExportRecovery() *cobra.Command {
	var dir, out string
	c := &cobra.Command{
		Use: "export-recovery --out FILE --data DIR", Short: "Write the recovery export of the root key", Args: cli.NoArgs,
		Long:    "Whoever has the recovery export and the data directory has every key. Keep it off\nthe machine.",
		Example: "  macronode kms export-recovery --out recovery.key --data DIR",
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return cli.Usagef("kms export-recovery needs --out FILE")
			}
			export, err := datadir.ExportRecovery(dir, a.warnings())
			if err != nil {
				return err
			}
			if err := datadir.WriteFile(out, export, true); err != nil {
				return err
			}
			return a.Print(map[string]string{"file": out}, func(w io.Writer) { fmt.Fprintln(w, "written to", out, "(keep it off this machine)") })
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVar(&out, "out", "", "file to write, mode 0600")
	return c
}

func (a *app) kmsRestoreRoot() *cobra.Command {
	var dir, in string
	c := &cobra.Command{
		Use: "restore-root --in FILE --data DIR", Short: "Give a keystore whose root is lost a new root, by the recovery export", Args: cli.NoArgs,
		Example: "  macronode kms restore-root --in recovery.key --data DIR",
		RunE: func(*cobra.Command, []string) error {
			if in == "" {
				return cli.Usagef("kms restore-root needs --in FILE")
			}
			export, err := readText(in)
			if err != nil {
				return err
			}
			if err := datadir.RestoreRoot(dir, export); err != nil {
				return err
			}
			return a.Print(map[string]string{"data": dir}, func(w io.Writer) { fmt.Fprintln(w, "the keystore has a new root") })
		},
	}
	a.dataFlag(c, &dir, true)
	c.Flags().StringVar(&in, "in", "", "the recovery export")
	return c
}
