// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package form

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// message is how a receiver reads one.
type message struct {
	MsgID   string            `json:"msg_id"`
	Receipt string            `json:"receipt"`
	Topic   string            `json:"topic"`
	TS      time.Time         `json:"ts"`
	Attempt int               `json:"attempt"`
	Attrs   map[string]string `json:"attrs"`
	Key     string            `json:"key"`
	Hash    string            `json:"payload_hash"`
	CorrID  string            `json:"corr_id"`
	Cursor  string            `json:"cursor"`
	Payload []byte            `json:"payload"`
}

func drawDelivery(t *rapid.T) broker.Delivery {
	text := rapid.OneOf(rapid.StringMatching(`[a-z<>&"\\/ ]{0,40}`), rapid.StringN(0, 40, -1))
	d := broker.Delivery{
		Receipt: text.Draw(t, "receipt"), TS: time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "ts")).UTC(), Attempt: rapid.IntRange(1, 1<<40).Draw(t, "attempt"),
		Attrs: rapid.MapOfN(text, text, 0, 5).Draw(t, "attrs"), Key: text.Draw(t, "key"), CorrID: text.Draw(t, "corr"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, rapid.SampledFrom([]int{0, 30, 300, 70_000}).Draw(t, "size")).Draw(t, "payload"),
	}
	copy(d.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	d.ID[0] &= 0x7f
	d.Hash = b3.Sum(d.Payload)
	return d
}

func (m *message) equals(d *broker.Delivery, cursor string) bool {
	attrs := d.Attrs
	if attrs == nil {
		attrs = map[string]string{}
	}
	if m.Attrs == nil {
		m.Attrs = map[string]string{}
	}
	id, ok := ParseID(m.MsgID)
	return ok && id == d.ID && m.Receipt == d.Receipt && m.Topic == "jobs" && m.TS.Equal(d.TS) && m.Attempt == d.Attempt && reflect.DeepEqual(m.Attrs, attrs) &&
		m.Key == d.Key && m.Hash == d.Hash.String() && m.CorrID == d.CorrID && m.Cursor == cursor && bytes.Equal(m.Payload, d.Payload)
}

// What is written by hand, the readers that everybody uses read back, in both
// forms, and Size is never too small.
func TestMessages(t *testing.T) {
	strict, err := cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(drawDelivery), 0, 3).Draw(t, "messages")
		var fromJSON, fromCBOR struct {
			Messages []message `json:"messages"`
		}
		d := json.NewDecoder(bytes.NewReader(Messages("jobs", all, false)))
		d.DisallowUnknownFields()
		if err := d.Decode(&fromJSON); err != nil {
			t.Fatal(err)
		}
		b := Messages("jobs", all, true)
		if err := strict.Unmarshal(b, &fromCBOR); err != nil {
			t.Fatal(err)
		}
		if len(fromJSON.Messages) != len(all) || len(fromCBOR.Messages) != len(all) {
			t.Fatalf("%d and %d of %d messages", len(fromJSON.Messages), len(fromCBOR.Messages), len(all))
		}
		for i := range all {
			if !fromJSON.Messages[i].equals(&all[i], "") || !fromCBOR.Messages[i].equals(&all[i], "") {
				t.Fatalf("%+v was written as %+v and %+v", all[i], fromJSON.Messages[i], fromCBOR.Messages[i])
			}
			if j, c := len(AppendMessage(nil, "jobs", "", &all[i])), len(AppendMessageCBOR(nil, "jobs", "", &all[i])); c > Size(&all[i], true)+4 || j > Size(&all[i], false)+4+5*escapes(&all[i]) {
				t.Fatalf("%d and %d bytes, %d and %d were expected at most", j, c, Size(&all[i], false), Size(&all[i], true))
			}
			var one message
			pushed := AppendMessageCBOR(nil, "jobs", "cur.1", &all[i])
			if err := strict.Unmarshal(pushed, &one); err != nil || !one.equals(&all[i], "cur.1") {
				t.Fatalf("%+v, %v", one, err)
			}
			one = message{}
			if err := json.Unmarshal(AppendMessage(nil, "jobs", "cur.1", &all[i]), &one); err != nil || !one.equals(&all[i], "cur.1") {
				t.Fatalf("%+v, %v", one, err)
			}
		}
		var v any
		if err := strict.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		if again, err := canonical.Marshal(v); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("it is not deterministic CBOR: %v", err)
		}
	})
}

// escapes counts what JSON writes longer than it is.
func escapes(d *broker.Delivery) (n int) {
	n = len(d.Receipt) + len(d.Key) + len(d.CorrID)
	for name, value := range d.Attrs {
		n += len(name) + len(value)
	}
	return n
}

