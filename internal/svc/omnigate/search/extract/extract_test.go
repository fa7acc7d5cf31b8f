// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package extract

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestText(t *testing.T) {
	for _, c := range []struct{ media, in, title, want string }{
		{"text/plain", "just text", "", "just text"},
		{"text/plain", "\xef\xbb\xbfmark", "", "mark"},
		{"text/plain", "cut off \xc3", "", "cut off"},
		{"text/plain", "Ko\u0308ln", "", "Köln"},
		{"text/plain", strings.Repeat("\x00\x01", 500), "", ""},
		{"text/markdown", "intro\n## The *head* #\nrest", "The *head*", "intro ## The *head* # rest"},
		{"text/html", "<!-- no --><html><head><title>T &amp; U</title><style>p{}</style></head><body><p>a<b>b</b> c<br>d<script>if (a<b) {}</script> &lt;e&gt;", "T & U", "T & U ab c d <e>"},
		{"text/html", "1 < 2 <a href='x>y'>link</a>", "", "1 2 link"},
		{"text/html", "<script>never closed", "", ""},
		{"application/json", `{"a":["b\nc","\u00fc",true,1.5],"d":{}}`, "", "a b c ü true 1.5 d"},
		{"application/vnd.x+json", `"\ud83d\ude00 \ud83d"`, "", "😀 \ufffd"},
		{"image/svg+xml", "<svg><text>label</text></svg>", "", "label"},
		{"image/png", "text", "", ""},
		{"application/octet-stream", "text", "", ""},
	} {
		title, text := Text(c.media, []byte(c.in))
		if text = strings.Join(strings.Fields(text), " "); title != c.title || text != c.want {
			t.Errorf("%s %.40q is %q, %q; want %q, %q", c.media, c.in, title, text, c.title, c.want)
		}
	}
	if m := MediaType("Text/HTML; charset=UTF-8"); m != "text/html" {
		t.Error(m)
	}
}

// FuzzText: any bytes give valid text in composed form that is not much longer.
func FuzzText(f *testing.F) {
	for _, s := range []string{"<p>a</p>", "{\"a\":\"\\u00e", "# h\n", "<![CDATA[x]]>", "<title><title>", "</", "<!--", "e\u0301"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, media := range []string{"text/plain", "text/markdown", "text/html", "application/json"} {
			title, text := Text(media, b)
			if !utf8.ValidString(text) || !utf8.ValidString(title) || !norm.NFC.IsNormalString(text) {
				t.Fatalf("%s: not valid text", media)
			}
			if len(title) > maxTitle || len(text) > 12*len(b)+16 {
				t.Fatalf("%s: %d bytes of %d", media, len(text), len(b))
			}
		}
	})
}
