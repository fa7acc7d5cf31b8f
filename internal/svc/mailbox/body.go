// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// What no config exceeds.
const (
	MaxMessageBytes = 16 << 20
	MaxWait         = 5 * time.Minute
)

const (
	// maxBodyBytes bounds a send: the greatest message that a config can allow, in
	// base64.
	maxBodyBytes = 24 << 20
	// maxSettleBytes bounds a list of receipts.
	maxSettleBytes = 2 << 20
	// maxSmallBody bounds the other documents.
	maxSmallBody = 64 << 10
	// poolBytes is what a body's buffer has that is used again. Most messages fit.
	poolBytes = 16 << 10
)

// ref names the call's topic.
func (s *Service) ref(a *macronode.Admitted) (queue.TopicRef, error) {
	name := a.Arg("topic")
	if err := form.Topic(name); err != nil {
		return queue.TopicRef{}, err
	}
	return queue.TopicRef{Tenant: a.Tenant.ID, Name: name}, nil
}

// body is a request's, read whole. free gives its memory back: what was made of it
// must not be used any more then.
type body struct {
	b    []byte
	pool *[]byte
}

func (s *Service) free(b *body) {
	if b.pool != nil {
		s.bodies.Put(b.pool)
		b.pool = nil
	}
}

// read reads the call's body, of at most limit bytes. Memory grows with what comes,
// not with what was announced.
func (s *Service) read(a *macronode.Admitted, limit int64) (body, error) {
	if a.Length > limit {
		return body{}, macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", limit)
	}
	if a.Body == nil {
		return body{}, nil
	}
	if a.Length >= 0 && a.Length < poolBytes {
		// One byte more than announced, to see that it ends there.
		mem := s.bodies.Get().(*[]byte)
		n, err := readUpTo(a.Body, (*mem)[:a.Length+1])
		if err == nil && int64(n) > a.Length {
			err = macronode.Errorf(macronode.Malformed, "the body is longer than its length")
		}
		if err != nil || int64(n) < a.Length {
			s.bodies.Put(mem)
			return body{}, broken(err)
		}
		return body{(*mem)[:n], mem}, nil
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(a.Length+bytes.MinRead, poolBytes), 256<<10)))
	n, err := buf.ReadFrom(io.LimitReader(a.Body, limit+1))
	switch {
	case err != nil:
		return body{}, broken(err)
	case n > limit:
		return body{}, macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", limit)
	case a.Length >= 0 && n < a.Length:
		return body{}, broken(nil)
	}
	return body{b: buf.Bytes()}, nil
}

// readUpTo fills p as far as r goes. The end of r is no error.
func readUpTo(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// broken is a body that did not come whole: the wall's reason, or the client's doing.
func broken(err error) error {
	if e, ok := errors.AsType[*macronode.Error](err); ok {
		return e
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return macronode.Wrap(macronode.ClientGone, "", err)
}

// eachArg calls f with every argument that is not part of the path, those that
// stand twice twice.
func eachArg(a *macronode.Admitted, f func(name, value string) error) error {
	for i := range a.Args {
		if err := f(a.Args[i].Name, a.Args[i].Value); err != nil {
			return err
		}
	}
	if a.Query == "" {
		return nil
	}
	q, err := url.ParseQuery(a.Query)
	if err != nil {
		return errors.New("they cannot be read")
	}
	for name, values := range q {
		for _, v := range values {
			if err := f(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// mediaType is the call's Content-Type without its parameters.
func mediaType(a *macronode.Admitted) string {
	t := a.Header.Get("Content-Type")
	if i := strings.IndexByte(t, ';'); i >= 0 {
		t = t[:i]
	}
	return strings.ToLower(strings.TrimSpace(t))
}

// answer is a whole reply, where the capability leaves room for it.
func answer(a *macronode.Admitted, status int, contentType string, b []byte) (*macronode.Reply, error) {
	if a.ReplyBytes != macronode.NoLimit && int64(len(b)) > a.ReplyBytes {
		return nil, macronode.Errorf(macronode.TooLarge, "the answer has %d bytes, %d are allowed", len(b), a.ReplyBytes)
	}
	return &macronode.Reply{Status: status, ContentType: contentType, Body: b}, nil
}
