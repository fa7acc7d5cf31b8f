// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package outside

import (
	"fmt"
	"testing"
)

func TestParseSink(t *testing.T) {
	for text, want := range map[string]string{
		"siem ndjson https://siem.example/in KMS:obj/siem": "siem ndjson https://siem.example/in KMS:obj/siem",
		"otel otlp http://127.0.0.1:4318/v1/logs":          "otel otlp http://127.0.0.1:4318/v1/logs ",
		"copy file /var/log/my audit.ndjson":               "copy file /var/log/my audit.ndjson ",
		"":                                                 "", "siem": "", "siem ndjson": "", "Siem ndjson https://siem.example": "", "a/b file /x": "", "siem smtp https://siem.example": "",
		"siem ndjson http://siem.example/in": "", "siem ndjson https://user:secret@siem.example/in": "", "siem ndjson https://siem.example KMS:key/siem": "",
		"siem ndjson https://siem.example secret": "", "copy file audit": "", "copy file /var/../etc/x": "", "copy file ": "",
	} {
		s, ok := ParseSink(text)
		got := ""
		if ok {
			got = fmt.Sprint(s.Name, " ", s.Kind, " ", s.Where, " ")
			if !s.Token.IsZero() {
				got += s.Token.String()
			}
		}
		if got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestCheckSinks(t *testing.T) {
	many := make([]string, MaxSinks+1)
	for i := range many {
		many[i] = fmt.Sprintf("s%d file /var/log/%d", i, i)
	}
	for _, c := range []struct {
		list []string
		bad  string
	}{
		{nil, ""}, {many[1:], ""}, {many, "audit.sinks"}, {[]string{many[0], many[1], many[0]}, "audit.sinks[2]"},
	} {
		got := ""
		CheckSinks(c.list, func(key, _ string, _ ...any) { got += key })
		if got != c.bad {
			t.Errorf("%d sinks: %q, not %q", len(c.list), got, c.bad)
		}
	}
}
