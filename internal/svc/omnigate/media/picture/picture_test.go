// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"runtime"
	"testing"
	"time"
)

func TestInspect(t *testing.T) {
	clear := painted(20, 10)
	clear.SetNRGBA(0, 0, color.NRGBA{})
	for f, m := range map[Format]image.Image{PNG: clear, JPEG: painted(20, 10), GIF: painted(20, 10), BMP: painted(20, 10), WebP: nil} {
		i, err := Inspect(encoded(t, f, m))
		want := Info{Format: f, Width: 20, Height: 10, Orientation: 1, Frames: 1, Alpha: f == PNG, Memory: i.Memory}
		if f == WebP {
			want.Width, want.Height, want.Alpha = 1, 1, i.Alpha
		}
		if err != nil || i != want || i.Memory < int64(i.Width*i.Height) {
			t.Errorf("%s: %+v, %v", f, i, err)
		}
	}
	if _, err := Inspect([]byte("hello")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a text: %v", err)
	}
	if _, err := Inspect(make([]byte, MaxBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more bytes than are looked at: %v", err)
	}
	// What cameras write behind a JPEG is no other document.
	j := encoded(t, JPEG, painted(16, 16))
	for what, b := range map[string][]byte{"padding": cat(j, "\x00\x00\x00"), "a small picture": append(bytes.Clone(j), j...)} {
		if _, err := Inspect(b); err != nil {
			t.Errorf("%s behind a JPEG: %v", what, err)
		}
	}
	var film bytes.Buffer
	frame := image.NewPaletted(image.Rect(2, 2, 6, 6), color.Palette{color.Black, color.White})
	err := gif.EncodeAll(&film, &gif.GIF{Image: []*image.Paletted{frame, frame, frame}, Delay: []int{1, 1, 1}, Config: image.Config{Width: 8, Height: 8}})
	if i, ierr := Inspect(film.Bytes()); err != nil || ierr != nil || i.Frames != 3 || i.Width != 8 || !i.Alpha {
		t.Errorf("an animation: %+v, %v", i, ierr)
	}
}

// TestRefused: no image that is another thing as well, or does not agree with itself, is
// let through; and no image that would take too much.
func TestRefused(t *testing.T) {
	for what, b := range refused(t) {
		if i, err := Inspect(b); !errors.Is(err, ErrForm) {
			t.Errorf("%s: %+v, %v", what, i, err)
		}
	}
	for what, b := range large(t) {
		if i, err := Inspect(b); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %+v, %v", what, i, err)
		}
	}
}

// TestBombsAreNotDecoded: looking through the corpus allocates no more than the corpus
// has bytes, whatever sizes it names.
func TestBombsAreNotDecoded(t *testing.T) {
	all := large(t)
	for what, b := range refused(t) {
		all[what] = b
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	total := 0
	for _, b := range all {
		_, _ = Inspect(b)
		total += len(b)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(total)+1<<20 {
		t.Errorf("%d bytes were allocated for %d", got, total)
	}
}

func mustThumb(t testing.TB, b []byte, box Box) *image.RGBA {
	t.Helper()
	i, err := Inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Thumbnail(t.Context(), b, &i, box)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// near reports whether a pixel has nearly that colour.
func near(m *image.RGBA, x, y int, want color.RGBA) bool {
	got := m.RGBAAt(x, y)
	far := func(a, b uint8) bool { return max(a, b)-min(a, b) > 24 }
	return !far(got.R, want.R) && !far(got.G, want.G) && !far(got.B, want.B) && !far(got.A, want.A)
}

var (
	red   = color.RGBA{255, 0, 0, 255}
	green = color.RGBA{0, 255, 0, 255}
	blue  = color.RGBA{0, 0, 255, 255}
	white = color.RGBA{255, 255, 255, 255}
)

func TestThumbnail(t *testing.T) {
	for _, f := range []Format{PNG, JPEG, GIF, BMP} {
		b := encoded(t, f, painted(100, 60))
		m := mustThumb(t, b, Box{W: 20, H: 20})
		if r := m.Bounds(); r.Dx() != 20 || r.Dy() != 12 {
			t.Errorf("%s: %v", f, r)
		}
		if !near(m, 2, 2, red) || !near(m, 17, 2, green) || !near(m, 2, 9, blue) || !near(m, 17, 9, white) {
			t.Errorf("%s: other colours", f)
		}
		m = mustThumb(t, b, Box{W: 20, H: 20, Cover: true})
		if r := m.Bounds(); r.Dx() != 20 || r.Dy() != 20 || !near(m, 1, 1, red) || !near(m, 18, 18, white) {
			t.Errorf("%s: cover: %v", f, r)
		}
		if r := mustThumb(t, b, Box{W: 500, H: 500}).Bounds(); r.Dx() != 100 || r.Dy() != 60 {
			t.Errorf("%s: it was made larger: %v", f, r)
		}
		if r := mustThumb(t, b, Box{W: 1, H: 1}).Bounds(); r.Dx() != 1 || r.Dy() != 1 {
			t.Errorf("%s: one pixel: %v", f, r)
		}
	}
	if r := mustThumb(t, onePixel(t), Box{W: 9, H: 9}).Bounds(); r.Dx() != 1 || r.Dy() != 1 {
		t.Errorf("WebP: %v", r)
	}
	// A line of a pixel does not vanish.
	if r := mustThumb(t, encoded(t, PNG, painted(1000, 2)), Box{W: 10, H: 10}).Bounds(); r.Dx() != 10 || r.Dy() != 1 {
		t.Errorf("a line: %v", r)
	}
}

// A frame that is smaller than its screen keeps its place, with nothing around it.
func TestFrameOnItsScreen(t *testing.T) {
	var b bytes.Buffer
	frame := image.NewPaletted(image.Rect(20, 20, 40, 40), color.Palette{color.White})
	if err := gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{frame}, Delay: []int{0}, Config: image.Config{Width: 40, Height: 40}}); err != nil {
		t.Fatal(err)
	}
	m := mustThumb(t, b.Bytes(), Box{W: 4, H: 4})
	if !near(m, 3, 3, white) || !near(m, 0, 0, color.RGBA{}) {
		t.Errorf("%v and %v", m.RGBAAt(3, 3), m.RGBAAt(0, 0))
	}
}

// TestUpright turns a picture in all the ways in which cameras hold it: red is to be
// seen where the first row and the first column are meant to be.
func TestUpright(t *testing.T) {
	j := encoded(t, JPEG, painted(32, 16))
	where := map[uint16][2]int{1: {1, 1}, 2: {30, 1}, 3: {30, 14}, 4: {1, 14}, 5: {1, 1}, 6: {14, 1}, 7: {14, 30}, 8: {1, 30}}
	for v := uint16(1); v <= 8; v++ {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			b := after(j, 2, exifTurn(order, v))
			i, err := Inspect(b)
			if err != nil || i.Orientation != int(v) {
				t.Fatalf("%d: %+v, %v", v, i, err)
			}
			w, h := i.Upright()
			m := mustThumb(t, b, Box{W: 64, H: 64})
			if m.Bounds().Dx() != w || m.Bounds().Dy() != h || (v >= 5) != (w == 16) {
				t.Errorf("%d: %v, said to be %d by %d", v, m.Bounds(), w, h)
			}
			if at := where[v]; !near(m, at[0], at[1], red) {
				t.Errorf("%d: %v at %v", v, m.RGBAAt(at[0], at[1]), at)
			}
		}
	}
}

