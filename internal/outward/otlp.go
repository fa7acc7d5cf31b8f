// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outward

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/rustyonions/macronode/internal/svc/audit/forward"
	"github.com/rustyonions/macronode/internal/svc/audit/tree"
	"github.com/rustyonions/macronode/tlog"
)

// The severities that records have.
const (
	severityInfo = 9
	severityWarn = 13
)

// OTLP returns the sink that posts records as OTLP logs in JSON; the URL is the whole
// one, as a rule it ends in /v1/logs. The body of each is its entry, so that it still
// verifies.
func (c *Client) OTLP(target string, token Secret) forward.Sink { return otlp{c, target, token} }

type otlp struct {
	c      *Client
	target string
	token  Secret
}

// What is sent, as OTLP's JSON has it: 64-bit integers are text.
type (
	otlpLogs struct {
		ResourceLogs []otlpResource `json:"resourceLogs"`
	}
	otlpResource struct {
		Resource  otlpAttributes `json:"resource"`
		ScopeLogs []otlpScope    `json:"scopeLogs"`
	}
	otlpAttributes struct {
		Attributes []otlpPair `json:"attributes"`
	}
	otlpScope struct {
		Scope      otlpName     `json:"scope"`
		LogRecords []otlpRecord `json:"logRecords"`
	}
	otlpName struct {
		Name string `json:"name"`
	}
	otlpRecord struct {
		Time       string     `json:"timeUnixNano"`
		Severity   int        `json:"severityNumber"`
		Event      string     `json:"eventName"`
		Body       otlpValue  `json:"body"`
		Attributes []otlpPair `json:"attributes"`
	}
	otlpPair struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		Text *string `json:"stringValue,omitempty"`
		Int  *string `json:"intValue,omitempty"`
	}
)

func textOf(s string) otlpValue { return otlpValue{Text: &s} }

func intOf(n int64) otlpValue {
	s := strconv.FormatInt(n, 10)
	return otlpValue{Int: &s}
}

// Deliver implements forward.Sink.
func (s otlp) Deliver(ctx context.Context, rows []tree.Row) (int, error) {
	h, err := header(ctx, s.token)
	if err != nil {
		return 0, err
	}
	records := make([]otlpRecord, len(rows))
	for i := range rows {
		records[i] = otlpOf(rows[i].Record, string(rows[i].Entry))
	}
	writer := rows[0].Record.Writer
	body, err := json.Marshal(otlpLogs{[]otlpResource{{
		Resource:  otlpAttributes{[]otlpPair{{"service.name", textOf("macronode")}, {"service.instance.id", textOf(writer)}}},
		ScopeLogs: []otlpScope{{Scope: otlpName{"macronode.audit"}, LogRecords: records}},
	}}})
	if err != nil {
		return 0, err
	}
	status, _, text, err := s.c.post(ctx, s.target, "application/json", h, body)
	if err := taken(status, err); err != nil {
		return 0, err
	}
	return rejected(text, len(rows))
}

// otlpOf is a record as a log record.
func otlpOf(r *tlog.Record, entry string) otlpRecord {
	out := otlpRecord{Time: strconv.FormatInt(r.TSMilli, 10) + "000000", Severity: severityInfo, Event: r.Kind, Body: textOf(entry)}
	if r.TSMilli <= 0 {
		out.Time = "0"
	}
	if r.Reason != "" {
		out.Severity = severityWarn
	}
	add := func(k string, v otlpValue) { out.Attributes = append(out.Attributes, otlpPair{k, v}) }
	add("audit.seq", intOf(int64(r.Seq))) //nolint:gosec // within the largest tree
	for _, p := range [][2]string{{"audit.stream", r.Stream}, {"audit.actor", r.Actor}, {"audit.subject", r.Subject}, {"audit.reason", r.Reason}, {"audit.hash", r.Hash.String()}} {
		if p[1] != "" {
			add(p[0], textOf(p[1]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Attrs)) {
		switch v := r.Attrs[k].(type) {
		case string:
			add("audit.attrs."+k, textOf(v))
		case int64:
			add("audit.attrs."+k, intOf(v))
		}
	}
	return out
}

// rejected reads how many records the collector will never take. Sending them again
// would not help, it says.
func rejected(text []byte, sent int) (int, error) {
	var answer struct {
		PartialSuccess struct {
			Rejected json.RawMessage `json:"rejectedLogRecords"`
		} `json:"partialSuccess"`
	}
	if len(text) == 0 || json.Unmarshal(text, &answer) != nil || len(answer.PartialSuccess.Rejected) == 0 {
		return 0, nil // taken; what else it says is not for us
	}
	n, err := strconv.Atoi(string(trimQuotes(answer.PartialSuccess.Rejected)))
	if err != nil || n < 0 || n > sent {
		return 0, fmt.Errorf("it says that it rejects %.20q of %d", answer.PartialSuccess.Rejected, sent)
	}
	return n, nil
}

func trimQuotes(b []byte) []byte {
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return b[1 : len(b)-1]
	}
	return b
}
