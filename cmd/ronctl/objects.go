// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

func parseAddr(s string) (b3.Addr, error) {
	addr, err := b3.Parse(s)
	if err != nil {
		return addr, usagef("%q: %v", s, err)
	}
	return addr, nil
}

// stored is what put prints of one object.
type stored struct {
	Path    string  `json:"path"`
	Addr    b3.Addr `json:"addr"`
	Size    int64   `json:"size"`
	Existed bool    `json:"existed"`
}

func (a *app) putCommand() *cobra.Command {
	var t treeOptions
	var contentType string
	c := &cobra.Command{
		Use:   "put FILE... | put -r DIR",
		Short: "Store files, or a whole directory with a manifest",
		Long: "put stores files and prints their addresses. What the tenant already holds is not\nsent again. \"-\" reads standard input.\n\n" +
			"put -r stores every file below DIR in parallel, then a manifest that maps paths to\naddresses, and prints the manifest's address.",
		Example: "  ronctl put README.md\n  tar c . | ronctl put -\n  ronctl put -r ./site --manifest site.json",
		Args:    minArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			if t.recursive {
				if len(args) != 1 {
					return usagef("put -r takes one directory")
				}
				return a.putTree(ctx, cl, args[0], t)
			}
			all := []stored{}
			var failed error
			for _, path := range args {
				s, err := a.putPath(ctx, cl, path, contentType)
				if err != nil {
					failed = fmt.Errorf("%s: %w", path, err)
					break
				}
				all = append(all, s)
			}
			// What was stored is told even if not all was. As b3sum prints it,
			// so no columns: two spaces.
			err = a.print(all, func(w io.Writer) {
				for _, s := range all {
					fmt.Fprintf(w, "%s  %s\n", s.Addr, s.Path)
				}
			})
			return cmp.Or(failed, err)
		},
	}
	f := c.Flags()
	f.StringVar(&contentType, "type", "", "content type; default by the file's name")
	t.flags(f)
	f.StringVar(&t.manifest, "manifest", "", "with -r: also write the manifest to this file")
	return c
}

func (a *app) putPath(ctx context.Context, cl *client.Client, path, contentType string) (stored, error) {
	if path == "-" {
		put, err := cl.Put(ctx, a.in, client.PutOptions{ContentType: contentType})
		return stored{Path: path, Addr: put.Addr, Size: put.Size, Existed: put.Existed}, err
	}
	if contentType == "" {
		contentType = mime.TypeByExtension(filepath.Ext(path))
	}
	info, err := os.Stat(path)
	if err != nil {
		return stored{}, err
	}
	if info.IsDir() {
		return stored{}, usagef("it is a directory; use: ronctl put -r %s", path)
	}
	bar := a.progress(info.Size(), filepath.Base(path))
	defer bar.end()
	return putFile(ctx, cl, path, contentType, bar)
}

