// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rustyonions/macronode/b3"
)

const file = `{"path":"a/b","addr":"b3:0000000000000000000000000000000000000000000000000000000000000001","size":3,"exec":true}`

func read(text string, q Query) (Summary, Page, error) {
	return Read(context.Background(), iotest.OneByteReader(strings.NewReader(text)), q)
}

func TestRead(t *testing.T) {
	sum, page, err := read(`{"version":1,"entries":[`+file+`,{"path":"l","link":"a"}]}`+"\n", Query{Limit: 1})
	if err != nil || sum != (Summary{1, 1, 1, 3}) || len(page.Entries) != 1 || !page.Entries[0].Exec || !page.More {
		t.Errorf("%+v %+v %v", sum, page, err)
	}
	if _, page, err = read(`{"entries":[`+file+`],"version":1}`, Query{Limit: 1, After: 1}); err != nil || len(page.Entries) != 0 || page.More {
		t.Errorf("%+v %v", page, err)
	}
	for _, bad := range []string{
		"", "{", "[]", "null", "1", `{}`, `{"version":1}`, `{"version":2,"entries":[]}`, `{"entries":[]}`, `{"version":1,"entries":[],"x":1}`,
		`{"version":1,"entries":[],"version":1}`, `{"version":1,"entries":[` + file + `]`, `{"version":1,"entries":{}}`, `{"version":1,"entries":[]}{}`,
		`{"version":1,"entries":[{"path":"/a","link":"x"}]}`, `{"version":1,"entries":[{"path":"..","link":"x"}]}`, `{"version":1,"entries":[{"path":"a"}]}`,
		`{"version":1,"entries":[` + strings.Replace(file, "3,", "-3,", 1) + `]}`, `{"version":1,"entries":[` + strings.Replace(file, `"exec":true`, `"link":"x"`, 1) + `]}`,
		`{"version":1,"entries":[` + strings.Replace(file, `:3,`, `:9223372036854775807,`, 1) + "," + file + `]}`,
	} {
		if _, _, err := read(bad, Query{}); !errors.Is(err, ErrForm) {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

// Nothing is held that a manifest's author could make large.
func TestBounds(t *testing.T) {
	long := `{"version":1,"entries":[{"path":"` + strings.Repeat("a", MaxEntryBytes) + `","link":"x"}]}`
	if _, _, err := Read(t.Context(), strings.NewReader(long), Query{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless entry: %v", err)
	}
	endless := io.MultiReader(strings.NewReader(`{"version":1,"entries":[`+file), &repeat{text: "," + file})
	if _, _, err := Read(t.Context(), endless, Query{}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an endless manifest: %v", err)
	}
	many := `{"version":1,"entries":[` + file + strings.Repeat(","+file, 2*MaxPage) + `]}`
	if _, page, err := Read(t.Context(), strings.NewReader(many), Query{Limit: 1 << 30}); err != nil || len(page.Entries) != MaxPage {
		t.Errorf("%d entries: %v", len(page.Entries), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Read(ctx, strings.NewReader(many), Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("read on after the end: %v", err)
	}
	broken := errors.New("broken")
	if _, _, err := Read(t.Context(), io.MultiReader(strings.NewReader(many[:500]), iotest.ErrReader(broken)), Query{}); err != broken {
		t.Errorf("a reader that fails: %v", err)
	}
}

type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// FuzzRead: what is taken is what encoding/json and the rules of ronctl would take.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"version":1,"entries":[` + file + `]}`))
	f.Add([]byte(`{"version":1,"entries":[{"path":"l","link":"a"}]}`))
	f.Add([]byte(`{"version":1,"entries":[[[[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sum, page, err := Read(context.Background(), bytes.NewReader(b), Query{Limit: 10})
		if err != nil {
			return
		}
		var m struct {
			Version int
			Entries []struct {
				Path string
				Addr *b3.Addr
				Size int64
				Link string
			}
		}
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatalf("json refuses it: %v", err)
		}
		if int64(len(m.Entries)) != sum.Files+sum.Links || len(page.Entries) != min(10, len(m.Entries)) {
			t.Fatalf("%d entries, %+v, %d on the page", len(m.Entries), sum, len(page.Entries))
		}
	})
}
