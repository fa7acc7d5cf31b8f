// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rustyonions/macronode"
	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/capability"
	"github.com/rustyonions/macronode/oap"
)

// rawToken is a capability as OAP/1 carries it.
func rawToken(t testing.TB, file string) *capability.Token {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := capability.Parse(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// wholeCall is the frame of a call that is one frame.
func wholeCall(t testing.TB, h *oap.Header, flags oap.Flags, token []byte, head oap.RequestHead, body []byte) []byte {
	t.Helper()
	payload, err := head.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := oap.Open(h, oap.END|flags, token, append(payload, body...))
	b, err := oap.Append(nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// curlIngress posts b with curl and returns HTTP's status and the body.
func curlIngress(t testing.TB, url string, b []byte, more ...string) (status, contentType string, body []byte) {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "frame"), filepath.Join(dir, "answer")
	if err := os.WriteFile(in, b, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("curl", append(more, "-s", "-m", "30", "-o", out, "-w", "%{http_code} %{content_type}", "-H", "Content-Type: application/vnd.ron.oap",
		"--data-binary", "@"+in, url+"/ingress")...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl: %v %s", err, said)
	}
	body, err = os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	status, contentType, _ = strings.Cut(string(said), " ")
	return status, contentType, body
}

// readAnswer reads an answer's frames: how many, the last one's code and the body,
// or of a refusal the problem's code.
func readAnswer(t testing.TB, b []byte) (frames int, code uint16, body []byte) {
	t.Helper()
	for first := true; len(b) > 0; first = false {
		f, n, err := oap.Cut(b, 0)
		if err != nil || n == 0 {
			t.Fatalf("frame %d: %v", frames, err)
		}
		payload := f.Payload
		if f.IsRefusal() {
			var p macronode.Problem
			if err := json.Unmarshal(payload, &p); err != nil {
				t.Fatal(err)
			}
			return frames + 1, f.Code, []byte(p.Code)
		}
		if first {
			head, n, err := oap.ParseAnswerHead(payload)
			if err != nil || head.Code != f.Code {
				t.Fatalf("%+v, %v", head, err)
			}
			payload = payload[n:]
		}
		if len(payload) > 64<<10 || (f.Flags&oap.END != 0) != (n == len(b)) {
			t.Fatalf("frame %d: %d bytes, %v", frames, len(payload), f.Flags)
		}
		frames, code, body, b = frames+1, f.Code, append(body, payload...), b[n:]
	}
	return frames, code, body
}

// TestIngress: calls as frames, posted with curl to the built node.
func TestIngress(t *testing.T) {
	n := startDev(t, t.TempDir())
	tok := rawToken(t, n.TenantCap)
	data := make([]byte, 300_000)
	rand.Read(data)
	addr := b3.Sum(data).String()
	at := []macronode.Arg{{Name: "addr", Value: addr}}
	object := oap.Header{App: 1, Corr: 1}
	ask := func(h *oap.Header, flags oap.Flags, token []byte, head oap.RequestHead, body []byte) (int, uint16, []byte) {
		t.Helper()
		status, kind, out := curlIngress(t, n.HTTP, wholeCall(t, h, flags, token, head, body))
		if status != "200" || kind != "application/vnd.ron.oap" {
			t.Fatalf("%s: %s %s %.300s", head.Op, status, kind, out)
		}
		return readAnswer(t, out)
	}
	put := oap.RequestHead{Op: "object.put", Args: at, Length: int64(len(data)), IdempotencyKey: "one"}
	for range 2 {
		if frames, code, body := ask(&object, 0, tok.CBOR(), put, data); frames != 1 || code != 201 || !strings.Contains(string(body), addr) {
			t.Fatalf("put: %d frames, %d %s", frames, code, body)
		}
	}
	get := oap.RequestHead{Op: "object.get", Args: at}
	if frames, code, body := ask(&object, oap.ACKREQ, tok.CBOR(), get, nil); frames < 5 || code != 200 || !bytes.Equal(body, data) {
		t.Errorf("get: %d frames, %d, %d bytes", frames, code, len(body))
	}
	part := get
	part.Headers = macronode.Header{"Range": {"bytes=100-199"}}
	if frames, code, body := ask(&object, 0, tok.CBOR(), part, nil); frames != 1 || code != 206 || !bytes.Equal(body, data[100:200]) {
		t.Errorf("range: %d frames, %d, %d bytes", frames, code, len(body))
	}
	mine, theirs := object, object
	mine.Tenant, theirs.Tenant = tok.Tenant(), macronode.SystemTenant
	broken := get
	broken.Headers = macronode.Header{"Authorization": {"Bearer x"}}
	for name, c := range map[string]struct {
		h     oap.Header
		token []byte
		head  oap.RequestHead
		code  uint16
		kind  string
	}{
		"stat":              {object, tok.CBOR(), oap.RequestHead{Op: "object.stat", Args: at}, 200, ""},
		"own tenant":        {mine, tok.CBOR(), oap.RequestHead{Op: "object.stat", Args: at}, 200, ""},
		"another's tenant":  {theirs, tok.CBOR(), get, 403, "tenant_mismatch"},
		"no capability":     {object, nil, get, 401, "unauthenticated"},
		"half a capability": {object, tok.CBOR()[:20], get, 401, "malformed"},
		"unknown app":       {oap.Header{App: 99, Corr: 1}, tok.CBOR(), get, 501, "unimplemented"},
		"unknown op":        {object, tok.CBOR(), oap.RequestHead{Op: "object.melt"}, 404, "not_found"},
		"an operator's":     {oap.Header{App: 10, Corr: 1}, tok.CBOR(), oap.RequestHead{Op: "admin.breakers"}, 403, "denied"},
		"a bad head":        {object, tok.CBOR(), broken, 400, "malformed"},
	} {
		if _, code, body := ask(&c.h, 0, c.token, c.head, nil); code != c.code || string(body) != c.kind {
			t.Errorf("%s: %d %.100s, want %d %s", name, code, body, c.code, c.kind)
		}
	}
	z, err := oap.NewCompressor(1)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var text bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&text, "%d is a line of its own\n", i*i)
	}
	post := oap.RequestHead{Op: "object.post", Length: int64(text.Len())}
	payload, err := post.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, ok := z.Compress(nil, append(payload, text.Bytes()...))
	f := oap.Open(&object, oap.END|oap.COMP, tok.CBOR(), payload)
	b, err := oap.Append(nil, &f)
	if err != nil || !ok {
		t.Fatal(err, ok)
	}
	if _, _, out := curlIngress(t, n.HTTP, b); out != nil {
		if _, code, body := readAnswer(t, out); code != 201 || !strings.Contains(string(body), b3.Sum(text.Bytes()).String()) {
			t.Errorf("compressed: %d %s", code, body)
		}
	}
	hello, err := oap.NewHello(1, oap.Hello{UA: "curl"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = oap.Append(nil, &hello); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b      []byte
		status string
	}{
		"HELLO": {b, "400"}, "no frame": {[]byte("no frame at all"), "400"}, "too large": {make([]byte, 1<<20+1), "413"},
		"len too large": {append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 60)...), "413"},
	} {
		if status, kind, _ := curlIngress(t, n.HTTP, c.b); status != c.status || kind != "application/problem+json" {
			t.Errorf("%s: %s %s, want %s", name, status, kind, c.status)
		}
	}
}

// TestIngressAdmin: where operators have listeners of their own, their operations
// are served over frames there alone.
func TestIngressAdmin(t *testing.T) {
	n := startSigned(t, section("server", `admin_bind = "127.0.0.2:0"`))
	socket := []string{"--unix-socket", filepath.Join(n.dir, "admin.sock")}
	tok := rawToken(t, n.OperatorCap)
	b := wholeCall(t, &oap.Header{App: 10, Corr: 1}, 0, tok.CBOR(), oap.RequestHead{Op: "admin.breakers"}, nil)
	for _, c := range []struct {
		via  []string
		code uint16
	}{{nil, 404}, {socket, 200}} {
		status, _, out := curlIngress(t, n.HTTP, b, c.via...)
		if status != "200" {
			t.Fatalf("%s %s", status, out)
		}
		if _, code, body := readAnswer(t, out); code != c.code {
			t.Errorf("%q: %d %.200s, want %d", c.via, code, body, c.code)
		}
	}
}
