// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package index asks a node what a name or an address stands for, and which nodes
// have an object.
package index

import (
	"context"
	"net/url"
	"strconv"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
)

// Resolved is what a name or an address stands for.
type Resolved struct {
	Target string  `json:"target"`
	Addr   b3.Addr `json:"addr"`
	// Name is the version of the name that counts; nil where an address was asked for.
	Name *Name `json:"name,omitempty"`
	// Object is nil where a name points at what nobody has, or, where Incomplete
	// says so, at what could not be asked for.
	Object   *Object   `json:"object,omitempty"`
	Manifest *Manifest `json:"manifest,omitempty"` // where the object is one
	// Incomplete names what could not be asked: objects, peers, manifest.
	Incomplete []string `json:"incomplete,omitempty"`
	// Generation counts the node's changes that the answer holds at least.
	Generation uint64 `json:"generation"`
}

// Name is a version of a name.
type Name struct {
	Name    string            `json:"name"`
	Version uint64            `json:"version"`
	TTL     int64             `json:"ttl_s,omitempty"` // seconds
	Meta    map[string]string `json:"meta,omitempty"`
	SetMS   int64             `json:"set_ms,omitempty"` // Unix milliseconds
}

// Object is what is known of an object. The content type of one that is not Local is
// the word of the peer that has it.
type Object struct {
	Size        int64  `json:"size"`
	ContentType string `json:"content_type"`
	CreatedMS   int64  `json:"created_ms,omitempty"`
	Local       bool   `json:"local"`
}

// Manifest is what a manifest holds, with the entries that were asked for.
type Manifest struct {
	Version int     `json:"version"`
	Files   int64   `json:"files"`
	Links   int64   `json:"links"`
	Bytes   int64   `json:"bytes"`
	Problem string  `json:"problem,omitempty"` // malformed or too_large: the rest says nothing
	Entries []Entry `json:"entries,omitempty"`
	Cursor  string  `json:"cursor,omitempty"` // of the next page; "": this was the last
}

// Entry is a file of a manifest (Addr), or a symbolic link (Link).
type Entry struct {
	Path string   `json:"path"`
	Addr *b3.Addr `json:"addr,omitempty"`
	Size int64    `json:"size,omitempty"`
	Exec bool     `json:"exec,omitempty"`
	Link string   `json:"link,omitempty"`
}

// Options of Resolve. After is a generation that the answer has to hold. Path names
// one entry of a manifest; Prefix, Limit and Cursor list several.
type Options struct {
	After  uint64
	Path   string
	Prefix string
	Limit  int
	Cursor string
}

// Resolve asks what a canonical name, or an address, stands for. A missing one is a
// *client.Error with 404.
func Resolve(ctx context.Context, c *client.Client, target string, o Options) (Resolved, error) {
	q := url.Values{}
	for k, v := range map[string]string{"path": o.Path, "prefix": o.Prefix, "cursor": o.Cursor} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	var out Resolved
	err := get(ctx, c, "/v1/resolve/"+url.PathEscape(target), q, o.After, &out)
	return out, err
}

// Provider is a node that has an object.
type Provider struct {
	NodeID string `json:"node_id"`
	Local  bool   `json:"local"` // the node that answers
}

// Providers are the nodes that have an object, by what is known at the node that answers.
type Providers struct {
	Addr       b3.Addr    `json:"addr"`
	Local      bool       `json:"local"`
	Providers  []Provider `json:"providers"`
	Incomplete []string   `json:"incomplete,omitempty"`
	Generation uint64     `json:"generation"`
}

// FindProviders asks which nodes have the object; after is as in Options.
func FindProviders(ctx context.Context, c *client.Client, addr b3.Addr, after uint64) (Providers, error) {
	var out Providers
	err := get(ctx, c, "/v1/providers/"+addr.String(), url.Values{}, after, &out)
	return out, err
}

func get(ctx context.Context, c *client.Client, path string, q url.Values, after uint64, out any) error {
	if after > 0 {
		q.Set("after", strconv.FormatUint(after, 10))
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.JSON(ctx, "GET", path, "", nil, out)
}
