// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package mailbox

import "github.com/rustyonions/macronode"

// The actions.
const (
	actSend    macronode.Action = "mailbox:send"
	actReceive macronode.Action = "mailbox:receive"
	actAck     macronode.Action = "mailbox:ack"
	actAdmin   macronode.Action = "mailbox:admin"
)

const base = "/v1/mailbox/{topic}"

var (
	pageParams = []macronode.Param{
		{Name: "cursor", Type: "string", Text: "the last page's cursor"},
		{Name: "limit", Type: "integer", Text: "1 to 1000, default 100"},
	}
	acceptCBOR = macronode.Param{Name: "Accept", Type: "string", Text: "application/cbor: the same document in CBOR, payloads as bytes"}
)

// Routes implements macronode.Service.
func (s *Service) Routes() []macronode.Route {
	routes := append(s.messageRoutes(), s.topicRoutes()...)
	routes = append(routes, s.deadRoutes()...)
	for i := range routes {
		b := &routes[i].Binding
		b.Service, b.OAP, b.Resource = Name, macronode.AppMailbox, macronode.TopicResource
		if b.Pattern != "/v1/mailbox" {
			b.ResourceArg = "topic"
		}
	}
	return routes
}

// messageRoutes are what senders and receivers use.
func (s *Service) messageRoutes() []macronode.Route {
	// Receives and acknowledgements empty the mailbox: where something has to be
	// shed, sends go first.
	settle := func(op macronode.Op, verb, summary string, request any, h macronode.Handler) macronode.Route {
		return macronode.Route{Handler: h, Binding: macronode.Binding{
			Op: op, Method: "POST", Pattern: base + "/" + verb, Action: actAck, Class: macronode.CoreRead, MaxBody: maxSettleBytes, Write: true, Yields: true,
			Doc: macronode.Doc{Summary: summary, Request: request, Response: Outcomes{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.LeaseLost, macronode.IdempotencyMismatch, macronode.IdempotencyRunning}},
		}}
	}
	return []macronode.Route{
		{Handler: s.send, Binding: macronode.Binding{
			Op: "mailbox.send", Method: "POST", Pattern: base + "/messages", Action: actSend, Class: macronode.CoreWrite, MaxBody: maxBodyBytes, Write: true, Yields: true,
			Doc: macronode.Doc{
				Summary: "Send one message, the body, or a batch; the answer comes once it is durable",
				Query: []macronode.Param{
					{Name: "delay_ms", Type: "integer", Text: "hide the message for so long"},
					{Name: "deliver_at_ms", Type: "integer", Text: "hide it until this moment, in Unix milliseconds"},
					{Name: "ttl_ms", Type: "integer", Text: "how long it is worth delivering; missing: as long as the topic keeps messages"},
					{Name: "key", Type: "string", Text: "ordering key: messages of one key are delivered one after the other, in order"},
					{Name: "attr", Type: "string", Text: "an attribute, NAME:VALUE; on HTTP it may stand up to 16 times"},
					{Name: "attrs", Type: "string", Text: "attributes, as one JSON object of texts"},
				},
				Headers: []macronode.Param{
					{Name: "Content-Type", Type: "string", Text: "application/x-ndjson: a batch, a message a line with payload (base64), text or json, and attrs, delay_ms, deliver_at_ms, ttl_ms, key, idempotency_key; " +
						"application/cbor: an array of such maps, payload as bytes; anything else: the body is one message"},
					{Name: "Accept", Type: "string", Text: "application/cbor: a batch is answered in CBOR. A batch's answer has results, in order: msg_id and duplicate, or code, detail and retry_after_ms"},
				},
				RequestType: "application/octet-stream", Response: Sent{},
				Kinds: []macronode.Kind{macronode.TooLarge, macronode.Invalid, macronode.QuotaDepth, macronode.DiskFull, macronode.IdempotencyMismatch},
			},
		}},
		{Handler: s.receive, Binding: macronode.Binding{
			Op: "mailbox.receive", Method: "POST", Pattern: base + "/receive", Action: actReceive, Class: macronode.CoreRead, MaxBody: maxSmallBody, LongRunning: true,
			Doc: macronode.Doc{
				Summary: "Receive messages, oldest first, and hide them from others; waits where there are none",
				Headers: []macronode.Param{acceptCBOR}, Request: ReceiveRequest{}, Response: Received{},
				Kinds: []macronode.Kind{macronode.NotFound, macronode.QuotaInFlight},
			},
		}},
		settle("mailbox.ack", "ack", "Say that messages are done with: they never come again", AckRequest{}, s.ack()),
		settle("mailbox.nack", "nack", "Give messages back, to be delivered again", NackRequest{}, s.nack()),
		settle("mailbox.extend", "extend", "Hide messages for longer", ExtendRequest{}, s.extend()),
		{Handler: s.subscribe, Binding: macronode.Binding{
			Op: "mailbox.subscribe", Method: "GET", Pattern: base + "/subscribe", Action: actReceive, Class: macronode.CoreRead, LongRunning: true,
			Doc: macronode.Doc{
				Summary: "Receive messages as a stream, as many at a time as are not yet acknowledged",
				Query: []macronode.Param{
					{Name: "credit", Type: "integer", Text: "messages that may be out and not acknowledged: 1 to 1000, default 32"},
					{Name: "visibility_ms", Type: "integer", Text: "how long each is hidden from others; missing: the topic's"},
					{Name: "cursor", Type: "string", Text: "of the last message of a stream that broke off; instead of Last-Event-ID"},
				},
				Headers: []macronode.Param{
					{Name: "Last-Event-ID", Type: "string", Text: "cursor of the last message of a stream that broke off: its leases go on in this one, what came after it is delivered again"},
					{Name: "Accept", Type: "string", Text: "application/cbor-seq: a CBOR sequence of messages, with a null from time to time, instead of server-sent events"},
				},
				ResponseType: "text/event-stream", Kinds: []macronode.Kind{macronode.NotFound},
			},
		}},
		{Handler: s.peek, Binding: macronode.Binding{
			Op: "mailbox.peek", Method: "GET", Pattern: base + "/messages", Action: actAdmin, Class: macronode.CoreRead, Cost: 2,
			Doc: macronode.Doc{
				Summary:  "Look at messages without receiving them, oldest first",
				Query:    append([]macronode.Param{{Name: "state", Type: "string", Text: "ready, delayed or in_flight; a page may then be short"}}, pageParams...),
				Response: PeekList{}, Kinds: []macronode.Kind{macronode.NotFound},
			},
		}},
	}
}

