// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package media_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/internal/node/fit"
	"github.com/rustyonions/macronode/internal/store/mem"
	"github.com/rustyonions/macronode/internal/svc/omnigate/media"
	"github.com/rustyonions/macronode/internal/svc/storage"
	"github.com/rustyonions/macronode/internal/svc/storage/storagetest"
)

// world is the facet over a storage of its own.
type world struct {
	t      testing.TB
	facet  *media.Facet
	store  *storagetest.Driver
	routes map[macronode.Op]macronode.Route
	opens  func(media.Object) media.Object // what a test puts before objects
	held   int                             // objects that are open
	mu     sync.Mutex
	fit.Media
}

type nowhere struct{}

func (nowhere) Find(context.Context, macronode.TenantID, b3.Addr, storage.Want) (storage.Remote, error) {
	return nil, macronode.Errorf(macronode.NotFound, "there is no such object")
}
func (nowhere) Stored(macronode.TenantID, b3.Addr)  {}
func (nowhere) Dropped(macronode.TenantID, b3.Addr) {}

func admit(c *macronode.Call, t *macronode.Tenant, replyBytes int64) *macronode.Admitted {
	return &macronode.Admitted{Call: c, Tenant: t, ReplyBytes: replyBytes,
		Principal: &macronode.Principal{Kind: macronode.Capability, Tenant: t.ID, MaxBytes: macronode.NoLimit}}
}

func start(t testing.TB, change ...func(*media.Config)) *world {
	t.Helper()
	e := storagetest.Env{KV: mem.NewKV(mem.KVConfig{}), Objects: mem.NewObjects(mem.ObjectsConfig{}), Admit: admit}
	t.Cleanup(func() {
		_ = e.KV.Close()
		_ = e.Objects.Close()
	})
	w := &world{t: t, store: storagetest.NewDriver(t, e), routes: make(map[macronode.Op]macronode.Route)}
	w.Media = fit.NewMedia(fit.Objects{Storage: w.store.Service, Elsewhere: nowhere{}})
	c := media.Config{Objects: w}
	for _, f := range change {
		f(&c)
	}
	var err error
	if w.facet, err = media.New(c); err != nil {
		t.Fatal(err)
	}
	for _, r := range w.facet.Routes() {
		w.routes[r.Op] = r
	}
	return w
}

// Open implements media.Objects, and counts what is not closed.
func (w *world) Open(ctx context.Context, t macronode.TenantID, addr b3.Addr) (media.Object, error) {
	o, err := w.Media.Open(ctx, t, addr)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.held++
	w.mu.Unlock()
	if w.opens != nil {
		o = w.opens(o)
	}
	return counted{o, w}, nil
}

type counted struct {
	media.Object
	w *world
}

func (c counted) Close() error {
	c.w.mu.Lock()
	c.w.held--
	c.w.mu.Unlock()
	return c.Object.Close()
}

