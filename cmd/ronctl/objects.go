// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/part"
)

func parseAddr(s string) (b3.Addr, error) {
	addr, err := b3.Parse(s)
	if err != nil {
		return addr, cli.Usagef("%q: %v", s, err)
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
	var how howToPut
	c := &cobra.Command{
		Use:   "put FILE... | put -r DIR",
		Short: "Store files, or a whole directory with a manifest",
		Long: "put stores files and prints their addresses. What the tenant already holds is not\nsent again, unless --again says so: that heals an object that the node finds damaged.\n\"-\" reads standard input.\n\n" +
			"put -r stores every file below DIR in parallel, then a manifest that maps paths to\naddresses, and prints the manifest's address. Symbolic links are kept as links; one\nthat leads out of DIR is refused. Empty directories are not kept.",
		Example: "  ronctl put README.md\n  tar c . | ronctl put -\n  ronctl put -r ./site --manifest site.json",
		Args:    cli.MinArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			if t.recursive {
				if len(args) != 1 {
					return cli.Usagef("put -r takes one directory")
				}
				return a.putTree(ctx, cl, args[0], t, how.again)
			}
			all := []stored{}
			var failed error
			for _, path := range args {
				s, err := a.putPath(ctx, cl, path, how)
				if err != nil {
					failed = fmt.Errorf("%s: %w", path, err)
					break
				}
				all = append(all, s)
			}
			// What was stored is told even if not all was. As b3sum prints it,
			// so no columns: two spaces.
			err = a.Print(all, func(w io.Writer) {
				for _, s := range all {
					fmt.Fprintf(w, "%s  %s\n", s.Addr, s.Path)
				}
			})
			return cmp.Or(failed, err)
		},
	}
	f := c.Flags()
	f.StringVar(&how.contentType, "type", "", "content type; default by the file's name")
	f.BoolVar(&how.again, "again", false, "send what the node says it has, too")
	t.flags(f)
	f.StringVar(&t.manifest, "manifest", "", "with -r: also write the manifest to this file")
	return c
}

// howToPut is what the flags say of each file.
type howToPut struct {
	contentType string
	again       bool // send it whatever the node has
}

