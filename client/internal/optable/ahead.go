// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package optable

// ahead are operations that are known here before the table is generated with them.
var ahead = []Route{
	{"mailbox.ack", 3, "POST", "/v1/mailbox/{topic}/ack"},
	{"mailbox.dlq", 3, "GET", "/v1/mailbox/{topic}/dlq"},
	{"mailbox.dlq.delete", 3, "DELETE", "/v1/mailbox/{topic}/dlq/{msg_id}"},
	{"mailbox.dlq.get", 3, "GET", "/v1/mailbox/{topic}/dlq/{msg_id}"},
	{"mailbox.dlq.purge", 3, "POST", "/v1/mailbox/{topic}/dlq/delete"},
	{"mailbox.extend", 3, "POST", "/v1/mailbox/{topic}/extend"},
	{"mailbox.nack", 3, "POST", "/v1/mailbox/{topic}/nack"},
	{"mailbox.peek", 3, "GET", "/v1/mailbox/{topic}/messages"},
	{"mailbox.purge", 3, "POST", "/v1/mailbox/{topic}/purge"},
	{"mailbox.receive", 3, "POST", "/v1/mailbox/{topic}/receive"},
	{"mailbox.redrive", 3, "POST", "/v1/mailbox/{topic}/dlq/redrive"},
	{"mailbox.redrive.get", 3, "GET", "/v1/mailbox/{topic}/dlq/redrive/{job}"},
	{"mailbox.redrive.list", 3, "GET", "/v1/mailbox/{topic}/dlq/redrive"},
	{"mailbox.redrive.stop", 3, "DELETE", "/v1/mailbox/{topic}/dlq/redrive/{job}"},
	{"mailbox.send", 3, "POST", "/v1/mailbox/{topic}/messages"},
	{"mailbox.subscribe", 3, "GET", "/v1/mailbox/{topic}/subscribe"},
	{"mailbox.topic", 3, "GET", "/v1/mailbox/{topic}"},
	{"mailbox.topic.delete", 3, "DELETE", "/v1/mailbox/{topic}"},
	{"mailbox.topic.put", 3, "PUT", "/v1/mailbox/{topic}"},
	{"mailbox.topics", 3, "GET", "/v1/mailbox"},
}
