// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/names"
	"github.com/rustyonions/macronode/name/document"
)

// TestNames uses names as programs do, over either wire.
func TestNames(t *testing.T) {
	n := beginDev(t)
	at := n.endpoints()
	for wire, node := range map[string]string{"http": at.HTTP, "oap": "oap://" + at.OAP} {
		t.Run(wire, func(t *testing.T) {
			c, err := client.Dial(node, client.Options{Token: n.token(t, "tenant.cap")})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			useNames(t, c, n.nodeID, wire+".")
		})
	}
}

func useNames(t *testing.T, c *client.Client, nodeID, prefix string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put, err := c.Put(ctx, strings.NewReader("content of "+prefix), client.PutOptions{ContentType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	before, err := names.Count(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	site := prefix + "straße"
	first, err := names.Set(ctx, c, strings.ToUpper(prefix)+"Straße", names.Value{Addr: put.Addr, TTL: 60, Meta: map[string]string{"a": "b"}}, names.Absent())
	if err != nil || first.Name != site || first.Version != 1 || first.Addr != put.Addr || first.TTL != 60 || first.Meta["a"] != "b" {
		t.Fatalf("%+v, %v", first, err)
	}
	if _, err := names.Set(ctx, c, site, names.Value{Addr: put.Addr}, names.Absent()); !names.Conflict(err) {
		t.Errorf("a second creation: %v", err)
	}
	if _, err := names.Set(ctx, c, prefix+"a b", names.Value{Addr: put.Addr}, names.Always); !names.Refused(err) {
		t.Errorf("no name: %v", err)
	}
	if _, err := names.Get(ctx, c, prefix+"none"); !names.Missing(err) {
		t.Errorf("a name that is not there: %v", err)
	}
	if second, err := names.Set(ctx, c, site, names.Value{Addr: put.Addr}, names.At(1)); err != nil || second.Version != 2 {
		t.Errorf("%+v, %v", second, err)
	}
	if _, changed, err := names.GetChanged(ctx, c, site, 2); changed || err != nil {
		t.Errorf("what is known has changed: %v, %v", changed, err)
	}
	if got, changed, err := names.GetChanged(ctx, c, site, 1); !changed || err != nil || got.Version != 2 {
		t.Errorf("%+v, %v, %v", got, changed, err)
	}
	serveName(t, c, "/n/dev/"+strings.ReplaceAll(site, "ß", "%C3%9F"), "content of "+prefix)
	if err := names.Delete(ctx, c, site, names.At(1)); !names.Conflict(err) {
		t.Errorf("a deletion of what is not there any more: %v", err)
	}
	if err := names.Delete(ctx, c, site, names.At(2)); err != nil {
		t.Error(err)
	}
	if list, _, err := names.History(ctx, c, site, "", 0); err != nil || len(list) != 3 || !list[0].Deleted || list[2].Version != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	w := names.Follow(ctx, c, prefix, before.Watch)
	defer w.Close()
	for i, want := range []string{"set", "set", "delete"} {
		if e, err := w.Next(); err != nil || e.Kind != want || e.Name.Name != site || e.Name.Version != uint64(i+1) {
			t.Fatalf("event %d: %+v, %v", i, e, err)
		}
	}
	manyAtOnce(ctx, t, c, nodeID, prefix, put)
	if e, err := w.Next(); err != nil || e.Kind != "set" || e.Name.Name != prefix+"n0" {
		t.Errorf("%+v, %v", e, err)
	}
}

// serveName reads what a name points at.
func serveName(t *testing.T, c *client.Client, path, want string) {
	t.Helper()
	resp, err := c.Do(t.Context(), client.Request{Method: "GET", Path: path, Header: http.Header{"Range": {"bytes=8-9"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 206 || string(text) != want[8:10] || resp.Header.Get("Cache-Control") != "private, no-cache" {
		t.Errorf("%d %v %d bytes, %v", resp.StatusCode, resp.Header["Cache-Control"], len(text), err)
	}
}

// manyAtOnce imports, lists, exports and signs more names than a page has.
func manyAtOnce(ctx context.Context, t *testing.T, c *client.Client, nodeID, prefix string, put client.Put) {
	const many = 1203
	var lines strings.Builder
	for i := range many {
		fmt.Fprintf(&lines, `{"name":"%sn%d","addr":%q,"if_version":0}`+"\n", prefix, i, put.Addr)
	}
	out, err := names.Import(ctx, c, strings.NewReader(lines.String()+"{}\n"+lines.String()[:strings.IndexByte(lines.String(), '\n')]))
	if err != nil || out.Imported != many || out.Failed != 2 || out.Lines[0].Line != many+1 || out.Lines[1].Code != "precondition_failed" {
		t.Fatalf("%d done, %d not, %v", out.Imported, out.Failed, err)
	}
	total, cursor := 0, ""
	for {
		p, err := names.List(ctx, c, prefix+"n", cursor, 500)
		if err != nil {
			t.Fatal(err)
		}
		total += len(p.Names)
		if cursor = p.Cursor; cursor == "" {
			break
		}
	}
	var all bytes.Buffer
	if err := names.Export(ctx, c, prefix+"n", &all); err != nil || total != many || bytes.Count(all.Bytes(), []byte("\n")) != many {
		t.Errorf("%d are listed, %d exported, %v", total, bytes.Count(all.Bytes(), []byte("\n")), err)
	}
	var doc bytes.Buffer
	n, err := names.Document(ctx, c, nodeID, &doc)
	if err != nil || n < many {
		t.Fatalf("%d names are signed, %v", n, err)
	}
	pages, err := document.Read(bytes.NewReader(doc.Bytes()), nodeID)
	if err != nil || len(pages) < 3 {
		t.Errorf("%d pages, %v", len(pages), err)
	}
	if _, err := names.Document(ctx, c, "b3:"+strings.Repeat("0", 64), io.Discard); !errors.Is(err, document.ErrNotVerified) {
		t.Errorf("another node's document: %v", err)
	}
}