func (w *world) put(t *macronode.Tenant, ctype string, b []byte) string {
	w.t.Helper()
	a, err := w.store.Do(storagetest.Request{Tenant: t, Op: "object.post", Body: b, Header: macronode.Header{"Content-Type": {ctype}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Put(w.t).Addr
}

// do makes a call and reads the reply.
func (w *world) do(t *macronode.Tenant, op macronode.Op, addr, query string, h macronode.Header) (*storagetest.Answer, error) {
	w.t.Helper()
	c := &macronode.Call{Query: query, Header: h}
	if h == nil {
		c.Header = macronode.Header{}
	}
	c.AddParam("addr", addr)
	reply, err := w.routes[op].Handler(context.Background(), admit(c, t, macronode.NoLimit))
	if err != nil {
		return nil, err
	}
	a := &storagetest.Answer{Status: reply.Status, Type: reply.ContentType, Header: reply.Header, Body: reply.Body, Length: reply.BodyLength()}
	if reply.Stream != nil {
		var b bytes.Buffer
		if _, err := reply.Stream.WriteTo(&b); err != nil {
			w.t.Error(err)
		}
		_ = reply.Stream.Close()
		a.Body = b.Bytes()
	}
	return a, nil
}

func (w *world) must(t *macronode.Tenant, op macronode.Op, addr, query string, h macronode.Header) *storagetest.Answer {
	w.t.Helper()
	a, err := w.do(t, op, addr, query, h)
	if err != nil {
		w.t.Fatalf("%s ?%s: %v", op, query, err)
	}
	return a
}

func (w *world) refused(t *macronode.Tenant, op macronode.Op, addr, query string, h macronode.Header, kind macronode.Kind, what string) {
	w.t.Helper()
	if _, err := w.do(t, op, addr, query, h); macronode.KindOf(err) != kind {
		w.t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

func picture(w, h int, alpha uint8) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.SetNRGBA(i%w, i/w, color.NRGBA{uint8(i), uint8(i >> 8), 99, alpha})
	}
	return m
}

func asPNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	one = storagetest.Tenant(1)
	two = storagetest.Tenant(2)
)

// TestServe: the object's bytes, under what they are, in place only where nothing in them
// can run.
func TestServe(t *testing.T) {
	w := start(t)
	p := asPNG(t, picture(40, 30, 255))
	for _, c := range []struct {
		what, declared string
		body           []byte
		want           string
		shown          bool
	}{
		{"an image", "image/png", p, "image/png", true},
		{"an image that is called another", "image/jpeg", p, "image/png", true},
		{"an image that nobody called anything", "", p, "image/png", true},
		{"a page that is called an image", "image/png", []byte("<html><script>alert(1)</script>"), "application/octet-stream", false},
		{"a page", "text/html", []byte("<html><script>alert(2)</script>"), "text/html", false},
		{"SVG", "image/svg+xml", []byte("<svg onload=alert(1)>"), "image/svg+xml", false},
		{"SVG that is called PNG", "image/png", []byte("<svg onload=alert(2)>"), "image/svg+xml", false},
		{"a text", "text/plain", []byte("hello"), "text/plain", false},
	} {
		addr := w.put(one, c.declared, c.body)
		for _, op := range []macronode.Op{"media.get", "media.stat"} {
			a := w.must(one, op, addr, "", macronode.Header{"Accept": {"application/vnd.bao;group=4"}})
			shown := a.Header.Get("Content-Disposition") == ""
			if a.Status != 200 || a.Type != c.want || shown != c.shown || a.Length != int64(len(c.body)) {
				t.Errorf("%s, %s: %d %s, shown %v, %d bytes", op, c.what, a.Status, a.Type, shown, a.Length)
			}
			if a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Content-Security-Policy") != "sandbox" || a.Header.Get("Etag") != `"`+addr+`"` || a.Header["Vary"] != nil {
				t.Errorf("%s, %s: %v", op, c.what, a.Header)
			}
			if op == "media.get" && !bytes.Equal(a.Body, c.body) {
				t.Errorf("%s: other bytes", c.what)
			}
		}
	}
	addr := w.put(one, "image/png", p)
	a := w.must(one, "media.get", addr, "", macronode.Header{"Range": {"bytes=1-3"}})
	if a.Status != 206 || string(a.Body) != "PNG" || a.Type != "image/png" || a.Header.Get("Content-Range") != fmt.Sprintf("bytes 1-3/%d", len(p)) {
		t.Errorf("a range: %d %q %v", a.Status, a.Body, a.Header)
	}
	if a = w.must(one, "media.get", addr, "", macronode.Header{"Range": {"bytes=1-3,5-6"}}); a.Status != 200 || !bytes.Equal(a.Body, p) || a.Type != "image/png" {
		t.Errorf("several ranges: %d %s", a.Status, a.Type)
	}
	if a = w.must(one, "media.get", addr, "", macronode.Header{"If-None-Match": {`"` + addr + `"`}}); a.Status != 304 || len(a.Body) > 0 {
		t.Errorf("an ETag that is known: %d", a.Status)
	}
	w.refused(one, "media.get", addr, "", macronode.Header{"Range": {"bytes=999999-"}}, macronode.RangeNotSatisfiable, "a range beyond the end")
	w.refused(one, "media.get", addr, "x=1", nil, macronode.Malformed, "an unknown argument")
	w.refused(one, "media.get", strings.ToUpper(addr), "", nil, macronode.Malformed, "an address in capitals")
	if w.held != 0 {
		t.Errorf("%d objects are still open", w.held)
	}
}

// TestStranger: whatever the owner looked at before, another tenant gets what nobody's
// object gives.
func TestStranger(t *testing.T) {
	w := start(t)
	addr := w.put(one, "image/png", asPNG(t, picture(40, 30, 255)))
	nobodys := b3.Sum([]byte("nobody's")).String()
	ops := []macronode.Op{"media.get", "media.stat", "media.info", "media.thumb"}
	for _, op := range ops {
		w.must(one, op, addr, "", nil)
	}
	for _, op := range ops {
		for _, h := range []macronode.Header{nil, {"If-None-Match": {"*"}}, {"Range": {"bytes=0-0"}}, {"Accept": {"image/gif"}}} {
			_, got := w.do(two, op, addr, "", h)
			_, want := w.do(two, op, nobodys, "", h)
			if got == nil || fmt.Sprint(macronode.AsError(got).Problem("")) != fmt.Sprint(macronode.AsError(want).Problem("")) || macronode.KindOf(got) != macronode.NotFound {
				t.Errorf("%s %v: %v, and of what nobody has %v", op, h, got, want)
			}
		}
	}
	// What the owner gave away is gone for the owner too, whatever is remembered.
	if _, err := w.store.Do(storagetest.Request{Tenant: one, Op: "object.delete", Addr: addr}); err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		w.refused(one, op, addr, "", nil, macronode.NotFound, "deleted: "+string(op))
	}
	if w.held != 0 {
		t.Errorf("%d objects are still open", w.held)
	}
}

