// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
)

func batches(t testing.TB) *Batches {
	t.Helper()
	b, err := NewBatches()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNDJSON(t *testing.T) {
	body := `{"payload":"aGVsbG8=","attrs":{"a":"1","b":"x\ny"},"delay_ms":1500,"key":"k","idempotency_key":"i-1"}` + "\r\n" +
		"\n" +
		`  {"text":"caf\u00e9 / \"q\"","ttl_ms":60000,"deliver_at_ms":1700000000000}  ` + "\n" +
		`{"json": {"a" : [1, 2.5e3, null, "}"]} }` + "\n" +
		`{"payload":""}` + "\n" +
		`{"payload":"\/\/8="}`
	got, err := NDJSON([]byte(body), 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []broker.Message{
		{Payload: []byte("hello"), Attrs: map[string]string{"a": "1", "b": "x\ny"}, Delay: 1500 * time.Millisecond, Key: "k", IdemKey: "i-1"},
		{Payload: []byte("café / \"q\""), TTL: time.Minute, DeliverAt: time.UnixMilli(1700000000000)},
		{Payload: []byte(`{"a" : [1, 2.5e3, null, "}"]}`)},
		{Payload: []byte{}},
		{Payload: []byte{0xff, 0xff}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// refused are messages that each form refuses, as JSON; what the text says of them.
var refused = []struct{ message, says string }{
	{`{}`, "payload, text and json"},
	{`{"text":"a","payload":"YQ=="}`, "exclude each other"},
	{`{"text":"a","text":"b"}`, "twice"},
	{`{"text":"a","stray":1}`, "unknown member"},
	{`{"text":"a","Key":"k"}`, "unknown member"},
	{`{"text":"a","delay_ms":-1}`, "delay_ms is 0 to"},
	{`{"text":"a","delay_ms":31622400001}`, "delay_ms is 0 to"},
	{`{"text":"a","ttl_ms":0}`, "ttl_ms is 1 to"},
	{`{"text":"a","deliver_at_ms":253402300800000}`, "deliver_at_ms is 0 to"},
	{`{"text":"a","delay_ms":1,"deliver_at_ms":1700000000000}`, "exclude each other"},
	{`{"text":"a","key":""}`, "key is 1 to 128"},
	{`{"text":"a","key":"` + strings.Repeat("k", 129) + `"}`, "key is 1 to 128"},
	{`{"text":"a","idempotency_key":""}`, "idempotency_key is 1 to 128"},
	{`{"text":"a","idempotency_key":"a b"}`, "visible ASCII"},
	{`{"text":"a","idempotency_key":"` + strings.Repeat("k", 129) + `"}`, "idempotency_key is 1 to 128"},
	{`{"text":"a","attrs":{"":"v"}}`, "name is 1 to 64"},
	{`{"text":"a","attrs":{"` + strings.Repeat("n", 65) + `":"v"}}`, "name is 1 to 64"},
	{`{"text":"a","attrs":{"n":"` + strings.Repeat("v", 257) + `"}}`, "value is at most 256"},
}

func TestRefused(t *testing.T) {
	c := batches(t)
	for _, r := range refused {
		_, err := NDJSON([]byte(`{"text":"fine"}`+"\n"+r.message), 10)
		if macronode.KindOf(err) != macronode.Malformed || !strings.Contains(err.Error(), "line 2: ") || !strings.Contains(err.Error(), r.says) {
			t.Errorf("%.60s: %v, want %q", r.message, err, r.says)
		}
		if strings.Contains(r.message, `"payload"`) {
			continue // not the same in CBOR
		}
		var v map[string]any
		d := json.NewDecoder(strings.NewReader(r.message))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		for name, x := range v {
			if n, ok := x.(json.Number); ok {
				if v[name], err = n.Int64(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if strings.Count(r.message, `"text"`) == 2 {
			continue
		}
		b, err := cbor.Marshal([]any{map[string]any{"payload": []byte("x")}, v})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = c.Read(b, 10); macronode.KindOf(err) != macronode.Malformed || !strings.Contains(err.Error(), strings.ReplaceAll(r.says, "name", "name")) {
			t.Errorf("CBOR of %.60s: %v, want %q", r.message, err, r.says)
		}
	}
}

func TestNDJSONForms(t *testing.T) {
	many := strings.Repeat(`{"text":"a"}`+"\n", 11)
	attrs := func(n int) string {
		m := map[string]string{}
		for i := range n {
			m[strings.Repeat("x", i+1)] = "v"
		}
		b, _ := json.Marshal(map[string]any{"text": "a", "attrs": m})
		return string(b)
	}
	for name, c := range map[string]struct {
		body string
		kind macronode.Kind
	}{
		"nothing":              {"", macronode.Malformed},
		"blank lines":          {"\n \n\t\n", macronode.Malformed},
		"too many":             {many, macronode.TooLarge},
		"no object":            {`["a"]`, macronode.Malformed},
		"null":                 {`null`, macronode.Malformed},
		"two objects":          {`{"text":"a"}{"text":"b"}`, macronode.Malformed},
		"open":                 {`{"text":"a"`, macronode.Malformed},
		"open text":            {`{"text":"a`, macronode.Malformed},
		"escaped quote":        {`{"text":"a\"}`, macronode.Malformed},
		"trailing comma":       {`{"text":"a",}`, macronode.Malformed},
		"control character":    {"{\"text\":\"a\x01\"}", macronode.Malformed},
		"not UTF-8":            {"{\"text\":\"a\xff\"}", macronode.Malformed},
		"number as text":       {`{"text":1}`, macronode.Malformed},
		"null payload":         {`{"payload":null}`, macronode.Malformed},
		"text as number":       {`{"text":"a","delay_ms":"1"}`, macronode.Malformed},
		"fraction":             {`{"text":"a","delay_ms":1.5}`, macronode.Malformed},
		"exponent":             {`{"text":"a","delay_ms":1e3}`, macronode.Malformed},
		"leading zero":         {`{"text":"a","delay_ms":01}`, macronode.Malformed},
		"no 64-bit number":     {`{"text":"a","delay_ms":9223372036854775808}`, macronode.Malformed},
		"no base64":            {`{"payload":"@@@@"}`, macronode.Malformed},
		"base64 unpadded":      {`{"payload":"aGVsbG8"}`, macronode.Malformed},
		"base64 with bits":     {`{"payload":"aGVsbG9="}`, macronode.Malformed},
		"base64 with newlines": {`{"payload":"aGVs\nbG8="}`, macronode.Malformed},
		"bad json":             {`{"json":{"a":tru}}`, macronode.Malformed},
		"json cut":             {`{"json":[1,2}`, macronode.Malformed},
		"json nested":          {`{"json":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, macronode.Malformed},
		"json missing":         {`{"json":}`, macronode.Malformed},
		"attrs no object":      {`{"text":"a","attrs":[]}`, macronode.Malformed},
		"attr no text":         {`{"text":"a","attrs":{"a":1}}`, macronode.Malformed},
		"attr twice":           {`{"text":"a","attrs":{"a":"1","a":"2"}}`, macronode.Malformed},
		"17 attrs":             {attrs(17), macronode.Malformed},
	} {
		got, err := NDJSON([]byte(c.body), 10)
		if got != nil || err == nil || macronode.KindOf(err) != c.kind {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.kind)
		}
	}
	if got, err := NDJSON([]byte(attrs(16)), 10); err != nil || len(got[0].Attrs) != 16 {
		t.Errorf("16 attributes: %v", err)
	}
	if got, err := NDJSON([]byte(`{"json":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`}`), 10); err != nil || len(got[0].Payload) != 128 {
		t.Errorf("64 levels: %v", err)
	}
}

func TestCBOR(t *testing.T) {
	c := batches(t)
	b, err := cbor.Marshal([]any{
		map[string]any{"payload": []byte("hello"), "attrs": map[string]string{"a": "1"}, "delay_ms": 1500, "key": "k", "idempotency_key": "i-1"},
		map[string]any{"text": "café", "ttl_ms": 60000, "deliver_at_ms": int64(1700000000000)},
		map[string]any{"payload": []byte{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Read(b, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := []broker.Message{
		{Payload: []byte("hello"), Attrs: map[string]string{"a": "1"}, Delay: 1500 * time.Millisecond, Key: "k", IdemKey: "i-1"},
		{Payload: []byte("café"), TTL: time.Minute, DeliverAt: time.UnixMilli(1700000000000)},
		{Payload: []byte{}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := c.Read(b, 2); macronode.KindOf(err) != macronode.TooLarge {
		t.Errorf("three of two: %v", err)
	}
	for name, bad := range map[string][]byte{
		"nothing": {}, "null": {0xf6}, "a map": {0xa0}, "no messages": {0x80}, "indefinite": {0x9f, 0xa1, 0x67, 'p', 'a', 'y', 'l', 'o', 'a', 'd', 0x40, 0xff},
		"a tag": {0x81, 0xc1, 0xa0}, "not a map": {0x81, 0x01}, "a list": {0x81, 0x80}, "more behind": append(bytes.Clone(b), 0x00), "cut": b[:len(b)-1],
		"payload as text": {0x81, 0xa1, 0x67, 'p', 'a', 'y', 'l', 'o', 'a', 'd', 0x61, 'x'},
		"twice":           {0x81, 0xa2, 0x64, 't', 'e', 'x', 't', 0x61, 'x', 0x64, 't', 'e', 'x', 't', 0x61, 'x'},
		"two billion":     {0x9a, 0x80, 0, 0, 0},
		"number as key":   {0x81, 0xa1, 0x01, 0x02},
	} {
		got, err := c.Read(bad, 10)
		if kind := macronode.KindOf(err); got != nil || err == nil || kind != macronode.Malformed && kind != macronode.TooLarge {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestRaw(t *testing.T) {
	args := func(pairs ...string) func(f func(name, value string) error) error {
		return func(f func(name, value string) error) error {
			for i := 0; i < len(pairs); i += 2 {
				if err := f(pairs[i], pairs[i+1]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	got, err := Raw([]byte("x"), args("delay_ms", "7", "key", "k", "attr", "a:b:c", "attr", "b:", "attrs", `{"c":"d"}`, "ttl_ms", "9"))
	want := broker.Message{Payload: []byte("x"), Delay: 7 * time.Millisecond, Key: "k", TTL: 9 * time.Millisecond, Attrs: map[string]string{"a": "b:c", "b": "", "c": "d"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]string{
		{"stray", "1"}, {"text", "a"}, {"payload", "a"}, {"idempotency_key", "a"}, {"delay_ms", "1", "delay_ms", "2"}, {"delay_ms", ""}, {"delay_ms", "1 2"},
		{"delay_ms", "0x1"}, {"attr", "novalue"}, {"attr", ":v"}, {"attr", "a:1", "attr", "a:2"}, {"attr", "a:1", "attrs", `{"a":"2"}`}, {"attrs", "{} {}"},
		{"attrs", "{}", "attrs", "{}"}, {"attr", "a:\xff"}, {"key", "\xff"}, {"attrs", "{\"a\":\"\xff\"}"}, {"delay_ms", "1", "deliver_at_ms", "1"},
	} {
		if _, err := Raw(nil, args(bad...)); macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A fingerprint covers all that a message says but its key.
func TestFingerprint(t *testing.T) {
	whole := func() broker.Message {
		return broker.Message{Payload: []byte("p"), Attrs: map[string]string{"a": "b", "c": "d"}, Key: "k", Delay: 1, TTL: 3, IdemKey: "i"}
	}
	m := whole()
	first := Fingerprint(&m)
	for name, change := range map[string]func(*broker.Message){
		"payload": func(m *broker.Message) { m.Payload = []byte("q") }, "attr": func(m *broker.Message) { m.Attrs["a"] = "c" },
		"attrs": func(m *broker.Message) { m.Attrs = map[string]string{"a": "bc", "": "d"} }, "key": func(m *broker.Message) { m.Key = "" },
		"delay": func(m *broker.Message) { m.Delay = 2 }, "ttl": func(m *broker.Message) { m.TTL = 0 }, "deliver at": func(m *broker.Message) { m.DeliverAt = time.UnixMilli(0) },
	} {
		m := whole()
		change(&m)
		if Fingerprint(&m) == first {
			t.Errorf("another %s is the same request", name)
		}
	}
	m = whole()
	m.IdemKey, m.CorrID = "j", "another"
	if Fingerprint(&m) != first {
		t.Error("the fingerprint depends on the key, or on who asks")
	}
}

func TestTopic(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "0": true, "jobs.eu-1_x": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, ".a": false, "-a": false, "_a": false, "A": false, "a b": false, "a/b": false, "ä": false, "a\x00": false, "a:b": false,
	} {
		if err := Topic(name); (err == nil) != ok || err != nil && macronode.KindOf(err) != macronode.Malformed {
			t.Errorf("%.20q: %v", name, err)
		}
	}
}

// What NDJSON takes, the standard library reads the same way.
func FuzzNDJSON(f *testing.F) {
	for _, r := range refused {
		f.Add([]byte(r.message))
	}
	f.Add([]byte(`{"payload":"aGVsbG8=","attrs":{"a":"1"},"delay_ms":1500,"key":"k"}` + "\n" + `{"json":[1,{"a":"\u00e9"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		body := bytes.Clone(b)
		got, err := NDJSON(body, 100)
		if err != nil {
			var e *macronode.Error
			if !errors.As(err, &e) || e.Kind != macronode.Malformed && e.Kind != macronode.TooLarge {
				t.Fatalf("%v", err)
			}
			return
		}
		i := 0
		for line := range bytes.SplitSeq(b, []byte("\n")) {
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			var m struct {
				Payload *string           `json:"payload"`
				Text    *string           `json:"text"`
				JSON    json.RawMessage   `json:"json"`
				Attrs   map[string]string `json:"attrs"`
				Key     string            `json:"key"`
				Delay   int64             `json:"delay_ms"`
			}
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("accepted: %q: %v", line, err)
			}
			var want []byte
			switch {
			case m.Payload != nil:
				if want, err = base64.StdEncoding.DecodeString(*m.Payload); err != nil {
					t.Fatal(err)
				}
			case m.Text != nil:
				want = []byte(*m.Text)
			default:
				want = m.JSON
			}
			if g := got[i]; !bytes.Equal(g.Payload, want) || g.Key != m.Key || g.Delay.Milliseconds() != m.Delay || len(g.Attrs) != len(m.Attrs) {
				t.Fatalf("message %d of %q is %+v", i, b, g)
			}
			i++
		}
		if i != len(got) {
			t.Fatalf("%d messages of %d lines", len(got), i)
		}
	})
}

func FuzzCBOR(f *testing.F) {
	c := batches(f)
	b, _ := cbor.Marshal([]any{map[string]any{"payload": []byte("hello"), "attrs": map[string]string{"a": "1"}, "delay_ms": 1500, "key": "k"}})
	f.Add(b)
	f.Add([]byte{0x9a, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := c.Read(b, 50)
		if err != nil {
			if kind := macronode.KindOf(err); kind != macronode.Malformed && kind != macronode.TooLarge {
				t.Fatal(err)
			}
			return
		}
		if len(got) == 0 || len(got) > 50 {
			t.Fatalf("%d messages", len(got))
		}
		total := 0
		for i := range got {
			total += len(got[i].Payload)
			if len(got[i].Attrs) > MaxAttrs || len(got[i].Key) > MaxKeyBytes {
				t.Fatalf("beyond the limits: %+v", got[i])
			}
		}
		if total > len(b) {
			t.Fatalf("%d bytes of %d", total, len(b))
		}
	})
}
