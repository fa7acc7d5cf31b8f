// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media/picture"
)

// order is a thumbnail that is asked for.
type order struct {
	spot
	box    picture.Box
	format picture.Format
}

// thumb is a thumbnail, or why there is none.
type thumb struct {
	b   []byte
	err error
}

var formatTypes = map[picture.Format]string{picture.JPEG: "image/jpeg", picture.PNG: "image/png"}

func (f *Facet) thumb(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	box, err := boxOf(a)
	if err != nil {
		return nil, err
	}
	addr, err := addrArg(a)
	if err != nil {
		return nil, err
	}
	at := spot{a.Tenant.ID, addr}
	// That the tenant has it is seen each time, also where the thumbnail is at hand.
	o, err := f.cfg.Objects.Open(ctx, at.tenant, at.addr)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	t, err := f.sniffed(at, o)
	if err != nil {
		return nil, err
	}
	if !pictured[t] {
		return nil, f.imageError(picture.ErrUnsupported)
	}
	j, err := f.judge(ctx, at, o, t)
	if err == nil {
		err = j.err
	}
	if err != nil {
		return nil, err
	}
	format, ok := choose(a.Header["Accept"], j.image.Alpha)
	if !ok {
		e := macronode.Errorf(macronode.NotAcceptable, "thumbnails are image/jpeg and image/png")
		e.Header = macronode.Header{"Vary": {"Accept"}}
		return nil, e
	}
	b, err := f.made(ctx, order{at, box, format}, o, j.image)
	if err != nil {
		return nil, err
	}
	tag := fmt.Sprintf(`"%s;thumb=%dx%d-%s-%s-%d"`, addr, box.W, box.H, fitOf(box), format, version)
	return f.answer(a, formatTypes[format], b, tag, true)
}

func fitOf(b picture.Box) string {
	if b.Cover {
		return "cover"
	}
	return "contain"
}

// boxOf reads the size that is asked for. One side alone leaves the other free.
func boxOf(a *macronode.Admitted) (b picture.Box, err error) {
	if err := a.OnlyArgs("w", "h", "fit"); err != nil {
		return b, err
	}
	w, err := a.NumberArg("w", 0, 1, maxThumb)
	if err != nil {
		return b, err
	}
	h, err := a.NumberArg("h", 0, 1, maxThumb)
	if err != nil {
		return b, err
	}
	switch {
	case w == 0 && h == 0:
		w, h = defaultSide, defaultSide
	case w == 0:
		w = maxThumb
	case h == 0:
		h = maxThumb
	}
	b = picture.Box{W: int(w), H: int(h)}
	switch fit := a.Arg("fit"); {
	case fit == "cover" && a.Arg("w") != "" && a.Arg("h") != "":
		b.Cover = true
	case fit == "cover":
		return b, macronode.Errorf(macronode.Malformed, "fit=cover needs w and h")
	case fit != "" && fit != "contain":
		return b, macronode.Errorf(macronode.Malformed, "fit is contain or cover")
	}
	return b, nil
}

// choose is the form that the caller takes: where it does not care, PNG for what has
// transparent pixels and JPEG for the rest.
func choose(accept []string, alpha bool) (picture.Format, bool) {
	formats := []picture.Format{picture.JPEG, picture.PNG}
	if alpha {
		formats = []picture.Format{picture.PNG, picture.JPEG}
	}
	if len(accept) == 0 {
		return formats[0], true
	}
	best, most := picture.Format(""), 0.0
	for _, f := range formats {
		if q := quality(accept, formatTypes[f]); q > most {
			best, most = f, q
		}
	}
	return best, most > 0
}

// quality is how much the caller wants a type: what names it more closely counts.
func quality(accept []string, want string) float64 {
	family, _, _ := strings.Cut(want, "/")
	close, q := -1, 0.0
	for _, line := range accept {
		for one := range strings.SplitSeq(line, ",") {
			media, params, err := mime.ParseMediaType(one)
			if err != nil {
				continue
			}
			rank := map[string]int{"*/*": 0, family + "/*": 1, want: 2}
			r, fits := rank[media]
			if !fits || r < close {
				continue
			}
			v := 1.0
			if text, said := params["q"]; said {
				if v, err = strconv.ParseFloat(text, 64); err != nil || v < 0 || v > 1 {
					continue
				}
			}
			close, q = r, v
		}
	}
	return q
}

// made returns the thumbnail: one that is at hand, one that another call is making, or
// a new one.
func (f *Facet) made(ctx context.Context, q order, o Object, i *picture.Info) ([]byte, error) {
	for {
		if t, ok := f.thumbs.Get(q); ok {
			f.cfg.Metrics.thumb(thumbCached)
			return t.b, t.err
		}
		f.mu.Lock()
		done := f.work[q]
		if done == nil {
			done = make(chan struct{})
			f.work[q] = done
			f.mu.Unlock()
			defer func() {
				f.mu.Lock()
				delete(f.work, q)
				f.mu.Unlock()
				close(done)
			}()
			return f.make(ctx, q, o, i)
		}
		f.mu.Unlock()
		select {
		case <-done: // it is at hand now, or its maker gave up and this call tries
		case <-ctx.Done():
			return nil, macronode.Wrap(macronode.ClientGone, "", context.Cause(ctx))
		}
	}
}

// boxBytes is what the pixels of a thumbnail take while it is made and turned.
func boxBytes(b picture.Box) int64 { return 3 * 4 * int64(b.W) * int64(b.H) }

var errSlow = errors.New("the image takes too long to decode")

// make makes the thumbnail, within memory and time.
func (f *Facet) make(ctx context.Context, q order, o Object, i *picture.Info) ([]byte, error) {
	began := f.cfg.Now()
	var out []byte
	slow := false
	err := f.whole(ctx, o, i.Memory+boxBytes(q.box), func(b []byte) error {
		mine, cancel := context.WithTimeoutCause(ctx, f.cfg.Time, errSlow)
		defer cancel()
		m, err := picture.Thumbnail(mine, b, i, q.box)
		if err == nil {
			out, err = picture.Encode(m, q.format)
		}
		slow = errors.Is(err, errSlow)
		return err
	})
	switch {
	case err == nil:
		f.thumbs.Put(q, thumb{b: out}, int64(len(out))+thumbExtra, 0)
		f.cfg.Metrics.made(f.cfg.Now().Sub(began))
		return out, nil
	case slow:
		f.cfg.Metrics.refused(whySlow)
		err = macronode.Errorf(macronode.FacetDown, "the image takes too long to decode")
		f.thumbs.Put(q, thumb{err: err}, thumbExtra, slowFor)
	case ctx.Err() != nil:
		return nil, macronode.Wrap(macronode.ClientGone, "", context.Cause(ctx))
	default:
		if err = f.imageError(err); lasting(err) {
			f.thumbs.Put(q, thumb{err: err}, thumbExtra, 0)
		}
	}
	f.cfg.Metrics.thumb(thumbFailed)
	return nil, err
}
