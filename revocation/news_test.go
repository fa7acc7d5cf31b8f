// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/bundle"
)

func items() []Item {
	return []Item{
		{Entry: Entry{ID: strings.Repeat("0a", 16), RevokedMS: 5, By: "cap:x"}},
		{Entry: Entry{ID: strings.Repeat("0b", 16), Tenant: tenant, RevokedMS: 6, By: "cap:y"}},
		{Entry: Entry{KID: "v1", Tenant: tenant, RevokedMS: 7, By: "cap:z"}, KeyHash: strings.Repeat("0c", 16)},
	}
}

func TestNews(t *testing.T) {
	s := newSigner(t)
	text, err := SignNews(items(), "c1", s)
	if err != nil {
		t.Fatal(err)
	}
	n, err := ParseNews(text)
	if err != nil {
		t.Fatal(err)
	}
	if n.NodeID != s.id(t) || n.Cursor != "c1" || fmt.Sprint(n.Items) != fmt.Sprint(items()) {
		t.Errorf("%+v", n)
	}
	// News are no page, and a page is no news: a part never passes for the whole.
	ids, err := SignNews(items()[:1], "", s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{text, ids} {
		if _, err := Parse(text, s.id(t)); !errors.Is(err, ErrNotVerified) {
			t.Errorf("news are taken for a list: %v", err)
		}
		if _, err := Read(bytes.NewReader(text), s.id(t)); !errors.Is(err, ErrNotVerified) {
			t.Errorf("news are taken for a whole list: %v", err)
		}
	}
	if _, err := ParseNews(signed(t, s, Page{Entries: entries(1)})); !errors.Is(err, ErrNotVerified) {
		t.Errorf("a list is taken for news: %v", err)
	}
	if _, err := SignNews(make([]Item, MaxEntries+1), "", s); err == nil {
		t.Error("too many items are signed")
	}
	if _, err := SignNews(nil, strings.Repeat("c", 257), s); err == nil {
		t.Error("a long cursor is signed")
	}
}

func TestNewsAreRefused(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	text, err := SignNews(items(), "c1", s)
	if err != nil {
		t.Fatal(err)
	}
	e, err := bundle.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	payload := string(e.Payload)
	key, err := other.Public()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := s.Public()
	own, err := json.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) string {
		t.Helper()
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not there", old)
		}
		return strings.Replace(payload, old, new, 1)
	}
	long := strings.Repeat("0c", 17)
	for name, c := range map[string]struct {
		payload string
		by      signer
	}{
		"another node's signature":  {payload, other},
		"another node's key":        {edit(string(own), string(theirs)), other},
		"another node's name":       {edit(s.id(t), other.id(t)), s},
		"another format":            {edit(`"format":1`, `"format":2`), s},
		"an unknown member":         {edit(`"format":1`, `"format":1,"x":1`), s},
		"white space":               {edit(`"format":1`, `"format": 1`), s},
		"a short id":                {edit(strings.Repeat("0a", 16), "0a"), s},
		"a key id without its hash": {edit(`"key_hash":"`+strings.Repeat("0c", 16)+`",`, ""), s},
		"a hash that is too long":   {edit(strings.Repeat("0c", 16), long), s},
		"a hash in capitals":        {edit(strings.Repeat("0c", 16), strings.Repeat("0C", 16)), s},
		"a hash of no key":          {edit(`"id":"`+strings.Repeat("0b", 16)+`"`, `"id":"`+strings.Repeat("0b", 16)+`","key_hash":"`+strings.Repeat("0c", 16)+`"`), s},
	} {
		e := resigned(t, c.by, NewsType, []byte(c.payload))
		text, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseNews(text); !errors.Is(err, ErrNotVerified) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range 64 {
		bad := bytes.Clone(text)
		bad[i*len(bad)/64] ^= 1
		if n, err := ParseNews(bad); err == nil && fmt.Sprint(n.Items) != fmt.Sprint(items()) {
			t.Fatalf("a bit flipped in byte %d is not noticed", i*len(bad)/64)
		}
	}
}

func FuzzParseNews(f *testing.F) {
	s := newSigner(f)
	text, err := SignNews(items(), "c1", s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"payload":"","payloadType":"` + NewsType + `","signatures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNews(b)
		if err != nil {
			if !errors.Is(err, ErrNotVerified) {
				t.Errorf("%v", err)
			}
			return
		}
		if err := n.check(); err != nil {
			t.Errorf("accepted: %v", err)
		}
	})
}

func TestSummary(t *testing.T) {
	var a, b Summary
	list := entries(2000)
	for i := range list {
		a.Flip(&list[i])
	}
	for i := len(list) - 1; i > 0; i-- {
		b.Flip(&list[i])
	}
	if a == b || !a.Differs(&b, &list[0]) {
		t.Error("one that is missing is not seen")
	}
	told := 0
	for i := range list {
		if a.Differs(&b, &list[i]) {
			told++
		}
	}
	if told > len(list)/20 {
		t.Errorf("for one that is missing %d of %d are told", told, len(list))
	}
	b.Flip(&list[0])
	if a != b {
		t.Error("order matters")
	}
	// Names of a key, of a link and of a tenant's link are not one another's.
	id := strings.Repeat("00", 16)
	for _, e := range []Entry{{ID: id}, {ID: id, Tenant: tenant}, {KID: id, Tenant: tenant}} {
		var s Summary
		s.Flip(&e)
		for _, o := range []Entry{{ID: id}, {ID: id, Tenant: tenant}, {KID: id, Tenant: tenant}} {
			var x Summary
			x.Flip(&o)
			if (x == s) != (o == e) {
				t.Errorf("%+v and %+v", e, o)
			}
		}
	}
	back, err := ParseSummary(a.Bytes())
	if err != nil || *back != a {
		t.Error(err)
	}
	for _, n := range []int{0, SummaryBytes - 1, SummaryBytes + 1} {
		if _, err := ParseSummary(make([]byte, n)); !errors.Is(err, ErrSummary) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
