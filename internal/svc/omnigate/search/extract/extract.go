// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package extract makes searchable text of an object's first bytes. What it
// returns is valid UTF-8 in composed form, and it never fails: bytes that are no
// text give none.
package extract

import (
	"bytes"
	"mime"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxBytes is how much of an object is looked at.
const MaxBytes = 1 << 20

// maxTitle bounds a title in bytes.
const maxTitle = 256

// form is how bytes become text.
type form uint8

const (
	none form = iota
	plain
	markdown
	markup
	jsonText
)

// application is the form of a type outside text/*.
func application(media string) form {
	switch media {
	case "application/json", "application/x-ndjson":
		return jsonText
	case "application/xml":
		return markup
	case "application/javascript", "application/x-sh", "application/toml", "application/yaml", "application/x-yaml", "application/sql":
		return plain
	}
	switch {
	case strings.HasSuffix(media, "+json"):
		return jsonText
	case strings.HasSuffix(media, "+xml"):
		return markup
	}
	return none
}

// MediaType is a content type without parameters, in lower case.
func MediaType(contentType string) string {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		media, _, _ = strings.Cut(strings.ToLower(contentType), ";")
		return strings.TrimSpace(media)
	}
	return media
}

// IsText reports whether objects of the media type have text.
func IsText(media string) bool { return formOf(media) != none }

func formOf(media string) form {
	switch {
	case media == "text/html" || media == "text/xml":
		return markup
	case media == "text/markdown" || media == "text/x-markdown":
		return markdown
	case strings.HasPrefix(media, "text/"):
		return plain
	}
	return application(media)
}

// Text returns the title, where the form has one, and the text of an object of the
// media type whose first bytes are b.
func Text(media string, b []byte) (title, text string) {
	f := formOf(media)
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if f == none || bytes.IndexByte(b, 0) >= 0 && !mostlyText(b) {
		return "", ""
	}
	switch f {
	case markdown:
		title = heading(b)
	case markup:
		title, b = strip(b)
	case jsonText:
		b = values(b)
	}
	return clip(clean([]byte(title)), maxTitle), clean(b)
}

// mostlyText reports whether bytes with a zero among them could still be text.
func mostlyText(b []byte) bool {
	head := b[:min(len(b), 4096)]
	return bytes.Count(head, []byte{0})*100 < len(head)
}

// clean makes valid UTF-8 in composed form, and drops a last character that is cut off.
func clean(b []byte) string {
	for i := 1; i <= utf8.UTFMax && i <= len(b); i++ {
		if utf8.RuneStart(b[len(b)-i]) {
			if !utf8.FullRune(b[len(b)-i:]) {
				b = b[:len(b)-i]
			}
			break
		}
	}
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte(" "))
	}
	if norm.NFC.IsNormal(b) {
		return string(b)
	}
	return string(norm.NFC.Bytes(b))
}

// clip shortens s to n bytes without breaking a character.
func clip(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// heading is the first heading of a Markdown text.
func heading(b []byte) string {
	for range 64 { // lines
		line, rest, more := bytes.Cut(b, []byte("\n"))
		if t, ok := bytes.CutPrefix(bytes.TrimLeft(line, " "), []byte("#")); ok {
			if t = bytes.TrimSpace(bytes.Trim(t, "# \t\r")); len(t) > 0 {
				return string(t)
			}
		}
		if !more {
			break
		}
		b = rest
	}
	return ""
}
