// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package names uses a node's names: words that point at objects.
//
//	n, err := names.Set(ctx, c, "site.logo", names.Value{Addr: addr, TTL: 300}, names.Always)
//	n, err = names.Set(ctx, c, "site.logo", names.Value{Addr: next}, names.At(n.Version))
//	if names.Conflict(err) { … somebody else changed it meanwhile … }
//
// What a name may be, and which of its spellings counts, is package name's. Calls are
// repeated as package client does; a change has an Idempotency-Key for that, so that
// one whose answer was lost is not done twice.
package names

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/name/document"
)

// maxAnswerBytes bounds an answer that is read whole: a page of names.
const maxAnswerBytes = 16 << 20

// Name is one version of a name.
type Name struct {
	Name      string            `json:"name"`
	Deleted   bool              `json:"deleted,omitempty"` // in histories and watches: it was deleted with this version
	Addr      b3.Addr           `json:"addr,omitzero"`
	Version   uint64            `json:"version"`
	TTL       int64             `json:"ttl_s"` // seconds that an answer may be kept; 0: none
	Meta      map[string]string `json:"meta,omitempty"`
	CreatedMS int64             `json:"created_ms,omitempty"`
	UpdatedMS int64             `json:"updated_ms"`
}

// Value is what a name is to point at.
type Value struct {
	Addr b3.Addr           `json:"addr"`
	TTL  int64             `json:"ttl_s,omitempty"`
	Meta map[string]string `json:"meta,omitempty"`
}

// Condition is what must hold for a change. The zero value is Always.
type Condition struct{ header, value string }

// Always lets a change happen whatever is there.
var Always = Condition{}

// Absent wants the name not to be there.
func Absent() Condition { return Condition{"If-None-Match", "*"} }

// Present wants the name to be there.
func Present() Condition { return Condition{"If-Match", "*"} }

// At wants the name to have this version.
func At(version uint64) Condition {
	return Condition{"If-Match", `"` + strconv.FormatUint(version, 10) + `"`}
}

// Conflict reports whether err says that a condition did not hold.
func Conflict(err error) bool { return status(err) == http.StatusPreconditionFailed }

// Missing reports whether err says that there is no such name.
func Missing(err error) bool { return status(err) == http.StatusNotFound }

// Refused reports whether err says that a spelling is no name, or a value not one
// that a name can have.
func Refused(err error) bool { return status(err) == http.StatusUnprocessableEntity }

func status(err error) int {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Status
	}
	return 0
}

func path(n, rest string) string { return "/v1/names/" + url.PathEscape(n) + rest }

// Set points a name at v. It returns once that is durable.
func Set(ctx context.Context, c *client.Client, n string, v Value, only Condition) (out Name, err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return out, err
	}
	err = change(ctx, c, client.Request{Method: "PUT", Path: path(n, ""), Body: bytes.NewReader(body), Length: int64(len(body))}, only, &out)
	return out, err
}

// Delete deletes a name; the object stays.
func Delete(ctx context.Context, c *client.Client, n string, only Condition) error {
	return change(ctx, c, client.Request{Method: "DELETE", Path: path(n, "")}, only, nil)
}

// change makes a change under a key of its own.
func change(ctx context.Context, c *client.Client, r client.Request, only Condition, out any) error {
	r.Header = http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {rand.Text()}}
	if r.Body == nil {
		r.Header.Del("Content-Type")
	}
	if only.header != "" {
		r.Header.Set(only.header, only.value)
	}
	r.Repeat = true
	return ask(ctx, c, r, out)
}

func ask(ctx context.Context, c *client.Client, r client.Request, out any) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := io.LimitReader(resp.Body, maxAnswerBytes)
	if out == nil {
		_, err = io.Copy(io.Discard, body)
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("the node's answer cannot be read: %w", err)
	}
	_, err = io.Copy(io.Discard, body)
	return err
}

// Get returns what a name points at.
func Get(ctx context.Context, c *client.Client, n string) (out Name, err error) {
	err = ask(ctx, c, client.Request{Method: "GET", Path: path(n, "")}, &out)
	return out, err
}