func (a *app) putPath(ctx context.Context, cl *client.Client, path string, how howToPut) (stored, error) {
	if path == "-" {
		put, err := cl.Put(ctx, a.In, client.PutOptions{ContentType: how.contentType})
		return stored{Path: path, Addr: put.Addr, Size: put.Size, Existed: put.Existed}, err
	}
	if how.contentType == "" {
		how.contentType = mime.TypeByExtension(filepath.Ext(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return stored{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return stored{}, err
	case info.IsDir():
		return stored{}, cli.Usagef("it is a directory; use: ronctl put -r %s", path)
	case !info.Mode().IsRegular(): // a pipe or device: its bytes come once
		put, err := cl.Put(ctx, f, client.PutOptions{ContentType: how.contentType})
		return stored{Path: path, Addr: put.Addr, Size: put.Size, Existed: put.Existed}, err
	}
	bar := a.progress(info.Size(), filepath.Base(path))
	defer bar.end()
	s, err := putFile(ctx, cl, f, how, bar)
	s.Path = path
	return s, err
}

// putFile hashes the file, asks whether it is there, and sends it if not. What
// is appended in the meantime is not sent.
func putFile(ctx context.Context, cl *client.Client, f *os.File, how howToPut, bar *bar) (stored, error) {
	hash := b3.NewHasher(nil)
	size, err := io.Copy(hash, f)
	if err != nil {
		return stored{}, err
	}
	addr, err := hash.Sum()
	if err != nil {
		return stored{}, err
	}
	if !how.again {
		switch _, err := cl.Stat(ctx, addr); {
		case err == nil:
			bar.add(size)
			return stored{Addr: addr, Size: size, Existed: true}, nil
		case !isStatus(err, http.StatusNotFound, http.StatusForbidden): // a capability may allow to put and not to look
			return stored{}, err
		}
	}
	put, err := cl.Put(ctx, bar.wrap(io.NewSectionReader(f, 0, size)), client.PutOptions{Addr: addr, ContentType: how.contentType})
	if isStatus(err, http.StatusUnprocessableEntity) {
		err = fmt.Errorf("it changed while it was sent: %w", err)
	}
	return stored{Addr: put.Addr, Size: put.Size, Existed: put.Existed}, err
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

// piece is the bytes that get is asked for; length math.MaxInt64 is the rest.
type piece struct {
	offset, length int64
	given          bool
}

// pieceOf reads --offset and --length.
func pieceOf(c *cobra.Command) (p piece, err error) {
	p.length = math.MaxInt64
	f := c.Flags()
	if f.Changed("offset") {
		p.given = true
		if p.offset, err = f.GetInt64("offset"); err != nil || p.offset < 0 {
			return p, cli.Usagef("--offset is not negative")
		}
	}
	if f.Changed("length") {
		p.given = true
		if p.length, err = f.GetInt64("length"); err != nil || p.length < 1 {
			return p, cli.Usagef("--length is at least 1")
		}
	}
	return p, nil
}

func (a *app) getCommand() *cobra.Command {
	var t treeOptions
	var out string
	c := &cobra.Command{
		Use:   "get ADDR [-o FILE] | get -r MANIFEST -o DIR",
		Short: "Fetch an object or a part of it, or all that a manifest lists",
		Long: "get fetches an object. Every byte is verified before it is written, also to standard\noutput, where it goes without -o. Bytes that do not match are not written, and the error\nnames their place to 16 KiB.\n\n" +
			"A broken fetch into FILE leaves FILE.part. The next get verifies what is there and goes\non behind it; where it was changed, it is cut off and the error names the place.\n\n" +
			"--offset and --length fetch a part of the object, verified just so.\n\n" +
			"get -r fetches everything that a manifest (an address or a file) lists into DIR.",
		Example: "  ronctl get b3:… -o README.md\n  ronctl get b3:… --offset 1048576 --length 4096 | xxd\n  ronctl get -r site.json -o ./copy",
		Args:    cli.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			p, err := pieceOf(c)
			if err != nil {
				return err
			}
			if t.recursive {
				if p.given {
					return cli.Usagef("get -r fetches whole files; --offset and --length are of one object")
				}
				if out == "" || out == "-" {
					return cli.Usagef("get -r needs -o DIR")
				}
				return a.getTree(ctx, cl, args[0], out, t)
			}
			addr, err := parseAddr(args[0])
			if err != nil {
				return err
			}
			if out == "" || out == "-" {
				return copyTo(ctx, cl, addr, a.Out, p)
			}
			return a.getFile(ctx, cl, addr, out, p)
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "file or, with -r, directory to write; - is standard output")
	f.Int64("offset", 0, "first byte to fetch")
	f.Int64("length", 0, "how many bytes to fetch; default all that follow")
	t.flags(f)
	return c
}

// copyTo writes to what cannot be taken back: nothing unverified goes there.
func copyTo(ctx context.Context, cl *client.Client, addr b3.Addr, w io.Writer, p piece) error {
	var err error
	if p.given {
		err = part.Copy(ctx, cl, addr, w, p.offset, p.length)
	} else {
		_, err = cl.Get(ctx, addr, w, client.GetOptions{})
	}
	if errors.Is(err, client.ErrNoSlices) && !p.given {
		err = fmt.Errorf("%w; with -o FILE all of it is verified before it gets its name", err)
	}
	return err
}

// getFile fetches into path.part, which it resumes, and gives it its name once
// the whole is there. What is no file, such as /dev/null or a named pipe, is
// written to and stays what it is.
func (a *app) getFile(ctx context.Context, cl *client.Client, addr b3.Addr, path string, p piece) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return cli.Usagef("-o %s is a directory", path)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(copyTo(ctx, cl, addr, f, p), f.Close())
	}
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer root.Close()
	name := filepath.Base(path)
	if p.given {
		return part.FetchRange(ctx, cl, root, part.File{Addr: addr, Part: name + ".range.part", Name: name, Mode: 0o644}, p.offset, p.length)
	}
	bar := a.progress(-1, name)
	defer bar.end()
	return part.Fetch(ctx, cl, root, part.File{Addr: addr, Part: name + ".part", Name: name, Mode: 0o644, Progress: bar.set})
}

// eachAddr does f for every address given, also where the node does not have one
// of them; the first such failure is returned in the end.
func eachAddr(args []string, f func(b3.Addr) error) error {
	addrs := make([]b3.Addr, len(args))
	for i, s := range args {
		var err error
		if addrs[i], err = parseAddr(s); err != nil {
			return err
		}
	}
	var missing error
	for _, addr := range addrs {
		err := f(addr)
		if err != nil {
			err = fmt.Errorf("%s: %w", addr, err)
		}
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return err
		}
		missing = cmp.Or(missing, err)
	}
	return missing
}

func (a *app) statCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stat ADDR...", Short: "Print the size and type of objects", Args: cli.MinArgs(1), Example: "  ronctl stat b3:…",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			all := []client.Stat{}
			failed := eachAddr(args, func(addr b3.Addr) error {
				stat, err := cl.Stat(ctx, addr)
				if err == nil {
					all = append(all, stat)
				}
				return err
			})
			err = a.Print(all, func(w io.Writer) {
				for _, s := range all {
					fmt.Fprintf(w, "%s\t%d\t%s\n", s.Addr, s.Size, s.ContentType)
				}
			})
			return cmp.Or(failed, err)
		},
	}
}

