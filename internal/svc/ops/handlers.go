// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package ops

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/svc/ops/drillbook"
)

const jsonType = "application/json"

// notReadyRetry is the Retry-After of a node that is not ready, in seconds.
const notReadyRetry = "1"

// healthy is the body of /healthz; nobody changes it.
var healthy = []byte(`{"ok":true}` + "\n")

func (s *Service) healthz(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return &macronode.Reply{ContentType: jsonType, Body: healthy}, nil
}

func (s *Service) readyz(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	ready, body := s.cfg.Ready.Probe(ctx)
	r := &macronode.Reply{ContentType: jsonType, Body: body, Header: noStore()}
	if !ready {
		r.Status = 503
		r.Header.Set("Retry-After", notReadyRetry)
	}
	return r, nil
}

func (s *Service) version(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return &macronode.Reply{ContentType: jsonType, Body: s.cfg.Version(), Header: noStore()}, nil
}

func (s *Service) metrics(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	contentType, body, err := s.cfg.Metrics.Expose(a.Header.Get("Accept"))
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	h := noStore()
	h.Set("Vary", "Accept")
	return &macronode.Reply{ContentType: contentType, Body: body, Header: h}, nil
}

// noStore keeps answers of the moment out of caches.
func noStore() macronode.Header { return macronode.Header{"Cache-Control": {"no-store"}} }

func (s *Service) openAPI(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return &macronode.Reply{ContentType: jsonType, Body: s.cfg.Documents.OpenAPI()}, nil
}

func (s *Service) schema(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	if name, ok := strings.CutSuffix(a.Arg("name"), ".json"); ok {
		if body, ok := s.cfg.Documents.Schema(name); ok {
			return &macronode.Reply{ContentType: "application/schema+json", Body: body}, nil
		}
	}
	return nil, macronode.Errorf(macronode.NotFound, "no such schema")
}

func (s *Service) status(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return document(200, s.cfg.Status.Status(ctx))
}

func (s *Service) why(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	doc, err := s.cfg.Why.Why(a.Arg("corr_id"))
	if err != nil {
		return nil, err
	}
	return document(200, doc)
}

// once makes a handler of f that keeps its answers by Idempotency-Key.
func (s *Service) once(f actor) macronode.Handler {
	checked := func(ctx context.Context, a *macronode.Admitted, body []byte) (*macronode.Reply, error) {
		if err := a.OnlyArgs(); err != nil {
			return nil, err
		}
		return f(ctx, a, body)
	}
	h, spare := s.keep(s.cfg.Idem, checked), s.inMemory(checked)
	return func(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
		if a.IdempotencyKey != "" && s.cfg.Away() {
			return spare(ctx, a)
		}
		return h(ctx, a)
	}
}

func readAll(a *macronode.Admitted) ([]byte, error) {
	if a.Body == nil {
		return nil, nil
	}
	b, err := io.ReadAll(io.LimitReader(a.Body, maxAdminBody+1))
	switch {
	case err != nil:
		if e, ok := errors.AsType[*macronode.Error](err); ok {
			return nil, e
		}
		return nil, macronode.Wrap(macronode.ClientGone, "", err)
	case len(b) > maxAdminBody:
		return nil, macronode.Errorf(macronode.TooLarge, "the body may have %d bytes", maxAdminBody)
	}
	return b, nil
}

// decode reads a JSON body that knows no members but v's. An empty one leaves v
// as it is.
func decode(body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return macronode.Wrap(macronode.Malformed, "the body is not the JSON that this route takes", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return macronode.Errorf(macronode.Malformed, "bytes follow the JSON document")
	}
	return nil
}

func document(status int, v any) (*macronode.Reply, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, macronode.Wrap(macronode.Internal, "", err)
	}
	return &macronode.Reply{Status: status, ContentType: jsonType, Body: append(b, '\n'), Header: noStore()}, nil
}

func (s *Service) reload(ctx context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	if err := decode(body, &struct{}{}); err != nil {
		return nil, err
	}
	applied, err := s.cfg.Reload.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return document(200, applied)
}

func (s *Service) drain(_ context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	if err := decode(body, &struct{}{}); err != nil {
		return nil, err
	}
	s.cfg.Drain.Drain() // one under way is what was asked for
	return document(202, s.progress())
}

func (s *Service) undrain(_ context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	if err := decode(body, &struct{}{}); err != nil {
		return nil, err
	}
	s.cfg.Drain.Undrain()
	p := s.progress()
	if p.Phase != "serving" {
		return nil, macronode.Errorf(macronode.Conflict, "the node is stopping; the drain can no longer be undone")
	}
	return document(200, p)
}

func (s *Service) progress() Progress {
	phase, since, left := s.cfg.Drain.Progress()
	return Progress{Phase: phase, SinceMS: since.UnixMilli(), Left: left}
}

func (s *Service) shutdown(_ context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	if err := decode(body, &struct{}{}); err != nil {
		return nil, err
	}
	s.cfg.Shutdown()
	return document(202, Accepted{true})
}

func (s *Service) drills(_ context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	if err := a.OnlyArgs(); err != nil {
		return nil, err
	}
	return document(200, DrillList{s.cfg.Book.Entries()})
}

func (s *Service) recordDrill(ctx context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	var r drillbook.Result
	if err := decode(body, &r); err != nil {
		return nil, err
	}
	e, err := s.cfg.Book.Record(ctx, r)
	if err != nil {
		return nil, err
	}
	return document(200, e)
}

func (s *Service) crash(_ context.Context, _ *macronode.Admitted, body []byte) (*macronode.Reply, error) {
	if !s.cfg.Drills() {
		return nil, macronode.Errorf(macronode.Denied, "the config does not allow drills")
	}
	var req CrashRequest
	if err := decode(body, &req); err != nil {
		return nil, err
	}
	if req.Service == "" || req.HoldMS < 0 || req.HoldMS > MaxHold.Milliseconds() {
		return nil, macronode.Errorf(macronode.Invalid, "service must be named, and hold_ms lie between 0 and %d", MaxHold.Milliseconds())
	}
	if err := s.cfg.Crash.Crash(req.Service, time.Duration(req.HoldMS)*time.Millisecond); err != nil {
		return nil, err
	}
	return document(202, Accepted{true})
}
