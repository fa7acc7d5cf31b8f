// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package name

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/idna"
	"pgregory.net/rapid"
)

func TestNormalize(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	full := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	for in, want := range map[string]string{
		"a": "a", "docs": "docs", "site.logo": "site.logo", "v1.0-rc1": "v1.0-rc1", "a-b": "a-b", "0": "0",
		"Site.LOGO": "site.logo", "ＡＢＣ": "abc", "a。b": "a.b", "ℌello": "hello",
		"straße": "straße", "STRASSE": "strasse", "βόλος": "βόλος", "ΒΌΛΟΣ": "βόλοσ",
		"bu\u0308cher": "bücher", "BÜCHER": "bücher", "xn--bcher-kva": "bücher", "XN--BCHER-KVA": "bücher",
		"münchen.example": "münchen.example", "пример": "пример", "παράδειγμα": "παράδειγμα", "日本語": "日本語", "한국어": "한국어",
		"ドメイン名例": "ドメイン名例", "abc日本語": "abc日本語", "שלום": "שלום", "مثال": "مثال", "हिन्दी": "हिन्दी", "ไทย": "ไทย",
		"пример.example": "пример.example", "col·lega": "col·lega", "ルーク・スカイ": "ルーク・スカイ",
		"نامه\u200cای": "نامه\u200cای", "a\u00adb": "ab", "१२३": "१२३",
		label63: label63, full: full,
	} {
		got, err := Normalize(in)
		if err != nil || got != want {
			t.Errorf("Normalize(%.40q) = %.40q, %v, want %.40q", in, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for in, want := range map[string]Rule{
		"": Length, ".": Length, "a..b": Length, ".a": Length, "a.": Length, label63 + "a": Length, strings.Repeat("x", 5000): Length,
		strings.Join([]string{label63, label63, label63, strings.Repeat("b", 62)}, "."): Length,
		strings.Repeat("ü", 60) + strings.Repeat("ö", 10):                               Length,
		strings.Repeat(strings.Repeat("𠀀", 50)+".", 3) + "a":                            Length,
		"-a": Form, "a-": Form, "ab--c": Form, "xn--a": Form, "xn--": Form, "xn--bcher-kvb9z": Form, "\xff": Form, "a\xffb": Form,
		"a b": Character, "a_b": Character, "a/b": Character, "a\x00b": Character, "a*": Character, "a\u202eb": Character, "☃": Character, "😀": Character, "a\u0301\u200d": Form,
		"a·b": Character, "·": Character, "xn--ls8h": Character, "ᚠ": Character, "ꭰ": Character, "・a": Character, "א״": "", "״א": Character,
		"اb": Direction, "1ا": Direction,
		"pаypal": Script, "αpple": Script, "привeт": Script, "aא": Direction, "кириллица日本": Script, "१2": Script, "한あ": Script,
		"аррӏе": Confusable, "со": Confusable, "еѕсарее": Confusable, "ооо.example": Confusable, "ό": Confusable, "ՕՕ": Confusable,
	} {
		got, err := Normalize(in)
		if want == "" {
			if err != nil {
				t.Errorf("Normalize(%.40q): %v", in, err)
			}
			continue
		}
		if err == nil || RuleOf(err) != want || !errors.Is(err, ErrRefused) {
			t.Errorf("Normalize(%.40q) = %.40q, %v (%s), want %s", in, got, err, RuleOf(err), want)
		}
	}
}

// TestPinned: the mapping and the tables are of the same version of Unicode, or
// characters would be judged by two.
func TestPinned(t *testing.T) {
	if idna.UnicodeVersion != UnicodeVersion || unicode.Version != UnicodeVersion {
		t.Errorf("tables are of %s, golang.org/x/net of %s, Go of %s: generate them anew", UnicodeVersion, idna.UnicodeVersion, unicode.Version)
	}
	last := rune(-1)
	for _, s := range allowed {
		if s.lo <= last || s.hi < s.lo || s.set == 0 {
			t.Fatalf("the table is not in order at U+%04X", s.lo)
		}
		last = s.hi
	}
	for i, r := range lookalikes {
		if _, ok := scriptsOf(r); !ok || i > 0 && r <= lookalikes[i-1] {
			t.Errorf("U+%04X is out of place", r)
		}
	}
}

// spelling is a text that is often nearly a name.
func spelling() *rapid.Generator[string] {
	runes := rapid.OneOf(rapid.RuneFrom([]rune("abcxyz0189-.")), rapid.RuneFrom([]rune("аорсеαογιß·ς\u200c\u200d\u0301\u0308ÄÖ。．Ａ日本あア한שא١۱१ゝー・")),
		rapid.RuneFrom(nil, unicode.Latin, unicode.Cyrillic, unicode.Greek, unicode.Han, unicode.Arabic, unicode.Hebrew, unicode.Devanagari, unicode.Hangul, unicode.Mn), rapid.Rune())
	return rapid.OneOf(rapid.StringOfN(runes, 0, 20, -1), rapid.StringOfN(rapid.RuneFrom([]rune("abcxn019-.")), 0, 70, -1),
		rapid.Map(rapid.StringOfN(rapid.RuneFrom([]rune("abcdefghijk0123456789-")), 1, 12, -1), func(s string) string { return "xn--" + s }),
		rapid.StringN(0, 40, -1))
}

// check holds what Normalize made of one spelling to what it promises.
func check(t interface{ Fatalf(string, ...any) }, s string) {
	n, err := Normalize(s)
	if err != nil {
		if !errors.Is(err, ErrRefused) || RuleOf(err) == "" || n != "" {
			t.Fatalf("%q is refused with %q, %v", s, n, err)
		}
		return
	}
	if again, err := Normalize(n); err != nil || again != n || !Valid(n) {
		t.Fatalf("%q is %q, and that is %q, %v", s, n, again, err)
	}
	ascii, err := idna.Registration.ToASCII(n)
	if err != nil || len(ascii) > MaxBytes {
		t.Fatalf("%q is %q, which cannot be registered: %v", s, n, err)
	}
	if back, err := Normalize(ascii); err != nil || back != n {
		t.Fatalf("%q is %q, in Punycode %q, and that is %q, %v", s, n, ascii, back, err)
	}
	if upper, err := Normalize(strings.ToUpper(n)); plain(n) && (err != nil || upper != n) {
		t.Fatalf("%q in capitals is %q, %v", n, upper, err)
	}
	if len(n) > MaxUTF8Bytes {
		t.Fatalf("%q is %q of %d bytes", s, n, len(n))
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > MaxLabelBytes {
			t.Fatalf("%q is %q with a label of %d bytes", s, n, len(label))
		}
	}
	if strings.ContainsAny(n, "/\x00\\ ?#%*") {
		t.Fatalf("%q is %q", s, n)
	}
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { check(t, spelling().Draw(t, "s")) })
}

// TestPlain: the short way says what the long one says.
func TestPlain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.RuneFrom([]rune("abxn019-.")), 1, 70, -1).Draw(t, "s")
		p := profile()
		ascii, err := p.ToASCII(s)
		u, err2 := p.ToUnicode(ascii)
		if long := err == nil && err2 == nil && u == s; plain(s) && !long {
			t.Fatalf("%q is plain, and not what the mapping makes of it: %q, %v", s, u, err)
		} else if long && !plain(s) && !strings.Contains(s, "xn--") && !strings.HasSuffix(s, ".") {
			t.Fatalf("%q is not plain", s)
		}
	})
}

func TestPrefix(t *testing.T) {
	for in, want := range map[string]string{"": "", "Site.": "site.", "a-": "a-", "Bu\u0308": "bü"} {
		if got, err := Prefix(in); err != nil || got != want {
			t.Errorf("Prefix(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"\xff", strings.Repeat("a", 2000)} {
		if _, err := Prefix(in); !errors.Is(err, ErrRefused) {
			t.Errorf("Prefix(%.10q): %v", in, err)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"site.logo", "Bücher", "xn--bcher-kva", "аррӏе", "a\u200db", "。", "xn--0", "\xff", "١۱", "col·lega"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { check(t, s) })
}

func BenchmarkNormalize(b *testing.B) {
	for name, s := range map[string]string{"plain": "releases.macronode.v1-2", "unicode": "straße.münchen"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Normalize(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
