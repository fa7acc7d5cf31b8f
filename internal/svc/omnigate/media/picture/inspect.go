// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of an image.
const (
	MaxBytes  = 32 << 20  // as stored
	MaxPixels = 40 << 20  // width times height
	MaxSide   = 32 << 10  // of width and height
	MaxMemory = 192 << 20 // that decoding is expected to take, in bytes
	maxFrames = 10_000    // of an animation
	maxScans  = 64        // of a progressive JPEG: each is a pass over all pixels
	maxParts  = 100_000   // chunks, segments, blocks
)

// Errors of Inspect and Decode; they wrap what is wrong in detail, which may be told.
var (
	// ErrForm: the bytes are not one image and nothing else.
	ErrForm = errors.New("not a clean image")
	// ErrTooLarge: decoding would take more than is given.
	ErrTooLarge = errors.New("too large an image")
	// ErrUnsupported: an image that is not decoded here.
	ErrUnsupported = errors.New("not an image that is decoded here")
)

func form(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForm, fmt.Sprintf(format, args...))
}

// Format names a format.
type Format string

// The formats.
const (
	PNG  Format = "png"
	JPEG Format = "jpeg"
	GIF  Format = "gif"
	WebP Format = "webp"
	BMP  Format = "bmp"
)

// Info is what an image's structure says of it.
type Info struct {
	Format        Format
	Width, Height int // as stored; Upright turns them
	// Orientation is EXIF's: 1 to 8, 1 where nothing is said.
	Orientation int
	Frames      int  // pictures of an animation; 1: a still
	Alpha       bool // it may have transparent pixels
	Progressive bool // or interlaced
	Memory      int64
	// undecodable says why Decode does not take it; "": it does.
	undecodable string
}

// Upright is the size as it is to be seen.
func (i *Info) Upright() (w, h int) {
	if i.Orientation >= 5 {
		return i.Height, i.Width
	}
	return i.Width, i.Height
}

// Inspect judges an image.
func Inspect(b []byte) (Info, error) {
	if len(b) > MaxBytes {
		return Info{}, fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, len(b), MaxBytes)
	}
	i := Info{Orientation: 1, Frames: 1}
	walk := walkerOf(b)
	if walk == nil {
		return Info{}, ErrUnsupported
	}
	end, err := walk(b, &i)
	if err != nil {
		return Info{}, err
	}
	if err := i.fits(); err != nil {
		return Info{}, err
	}
	if err := alone(b, end, i.Format); err != nil {
		return Info{}, err
	}
	return i, nil
}

// walkerOf is the walk of b's format; nil: none is known. A walk returns where the
// image ends.
func walkerOf(b []byte) func([]byte, *Info) (int, error) {
	switch {
	case bytes.HasPrefix(b, []byte(pngMagic)):
		return walkPNG
	case bytes.HasPrefix(b, []byte("\xff\xd8\xff")):
		return walkJPEG
	case bytes.HasPrefix(b, []byte("GIF87a")), bytes.HasPrefix(b, []byte("GIF89a")):
		return walkGIF
	case len(b) >= 12 && string(b[:4]) == "RIFF" && string(b[8:12]) == "WEBP":
		return walkWebP
	case len(b) >= 2 && string(b[:2]) == "BM":
		return walkBMP
	}
	return nil
}

// fits holds the size against the limits, before anything is allocated.
func (i *Info) fits() error {
	switch {
	case i.Width <= 0 || i.Height <= 0:
		return form("%d by %d pixels", i.Width, i.Height)
	case i.Width > MaxSide || i.Height > MaxSide || int64(i.Width)*int64(i.Height) > MaxPixels:
		return fmt.Errorf("%w: %d by %d pixels, %d are allowed", ErrTooLarge, i.Width, i.Height, MaxPixels)
	case i.Memory > MaxMemory:
		return fmt.Errorf("%w: it takes about %d bytes to decode, %d are allowed", ErrTooLarge, i.Memory, MaxMemory)
	case i.Frames > maxFrames:
		return fmt.Errorf("%w: %d frames, %d are allowed", ErrTooLarge, i.Frames, maxFrames)
	}
	return nil
}

// needs sets the memory that decoding takes, at bytes for each pixel.
func (i *Info) needs(bytes float64) {
	i.Memory = int64(bytes * float64(i.Width) * float64(i.Height))
}

const (
	headBytes = 1024           // where readers of other formats look for their beginning
	zipTail   = 22 + 1<<16 - 1 // where a ZIP's directory may end
	zipEnd    = "PK\x05\x06"   // begins the end of a ZIP's directory
	jpegStart = "\xff\xd8\xff" // of a second picture behind a JPEG, as cameras write
	pdfHead   = "%PDF-"        // somewhere in the first headBytes
	zipFixed  = 22             // bytes of the directory's end without its comment
	zipTextAt = zipFixed - 2   // where the length of the comment is
)

// markup are texts that make an image a program or a page for who takes it for one.
var markup = []string{"<script", "<?php"}

// pages are what a browser that guesses takes for a page, at the beginning.
var pages = []string{"<!doctype", "<html", "<head", "<body", "<iframe", "<svg", "<script", "javascript:"}

// alone refuses an image that is another document as well. end is where the image
// ends.
func alone(b []byte, end int, f Format) error {
	rest := b[end:]
	if f == JPEG { // padding, or the small pictures that cameras add
		rest = bytes.TrimLeft(rest, "\x00")
		if bytes.HasPrefix(rest, []byte(jpegStart)) {
			rest = nil
		}
	}
	if len(rest) > 0 {
		return form("%d bytes follow the image", len(rest))
	}
	head := bytes.ToLower(b[:min(len(b), headBytes)])
	if bytes.Contains(head, bytes.ToLower([]byte(pdfHead))) {
		return form("it is a PDF as well")
	}
	for _, text := range pages {
		if bytes.Contains(head, []byte(text)) {
			return form("it is a page as well")
		}
	}
	for _, text := range markup {
		if bytes.Contains(b, []byte(text)) {
			return form("it holds a program")
		}
	}
	tail := b[max(len(b)-zipTail, 0):]
	for at := 0; ; {
		n := bytes.Index(tail[at:], []byte(zipEnd))
		if n < 0 {
			return nil
		}
		at += n
		if rest := tail[at:]; len(rest) >= zipFixed && int(binary.LittleEndian.Uint16(rest[zipTextAt:])) <= len(rest)-zipFixed {
			return form("it is an archive as well")
		}
		at += len(zipEnd)
	}
}
