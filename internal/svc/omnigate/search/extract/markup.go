// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package extract

import (
	"bytes"
	"html"
)

// silent reports whether nobody reads what is in the element.
func silent(name string) bool {
	return name == "script" || name == "style" || name == "template" || name == "noscript"
}

// inline reports whether the element does not part words.
func inline(name string) bool {
	switch name {
	case "b", "i", "em", "strong", "a", "span", "code", "u", "s", "sub", "sup", "small", "big", "mark", "font", "wbr", "kbd", "var", "tt", "abbr":
		return true
	}
	return false
}

// strip takes the markup out of b and returns the text, and that of its title element.
// It reads b once, whatever stands in it.
func strip(b []byte) (title string, text []byte) {
	out := make([]byte, 0, len(b))
	from := -1 // of the title, in out
	for len(b) > 0 {
		i := bytes.IndexByte(b, '<')
		if i < 0 {
			out = append(out, b...)
			break
		}
		out, b = append(out, b[:i]...), b[i:]
		if rest, ok := bytes.CutPrefix(b, []byte("<!--")); ok {
			b = after(rest, "-->")
			continue
		}
		if rest, ok := bytes.CutPrefix(b, []byte("<![CDATA[")); ok {
			inside, rest, _ := bytes.Cut(rest, []byte("]]>"))
			out, b = append(append(out, ' '), inside...), rest
			continue
		}
		if len(b) < 2 || !(isLetter(b[1]) || b[1] == '/' || b[1] == '!' || b[1] == '?') {
			out, b = append(out, ' '), b[1:] // a bare <
			continue
		}
		name, closing, rest := tag(b)
		b = rest
		if !inline(name) {
			out = append(out, ' ')
		}
		switch {
		case name == "title" && closing && from >= 0:
			title, from = html.UnescapeString(string(out[from:])), -1
		case closing:
		case name == "title" && title == "":
			from = len(out)
		case silent(name):
			b = skip(b, name)
		}
	}
	if bytes.IndexByte(out, '&') >= 0 {
		out = []byte(html.UnescapeString(string(out)))
	}
	return title, out
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// after is what follows the first end in b; nothing where there is none.
func after(b []byte, end string) []byte {
	_, rest, _ := bytes.Cut(b, []byte(end))
	return rest
}

// tag reads "<name …>" or "</name …>"; a > within quotes does not end it.
func tag(b []byte) (name string, closing bool, rest []byte) {
	b = b[1:]
	if len(b) > 0 && b[0] == '/' {
		closing, b = true, b[1:]
	}
	n := 0
	for n < len(b) && n < 32 && (isLetter(b[n]) || '0' <= b[n] && b[n] <= '9' || b[n] == ':' || b[n] == '-') {
		n++
	}
	name = string(bytes.ToLower(b[:n]))
	quote := byte(0)
	for i := n; i < len(b); i++ {
		switch c := b[i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return name, closing, b[i+1:]
		}
	}
	return name, closing, nil
}

// skip is what follows "</name" in b.
func skip(b []byte, name string) []byte {
	for {
		i := bytes.Index(b, []byte("</"))
		if i < 0 {
			return nil
		}
		b = b[i+2:]
		if len(b) >= len(name) && bytes.EqualFold(b[:len(name)], []byte(name)) {
			return after(b, ">")
		}
	}
}
