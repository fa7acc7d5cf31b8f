// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"lukechampine.com/blake3"
)

var (
	secret = [SecretBytes]byte{1, 2, 3}
	tenant = [16]byte{9}
	sample = Receipt{ID: [16]byte{4, 5, 6}, Seq: 77, Lease: 1 << 40}
)

func TestRoundTrip(t *testing.T) {
	m := New(secret)
	for _, topic := range []string{"a", "orders", strings.Repeat("x", 128)} {
		text := m.Make(tenant, topic, sample)
		if len(text) != TextBytes {
			t.Errorf("a receipt of %d characters", len(text))
		}
		got, err := New(secret).Parse(tenant, topic, text)
		if err != nil || got != sample {
			t.Errorf("topic of %d characters: read %+v, %v", len(topic), got, err)
		}
	}
}

// TestVector fixes the form: the tag is computed here from the package comment.
func TestVector(t *testing.T) {
	body := "01" + "04050600000000000000000000000000" + "000000000000004d" + "0000010000000000"
	raw, err := hex.DecodeString(body)
	if err != nil {
		t.Fatal(err)
	}
	h := blake3.New(32, secret[:])
	_, _ = h.Write(append(append(append([]byte{9: 0}[:0], tenant[:]...), 6), "orders"...))
	_, _ = h.Write(raw)
	want := encoding.EncodeToString(append(raw, h.Sum(nil)[:16]...))
	if got := New(secret).Make(tenant, "orders", sample); got != want {
		t.Error("the form of a receipt changed")
	}
	const fixed = "AQQFBgAAAAAAAAAAAAAAAAAAAAAAAAAATQAAAQAAAAAA"
	if !strings.HasPrefix(want, fixed) {
		t.Errorf("a receipt begins with %s", want[:len(fixed)])
	}
}

// TestStrangers: what was made for another tenant, topic, mailbox, or altered in
// any bit, is refused.
func TestStrangers(t *testing.T) {
	m := New(secret)
	text := m.Make(tenant, "orders", sample)
	for name, parse := range map[string]func() (Receipt, error){
		"tenant":  func() (Receipt, error) { return m.Parse([16]byte{8}, "orders", text) },
		"topic":   func() (Receipt, error) { return m.Parse(tenant, "order", text) },
		"mailbox": func() (Receipt, error) { return New([SecretBytes]byte{7}).Parse(tenant, "orders", text) },
	} {
		if _, err := parse(); !errors.Is(err, ErrTag) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	raw, err := encoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		raw[bit/8] ^= 1 << (bit % 8)
		if _, err := m.Parse(tenant, "orders", encoding.EncodeToString(raw)); err == nil {
			t.Errorf("bit %d flipped is accepted", bit)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
	for _, bad := range []string{"", "x", text + "A", text[1:], strings.Repeat("!", TextBytes)} {
		if _, err := m.Parse(tenant, "orders", bad); !errors.Is(err, ErrForm) {
			t.Errorf("%d characters: %v", len(bad), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	m := New(secret)
	f.Add(m.Make(tenant, "orders", sample))
	f.Add(strings.Repeat("A", TextBytes))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := m.Parse(tenant, "orders", text)
		if err == nil && m.Make(tenant, "orders", r) != text {
			t.Error("a receipt has two forms")
		}
	})
}

func BenchmarkMake(b *testing.B) {
	m := New(secret)
	b.ReportAllocs()
	for b.Loop() {
		_ = m.Make(tenant, "orders", sample)
	}
}

// TestTagIsBLAKE3: the tag is what the documentation says, whatever the name's length.
func TestTagIsBLAKE3(t *testing.T) {
	secret := [SecretBytes]byte{1, 2, 31: 3}
	m := New(secret)
	tenant, body := [16]byte{4, 15: 5}, make([]byte, bodyAt)
	for i := range body {
		body[i] = byte(i * 7)
	}
	for n := range maxTopicBytes + 1 {
		name := strings.Repeat("x", n)
		h := blake3.New(32, secret[:])
		_, _ = h.Write(slices.Concat(tenant[:], []byte{byte(n)}, []byte(name), body))
		if got := m.tag(tenant, name, body); !bytes.Equal(got[:], h.Sum(nil)[:tagBytes]) {
			t.Fatalf("a name of %d bytes has another tag", n)
		}
	}
}
