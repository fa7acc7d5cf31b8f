// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package tracks reads from the headers of sound and film what they hold: how long it
// is and which tracks. It decodes nothing. Containers: MP4 and QuickTime, WebM and
// Matroska, Ogg, MP3, WAV, FLAC.
//
// The bytes are a stranger's. Whatever they say, no more is read than maxReads pieces
// of pieceBytes, nothing is allocated for a length that they name, and nesting and
// counts are bounded. What a header does not say stays unsaid: numbers are 0, texts
// empty.
package tracks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Limits.
const (
	maxReads   = 512      // of pieces, in all
	pieceBytes = 16 << 10 // read at once, at most
	maxTracks  = 64
	maxDepth   = 12    // of boxes in boxes
	maxNodes   = 20000 // boxes, elements, pages
	maxText    = 64    // bytes of a codec's or a language's name
)

// Errors. They wrap what is wrong in detail, which may be told.
var (
	// ErrForm: the bytes are not what they begin as.
	ErrForm = errors.New("malformed")
	// ErrUnknown: no container that is read here.
	ErrUnknown = errors.New("not a container that is read here")
	// ErrTooLarge: the headers are spread wider than they are looked for.
	ErrTooLarge = errors.New("headers too large")
)

func form(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrForm, fmt.Sprintf(format, args...))
}

// Info is what a container's headers say.
type Info struct {
	Container  string
	DurationMS int64
	Tracks     []Track
}

// The kinds of track.
const (
	Video = "video"
	Audio = "audio"
	Text  = "text"
	Other = "other"
)

// Track is one track.
type Track struct {
	Kind       string
	Codec      string
	Language   string
	DurationMS int64
	Width      int // pixels, of video
	Height     int
	Channels   int // of audio
	SampleRate int // a second
	BitRate    int // bits a second
}

// Read reads the headers of the container that r, of size bytes, is. Errors of r and
// of ctx come back as they are.
func Read(ctx context.Context, r io.ReaderAt, size int64) (Info, error) {
	s := &source{ctx: ctx, r: r, size: size}
	head, err := s.upTo(0, 64)
	if err != nil {
		return Info{}, err
	}
	read := readerOf(head)
	if read == nil {
		return Info{}, ErrUnknown
	}
	var i Info
	if err := read(s, &i); err != nil {
		return Info{}, err
	}
	if len(i.Tracks) == 0 {
		return Info{}, form("no tracks")
	}
	return i, nil
}

func readerOf(b []byte) func(*source, *Info) error {
	is := func(at int, text string) bool { return len(b) >= at+len(text) && string(b[at:at+len(text)]) == text }
	switch {
	case is(4, "ftyp"), is(4, "moov"), is(4, "styp"):
		return readMP4
	case is(0, "\x1a\x45\xdf\xa3"):
		return readEBML
	case is(0, "OggS"):
		return readOgg
	case is(0, "RIFF") && is(8, "WAVE"):
		return readWAV
	case is(0, "fLaC"):
		return readFLAC
	case is(0, "ID3"), len(b) >= 4 && mpegHeader(b) != nil:
		return readMP3
	}
	return nil
}

// source reads pieces, and counts them.
type source struct {
	ctx   context.Context
	r     io.ReaderAt
	size  int64
	reads int
	nodes int
	win   []byte // what was read last
	off   int64  // where that lies
}

// node counts one more box or element.
func (s *source) node() error {
	if s.nodes++; s.nodes > maxNodes {
		return fmt.Errorf("%w: more than %d parts", ErrTooLarge, maxNodes)
	}
	return nil
}

// upTo returns the n bytes at off, or fewer where the object ends.
func (s *source) upTo(off, n int64) ([]byte, error) {
	if off < 0 || off >= s.size {
		return nil, nil
	}
	n = min(n, s.size-off, pieceBytes)
	if off >= s.off && off+n <= s.off+int64(len(s.win)) {
		return s.win[off-s.off:][:n], nil
	}
	if err := s.ctx.Err(); err != nil {
		return nil, context.Cause(s.ctx)
	}
	if s.reads++; s.reads > maxReads {
		return nil, fmt.Errorf("%w: more than %d pieces", ErrTooLarge, maxReads)
	}
	if s.win == nil {
		s.win = make([]byte, pieceBytes)
	}
	s.win = s.win[:min(pieceBytes, s.size-off)]
	m, err := s.r.ReadAt(s.win, off)
	if m < len(s.win) {
		s.win = s.win[:0]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	s.off = off
	return s.win[:n], nil
}

// exactly returns the n bytes at off; fewer are ErrForm.
func (s *source) exactly(off, n int64) ([]byte, error) {
	b, err := s.upTo(off, n)
	if err == nil && int64(len(b)) < n {
		err = form("it ends early")
	}
	return b, err
}

// millis is count units of which there are perSecond; 0 where that says nothing.
func millis(count, perSecond uint64) int64 {
	if perSecond == 0 {
		return 0
	}
	return fromSeconds(float64(count) / float64(perSecond))
}

// maxSeconds is more than anybody recorded: beyond it a duration says nothing.
const maxSeconds = 100 * 365 * 24 * 3600

func fromSeconds(s float64) int64 {
	if math.IsNaN(s) || s < 0 || s > maxSeconds {
		return 0
	}
	return int64(math.Round(s * 1000))
}

// plain is a name of a stranger's, with printable ASCII alone.
func plain(b []byte) string {
	b = b[:min(len(b), maxText)]
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(b)))
}

func (i *Info) add(t Track) error {
	if len(i.Tracks) >= maxTracks {
		return fmt.Errorf("%w: more than %d tracks", ErrTooLarge, maxTracks)
	}
	i.Tracks = append(i.Tracks, t)
	return nil
}

// longest sets the duration where no header says it.
func (i *Info) longest() {
	if i.DurationMS != 0 {
		return
	}
	for _, t := range i.Tracks {
		i.DurationMS = max(i.DurationMS, t.DurationMS)
	}
}