// topicRoutes are what topics are administered with.
func (s *Service) topicRoutes() []macronode.Route {
	return []macronode.Route{
		{Handler: s.listTopics, Binding: macronode.Binding{
			Op: "mailbox.topics", Method: "GET", Pattern: "/v1/mailbox", Action: actAdmin, Class: macronode.CoreRead, Cost: 2,
			Doc: macronode.Doc{
				Summary:  "List the tenant's topics by name",
				Query:    append([]macronode.Param{{Name: "prefix", Type: "string", Text: "beginning of the names wanted"}}, pageParams...),
				Response: TopicList{},
			},
		}},
		{Handler: s.getTopic, Binding: macronode.Binding{
			Op: "mailbox.topic", Method: "GET", Pattern: base, Action: actAdmin, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "Describe a topic: its config, what it holds, and what became of what came in", Response: Topic{}, Kinds: []macronode.Kind{macronode.NotFound}},
		}},
		{Handler: s.idem.Wrap(s.putTopic), Binding: macronode.Binding{
			Op: "mailbox.topic.put", Method: "PUT", Pattern: base, Action: actAdmin, Class: macronode.CoreWrite, MaxBody: maxSmallBody, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Make a topic, or give one another config; what is missing takes the node's default", Request: TopicConfig{}, Response: Topic{},
				Status: []int{200, 201}, Kinds: []macronode.Kind{macronode.Invalid, macronode.QuotaDepth, macronode.DiskFull}},
		}},
		{Handler: s.idem.Wrap(s.deleteTopic), Binding: macronode.Binding{
			Op: "mailbox.topic.delete", Method: "DELETE", Pattern: base, Action: actAdmin, Class: macronode.CoreWrite, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Delete a topic with all that is in it, dead letters too", Status: []int{204}, Kinds: []macronode.Kind{macronode.NotFound}},
		}},
		{Handler: s.idem.Wrap(s.purge), Binding: macronode.Binding{
			Op: "mailbox.purge", Method: "POST", Pattern: base + "/purge", Action: actAdmin, Class: macronode.CoreWrite, MaxBody: maxSmallBody, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Drop all messages of a topic, received ones too; dead letters stay", Response: Purged{}, Kinds: []macronode.Kind{macronode.NotFound}},
		}},
	}
}