// A decoder has a time, and looks at it while it works.
func TestTime(t *testing.T) {
	b := encoded(t, PNG, painted(64, 64))
	i, err := Inspect(b)
	if err != nil {
		t.Fatal(err)
	}
	slow := errors.New("too slow")
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(-time.Second), slow)
	defer cancel()
	if _, err := Thumbnail(ctx, b, &i, Box{W: 4, H: 4}); err != slow {
		t.Errorf("%v", err)
	}
	p := &paced{t.Context(), b}
	if n, err := p.Read(make([]byte, 1<<20)); n != paceBytes && n != len(b) || err != nil {
		t.Errorf("%d bytes at once, %v", n, err)
	}
}

// TestOversize: a decoder that makes more than the header said is caught.
func TestOversize(t *testing.T) {
	b := encoded(t, PNG, painted(64, 64))
	i := Info{Format: PNG, Width: 8, Height: 8, Orientation: 1}
	if _, err := Decode(t.Context(), b, &i); !errors.Is(err, ErrForm) {
		t.Errorf("%v", err)
	}
}

func TestEncode(t *testing.T) {
	m := image.NewRGBA(image.Rect(0, 0, 4, 4))
	for _, f := range []Format{PNG, JPEG} {
		b, err := Encode(m, f)
		if err != nil {
			t.Fatal(err)
		}
		i, err := Inspect(b)
		if err != nil || i.Format != f {
			t.Errorf("%s: %+v, %v", f, i, err)
		}
		if back := mustThumb(t, b, Box{W: 4, H: 4}); f == JPEG && !near(back, 1, 1, white) {
			t.Errorf("what is transparent is %v", back.RGBAAt(1, 1))
		}
	}
	if _, err := Encode(m, GIF); err == nil {
		t.Error("a thumbnail as GIF")
	}
}

// FuzzInspect: whatever Inspect lets through is within the limits, and decoding it ends
// with an image of at most the size that was said, or an error.
func FuzzInspect(f *testing.F) {
	for _, format := range []Format{PNG, JPEG, GIF, BMP, WebP} {
		f.Add(encoded(f, format, painted(9, 7)))
	}
	for _, b := range refused(f) {
		f.Add(b)
	}
	for _, b := range large(f) {
		if len(b) < 10_000 {
			f.Add(b)
		}
	}
	f.Add(after(encoded(f, JPEG, painted(9, 7)), 2, exifTurn(binary.BigEndian, 6)))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := Inspect(b)
		if err != nil {
			if !errors.Is(err, ErrForm) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		if i.Width < 1 || i.Height < 1 || i.Width*i.Height > MaxPixels || i.Memory > MaxMemory || i.Frames < 1 || i.Orientation < 1 || i.Orientation > 8 {
			t.Fatalf("%+v", i)
		}
		if i.Width*i.Height > 1<<16 {
			return // it would only take time
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		m, err := Thumbnail(ctx, b, &i, Box{W: 8, H: 8})
		if err == nil && (m.Bounds().Dx() > 8 || m.Bounds().Dy() > 8) {
			t.Fatal(m.Bounds())
		}
	})
}

func BenchmarkThumbnail(b *testing.B) {
	for _, f := range []Format{JPEG, PNG} {
		data := encoded(b, f, painted(4000, 3000))
		i, err := Inspect(data)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s-12Mpx", f), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Inspect(data); err != nil {
					b.Fatal(err)
				}
				if _, err := Thumbnail(b.Context(), data, &i, Box{W: 256, H: 256}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
