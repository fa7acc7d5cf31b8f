// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package sniff

import (
	"mime"
	"strings"
	"testing"
)

func TestType(t *testing.T) {
	for in, want := range map[string]string{
		"\x89PNG\r\n\x1a\nrest": "image/png", "\xff\xd8\xff\xe0": "image/jpeg", "GIF89a...": "image/gif", "RIFF....WEBPVP8 ": "image/webp",
		"RIFF....WAVEfmt ": "audio/wav", "xxxx....WAVEfmt ": "text/plain", "\x00\x00\x00\x18ftypisom": "video/mp4", "\x00\x00\x00\x18ftypM4A ": "audio/mp4",
		"\x1a\x45\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x1f\x42\x82\x84webm": "video/webm", "\x1a\x45\xdf\xa3\x42\x82\x88matroska": "video/x-matroska",
		"OggS\x00\x02": "application/ogg", "ID3\x04": "audio/mpeg", "\xff\xfb\x90\x00": "audio/mpeg", "\xff\xff\xff\xff": Binary,
		"<!DOCTYPE html>": "text/html", "  \r\n<ScRiPt>": "text/html", "\xef\xbb\xbf<html>": "text/html", "<svg xmlns=": "image/svg+xml",
		"<?xml version='1.0'?><svg>": "image/svg+xml", "<?xml version='1.0'?><a>": "text/xml", "%PDF-1.7": "application/pdf", "PK\x03\x04": "application/zip",
		"hello": "text/plain", "": "text/plain", "a\x00b": Binary, "BM is how this text begins": "text/plain", "MZ\x90": "application/x-msdownload",
		"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00": "image/bmp",
	} {
		if got := Type([]byte(in)); got != want {
			t.Errorf("%.20q is %s, want %s", in, got, want)
		}
	}
}

func TestReconcile(t *testing.T) {
	for _, c := range []struct {
		declared, sniffed, want string
		inline                  bool
	}{
		{"image/png", "image/png", "image/png", true},
		{"image/png", "image/jpeg", "image/jpeg", true},
		{Binary, "image/png", "image/png", true},
		{"", "video/mp4", "video/mp4", true},
		{"audio/mp4; codecs=mp4a", "video/mp4", "audio/mp4; codecs=mp4a", true},
		{"audio/ogg", ogg, "audio/ogg", true},
		{Binary, ogg, ogg, false},
		{"text/html", "image/png", "text/html", false},
		{"image/png", "text/html", Binary, false},
		{"video/mp4", "application/zip", Binary, false},
		{"image/gif", text, Binary, false},
		{"image/png", svg, svg, false},
		{svg, svg, svg, false},
		{svg, "image/png", "image/png", true},
		{svg, Binary, Binary, false},
		{"image/avif", Binary, "image/avif", true},
		{"text/html; charset=utf-8", "text/html", "text/html; charset=utf-8", false},
		{Binary, "text/html", Binary, false},
		{"not a type", "text/html", Binary, false},
		{"application/pdf", "application/pdf", "application/pdf", false},
	} {
		if got := Reconcile(c.declared, c.sniffed); got != (Verdict{c.want, c.inline}) {
			t.Errorf("%q, %q: %+v", c.declared, c.sniffed, got)
		}
	}
}

// FuzzReconcile: whatever is declared, nothing is shown in place that the bytes make a
// page, a document or a program, and what is served is a type.
func FuzzReconcile(f *testing.F) {
	for _, d := range []string{"image/png", "text/html", "image/svg+xml", "video/mp4; a=b", "x", "application/ogg", "IMAGE/PNG"} {
		f.Add(d, []byte("<html>"))
		f.Add(d, []byte("\x89PNG\r\n\x1a\n"))
		f.Add(d, []byte("\x00\x01\x02"))
	}
	f.Fuzz(func(t *testing.T, declared string, b []byte) {
		sniffed := Type(b)
		v := Reconcile(declared, sniffed)
		if _, _, err := mime.ParseMediaType(v.Type); err != nil && v.Type != declared {
			t.Fatalf("%q is no type", v.Type)
		}
		kind, _, _ := strings.Cut(strings.ToLower(v.Type), "/")
		shown := kind == "image" || kind == "audio" || kind == "video" || v.Type == ogg
		if v.Inline && (!shown || strings.Contains(strings.ToLower(v.Type), "svg") || !isMedium(sniffed) && sniffed != Binary) {
			t.Fatalf("%q of %q is shown as %q", declared, sniffed, v.Type)
		}
	})
}
