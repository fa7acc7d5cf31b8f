// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package sniff tells what bytes are from their beginning, and what to call them to a
// browser, given what their owner said that they are.
package sniff

import (
	"bytes"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// HeadBytes is how much of an object is looked at.
const HeadBytes = 1024

// Types that are told of what is not known more closely.
const (
	Binary = "application/octet-stream"
	text   = "text/plain"
)

// mark is a beginning by which a type is known.
type mark struct {
	at   int
	text string
	kind string
}

// marks are looked through in order.
var marks = []mark{
	{0, "\x89PNG\r\n\x1a\n", "image/png"},
	{0, "\xff\xd8\xff", "image/jpeg"},
	{0, "GIF87a", "image/gif"},
	{0, "GIF89a", "image/gif"},
	{8, "WEBPVP8", "image/webp"},
	{0, "II*\x00", "image/tiff"},
	{0, "MM\x00*", "image/tiff"},
	{0, "\x00\x00\x01\x00", "image/x-icon"},
	{4, "ftypavif", "image/avif"},
	{4, "ftypavis", "image/avif"},
	{4, "ftypheic", "image/heic"},
	{4, "ftypheix", "image/heic"},
	{4, "ftypmif1", "image/heif"},
	{4, "ftypM4A ", "audio/mp4"},
	{4, "ftypM4B ", "audio/mp4"},
	{4, "ftypqt  ", "video/quicktime"},
	{4, "ftyp", "video/mp4"},
	{4, "styp", "video/mp4"},
	{4, "moov", "video/quicktime"},
	{0, "OggS", "application/ogg"},
	{0, "fLaC", "audio/flac"},
	{8, "WAVE", "audio/wav"},
	{8, "AVI ", "video/x-msvideo"},
	{8, "AIFF", "audio/aiff"},
	{0, "MThd", "audio/midi"},
	{0, "ID3", "audio/mpeg"},
	{0, "%PDF-", "application/pdf"},
	{0, "%!PS-Adobe-", "application/postscript"},
	{0, "PK\x03\x04", "application/zip"},
	{0, "PK\x05\x06", "application/zip"},
	{0, "\x1f\x8b\x08", "application/gzip"},
	{0, "Rar!\x1a\x07", "application/vnd.rar"},
	{0, "7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"},
	{0, "\x28\xb5\x2f\xfd", "application/zstd"},
	{0, "\x7fELF", "application/x-elf"},
	{0, "MZ", "application/x-msdownload"},
	{0, "\x00asm", "application/wasm"},
	{0, "\xca\xfe\xba\xbe", "application/java-vm"},
	{0, "wOFF", "font/woff"},
	{0, "wOF2", "font/woff2"},
	{0, "BM", "image/bmp"},
}

// riff are the marks at 8 that count behind "RIFF" or "FORM" alone.
var riff = []string{"RIFF", "FORM"}

// pages begin a document that a browser would run, white space aside.
var pages = []struct{ text, kind string }{
	{"<!doctype html", "text/html"}, {"<html", "text/html"}, {"<head", "text/html"}, {"<body", "text/html"}, {"<script", "text/html"}, {"<iframe", "text/html"},
	{"<h1", "text/html"}, {"<div", "text/html"}, {"<font", "text/html"}, {"<table", "text/html"}, {"<a ", "text/html"}, {"<style", "text/html"},
	{"<title", "text/html"}, {"<b>", "text/html"}, {"<br", "text/html"}, {"<p>", "text/html"}, {"<p ", "text/html"}, {"<img", "text/html"}, {"<!--", "text/html"},
	{"<svg", "image/svg+xml"}, {"<?xml", "text/xml"}, {"<!doctype svg", "image/svg+xml"},
}

// Type tells what b begins, or Binary.
func Type(b []byte) string {
	b = b[:min(len(b), HeadBytes)]
	for _, m := range marks {
		if len(b) < m.at+len(m.text) || string(b[m.at:m.at+len(m.text)]) != m.text {
			continue
		}
		if m.at == 8 && !slices.Contains(riff, string(b[:4])) {
			continue
		}
		if m.kind == "image/bmp" && (len(b) < 18 || b[15] != 0 || b[6]|b[7]|b[8]|b[9] != 0) {
			continue // a text may well begin so
		}
		return m.kind
	}
	if bytes.HasPrefix(b, []byte("\x1a\x45\xdf\xa3")) {
		if bytes.Contains(b[:min(len(b), 64)], []byte("webm")) {
			return "video/webm"
		}
		return "video/x-matroska"
	}
	if len(b) >= 4 && b[0] == 0xff && b[1]&0xe6 == 0xe2 && b[2]>>4 != 0 && b[2]>>4 != 15 && b[2]>>2&3 != 3 {
		return "audio/mpeg"
	}
	if t := page(b); t != "" {
		return t
	}
	if isText(b) {
		return text
	}
	return Binary
}

func page(b []byte) string {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	b = bytes.ToLower(bytes.TrimLeft(b, "\t\n\f\r "))
	for _, p := range pages {
		if bytes.HasPrefix(b, []byte(p.text)) {
			if p.kind == "text/xml" && bytes.Contains(b, []byte("<svg")) {
				return "image/svg+xml"
			}
			return p.kind
		}
	}
	return ""
}

// isText reports whether b is UTF-8, perhaps cut off, without bytes that texts do not
// have.
func isText(b []byte) bool {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 && utf8.FullRune(b) {
			return false
		}
		if r < ' ' && !strings.ContainsRune("\t\n\f\r\x1b", r) {
			return false
		}
		b = b[n:]
	}
	return true
}