// putFile hashes the file, asks whether it is there, and sends it if not.
func putFile(ctx context.Context, cl *client.Client, path, contentType string, bar *bar) (stored, error) {
	f, err := os.Open(path)
	if err != nil {
		return stored{}, err
	}
	defer f.Close()
	hash := b3.NewHasher(nil)
	size, err := io.Copy(hash, f)
	if err != nil {
		return stored{}, err
	}
	addr, err := hash.Sum()
	if err != nil {
		return stored{}, err
	}
	switch _, err := cl.Stat(ctx, addr); {
	case err == nil:
		bar.add(size)
		return stored{Path: path, Addr: addr, Size: size, Existed: true}, nil
	case !isStatus(err, 404, 403): // a capability may allow to put and not to look
		return stored{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return stored{}, err
	}
	put, err := cl.Put(ctx, bar.wrap(f), client.PutOptions{Addr: addr, ContentType: contentType})
	return stored{Path: path, Addr: put.Addr, Size: put.Size, Existed: put.Existed}, err
}

func isStatus(err error, statuses ...int) bool {
	var refused *client.Error
	if !errors.As(err, &refused) {
		return false
	}
	for _, s := range statuses {
		if refused.Status == s {
			return true
		}
	}
	return false
}

func (a *app) getCommand() *cobra.Command {
	var t treeOptions
	var out string
	c := &cobra.Command{
		Use:   "get ADDR [-o FILE] | get -r MANIFEST -o DIR",
		Short: "Fetch an object, or all that a manifest lists",
		Long: "get fetches an object and verifies every byte. A broken fetch leaves FILE.part, and\nthe next get goes on where it ended. Without -o it writes to standard output.\n\n" +
			"get -r fetches everything that a manifest (an address or a file) lists into DIR.",
		Example: "  ronctl get b3:… -o README.md\n  ronctl get -r site.json -o ./copy",
		Args:    exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			if t.recursive {
				if out == "" || out == "-" {
					return usagef("get -r needs -o DIR")
				}
				return a.getTree(ctx, cl, args[0], out, t)
			}
			addr, err := parseAddr(args[0])
			if err != nil {
				return err
			}
			if out == "" || out == "-" {
				_, err := cl.Get(ctx, addr, a.out, client.GetOptions{})
				return err
			}
			bar := a.progress(-1, filepath.Base(out))
			defer bar.end()
			return getFile(ctx, cl, addr, out, bar)
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "file or, with -r, directory to write; - is standard output")
	t.flags(f)
	return c
}

// getFile fetches into path.part, which it resumes, and gives it its name once
// the whole is verified.
func getFile(ctx context.Context, cl *client.Client, addr b3.Addr, path string, bar *bar) error {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fetch(ctx, cl, addr, f, bar.set); err != nil {
		if errors.Is(err, client.ErrIntegrity) {
			os.Remove(part)
		}
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// fetch fills f with the object's bytes, going on after those it has. If those
// turn out to be another object's, it fetches anew.
func fetch(ctx context.Context, cl *client.Client, addr b3.Addr, f *os.File, progress func(done, size int64)) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	o := client.GetOptions{Progress: progress}
	if info.Size() > 0 {
		o.Have = f // reading it leaves the file at its end
		if _, err := cl.Get(ctx, addr, f, o); !errors.Is(err, client.ErrIntegrity) {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		o.Have = nil
	}
	_, err = cl.Get(ctx, addr, f, o)
	return err
}

func (a *app) statCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stat ADDR...", Short: "Print the size and type of objects", Args: minArgs(1), Example: "  ronctl stat b3:…",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			var all []client.Stat
			for _, s := range args {
				addr, err := parseAddr(s)
				if err != nil {
					return err
				}
				stat, err := cl.Stat(ctx, addr)
				if err != nil {
					return fmt.Errorf("%s: %w", s, err)
				}
				all = append(all, stat)
			}
			return a.print(all, func(w io.Writer) {
				for _, s := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\n", s.Addr, s.Size, s.ContentType)
				}
			})
		},
	}
}

func (a *app) lsCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "ls [PREFIX]", Short: "List the tenant's objects", Example: "  ronctl ls\n  ronctl ls b3:0a --output json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("ls takes one prefix")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			all := []client.Stat{}
			err = each(func(cursor string) (string, error) {
				page, err := cl.List(ctx, prefix, cursor, 1000)
				all = append(all, page.Objects...)
				if limit > 0 && len(all) >= limit {
					all, page.Cursor = all[:limit], ""
				}
				return page.Cursor, err
			})
			if err != nil {
				return err
			}
			return a.print(all, func(w io.Writer) {
				for _, s := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Addr, s.Size, time.UnixMilli(s.CreatedMS).UTC().Format(time.RFC3339), s.ContentType)
				}
			})
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "stop after this many; 0 lists all")
	return c
}

func (a *app) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm ADDR...", Short: "Drop the tenant's references to objects", Args: minArgs(1), Example: "  ronctl rm b3:…",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			for _, s := range args {
				addr, err := parseAddr(s)
				if err != nil {
					return err
				}
				if err := cl.Delete(ctx, addr); err != nil {
					return fmt.Errorf("%s: %w", s, err)
				}
			}
			return a.print(map[string]any{"removed": args}, func(io.Writer) {})
		},
	}
}