func (w *world) infoOf(addr string) (i media.Info) {
	w.t.Helper()
	if err := json.Unmarshal(w.must(one, "media.info", addr, "", nil).Body, &i); err != nil {
		w.t.Fatal(err)
	}
	return i
}

func TestInfo(t *testing.T) {
	w := start(t)
	i := w.infoOf(w.put(one, "", asPNG(t, picture(40, 30, 128))))
	if i.Sniffed != "image/png" || i.Type != "image/png" || !i.Inline || i.Declared != "application/octet-stream" || i.Image == nil || *i.Image != (media.Image{Format: "png", Width: 40, Height: 30, Orientation: 1, Frames: 1, Alpha: true}) || i.Film != nil {
		t.Errorf("%+v %+v", i, i.Image)
	}
	wav := append([]byte("RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data\x40\x1f\x00\x00"), make([]byte, 8000)...)
	if i = w.infoOf(w.put(one, "audio/wav", wav)); i.Film == nil || i.Film.DurationMS != 1000 || len(i.Film.Tracks) != 1 || i.Film.Tracks[0].SampleRate != 8000 || i.Image != nil {
		t.Errorf("%+v %+v", i, i.Film)
	}
	if i = w.infoOf(w.put(one, "text/plain", []byte("hello"))); i.Image != nil || i.Film != nil || i.Type != "text/plain" || i.Inline {
		t.Errorf("%+v", i)
	}
	poly := w.put(one, "image/png", append(asPNG(t, picture(4, 4, 255)), "PK\x05\x06"...))
	for range 2 { // the second time it is remembered
		w.refused(one, "media.info", poly, "", nil, macronode.Invalid, "an image with something behind it")
		w.refused(one, "media.thumb", poly, "", nil, macronode.Invalid, "a thumbnail of an image with something behind it")
	}
	w.refused(one, "media.info", w.put(one, "audio/flac", []byte("fLaC")), "", nil, macronode.Invalid, "no FLAC")
	big := asPNG(t, picture(4, 4, 255))
	copy(big[16:], "\x00\x00\x75\x30\x00\x00\x75\x30")
	w.refused(one, "media.info", w.put(one, "image/png", big), "", nil, macronode.TooLarge, "a bomb")
	w.refused(one, "media.thumb", w.put(one, "image/png", big), "", nil, macronode.TooLarge, "a thumbnail of a bomb")
	addr := w.put(one, "image/png", asPNG(t, picture(9, 9, 255)))
	etag := w.must(one, "media.info", addr, "", nil).Header.Get("Etag")
	if a := w.must(one, "media.info", addr, "", macronode.Header{"If-None-Match": {`"x", ` + etag}}); a.Status != 304 || etag == "" {
		t.Errorf("%d for %s", a.Status, etag)
	}
}

