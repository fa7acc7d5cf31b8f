// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package manifest describes a directory as a list of files by address and of
// symbolic links, so that a whole tree has one address.
package manifest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rustyonions/macronode/b3"
)

// MediaType is the content type of a manifest.
const MediaType = "application/vnd.macronode.manifest+json"

// Version is the version of the format.
const Version = 1

// MaxBytes bounds a manifest: some 1.5 million files.
const MaxBytes = 256 << 20

// Manifest maps the paths of a tree to addresses, sorted by path, so that one
// tree has one manifest and one address.
type Manifest struct {
	Version int     `json:"version"`
	Entries []Entry `json:"entries"`
}

// Entry is one file, or one symbolic link (Link alone). Directories are what
// paths make of them: empty ones are not kept.
type Entry struct {
	Path string   `json:"path"` // slash-separated, relative, clean
	Addr *b3.Addr `json:"addr,omitempty"`
	Size int64    `json:"size,omitempty"`
	Exec bool     `json:"exec,omitempty"`
	Link string   `json:"link,omitempty"`
}

// Decode reads a manifest. It refuses one that could write or point outside its
// directory, or whose entries get in each other's way.
func Decode(text []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, err
	}
	if m.Version != Version {
		return nil, fmt.Errorf("version %d, this ronctl knows %d", m.Version, Version)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Encode writes the manifest; equal trees have equal bytes.
func (m *Manifest) Encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if text = append(text, '\n'); len(text) > MaxBytes {
		return nil, fmt.Errorf("it has %d bytes, %d are allowed; put the subdirectories one by one", len(text), MaxBytes)
	}
	return text, nil
}

// Files returns how many entries are files.
func (m *Manifest) Files() (n int64) {
	for i := range m.Entries {
		if m.Entries[i].Link == "" {
			n++
		}
	}
	return n
}

// Walk lists the files and links below dir, without addresses, and how many bytes
// the files have. Other kinds (sockets, devices) are
// an error: leaving them out silently would make a manifest that lies.
func Walk(dir string) (*Manifest, int64, error) {
	m := &Manifest{Version: Version, Entries: []Entry{}}
	var total int64
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		e := Entry{Path: filepath.ToSlash(rel)}
		if !fs.ValidPath(e.Path) {
			return fmt.Errorf("%q: the name is not UTF-8, which a manifest cannot hold", p)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode().IsRegular():
			e.Exec = info.Mode()&0o111 != 0
			total += info.Size()
		case info.Mode()&fs.ModeSymlink != 0:
			if e.Link, err = os.Readlink(p); err != nil {
				return err
			}
			if leadsOut(e.Path, e.Link) { // no get would make it
				return fmt.Errorf("%s: the link to %s leads out of the directory", p, e.Link)
			}
		default:
			return fmt.Errorf("%s is neither a file nor a link", p)
		}
		m.Entries = append(m.Entries, e)
		return nil
	})
	slices.SortFunc(m.Entries, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	return m, total, err
}

// check refuses a manifest that could write or point outside its directory, or
// whose entries get in each other's way.
func (m *Manifest) check() error {
	links := make(map[string]bool, len(m.Entries)) // every path; true: a link
	for _, e := range m.Entries {
		_, twice := links[e.Path]
		switch {
		case !fs.ValidPath(e.Path) || e.Path == "." || (e.Addr == nil) == (e.Link == "") || e.Size < 0:
			return fmt.Errorf("bad entry %q", e.Path)
		case twice:
			return fmt.Errorf("%q is there twice", e.Path)
		case e.Link != "" && leadsOut(e.Path, e.Link):
			return fmt.Errorf("%q: the link to %q leads out of the directory", e.Path, e.Link)
		}
		links[e.Path] = e.Link != ""
	}
	for _, e := range m.Entries {
		for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
			if links[dir] {
				return fmt.Errorf("%q lies behind the link %q", e.Path, dir)
			}
		}
		if e.Addr == nil {
			continue
		}
		if _, taken := links[filepath.ToSlash(e.Part())]; taken {
			return fmt.Errorf("bad entry %q", filepath.ToSlash(e.Part()))
		}
	}
	return nil
}

// leadsOut reports whether a link at name may point outside. Its ".." may only
// come first, where they climb real directories: behind another link they would
// climb from wherever that one leads.
func leadsOut(name, target string) bool {
	if path.IsAbs(target) || strings.Contains(target, "\x00") {
		return true
	}
	depth, down := strings.Count(name, "/"), false
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 || down {
				return true
			}
		default:
			down = true
		}
	}
	return false
}

// Part is where an entry grows while it is fetched: beside its place, under a name that no other
// entry of the tree has (a tree may well hold both "x" and "x.part").
func (e Entry) Part() string {
	id := b3.Sum([]byte(e.Path + "\x00" + e.Addr.String()))
	return filepath.Join(filepath.Dir(filepath.FromSlash(e.Path)), ".ronctl-"+hex.EncodeToString(id[:8])+".part")
}
