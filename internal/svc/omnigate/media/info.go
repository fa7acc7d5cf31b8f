// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/etag"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/picture"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/sniff"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/tracks"
)

// Info is what an object's headers say of it.
type Info struct {
	Addr string `json:"addr"`
	Size int64  `json:"size"` // bytes
	// Declared is the type that its owner gave it, Sniffed what its bytes are, Type
	// what it is served as; Inline says that it may be shown in place.
	Declared string `json:"declared"`
	Sniffed  string `json:"sniffed"`
	Type     string `json:"type"`
	Inline   bool   `json:"inline"`
	// One of these at most: an image, or sound and film.
	Image *Image `json:"image,omitempty"`
	Film  *Film  `json:"film,omitempty"`
}

// Image is what an image's structure says.
type Image struct {
	Format      string `json:"format"`
	Width       int    `json:"width"` // pixels, as it is to be seen
	Height      int    `json:"height"`
	Orientation int    `json:"orientation"` // EXIF's: how it is turned for that; 1: not
	Frames      int    `json:"frames"`
	Alpha       bool   `json:"alpha"`
	Progressive bool   `json:"progressive"`
}

// Film is what the headers of sound or film say. What they do not say is missing.
type Film struct {
	Container  string  `json:"container"`
	DurationMS int64   `json:"duration_ms,omitempty"`
	Tracks     []Track `json:"tracks"`
}

// Track is one track.
type Track struct {
	Kind       string `json:"kind"` // video, audio, text, other
	Codec      string `json:"codec,omitempty"`
	Language   string `json:"language,omitempty"`
	DurationMS int64  `json:"duration_ms,omitempty"`
	Width      int    `json:"width,omitempty"`
	Height     int    `json:"height,omitempty"`
	Channels   int    `json:"channels,omitempty"`
	SampleRate int    `json:"sample_rate,omitempty"`
	BitRate    int    `json:"bit_rate,omitempty"`
}

// judged is what looking into an object found, without what its owner declared.
type judged struct {
	image *picture.Info
	film  *Film
	err   error // of the object itself: it will not go away
}

