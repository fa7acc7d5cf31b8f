// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

// Package need knows what calls need of a capability, so that each can carry one
// that is cut down to that.
package need

import (
	"net/url"
	"strings"

	"github.com/rustyonions/macronode/name"
)

// Need is what a call needs of a capability.
type Need struct {
	Action, Resource string
	Long             bool // the node ends the call with the capability
}

// Of is the action and resource of a call, as the node's routes have them.
// Not all are known: a route that is not, or may be new, is not narrowed.
func Of(method, path string) (w Need, ok bool) {
	path, _, _ = strings.Cut(path, "?")
	part := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case part[0] == "o" || part[0] == "put":
		return objectNeeds(method, part)
	case part[0] != "v1" || len(part) < 2:
		return w, false
	}
	rest := part[2:]
	switch part[1] {
	case "objects":
		return Need{Action: "object:list", Resource: "object"}, method == "GET" && len(rest) == 0
	case "tenants":
		return Need{Action: "tenant:admin", Resource: "node"}, true
	case "caps":
		// What is minted inherits the caveats of what mints.
		return Need{Action: "cap:revoke", Resource: "node"}, len(rest) > 0
	case "names":
		return nameNeeds(method, rest)
	case "kms":
		return kmsNeeds(method, rest)
	case "mailbox":
		return mailboxNeeds(method, rest)
	case "admin":
		return adminNeeds(method, rest)
	case "registry":
		return registryNeeds(method, rest)
	}
	return w, false
}

func objectNeeds(method string, part []string) (Need, bool) {
	action := ""
	switch method {
	case "GET", "HEAD":
		action = "object:get"
	case "PUT", "POST":
		action = "object:put"
	case "DELETE":
		action = "object:delete"
	}
	switch len(part) {
	case 1:
		return Need{Action: action, Resource: "object"}, method == "POST"
	case 2:
		id, err := url.PathUnescape(part[1])
		return Need{Action: action, Resource: "object/" + id}, action != "" && err == nil && id != "" && !strings.Contains(id, "*")
	}
	return Need{}, false
}

// nameNeeds narrows to one name; what is about many needs the collection.
func nameNeeds(method string, rest []string) (Need, bool) {
	if len(rest) == 0 {
		return Need{Action: "name:list", Resource: "name"}, method == "GET"
	}
	// The node judges by the name's normal form, which is made there.
	id, err := url.PathUnescape(rest[0])
	if err != nil || !name.Valid(id) {
		return Need{}, false
	}
	action := map[string]string{"GET": "name:get", "PUT": "name:set", "DELETE": "name:delete"}[method]
	return Need{Action: action, Resource: "name/" + id}, action != ""
}

// kmsNeeds narrows to the family of actions: its verbs are many, and new ones come.
func kmsNeeds(_ string, rest []string) (Need, bool) {
	w := Need{Action: "kms:*", Resource: "key"}
	if len(rest) >= 2 {
		id, err := url.PathUnescape(rest[1])
		if err != nil || id == "" || strings.Contains(id, "*") {
			return w, false
		}
		w.Resource = "key/" + id
	}
	return w, len(rest) > 0
}

// adminNeeds narrows to the family too; some of it watches, so it lives longer.
func adminNeeds(method string, rest []string) (Need, bool) {
	w := Need{Action: "node:*", Resource: "node", Long: true}
	if method == "GET" && len(rest) == 1 && rest[0] == "status" {
		w = Need{Action: "node:status", Resource: "node"}
	}
	return w, len(rest) > 0
}

// registryNeeds knows reading, proposing and deciding.
func registryNeeds(method string, rest []string) (Need, bool) {
	w := Need{Action: "registry:read", Resource: "node"}
	switch {
	case method == "GET":
		w.Long = len(rest) == 1 && rest[0] == "watch"
	case method != "POST" || len(rest) == 0 || rest[0] != "proposals":
		return w, false
	case len(rest) == 1 || len(rest) == 3 && rest[2] == "withdraw":
		w.Action = "registry:propose"
	case len(rest) == 3:
		w.Action = "registry:approve"
	default:
		return w, false
	}
	return w, len(rest) > 0
}

// mailboxNeeds narrows to the topic. Who receives may wait, and subscriptions are
// ended with their capability.
func mailboxNeeds(method string, rest []string) (Need, bool) {
	if len(rest) == 0 {
		return Need{Action: "mailbox:admin", Resource: "topic"}, method == "GET"
	}
	topic, err := url.PathUnescape(rest[0])
	if err != nil || topic == "" || strings.Contains(topic, "*") {
		return Need{}, false
	}
	w := Need{Action: "mailbox:admin", Resource: "topic/" + topic}
	if len(rest) != 2 {
		return w, true
	}
	switch call := method + " " + rest[1]; call {
	case "POST messages":
		w.Action = "mailbox:send"
	case "POST receive", "GET subscribe":
		w.Action, w.Long = "mailbox:receive", true
	case "POST ack", "POST nack", "POST extend":
		w.Action = "mailbox:ack"
	}
	return w, true
}
