// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package naming

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/name"
)

// Set is the body that sets a name.
type Set struct {
	Addr string            `json:"addr"`
	TTL  int64             `json:"ttl_s,omitempty"` // seconds that an answer may be kept; 0: it is asked for again each time
	Meta map[string]string `json:"meta,omitempty"`
}

// Document is what a name is now. Of a deleted one, in histories and watches, only
// Name, Deleted, Version and UpdatedMS are there.
type Document struct {
	Name      string            `json:"name"`
	Deleted   bool              `json:"deleted,omitempty"`
	Addr      string            `json:"addr,omitempty"`
	Version   uint64            `json:"version"`
	TTL       uint32            `json:"ttl_s"`
	Meta      map[string]string `json:"meta"`
	CreatedMS int64             `json:"created_ms"`
	UpdatedMS int64             `json:"updated_ms"`
}

// List is a page of names in the order of their bytes. An empty Cursor says that it
// is the last. A watch from Watch tells what changed since the page was read.
type List struct {
	Names  []Document `json:"names"`
	Cursor string     `json:"cursor"`
	Watch  string     `json:"watch"`
}

// History is a page of a name's versions, newest first.
type History struct {
	Versions []Document `json:"versions"`
	Cursor   string     `json:"cursor"`
}

// Imported is the answer to an import. Results has every line that was not done, and
// with the argument all=true every line.
type Imported struct {
	Imported int      `json:"imported"`
	Failed   int      `json:"failed"`
	Results  []Result `json:"results"`
}

// Result is what became of one line.
type Result struct {
	Line    int    `json:"line"` // from 1
	Name    string `json:"name,omitempty"`
	Version uint64 `json:"version,omitempty"` // that the name has now
	Code    string `json:"code,omitempty"`    // why not; "": it was done
	Detail  string `json:"detail,omitempty"`
}

// Status is what a tenant's names use of what they may.
type Status struct {
	Names      uint64 `json:"names"`
	MaxNames   int64  `json:"max_names"`
	Versions   uint64 `json:"versions"` // kept, of deleted names too
	MaxHistory int64  `json:"max_history"`
	Deleted    uint64 `json:"deleted"` // deleted names that are remembered
	Watch      string `json:"watch"`   // the cursor of the last change
}

// Limits of what is said of a name.
const (
	maxTTL         = 365 * 24 * 60 * 60 // seconds
	maxMetaMembers = 32
	maxMetaName    = 64
	maxMetaValue   = 1024
	maxMetaBytes   = 4096 // as JSON
)

// parseSet reads the body that sets a name.
func parseSet(body []byte) (v value, err error) {
	var in Set
	if err := decode(body, &in); err != nil {
		return v, err
	}
	return in.value()
}

func (in *Set) value() (v value, err error) {
	if in.Addr == "" {
		return v, macronode.Errorf(macronode.Malformed, "addr is needed: what the name is to point at")
	}
	if v.addr, err = b3.Parse(in.Addr); err != nil {
		return v, macronode.Errorf(macronode.Malformed, "addr: %w", err)
	}
	if in.TTL < 0 || in.TTL > maxTTL {
		return v, macronode.Errorf(macronode.Invalid, "ttl_s is 0 to %d", maxTTL)
	}
	v.ttl = uint32(in.TTL)
	v.meta, err = metaOf(in.Meta)
	return v, err
}

// metaOf is the stored form of a name's meta: its members in order.
func metaOf(m map[string]string) ([]byte, error) {
	if len(m) == 0 {
		return nil, nil
	}
	if len(m) > maxMetaMembers {
		return nil, macronode.Errorf(macronode.Invalid, "meta has at most %d members", maxMetaMembers)
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if k == "" || len(k) > maxMetaName || len(m[k]) > maxMetaValue {
			return nil, macronode.Errorf(macronode.Invalid, "a member of meta has a name of 1 to %d bytes and a text of at most %d", maxMetaName, maxMetaValue)
		}
		if !utf8.ValidString(k) || !utf8.ValidString(m[k]) {
			return nil, macronode.Errorf(macronode.Invalid, "meta is UTF-8 text")
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	if len(b) > maxMetaBytes {
		return nil, macronode.Errorf(macronode.Invalid, "meta has at most %d bytes of JSON", maxMetaBytes)
	}
	return b, nil
}

// decode reads the document of a route.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return macronode.Errorf(macronode.Malformed, "the body is not the document of this route: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return macronode.Errorf(macronode.Malformed, "the body has more than one document")
	}
	return nil
}

// nameArg is the name that the call is about, in its normal form.
func (s *Service) nameArg(a *macronode.Admitted) (string, error) {
	n, err := name.Normalize(a.Arg("name"))
	if err != nil {
		return "", s.refused(err)
	}
	return n, nil
}

// refused is the refusal of a spelling that is no name.
func (s *Service) refused(err error) error {
	rule := name.RuleOf(err)
	if c, ok := s.m.refused[rule]; ok {
		c.Inc()
	}
	return macronode.Errorf(macronode.Invalid, "the name is refused (%s): %w", rule, err)
}

// answer is a whole JSON reply, where the capability leaves room for it.
func answer(a *macronode.Admitted, status int, b []byte) (*macronode.Reply, error) {
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: status, ContentType: "application/json", Body: b}, nil
}

func jsonReply(a *macronode.Admitted, status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return answer(a, status, b)
}

// cursorOf and parseCursor make names into opaque cursors and back.
func cursorOf(name string) string { return base64.RawURLEncoding.EncodeToString([]byte(name)) }

func parseCursor(s string) (string, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || s != "" && !name.Valid(string(b)) {
		return "", badCursor()
	}
	return string(b), nil
}

func badCursor() error {
	return macronode.Errorf(macronode.Malformed, "the cursor is not one that this route gave")
}

func watchCursor(seq uint64) string { return strconv.FormatUint(seq, 10) }