// deadRoutes are those of dead letters.
func (s *Service) deadRoutes() []macronode.Route {
	missing := []macronode.Kind{macronode.NotFound}
	return []macronode.Route{
		{Handler: s.listDead, Binding: macronode.Binding{
			Op: "mailbox.dlq", Method: "GET", Pattern: base + "/dlq", Action: actAdmin, Class: macronode.CoreRead, Cost: 2,
			Doc: macronode.Doc{
				Summary:  "List dead letters, oldest first",
				Query:    append([]macronode.Param{{Name: "reason", Type: "string", Text: "max_attempts, integrity, expired or rejected"}}, pageParams...),
				Response: DeadList{}, Kinds: missing,
			},
		}},
		{Handler: s.getDead, Binding: macronode.Binding{
			Op: "mailbox.dlq.get", Method: "GET", Pattern: base + "/dlq/{msg_id}", Action: actAdmin, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "Read a dead letter with its payload and what went wrong", Response: DeadLetter{}, Kinds: missing},
		}},
		{Handler: s.idem.Wrap(s.dropDead), Binding: macronode.Binding{
			Op: "mailbox.dlq.delete", Method: "DELETE", Pattern: base + "/dlq/{msg_id}", Action: actAdmin, Class: macronode.CoreWrite, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Delete a dead letter", Status: []int{204}, Kinds: missing},
		}},
		{Handler: s.idem.Wrap(s.dropDeads), Binding: macronode.Binding{
			Op: "mailbox.dlq.purge", Method: "POST", Pattern: base + "/dlq/delete", Action: actAdmin, Class: macronode.CoreWrite, MaxBody: maxSmallBody, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Delete the dead letters that a filter picks", Request: DeadDeleteRequest{}, Response: Deleted{}, Kinds: missing},
		}},
		{Handler: s.idem.Wrap(s.redrive), Binding: macronode.Binding{
			Op: "mailbox.redrive", Method: "POST", Pattern: base + "/dlq/redrive", Action: actAdmin, Class: macronode.CoreWrite, MaxBody: maxSmallBody, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Deliver dead letters again, as a job that goes on after a restart; or count them", Request: RedriveRequest{}, Response: JobReply{}, Kinds: missing},
		}},
		{Handler: s.listJobs, Binding: macronode.Binding{
			Op: "mailbox.redrive.list", Method: "GET", Pattern: base + "/dlq/redrive", Action: actAdmin, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "List a topic's redrive jobs", Response: JobList{}, Kinds: missing},
		}},
		{Handler: s.getJob, Binding: macronode.Binding{
			Op: "mailbox.redrive.get", Method: "GET", Pattern: base + "/dlq/redrive/{job}", Action: actAdmin, Class: macronode.CoreRead,
			Doc: macronode.Doc{Summary: "See how far a redrive job came", Response: JobReply{}, Kinds: missing},
		}},
		{Handler: s.idem.Wrap(s.stopJob), Binding: macronode.Binding{
			Op: "mailbox.redrive.stop", Method: "DELETE", Pattern: base + "/dlq/redrive/{job}", Action: actAdmin, Class: macronode.CoreWrite, Write: true, Audit: macronode.AuditBefore,
			Doc: macronode.Doc{Summary: "Stop a redrive job; what it moved stays moved", Response: JobReply{}, Kinds: missing},
		}},
	}
}