func TestThumb(t *testing.T) {
	w := start(t)
	solid, clear := w.put(one, "image/png", asPNG(t, picture(600, 300, 255))), w.put(one, "image/png", asPNG(t, picture(600, 300, 7)))
	photo := w.put(one, "image/jpeg", asJPEG(t, picture(600, 300, 255)))
	size := func(a *storagetest.Answer) string {
		m, f, err := image.DecodeConfig(bytes.NewReader(a.Body))
		if err != nil || "image/"+f != a.Type {
			t.Fatalf("%s: %v", a.Type, err)
		}
		return fmt.Sprintf("%s %dx%d", f, m.Width, m.Height)
	}
	for _, c := range []struct{ addr, query, accept, want string }{
		{photo, "", "", "jpeg 256x128"}, {clear, "", "", "png 256x128"}, {solid, "w=100", "", "png 100x50"}, {photo, "h=30", "", "jpeg 60x30"},
		{photo, "w=50&h=50&fit=cover", "", "jpeg 50x50"}, {photo, "w=2048&h=2048", "", "jpeg 600x300"},
		{photo, "", "image/png", "png 256x128"}, {clear, "", "image/jpeg;q=0.9, image/png;q=0.1", "jpeg 256x128"}, {clear, "", "image/*", "png 256x128"},
		{photo, "", "text/html, */*;q=0.1", "jpeg 256x128"}, {photo, "", "image/*, image/jpeg;q=0", "png 256x128"},
	} {
		h := macronode.Header{}
		if c.accept != "" {
			h["Accept"] = []string{c.accept}
		}
		a := w.must(one, "media.thumb", c.addr, c.query, h)
		want := c.want
		if c.addr == solid {
			want = strings.Replace(want, "png", formatOf(a), 1)
		}
		if got := size(a); got != want {
			t.Errorf("%s %s: %s, want %s", c.query, c.accept, got, want)
		}
		if a.Header.Get("Vary") != "Accept" || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Etag") == "" {
			t.Errorf("%v", a.Header)
		}
		h["If-None-Match"] = []string{a.Header.Get("Etag")}
		if a = w.must(one, "media.thumb", c.addr, c.query, h); a.Status != 304 {
			t.Errorf("%s: %d for a known ETag", c.query, a.Status)
		}
	}
	for _, query := range []string{"w=0", "w=2049", "h=x", "fit=stretch", "w=5&fit=cover", "w=1&w=1", "q=1"} {
		w.refused(one, "media.thumb", photo, query, nil, macronode.Malformed, query)
	}
	w.refused(one, "media.thumb", photo, "", macronode.Header{"Accept": {"image/webp"}}, macronode.NotAcceptable, "a form that there is none of")
	w.refused(one, "media.thumb", w.put(one, "image/png", []byte("hello")), "", nil, macronode.UnsupportedMedia, "a text")
	if w.facet.CacheBytes() == 0 {
		t.Error("nothing is remembered")
	}
	if w.facet.Forget(); w.facet.CacheBytes() != 0 || w.held != 0 {
		t.Errorf("%d bytes are remembered, %d objects open", w.facet.CacheBytes(), w.held)
	}
}

func formatOf(a *storagetest.Answer) string { return strings.TrimPrefix(a.Type, "image/") }

// Nothing of the object's other content is in its thumbnail.
func TestThumbIsPixels(t *testing.T) {
	w := start(t)
	const secret = "N 52.5200 E 13.4050"
	j := asJPEG(t, picture(64, 64, 255))
	j = append(append(append([]byte{}, j[:2]...), append([]byte{0xff, 0xfe, 0, byte(2 + len(secret))}, secret...)...), j[2:]...)
	a := w.must(one, "media.thumb", w.put(one, "image/jpeg", j), "", nil)
	if bytes.Contains(a.Body, []byte(secret)) {
		t.Error("the thumbnail tells where the photo was taken")
	}
}