func TestAnswers(t *testing.T) {
	id := queue.ID{1, 2, 3}
	says := func(err error) Refusal {
		return Refusal{Code: macronode.KindOf(err).String(), Detail: "d \"q\"", RetryAfterMS: macronode.AsError(err).RetryHint().Milliseconds()}
	}
	sent := []broker.Sent{{ID: id}, {ID: id, Duplicate: true}, {Err: macronode.Errorf(macronode.QuotaDepth, "x")}, {Err: macronode.Errorf(macronode.TooLarge, "x")}}
	type result struct {
		MsgID     string `json:"msg_id"`
		Duplicate bool   `json:"duplicate"`
		Refusal
	}
	var want, got struct {
		Results []result `json:"results"`
	}
	want.Results = []result{{MsgID: ID(id)}, {MsgID: ID(id), Duplicate: true}, {Refusal: Refusal{"quota_depth", "d \"q\"", 1000}}, {Refusal: Refusal{"too_large", "d \"q\"", 0}}}
	if err := json.Unmarshal(Sent(sent, says, false), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	got.Results = nil
	if err := cbor.Unmarshal(Sent(sent, says, true), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if text := string(AppendSent(nil, id, true)); text != `{"msg_id":"`+ID(id)+`","duplicate":true}` {
		t.Errorf("%s", text)
	}
	text := string(Outcomes([]broker.Outcome{{Receipt: "r", ID: id}, {Receipt: "<s>", Err: macronode.Errorf(macronode.LeaseLost, "")}}, func(err error) string { return macronode.KindOf(err).String() }))
	if text != `{"results":[{"receipt":"r","msg_id":"`+ID(id)+`","ok":true},{"receipt":"\u003cs\u003e","ok":false,"code":"lease_lost"}]}` {
		t.Errorf("%s", text)
	}
}

func TestWants(t *testing.T) {
	for accept, want := range map[string][2]bool{
		"": {false, false}, "*/*": {false, false}, "application/cbor": {true, false}, "application/cbor-seq": {false, true}, "application/cbor;q=0.9, application/json": {true, false},
		"application/json, application/cbor": {false, false}, "text/html,application/cbor,*/*": {true, false}, "application/cborx": {false, false},
	} {
		if got := [2]bool{Wants(accept, CBOR), Wants(accept, CBORSeq)}; got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

func TestIDs(t *testing.T) {
	if id, ok := ParseID("01ARZ3NDEKTSV4RRFFQ69G5FAV"); !ok || ID(id) != "01ARZ3NDEKTSV4RRFFQ69G5FAV" || string(AppendID(nil, id)) != ID(id) {
		t.Error("an id is not read as it is written")
	}
	for _, bad := range []string{"", "01arz3ndektsv4rrffq69g5fav", "01ARZ3NDEKTSV4RRFFQ69G5FA", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAU!"} {
		if _, ok := ParseID(bad); ok {
			t.Errorf("%q is an id", bad)
		}
	}
	if Time(time.Time{}) != "" || Time(time.UnixMilli(1)) != "1970-01-01T00:00:00.001Z" {
		t.Error("times")
	}
	if s := string(AppendText(nil, "a\x00\"é<")); s != `"a\u0000\"é\u003c"` {
		t.Error(s)
	}
}

func BenchmarkMessages(b *testing.B) {
	d := broker.Delivery{Receipt: strings.Repeat("r", 66), TS: time.UnixMilli(1700000000000), Attempt: 1, CorrID: strings.Repeat("c", 32), Payload: make([]byte, 1024)}
	all := make([]broker.Delivery, 100)
	for i := range all {
		all[i] = d
	}
	for name, asCBOR := range map[string]bool{"json": false, "cbor": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Messages("jobs", all, asCBOR)
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	line := `{"payload":"` + strings.Repeat("QUJD", 341) + `","idempotency_key":"0123456789abcdef"}` + "\n"
	lines := []byte(strings.Repeat(line, 100))
	one := map[string]any{"payload": make([]byte, 1024), "idempotency_key": "0123456789abcdef"}
	list := make([]any, 100)
	for i := range list {
		list[i] = one
	}
	packed, err := cbor.Marshal(list)
	if err != nil {
		b.Fatal(err)
	}
	c := batches(b)
	b.Run("ndjson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := NDJSON(bytes.Clone(lines), 100); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cbor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Read(packed, 100); err != nil {
				b.Fatal(err)
			}
		}
	})
}