// GetChanged is Get of a name whose version is known: where it still is that one,
// changed is false and nothing else is told.
func GetChanged(ctx context.Context, c *client.Client, n string, version uint64) (out Name, changed bool, err error) {
	resp, err := c.Do(ctx, client.Request{Method: "GET", Path: path(n, ""), Header: http.Header{"If-None-Match": {`"` + strconv.FormatUint(version, 10) + `"`}}})
	if err != nil {
		return out, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return out, false, nil
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(&out)
	return out, err == nil, err
}

// page is a path with the arguments that are not empty.
func page(path string, limit int, args ...string) string {
	q := url.Values{}
	for i := 0; i < len(args); i += 2 {
		if args[i+1] != "" {
			q.Set(args[i], args[i+1])
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// Page is a page of names in order. An empty Cursor says that it is the last; a
// Watch from the cursor Watch tells what changed since the page was read.
type Page struct {
	Names  []Name `json:"names"`
	Cursor string `json:"cursor"`
	Watch  string `json:"watch"`
}

// List returns a page of the names that begin with prefix; limit 0 is the node's.
func List(ctx context.Context, c *client.Client, prefix, cursor string, limit int) (out Page, err error) {
	err = ask(ctx, c, client.Request{Method: "GET", Path: page("/v1/names", limit, "prefix", prefix, "cursor", cursor)}, &out)
	return out, err
}

// History returns a page of a name's versions, newest first, and the next cursor.
func History(ctx context.Context, c *client.Client, n, cursor string, limit int) ([]Name, string, error) {
	var out struct {
		Versions []Name `json:"versions"`
		Cursor   string `json:"cursor"`
	}
	err := ask(ctx, c, client.Request{Method: "GET", Path: page(path(n, "/history"), limit, "cursor", cursor)}, &out)
	return out.Versions, out.Cursor, err
}

// Status is what the tenant's names use of what they may.
type Status struct {
	Names      int64  `json:"names"`
	MaxNames   int64  `json:"max_names"`
	Versions   int64  `json:"versions"`
	MaxHistory int64  `json:"max_history"`
	Deleted    int64  `json:"deleted"`
	Watch      string `json:"watch"`
}

// Count returns it.
func Count(ctx context.Context, c *client.Client) (out Status, err error) {
	err = ask(ctx, c, client.Request{Method: "GET", Path: "/v1/naming"}, &out)
	return out, err
}

// Export writes all names that begin with prefix to w, a JSON document a line, as
// Import reads them. What changes meanwhile is there as it was or as it is.
func Export(ctx context.Context, c *client.Client, prefix string, w io.Writer) error {
	resp, err := c.Do(ctx, client.Request{Method: "GET", Path: page("/v1/naming/export", 0, "prefix", prefix)})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// maxPage bounds the envelope of one page of a signed document.
const maxPage = 16 << 20

// changedOften is how many times a document is begun anew because names changed
// while its pages were read.
const changedOften = 5

// ErrChanging says that names changed each time while a document was read.
var ErrChanging = errors.New("names changed while they were read, each time")

// Document writes the tenant's names, as the node with that id signed them, to w:
// what document.Read takes. Every page is verified before it is written, and all are
// of one moment. It returns how many names there are.
func Document(ctx context.Context, c *client.Client, nodeID string, w io.Writer) (int, error) {
	for range changedOften {
		var all bytes.Buffer
		n, err := pages(ctx, c, nodeID, &all)
		if errors.Is(err, ErrChanging) {
			continue
		}
		if err != nil {
			return 0, err
		}
		_, err = w.Write(all.Bytes())
		return n, err
	}
	return 0, ErrChanging
}

func pages(ctx context.Context, c *client.Client, nodeID string, w io.Writer) (n int, err error) {
	var first *document.Page
	for cursor := ""; ; {
		text, err := c.Text(ctx, page("/v1/naming/document", 0, "cursor", cursor), maxPage)
		if err != nil {
			return n, err
		}
		p, err := document.Parse(text, nodeID)
		if err != nil {
			return n, err
		}
		if first == nil {
			first = p
		}
		if p.Revision != first.Revision || p.Tenant != first.Tenant {
			return n, ErrChanging
		}
		if p.After != cursor || p.Cursor == cursor && cursor != "" {
			return n, errors.New("the node's document does not go on")
		}
		if _, err := w.Write(text); err != nil {
			return n, err
		}
		n += len(p.Names)
		if cursor = p.Cursor; cursor == "" {
			return n, nil
		}
	}
}
