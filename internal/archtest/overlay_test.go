// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"regexp"
	"strings"
	"testing"
)

// networked are the packages that speak with other nodes.
var networked = []string{"oap", "internal/listen", "internal/svc/overlay", "internal/node", "client"}

// To find other nodes is not this node's job: its peers stand in its config or in
// the registry, and nothing is asked on behalf of another. These are the words and
// the libraries that such a thing would come with.
var (
	discoveryWords = regexp.MustCompile(`(?i)\bdht|kademlia|\bk-?buckets?\b|find[_ -]?(node|value)\b|routing[_ -]?table|peer[_ -]?exchange|bootstrap[_ -]?(node|peer|list)|rendezvous|mdns|zeroconf|bonjour|dns-sd|hole[_ -]?punch|random[_ -]?walk`)
	discoveryLibs  = []string{"libp2p", "mdns", "zeroconf", "dht", "kademlia", "memberlist", "hashicorp/serf", "go-discover", "bonjour", "avahi", "multicast"}
)

func TestNoDiscovery(t *testing.T) {
	covered := make(map[string]bool)
	for _, f := range load(t) {
		for _, imp := range f.imports {
			for _, lib := range discoveryLibs {
				if !strings.HasPrefix(imp, ".") && strings.Contains(strings.ToLower(imp), lib) {
					t.Errorf("%s imports %s: finding other nodes is not this node's job", f.path, imp)
				}
			}
		}
		for _, p := range networked {
			if !covers(p, f.pkg) {
				continue
			}
			covered[p] = true
			for i, line := range strings.Split(f.text, "\n") {
				if w := discoveryWords.FindString(line); w != "" {
					t.Errorf("%s:%d speaks of %q: finding other nodes is not this node's job", f.path, i+1, w)
				}
			}
		}
	}
	for _, p := range networked {
		if !covered[p] {
			t.Errorf("no file in %s: was it renamed away?", p)
		}
	}
	// The words are found where they are written.
	for _, s := range []string{"the DHT", "dhtNode", "findNode(", "find_node", "a RoutingTable", "x.kbuckets", "bootstrap_nodes", "bootstrapPeers", "mDNS", "routing tables"} {
		if !discoveryWords.MatchString(s) {
			t.Errorf("%q would not be found", s)
		}
	}
}