func (a *app) lsCommand() *cobra.Command {
	var limit int
	c := &cobra.Command{
		Use: "ls [PREFIX]", Short: "List the tenant's objects", Example: "  ronctl ls\n  ronctl ls b3:0a --output json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.Usagef("ls takes one prefix")
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
			if limit < 0 {
				return cli.Usagef("--limit is not negative")
			}
			l := &listing{a: a}
			err = each(func(cursor string) (string, error) {
				size := pageSize
				if limit > 0 {
					size = min(size, limit-l.n)
				}
				page, err := cl.List(ctx, prefix, cursor, size)
				if err != nil {
					return "", err
				}
				if limit > 0 && len(page.Objects) >= limit-l.n {
					page.Objects, page.Cursor = page.Objects[:limit-l.n], ""
				}
				return page.Cursor, l.print(page.Objects)
			})
			if err != nil && l.n == 0 {
				return err
			}
			return cmp.Or(err, l.end())
		},
	}
	c.Flags().IntVar(&limit, "limit", 0, "stop after this many; 0 lists all")
	return c
}

// pageSize is how many objects are asked for at once.
const pageSize = 1000

// listing prints objects page by page: a tenant may have more than fit in memory.
type listing struct {
	a *app
	n int
}

func (l *listing) print(page []client.Stat) error {
	if !l.a.JSON() {
		l.n += len(page)
		return l.a.Print(page, func(w io.Writer) {
			for _, s := range page {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Addr, s.Size, time.UnixMilli(s.CreatedMS).UTC().Format(time.RFC3339), s.ContentType)
			}
		})
	}
	for i := range page {
		text, err := json.MarshalIndent(&page[i], "  ", "  ")
		if err != nil {
			return err
		}
		before := ",\n  "
		if l.n == 0 {
			before = "[\n  "
		}
		if _, err := io.WriteString(l.a.Out, before+string(text)); err != nil {
			return err
		}
		l.n++
	}
	return nil
}

// end closes the JSON array.
func (l *listing) end() error {
	if !l.a.JSON() {
		return nil
	}
	last := "\n]\n"
	if l.n == 0 {
		last = "[]\n"
	}
	_, err := io.WriteString(l.a.Out, last)
	return err
}

func (a *app) rmCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm ADDR...", Short: "Drop the tenant's references to objects", Args: cli.MinArgs(1), Example: "  ronctl rm b3:…",
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cl, err := a.connect(c)
			if err != nil {
				return err
			}
			removed := []b3.Addr{}
			failed := eachAddr(args, func(addr b3.Addr) error {
				err := cl.Delete(ctx, addr)
				if err == nil {
					removed = append(removed, addr)
				}
				return err
			})
			err = a.Print(map[string]any{"removed": removed}, func(io.Writer) {})
			return cmp.Or(failed, err)
		},
	}
}
