// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import (
	"context"
	"math"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/internal/idem"
	"github.com/rustyonions/macronode/internal/svc/mailbox/broker"
	"github.com/rustyonions/macronode/internal/svc/mailbox/form"
	"github.com/rustyonions/macronode/internal/svc/mailbox/queue"
)

// messageArg is the dead letter that the call names.
func messageArg(a *macronode.Admitted) (queue.ID, error) {
	id, ok := form.ParseID(a.Arg("msg_id"))
	if !ok {
		return id, macronode.Errorf(macronode.Malformed, "a message's id is a ULID")
	}
	return id, nil
}

func (s *Service) listDead(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a, "reason", "cursor", "limit")
	if err != nil {
		return nil, err
	}
	cursor, limit, err := page(a)
	if err != nil {
		return nil, err
	}
	reason := a.Arg("reason")
	if err := reasonArg(reason); err != nil {
		return nil, err
	}
	all, next, err := b.DeadList(ctx, ref, broker.DeadFilter{Reason: reason}, cursor, limit)
	if err != nil {
		return nil, err
	}
	list := DeadList{Messages: make([]Dead, len(all)), Cursor: next}
	for i := range all {
		list.Messages[i] = deadDocument(&all[i])
	}
	return document(a, 200, list)
}

func (s *Service) getDead(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	id, err := messageArg(a)
	if err != nil {
		return nil, err
	}
	d, err := b.DeadGet(ctx, ref, id)
	if err != nil {
		return nil, err
	}
	doc := DeadLetter{Dead: deadDocument(&d), History: make([]Attempt, len(d.History))}
	if !d.Damaged {
		if d.Payload == nil {
			d.Payload = []byte{}
		}
		doc.Payload = &d.Payload
	}
	for i, h := range d.History {
		doc.History[i] = Attempt{form.Time(h.At), h.Error}
	}
	return document(a, 200, doc)
}

func (s *Service) dropDead(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	id, err := messageArg(a)
	if err != nil {
		return nil, err
	}
	n, err := b.DeadDelete(ctx, ref, broker.DeadFilter{IDs: []queue.ID{id}})
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, macronode.Errorf(macronode.NotFound, "the topic has no such dead letter")
	}
	return &macronode.Reply{Status: 204}, nil
}

func (s *Service) dropDeads(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	var in DeadDeleteRequest
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.Filter == nil {
		return nil, macronode.Errorf(macronode.Malformed, "a filter is needed; {} picks every dead letter")
	}
	f, err := in.Filter.filter()
	if err != nil {
		return nil, err
	}
	n, err := b.DeadDelete(ctx, ref, f)
	if err != nil {
		return nil, err
	}
	return document(a, 200, Deleted{n})
}

func (s *Service) redrive(ctx context.Context, a *macronode.Admitted, body []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	var in RedriveRequest
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	f, err := in.Filter.filter()
	if err != nil {
		return nil, err
	}
	if in.RatePer < 0 || in.RatePer > math.MaxInt32 {
		return nil, macronode.Errorf(macronode.Malformed, "rate_per_s is 0 to %d", math.MaxInt32)
	}
	job, err := b.Redrive(ctx, ref, broker.RedriveSpec{Filter: f, RatePerSec: int(in.RatePer), DryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return document(a, 200, JobReply{jobDocument(&job)})
}

func (s *Service) listJobs(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	jobs, err := b.Jobs(ctx, ref)
	if err != nil {
		return nil, err
	}
	list := JobList{Jobs: make([]Job, len(jobs))}
	for i := range jobs {
		list.Jobs[i] = jobDocument(&jobs[i])
	}
	return document(a, 200, list)
}

func (s *Service) getJob(ctx context.Context, a *macronode.Admitted) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	job, err := b.JobGet(ctx, ref, a.Arg("job"))
	if err != nil {
		return nil, err
	}
	return document(a, 200, JobReply{jobDocument(&job)})
}

func (s *Service) stopJob(ctx context.Context, a *macronode.Admitted, _ []byte, _ *idem.Claim) (*macronode.Reply, error) {
	b, ref, err := s.at(a)
	if err != nil {
		return nil, err
	}
	job, err := b.JobStop(ctx, ref, a.Arg("job"))
	if err != nil {
		return nil, err
	}
	return document(a, 200, JobReply{jobDocument(&job)})
}
