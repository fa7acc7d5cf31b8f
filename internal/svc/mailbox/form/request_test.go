// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rustyonions/macronode"
)

func TestReadReceive(t *testing.T) {
	got, err := ReadReceive([]byte(` {"max_messages":10, "max_bytes":5000,"visibility_ms":30000,"wait_ms":20000} `))
	if want := (Receive{10, 5000, 30 * time.Second, 20 * time.Second}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for _, empty := range []string{"", " \n", "{}"} {
		if got, err := ReadReceive([]byte(empty)); err != nil || got != (Receive{}) {
			t.Errorf("%q: %+v, %v", empty, got, err)
		}
	}
	for _, bad := range []string{
		"[]", "null", "x", `{"max_messages":0}`, `{"max_messages":-1}`, `{"max_messages":"1"}`, `{"max_bytes":0}`, `{"visibility_ms":0}`, `{"visibility_ms":43200001}`,
		`{"wait_ms":-1}`, `{"wait_ms":1.0}`, `{"stray":1}`, `{"wait_ms":1,"wait_ms":1}`, `{"wait_ms":1}{}`, `{"wait_ms":1`, "\x00",
	} {
		if _, err := ReadReceive([]byte(bad)); macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSettle(t *testing.T) {
	if got, err := ReadAck([]byte(`{"receipts":["a","b"]}`)); err != nil || !reflect.DeepEqual(got.Receipts, []string{"a", "b"}) {
		t.Errorf("%+v, %v", got, err)
	}
	zero := time.Duration(0)
	if got, err := ReadNack([]byte(`{"receipts":["a"],"delay_ms":0,"reason":"no \u00e9"}`)); err != nil || !reflect.DeepEqual(got, Settle{Receipts: []string{"a"}, Delay: &zero, Reason: "no é"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ReadNack([]byte(`{"receipts":["a"]}`)); err != nil || got.Delay != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ReadExtend([]byte(`{"receipts":["a"],"visibility_ms":5}`)); err != nil || got.Visibility != 5*time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
	readers := map[string]func([]byte) (Settle, error){"ack": ReadAck, "nack": ReadNack, "extend": ReadExtend}
	rest := map[string]string{"extend": `,"visibility_ms":5`}
	for name, read := range readers {
		for _, bad := range []string{
			``, `{}`, `{"receipts":[]%s}`, `{"receipts":null%s}`, `{"receipts":"a"%s}`, `{"receipts":[1]%s}`, `{"receipts":[""]%s}`, `{"receipts":["a",]%s}`,
			`{"receipts":["` + strings.Repeat("r", 257) + `"]%s}`, `{"receipts":["a"],"stray":1%s}`, `{"receipts":["a"],"receipts":["a"]%s}`, `{"receipts":["a"]`,
			`{"receipts":["a"` + strings.Repeat(`,"a"`, MaxReceipts) + `]%s}`,
		} {
			if strings.Contains(bad, "%s") {
				bad = fmt.Sprintf(bad, rest[name])
			}
			if _, err := read([]byte(bad)); macronode.KindOf(err) != macronode.Malformed {
				t.Errorf("%s of %.40q: %v", name, bad, err)
			}
		}
		if _, err := read([]byte(fmt.Sprintf(`{"receipts":["a"`+strings.Repeat(`,"a"`, MaxReceipts-1)+`]%s}`, rest[name]))); err != nil {
			t.Errorf("%s of as many as are allowed: %v", name, err)
		}
	}
	for _, bad := range []string{`{"receipts":["a"],"delay_ms":-1}`, `{"receipts":["a"],"delay_ms":null}`, `{"receipts":["a"],"reason":"` + strings.Repeat("r", 257) + `"}`, `{"receipts":["a"],"visibility_ms":1}`} {
		if _, err := ReadNack([]byte(bad)); macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("nack of %.40q: %v", bad, err)
		}
	}
	for _, bad := range []string{`{"receipts":["a"]}`, `{"receipts":["a"],"visibility_ms":0}`, `{"receipts":["a"],"visibility_ms":43200001}`, `{"receipts":["a"],"delay_ms":1}`} {
		if _, err := ReadExtend([]byte(bad)); macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("extend of %.40q: %v", bad, err)
		}
	}
	if _, err := ReadAck([]byte(`{"receipts":["a"],"visibility_ms":1}`)); macronode.KindOf(err) != macronode.Malformed {
		t.Errorf("ack with more: %v", err)
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"receipts":["a","b"],"delay_ms":0,"reason":"x","visibility_ms":5}`))
	f.Add([]byte(`{"max_messages":10,"max_bytes":5000,"visibility_ms":30000,"wait_ms":20000}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func([]byte) (Settle, error){ReadAck, ReadNack, ReadExtend} {
			r, err := read(b)
			if err == nil && (len(r.Receipts) == 0 || len(r.Receipts) > MaxReceipts || len(r.Reason) > MaxReasonBytes || r.Visibility > MaxVisibility) {
				t.Fatalf("%+v", r)
			}
			if err != nil && macronode.KindOf(err) != macronode.Malformed {
				t.Fatal(err)
			}
		}
		if r, err := ReadReceive(b); err == nil && (r.Max < 0 || r.Wait < 0 || r.Visibility > MaxVisibility) {
			t.Fatalf("%+v", r)
		}
	})
}