// family are types between which the bytes do not tell, or which mean the same: the
// owner's word counts between them.
var family = [][]string{
	{"video/mp4", "audio/mp4", "audio/x-m4a", "audio/aac", "video/x-m4v", "video/quicktime", "video/3gpp", "audio/3gpp", "video/3gpp2"},
	{"video/webm", "audio/webm", "video/x-matroska", "audio/x-matroska", "video/matroska", "audio/matroska"},
	{"application/ogg", "audio/ogg", "video/ogg", "audio/opus", "audio/vorbis"},
	{"audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mp3", "audio/x-mpeg"},
	{"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"},
	{"audio/flac", "audio/x-flac"},
	{"image/jpeg", "image/jpg", "image/pjpeg"},
	{"image/x-icon", "image/vnd.microsoft.icon"},
	{"image/heic", "image/heif", "image/avif"},
	{"audio/aiff", "audio/x-aiff"},
	{"image/bmp", "image/x-ms-bmp"},
}

// Verdict is what an object is served as.
type Verdict struct {
	Type string
	// Inline: a browser may show it in place. Else it is offered for saving.
	Inline bool
}

// Reconcile brings together what the owner declared and what the bytes are. The rules,
// the first that fits:
//
//   - Bytes of a medium (image, audio, video) are served as the medium that they are,
//     in place, whatever medium was declared; within a family the declared type.
//   - Bytes of a medium declared as something else that says something (a text, a
//     document) keep that type, for saving.
//   - Bytes that are known as something else, or are a text, and were declared a
//     medium: Binary, for saving. Nobody shows a page that calls itself an image.
//   - SVG is a document that runs programs: it is for saving.
//   - Bytes that nothing is known of are served as declared; in place if that is a
//     medium, for no browser that is told not to guess makes anything else of it.
func Reconcile(declared, sniffed string) Verdict {
	said, params, err := mime.ParseMediaType(declared)
	if err != nil {
		said, params = Binary, nil
	}
	switch {
	case isMedium(sniffed) && sniffed != svg:
		switch {
		case said == Binary:
			return Verdict{sniffed, sniffed != ogg}
		case related(said, sniffed):
			return Verdict{mime.FormatMediaType(said, params), isMedium(said)}
		case isMedium(said):
			return Verdict{sniffed, sniffed != ogg}
		}
		return Verdict{declared, false}
	case said == svg || sniffed == svg && isMedium(said):
		if sniffed == svg || sniffed == "text/xml" || sniffed == "text/html" || sniffed == text {
			return Verdict{svg, false}
		}
		return Verdict{Binary, false}
	case isMedium(said) && sniffed != Binary:
		return Verdict{Binary, false}
	case isMedium(said):
		return Verdict{declared, true}
	}
	if err != nil {
		return Verdict{Binary, false}
	}
	return Verdict{declared, false}
}

const (
	svg = "image/svg+xml"
	ogg = "application/ogg" // sound or film: the bytes alone do not tell
)

// isMedium reports whether a type is one that browsers show in place.
func isMedium(t string) bool {
	kind, _, _ := strings.Cut(t, "/")
	return kind == "image" || kind == "audio" || kind == "video" || t == ogg
}

func related(a, b string) bool {
	if a == b {
		return true
	}
	for _, f := range family {
		if slices.Contains(f, a) && slices.Contains(f, b) {
			return true
		}
	}
	return false
}
