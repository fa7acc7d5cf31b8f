// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rustyonions/macronode/b3"
)

// shared starts two nodes that are peers, with the tenants acme and beta on both, and
// returns the header of beta's requests to each.
func shared(t *testing.T) (nodes []*meshed, beta []http.Header) {
	t.Helper()
	const betaID, betaSecret = "01JD0000000000000000000000", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
	tenant := ""
	for range 2 {
		n := makeMeshed(t, "", tenant, "127.0.0.1:0", freePort(t))
		tenant = n.tenant
		n.secrets = betaID + " " + betaSecret + "\n"
		sources := filepath.Join(t.TempDir(), "policy")
		n.macronode("policy", "defaults", sources, "--tenant", tenant+","+betaID).must(t, 0)
		n.pin(sources, 2)
		nodes = append(nodes, n)
	}
	knit(t, nodes, nil, func(_, to int) string { return nodes[to].oap })
	for _, n := range nodes {
		n.trusting(n.OperatorCap, "tenant", "create", "beta", "--id", betaID).must(t, 0)
		token := strings.TrimSpace(n.trusting(n.OperatorCap, "cap", "mint", "--tenant", "beta").must(t, 0).out)
		beta = append(beta, http.Header{"Authorization": {"Bearer " + token}})
	}
	return nodes, beta
}

// TestTenantsApartOverPeers: what a tenant has on one node is, for another tenant on
// its peer, what nobody has: in status, document, lists and what the nodes ask each
// other, before and after its owner fetched it there.
func TestTenantsApartOverPeers(t *testing.T) {
	nodes, beta := shared(t)
	a, b := nodes[0], nodes[1]
	data := someBytes(40_000, 1)
	path, nothing := "/o/"+b3.Sum(data).String(), "/o/"+b3.Sum([]byte("nobody has this")).String()
	if resp, text := a.request("PUT", path, beta[0].Clone(), bytes.NewReader(data)); resp.StatusCode != 201 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	own := func() bool {
		resp, got := b.request("GET", path, beta[1].Clone(), nil)
		return resp.StatusCode == 200 && bytes.Equal(got, data)
	}
	b.await("able to give beta its object", own)

	volatile := regexp.MustCompile(`[0-9a-f]{32,64}`)
	stranger := func(when string) {
		t.Helper()
		answered := a.metric(`overlay_fetch_total{outcome="answered"}`)
		refused := a.metric(`overlay_fetch_total{outcome="refused"}`)
		for _, ask := range []struct {
			method string
			header http.Header
		}{{"GET", nil}, {"HEAD", nil}, {"GET", http.Header{"Range": {"bytes=0-9"}}}, {"GET", http.Header{"Accept": {"application/vnd.bao;group=4"}}},
			{"GET", http.Header{"If-None-Match": {`"` + strings.TrimPrefix(path, "/o/") + `"`}}}, {"DELETE", nil}} {
			var says [2]string
			for i, p := range []string{path, nothing} {
				resp, text := b.request(ask.method, p, ask.header.Clone(), nil)
				if resp.StatusCode != 404 {
					t.Errorf("%s: %s %v: %d", when, ask.method, ask.header, resp.StatusCode)
				}
				for _, name := range []string{"Date", "X-Corr-Id"} {
					resp.Header.Del(name)
				}
				says[i] = volatile.ReplaceAllString(string(text), "") + volatile.ReplaceAllString(strings.Join(flat(resp.Header), "\n"), "")
			}
			if says[0] != says[1] {
				t.Errorf("%s: %s %v: what another has is answered with\n%s\nwhat nobody has with\n%s", when, ask.method, ask.header, says[0], says[1])
			}
		}
		if _, list := b.request("GET", "/v1/objects", nil, nil); strings.Contains(string(list), strings.TrimPrefix(path, "/o/")) {
			t.Errorf("%s: it is in the stranger's list: %s", when, list)
		}
		if a.metric(`overlay_fetch_total{outcome="answered"}`) != answered || a.metric(`overlay_fetch_total{outcome="refused"}`) != refused {
			t.Errorf("%s: the other node was asked on behalf of the stranger", when)
		}
	}
	stranger("after its owner read it")
	if !own() {
		t.Error("the owner cannot read it any more")
	}
	stranger("after its owner read it again")

	// A stranger's own copy is its own, new, and no help to the owner.
	resp, text := b.request("PUT", path, nil, bytes.NewReader(data))
	if resp.StatusCode != 201 || !strings.Contains(string(text), `"existed":false`) {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
	if resp, text := a.request("DELETE", path, beta[0].Clone(), nil); resp.StatusCode != 204 {
		t.Fatalf("%d %s", resp.StatusCode, text)
	}
	b.await("told that it is gone", func() bool { resp, _ := b.request("GET", path, beta[1].Clone(), nil); return resp.StatusCode == 404 })
	a.await("able to give the stranger its own", func() bool { resp, _ := a.request("GET", path, nil, nil); return resp.StatusCode == 200 })
	if resp, _ := a.request("GET", path, beta[0].Clone(), nil); resp.StatusCode != 404 {
		t.Errorf("the owner is given the stranger's copy: %d", resp.StatusCode)
	}
}

// flat are the fields of a header, in order.
func flat(h http.Header) (list []string) {
	var b bytes.Buffer
	_ = h.Write(&b) // sorted; it does not fail
	return strings.Split(b.String(), "\r\n")
}