func TestCacheIsBounded(t *testing.T) {
	const room = 10_000
	w := start(t, func(c *media.Config) { c.Cache = room })
	addr := w.put(one, "image/jpeg", asJPEG(t, picture(100, 100, 255)))
	for n := 1; n < 80; n++ {
		w.must(one, "media.thumb", addr, fmt.Sprintf("w=%d&h=%d", n, n), nil)
		if got := w.facet.CacheBytes(); got > room {
			t.Fatalf("%d bytes are remembered, %d are allowed", got, room)
		}
	}
}

// gatedObject lets itself be read once a test says so.
type gatedObject struct {
	media.Object
	gate chan struct{}
	at   chan struct{}
}

func (g gatedObject) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 && len(p) > 1024 {
		g.at <- struct{}{}
		<-g.gate
	}
	return g.Object.ReadAt(p, off)
}

// Many who want the same thumbnail wait for one to be made.
func TestOneWorksForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		addr := w.put(one, "image/png", asPNG(t, picture(300, 300, 255)))
		w.must(one, "media.info", addr, "", nil)
		gate, at := make(chan struct{}), make(chan struct{}, 100)
		w.opens = func(o media.Object) media.Object { return gatedObject{o, gate, at} }
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { w.must(one, "media.thumb", addr, "", nil) })
		}
		synctest.Wait()
		if len(at) != 1 {
			t.Errorf("%d read the image", len(at))
		}
		close(gate)
		wg.Wait()
		if len(at) != 1 {
			t.Errorf("%d read the image in the end", len(at))
		}
	})
}

// What fits into memory is worked on; who finds no room is told after a while.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t)
		body := asPNG(t, picture(300, 300, 128))
		copy(body[16:], "\x00\x00\x13\x88\x00\x00\x0f\xa0") // it says 5000 by 4000: some 100 MB to decode
		addr := w.put(one, "image/png", body)
		gate, at := make(chan struct{}), make(chan struct{}, 100)
		w.must(one, "media.info", addr, "", nil)
		w.opens = func(o media.Object) media.Object { return gatedObject{o, gate, at} }
		var wg sync.WaitGroup
		var mu sync.Mutex
		busy := 0
		for n := range 6 {
			wg.Go(func() {
				_, err := w.do(one, "media.thumb", addr, fmt.Sprintf("w=%d", n+1), nil)
				mu.Lock()
				defer mu.Unlock()
				if macronode.KindOf(err) == macronode.FacetDown {
					busy++
				} else if macronode.KindOf(err) != macronode.Invalid { // it is none, which its decoder finds
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		working := len(at)
		<-time.After(2 * media.DefaultWait)
		synctest.Wait()
		mu.Lock()
		if working < 1 || working > 3 || busy != 6-working {
			t.Errorf("%d were worked on at once, %d were told to wait", working, busy)
		}
		mu.Unlock()
		close(gate)
		wg.Wait()
		if w.held != 0 {
			t.Errorf("%d objects are still open", w.held)
		}
	})
}

// An image that takes too long is given up, and not tried again at once.
func TestSlowImage(t *testing.T) {
	w := start(t, func(c *media.Config) { c.Time = time.Nanosecond })
	addr := w.put(one, "image/png", asPNG(t, picture(300, 300, 255)))
	for range 2 {
		w.refused(one, "media.thumb", addr, "", nil, macronode.FacetDown, "too slow an image")
	}
	w.must(one, "media.info", addr, "", nil)
}

func BenchmarkRangeStart(b *testing.B) {
	w := start(b)
	body := make([]byte, 64<<20)
	addr := w.put(one, "video/mp4", body)
	for b.Loop() {
		w.must(one, "media.get", addr, "", macronode.Header{"Range": {"bytes=33554432-33554432"}})
	}
}
