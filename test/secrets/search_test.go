// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// needle is one form of one secret.
type needle struct {
	secret, form string
	bytes        []byte
}

// forms are the ways a 32-byte secret may lie in memory. Each half counts, so
// that a part of a copy is found too; of base64, every alignment.
func forms(name string, secret []byte) []needle {
	var out []needle
	add := func(form string, b []byte) { out = append(out, needle{name, form, b}) }
	halves := func(form string, b []byte) {
		add(form+", first half", b[:len(b)/2])
		add(form+", second half", b[len(b)/2:])
	}
	halves("raw", secret)
	reversed := slices.Clone(secret)
	slices.Reverse(reversed)
	halves("reversed", reversed)
	for _, n := range []int{4, 8} {
		swapped := slices.Clone(secret)
		for w := range slices.Chunk(swapped, n) {
			slices.Reverse(w)
		}
		halves(fmt.Sprintf("words of %d bytes reversed", n), swapped)
	}
	lower := hex.EncodeToString(secret)
	halves("hex", []byte(lower))
	halves("HEX", []byte(strings.ToUpper(lower)))
	for shift := range 3 {
		padded := append(make([]byte, shift), secret...)
		text := base64.StdEncoding.EncodeToString(padded)
		text = text[4 : len(text)-4] // the ends depend on the neighbours
		halves(fmt.Sprintf("base64 at %d", shift), []byte(text))
		if url := strings.NewReplacer("+", "-", "/", "_").Replace(text); url != text {
			halves(fmt.Sprintf("base64url at %d", shift), []byte(url))
		}
	}
	return out
}

// find is where a needle lies.
type find struct {
	needle
	addr   uint64
	locked bool // in memory that is kept out of dumps: the arena
}

// scanner looks for many needles at once, by their first four bytes.
type scanner struct {
	first   [1 << 16]bool
	needles map[uint32][]needle
	longest int
}

func newScanner(needles []needle) *scanner {
	s := &scanner{needles: map[uint32][]needle{}}
	for _, n := range needles {
		k := binary.LittleEndian.Uint32(n.bytes)
		s.first[uint16(k)] = true
		s.needles[k] = append(s.needles[k], n)
		s.longest = max(s.longest, len(n.bytes))
	}
	return s
}

// scan calls hit for each needle in b, at its offset.
func (s *scanner) scan(b []byte, hit func(n needle, at int)) {
	for i := 0; i+4 <= len(b); i++ {
		if !s.first[uint16(b[i])|uint16(b[i+1])<<8] {
			continue
		}
		for _, n := range s.needles[binary.LittleEndian.Uint32(b[i:])] {
			if bytes.HasPrefix(b[i:], n.bytes) {
				hit(n, i)
			}
		}
	}
}

// image is what a core file says of a process.
type image struct {
	bytes int64
	finds []find
}

// search reads a core file. Excluded are the address ranges that an ordinary
// dump leaves out.
func search(t *testing.T, path string, excluded [][2]uint64, needles []needle) image {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := newScanner(needles)
	var im image
	buf := make([]byte, 4<<20)
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || p.Filesz == 0 {
			continue
		}
		im.bytes += int64(p.Filesz)
		r := p.Open()
		base, keep := p.Vaddr, 0
		for {
			n, err := io.ReadFull(r, buf[keep:])
			b := buf[:keep+n]
			s.scan(b, func(n needle, at int) {
				addr := base + uint64(at)
				if len(im.finds) > 0 && at < keep && im.finds[len(im.finds)-1].addr == addr {
					return
				}
				in := slices.ContainsFunc(excluded, func(r [2]uint64) bool { return addr >= r[0] && addr < r[1] })
				im.finds = append(im.finds, find{n, addr, in})
			})
			if err != nil {
				break
			}
			keep = copy(buf, b[len(b)-s.longest:])
			base += uint64(len(b) - keep)
		}
	}
	return im
}

// excludedRanges are the mappings of a process that are kept out of dumps.
func excludedRanges(t *testing.T, pid int) (out [][2]uint64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var from, to uint64
	for line := range strings.Lines(string(text)) {
		// Of a line that does not fit Sscanf may have stored the beginning.
		var a, b uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &a, &b); n == 2 {
			from, to = a, b
			continue
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && slices.Contains(strings.Fields(flags), "dd") {
			out = append(out, [2]uint64{from, to})
		}
	}
	return out
}

// The search itself finds what is there, in every form, also across the edge of
// a buffer, and nothing that is not.
func TestScanner(t *testing.T) {
	secret := []byte("0123456789abcdefGHIJKLMNOPQRSTUV")
	other := []byte("another secret of thirty-two b..")
	s := newScanner(append(forms("a", secret), forms("b", other)...))
	for _, n := range forms("a", secret) {
		text := slices.Concat([]byte("xxxxx"), n.bytes, []byte("yyyyy"))
		found := false
		s.scan(text, func(got needle, at int) {
			found = found || at == 5 && got.form == n.form
			if got.secret != "a" {
				t.Errorf("%s is taken for the other", n.form)
			}
		})
		if !found {
			t.Errorf("%s is not found", n.form)
		}
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append([]byte("xyz")[:shift], append(slices.Clone(secret), "tail"...)...))
		found := false
		s.scan([]byte(text), func(n needle, _ int) { found = found || n.secret == "a" })
		if !found {
			t.Errorf("base64 at %d is not found", shift)
		}
	}
}
