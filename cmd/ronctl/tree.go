// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"os"
	"path"
	"path/filepath"
	"sync/atomic"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/cmd/internal/cli"
	"github.com/rustyonions/macronode/cmd/ronctl/manifest"
	"github.com/rustyonions/macronode/cmd/ronctl/part"
)

// defaultJobs is how many files are under way at once.
const defaultJobs = 16

type treeOptions struct {
	recursive bool
	jobs      int
	manifest  string
}

func (t *treeOptions) flags(f *pflag.FlagSet) {
	f.BoolVarP(&t.recursive, "recursive", "r", false, "a whole directory, by manifest")
	f.IntVarP(&t.jobs, "jobs", "j", defaultJobs, "with -r: files under way at once")
}

func (t *treeOptions) group(ctx context.Context) (*errgroup.Group, context.Context, error) {
	if t.jobs < 1 || t.jobs > 1024 {
		return nil, nil, cli.Usagef("--jobs is 1 to 1024, not %d", t.jobs)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.jobs)
	return g, ctx, nil
}

// summary is what a tree command prints.
type summary struct {
	Manifest *b3.Addr `json:"manifest,omitempty"`
	Files    int64    `json:"files"`
	Bytes    int64    `json:"bytes"`
	Skipped  int64    `json:"skipped"` // were there already
}

// treeError is a failure in the middle of a tree.
type treeError struct {
	error
	done, files int64
	where       string // "stored" or "fetched"
}

func (t *treeError) Unwrap() error { return t.error }

func (a *app) putTree(ctx context.Context, cl *client.Client, dir string, o treeOptions, again bool) error {
	name := filepath.Base(dir)
	dir, err := filepath.EvalSymlinks(dir) // "put -r current" of a link is of what it leads to
	if err != nil {
		return err
	}
	if info, err := os.Stat(dir); err != nil {
		return err
	} else if !info.IsDir() {
		return cli.Usagef("put -r takes a directory; %s is none", dir)
	}
	m, total, err := manifest.Walk(dir)
	if err != nil {
		return err
	}
	g, gctx, err := o.group(ctx)
	if err != nil {
		return err
	}
	bar := a.progress(total, name)
	defer bar.end()
	var done summary
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Link != "" {
			continue
		}
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			f, err := os.Open(filepath.Join(dir, filepath.FromSlash(e.Path)))
			if err != nil {
				return err
			}
			defer f.Close()
			s, err := putFile(gctx, cl, f, howToPut{mime.TypeByExtension(path.Ext(e.Path)), again}, bar)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			e.Addr, e.Size = &s.Addr, s.Size
			atomic.AddInt64(&done.Files, 1)
			atomic.AddInt64(&done.Bytes, s.Size)
			if s.Existed {
				atomic.AddInt64(&done.Skipped, 1)
			}
			return nil
		})
	}
	if err := cmp.Or(g.Wait(), ctx.Err()); err != nil {
		return &treeError{err, done.Files, m.Files(), "stored"}
	}
	text, err := m.Encode()
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	if o.manifest != "" {
		if err := os.WriteFile(o.manifest, text, 0o644); err != nil {
			return err
		}
	}
	put, err := cl.Put(ctx, bytes.NewReader(text), client.PutOptions{ContentType: manifest.MediaType})
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	bar.end()
	done.Manifest = &put.Addr
	return a.Print(done, func(w io.Writer) {
		fmt.Fprintln(w, put.Addr)
		fmt.Fprintf(a.Err, "%d files, %d bytes, %d were there already\n", done.Files, done.Bytes, done.Skipped)
	})
}

func (a *app) readManifest(ctx context.Context, cl *client.Client, from string) (*manifest.Manifest, error) {
	var text bytes.Buffer
	if addr, err := b3.Parse(from); err == nil {
		if _, err := cl.Get(ctx, addr, &text, client.GetOptions{Max: manifest.MaxBytes}); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", from, err)
		}
	} else {
		f, err := os.Open(from)
		if err != nil {
			return nil, fmt.Errorf("manifest: neither an address nor a file: %w", err)
		}
		defer f.Close()
		if _, err := io.Copy(&limitedBuffer{&text}, f); err != nil {
			return nil, fmt.Errorf("manifest %s: %w", from, err)
		}
	}
	m, err := manifest.Decode(text.Bytes())
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", from, err)
	}
	return m, nil
}