// pictured are the types that package picture looks into, heard those of tracks.
var (
	pictured = map[string]bool{"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true, "image/bmp": true}
	heard    = map[string]bool{"video/mp4": true, "audio/mp4": true, "video/quicktime": true, "video/webm": true, "video/x-matroska": true,
		"application/ogg": true, "audio/mpeg": true, "audio/wav": true, "audio/flac": true}
)

func (f *Facet) info(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	at := spot{a.Tenant.ID, addr}
	o, err := f.cfg.Objects.Open(ctx, at.tenant, at.addr)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	t, err := f.sniffed(at, o)
	if err != nil {
		return nil, err
	}
	v := sniff.Reconcile(o.ContentType(), t)
	doc := Info{Addr: addr.String(), Size: o.Size(), Declared: o.ContentType(), Sniffed: t, Type: v.Type, Inline: v.Inline}
	j, err := f.judge(ctx, at, o, t)
	if err == nil {
		err = j.err
	}
	if err != nil {
		return nil, err
	}
	doc.Film = j.film
	if i := j.image; i != nil {
		w, h := i.Upright()
		doc.Image = &Image{Format: string(i.Format), Width: w, Height: h, Orientation: i.Orientation, Frames: i.Frames, Alpha: i.Alpha, Progressive: i.Progressive}
	}
	b, err := json.Marshal(&doc)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return f.answer(a, "application/json", b, fmt.Sprintf(`"%s;info=%d"`, addr, version), false)
}

// version is part of what is made of objects: another version makes other bytes.
const version = 1

// judge looks into the object, or remembers what it found.
func (f *Facet) judge(ctx context.Context, at spot, o Object, t string) (judged, error) {
	if j, ok := f.judged.Get(at); ok {
		return j, nil
	}
	var j judged
	switch {
	case pictured[t]:
		j.err = f.imageError(f.whole(ctx, o, 0, func(b []byte) error {
			i, err := picture.Inspect(b)
			j.image = &i
			return err
		}))
	case heard[t]:
		i, err := tracks.Read(ctx, o, o.Size())
		j.film, j.err = filmOf(&i), filmError(err)
	}
	if j.err != nil {
		j.image, j.film = nil, nil
		if !lasting(j.err) {
			return j, readError(j.err)
		}
	}
	f.judged.Put(at, j, 1, 0)
	return j, nil
}

// lasting reports whether an error is the object's own, so that it will be the same the
// next time.
func lasting(err error) bool {
	switch macronode.KindOf(err) {
	case macronode.Invalid, macronode.TooLarge, macronode.UnsupportedMedia:
		return true
	}
	return false
}

// whole reads an object of an image's size and calls use with it, within the memory
// that there is: its own, and extra for what use does. It goes with the return.
func (f *Facet) whole(ctx context.Context, o Object, extra int64, use func([]byte) error) error {
	size := o.Size()
	if size > picture.MaxBytes {
		return fmt.Errorf("%w: %d bytes, %d are allowed", picture.ErrTooLarge, size, picture.MaxBytes)
	}
	if err := f.reserve(ctx, size+extra); err != nil {
		return err
	}
	defer f.memory.Release(size + extra)
	b := make([]byte, size)
	if n, err := o.ReadAt(b, 0); n < len(b) {
		return readError(err)
	}
	return use(b)
}

// reserve waits for memory, a while.
func (f *Facet) reserve(ctx context.Context, n int64) error {
	mine, cancel := context.WithTimeout(ctx, f.cfg.Wait)
	defer cancel()
	if err := f.memory.Acquire(mine, n); err != nil {
		if ctx.Err() != nil {
			return macronode.Wrap(macronode.ClientGone, "", context.Cause(ctx))
		}
		f.cfg.Metrics.refused(whyBusy)
		return macronode.Errorf(macronode.FacetDown, "as many images as fit into memory are being worked on")
	}
	return nil
}

// imageError gives what package picture says the kind that callers see; what has a
// kind keeps it.
func (f *Facet) imageError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, picture.ErrForm):
		f.cfg.Metrics.refused(whyForm)
		return macronode.Errorf(macronode.Invalid, "%s", err.Error())
	case errors.Is(err, picture.ErrTooLarge):
		f.cfg.Metrics.refused(whyLarge)
		return macronode.Errorf(macronode.TooLarge, "%s", err.Error())
	case errors.Is(err, picture.ErrUnsupported):
		f.cfg.Metrics.refused(whyUnsupported)
		return macronode.Errorf(macronode.UnsupportedMedia, "%s", err.Error())
	}
	return err
}

func filmError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tracks.ErrForm):
		return macronode.Errorf(macronode.Invalid, "%s", err.Error())
	case errors.Is(err, tracks.ErrTooLarge):
		return macronode.Errorf(macronode.TooLarge, "%s", err.Error())
	case errors.Is(err, tracks.ErrUnknown):
		return macronode.Errorf(macronode.Invalid, "%s", err.Error())
	}
	return err
}

func filmOf(i *tracks.Info) *Film {
	film := &Film{Container: i.Container, DurationMS: i.DurationMS, Tracks: make([]Track, len(i.Tracks))}
	for n, t := range i.Tracks {
		film.Tracks[n] = Track(t)
	}
	return film
}

// answer sends what was made of an object; vary says that Accept chose its form.
func (f *Facet) answer(a *macronode.Admitted, ctype string, b []byte, tag string, vary bool) (*macronode.Reply, error) {
	h := macronode.Header{
		"Etag": {tag}, "Cache-Control": {"private, max-age=86400"},
		"X-Content-Type-Options": {"nosniff"}, "Content-Security-Policy": {"sandbox"},
	}
	if vary {
		h["Vary"] = []string{"Accept"}
	}
	same, err := etag.Match(a.Header["If-None-Match"], tag, true)
	if err != nil {
		return nil, err
	}
	if same {
		return &macronode.Reply{Status: 304, Header: h, Length: -1}, nil
	}
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: 200, ContentType: ctype, Header: h, Body: b}, nil
}
