// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package media is ronctl's commands about images, sound and film.
package media

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/client"
	"github.com/rustyonions/macronode/client/media"
	"github.com/rustyonions/macronode/cmd/internal/cli"
)

// Connect makes the client that flags, environment and context describe.
type Connect func(*cobra.Command) (context.Context, *client.Client, error)

type app struct {
	*cli.Terminal
	dial Connect
}

// Command is "ronctl media".
func Command(t *cli.Terminal, connect Connect) *cobra.Command {
	a := &app{t, connect}
	return cli.Group("media", "What images, sound and film are, and thumbnails of images", "  ronctl media info b3:…\n  ronctl media thumb b3:… -o small.jpg", a.info(), a.thumb())
}

func parse(s string) (b3.Addr, error) {
	addr, err := b3.Parse(s)
	if err != nil {
		return addr, cli.Usagef("%q: %v", s, err)
	}
	return addr, nil
}

func (a *app) info() *cobra.Command {
	return &cobra.Command{
		Use: "info ADDRESS", Short: "Say what the headers of an image, sound or film say",
		Long:    "info prints an object's type, by its bytes, and what its headers say: an image's size,\nor the duration and the tracks of sound and film.",
		Example: "  ronctl media info b3:…\n  ronctl media info b3:… --output json", Args: cli.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			addr, err := parse(args[0])
			if err != nil {
				return err
			}
			ctx, cl, err := a.dial(c)
			if err != nil {
				return err
			}
			doc, err := media.GetInfo(ctx, cl, addr)
			if err != nil {
				return err
			}
			return a.Print(doc, func(w io.Writer) { show(w, &doc) })
		},
	}
}

func show(w io.Writer, doc *media.Info) {
	how := "for saving"
	if doc.Inline {
		how = "shown in place"
	}
	fmt.Fprintf(w, "type\t%s, %s\n", doc.Type, how)
	if doc.Declared != doc.Type {
		fmt.Fprintf(w, "declared\t%s\n", doc.Declared)
	}
	fmt.Fprintf(w, "size\t%d bytes\n", doc.Size)
	if i := doc.Image; i != nil {
		more := ""
		if i.Frames > 1 {
			more = fmt.Sprintf(", %d frames", i.Frames)
		}
		if i.Alpha {
			more += ", transparency"
		}
		fmt.Fprintf(w, "image\t%s, %d by %d%s\n", i.Format, i.Width, i.Height, more)
	}
	if f := doc.Film; f != nil {
		fmt.Fprintf(w, "container\t%s\n", f.Container)
		if f.DurationMS > 0 {
			fmt.Fprintf(w, "duration\t%s\n", time.Duration(f.DurationMS)*time.Millisecond)
		}
		for _, t := range f.Tracks {
			fmt.Fprintf(w, "track\t%s\n", track(&t))
		}
	}
}

func track(t *media.Track) string {
	parts := []string{t.Kind}
	add := func(ok bool, format string, args ...any) {
		if ok {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(t.Codec != "", "%s", t.Codec)
	add(t.Width > 0, "%d by %d", t.Width, t.Height)
	add(t.SampleRate > 0, "%d Hz", t.SampleRate)
	add(t.Channels > 0, "%d channels", t.Channels)
	add(t.BitRate > 0, "%d kbit/s", t.BitRate/1000)
	add(t.Language != "", "%s", t.Language)
	return strings.Join(parts, ", ")
}

func (a *app) thumb() *cobra.Command {
	var b media.Box
	var out, as string
	c := &cobra.Command{
		Use: "thumb ADDRESS", Short: "Make a small picture of an image",
		Long:    "thumb writes a thumbnail of an image, upright, to the file of -o; - is standard output.\nWithout --as it is a PNG where the image has transparency, else a JPEG.",
		Example: "  ronctl media thumb b3:… -o small.jpg\n  ronctl media thumb b3:… --width 64 --height 64 --cover --as png -o icon.png", Args: cli.ExactArgs(1),
	}
	f := c.Flags()
	f.IntVar(&b.W, "width", 0, "pixels at most, 1 to 2048; default 256 if --height is missing too")
	f.IntVar(&b.H, "height", 0, "pixels at most, 1 to 2048")
	f.BoolVar(&b.Cover, "cover", false, "fill width and height, and cut what lies outside")
	f.StringVar(&as, "as", "", "jpeg or png")
	f.StringVarP(&out, "out", "o", "", "file to write; - is standard output")
	c.RunE = func(c *cobra.Command, args []string) error {
		addr, err := parse(args[0])
		if err != nil {
			return err
		}
		switch {
		case out == "":
			return cli.Usagef("-o says where the thumbnail goes; - is standard output")
		case as != "" && as != "jpeg" && as != "png":
			return cli.Usagef("--as is jpeg or png, not %q", as)
		case b.Cover && (b.W == 0 || b.H == 0):
			return cli.Usagef("--cover needs --width and --height")
		case out == "-" && a.JSON():
			return cli.Usagef("-o - and --output json both write to standard output")
		}
		accept := ""
		if as != "" {
			accept = "image/" + as
		}
		ctx, cl, err := a.dial(c)
		if err != nil {
			return err
		}
		t, err := media.GetThumb(ctx, cl, addr, b, accept)
		if err != nil {
			return err
		}
		if out == "-" {
			_, err = a.Out.Write(t.Bytes)
			return err
		}
		if err := os.WriteFile(out, t.Bytes, 0o644); err != nil {
			return err
		}
		doc := map[string]any{"path": out, "content_type": t.ContentType, "size": len(t.Bytes)}
		return a.Print(doc, func(w io.Writer) { fmt.Fprintf(w, "%s: %s, %d bytes\n", out, t.ContentType, len(t.Bytes)) })
	}
	return c
}