var errManifestTooLarge = errors.New("it is larger than a manifest may be")

type limitedBuffer struct{ *bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	if l.Len()+len(p) > manifest.MaxBytes {
		return 0, errManifestTooLarge
	}
	return l.Buffer.Write(p)
}

func (a *app) getTree(ctx context.Context, cl *client.Client, from, dir string, o treeOptions) error {
	m, err := a.readManifest(ctx, cl, from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// Nothing that a manifest says can lead out of dir.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	g, gctx, err := o.group(ctx)
	if err != nil {
		return err
	}
	var total int64
	for _, e := range m.Entries {
		total += e.Size
	}
	bar := a.progress(total, filepath.Base(dir))
	defer bar.end()
	var done summary
	for _, e := range m.Entries {
		if e.Link != "" {
			continue
		}
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			skipped, err := getEntry(gctx, cl, root, e)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			bar.add(e.Size)
			atomic.AddInt64(&done.Files, 1)
			atomic.AddInt64(&done.Bytes, e.Size)
			if skipped {
				atomic.AddInt64(&done.Skipped, 1)
			}
			return nil
		})
	}
	if err := cmp.Or(g.Wait(), ctx.Err()); err != nil {
		return &treeError{err, done.Files, m.Files(), "fetched"}
	}
	// Links come last, so that no file is written through one.
	for _, e := range m.Entries {
		if e.Link == "" {
			continue
		}
		if err := makeLink(root, e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	bar.end()
	return a.Print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%d files, %d bytes, %d were there already\n", done.Files, done.Bytes, done.Skipped)
	})
}

func makeLink(root *os.Root, e manifest.Entry) error {
	name := filepath.FromSlash(e.Path)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if info, err := root.Lstat(name); err == nil {
		if info.Mode()&fs.ModeSymlink != 0 {
			if have, err := root.Readlink(name); err == nil && have == e.Link {
				return nil
			}
		}
		if info.IsDir() {
			return errors.New("a directory is in the way of the link")
		}
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	return root.Symlink(e.Link, name)
}

// getEntry fetches one file of a manifest, unless it is there already.
func getEntry(ctx context.Context, cl *client.Client, root *os.Root, e manifest.Entry) (skipped bool, err error) {
	name := filepath.FromSlash(e.Path)
	if have, err := hashFile(root, name); err == nil && have == *e.Addr {
		return true, allowExec(root, name, e.Exec)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return false, err
	}
	mode := fs.FileMode(0o644)
	if e.Exec {
		mode = 0o755
	}
	// A manifest's size bounds what a node can make of it; one without sizes
	// bounds nothing.
	return false, part.Fetch(ctx, cl, root, part.File{Addr: *e.Addr, Part: e.Part(), Name: name, Mode: mode, Most: e.Size})
}

// allowExec makes a file that is there executable, for those who may read it.
func allowExec(root *os.Root, name string, exec bool) error {
	info, err := root.Stat(name)
	if err != nil || !exec || info.Mode()&0o111 != 0 {
		return err
	}
	return root.Chmod(name, info.Mode().Perm()|info.Mode().Perm()&0o444>>2)
}

// hashFile returns the address of a regular file; nothing else is read: a pipe
// might keep it waiting, and a link is not what a manifest asks for.
func hashFile(root *os.Root, name string) (b3.Addr, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return b3.Addr{}, err
	}
	if !info.Mode().IsRegular() {
		return b3.Addr{}, errors.New("no regular file")
	}
	f, err := root.Open(name)
	if err != nil {
		return b3.Addr{}, err
	}
	defer f.Close()
	hash := b3.NewHasher(nil)
	if _, err := io.Copy(hash, f); err != nil {
		return b3.Addr{}, err
	}
	return hash.Sum()
}
