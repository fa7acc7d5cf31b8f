// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/base64"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/rustyonions/macronode/b3"
	"github.com/rustyonions/macronode/bundle"
	"github.com/rustyonions/macronode/internal/config/outside"
)

// form is a form of text that a key may ask for.
type form struct {
	want string
	ok   func(string) bool
}

// forms returns the table that form tags name. Nobody changes it.
var forms = sync.OnceValue(func() map[string]form {
	return map[string]form{
		"addr":      {`an address HOST:PORT, such as "0.0.0.0:8080"`, isAddr},
		"path":      {"an absolute path", isPath},
		"cidr":      {`networks without host bits, such as "10.0.0.0/8"`, isCIDR},
		"origin":    {`web origins, such as "https://console.example.org"`, isOrigin},
		"service":   {"service names: " + quoteAll(ServiceNames()), func(s string) bool { return slices.Contains(ServiceNames(), s) }},
		"nodeid":    {`a node_id, "b3:" and 64 lower-case hex digits`, func(s string) bool { _, err := b3.Parse(s); return err == nil }},
		"kmskey":    {`a key by reference, "KMS:key/NAME" with "@vN" for one version`, refOf(bundle.RefKey, false)},
		"kmsobj":    {`an object by reference, "KMS:obj/NAME" with "@vN" for one version`, refOf(bundle.RefObject, false)},
		"pinnedobj": {`one version of an object, "KMS:obj/NAME@vN"`, refOf(bundle.RefObject, true)},
		"metadata":  {`"embedded", "KMS:obj/NAME" of an object that holds a DSN, or a postgres:// DSN without a password`, isMetadata},
		"objects":   {`"embedded", or "s3://BUCKET?endpoint=URL&credentials=KMS:obj/NAME"`, isObjects},
		"root":      {`"keyfile:PATH", "passphrase-file:PATH", "systemd:NAME", "shares:PATH", or the URL of a key service without credentials: "hashivault://KEY?addr=https://HOST:PORT&token_file=PATH" or "base64key:///PATH" (https:// alone would not say what the service speaks)`, isRoot},
		"otlp":      {`an http or https URL without credentials, such as "http://127.0.0.1:4318"`, isOTLP},
		"sink":      {`sinks: a name, a kind, and where: "siem ndjson https://siem.example.org/in KMS:obj/siem", "otel otlp http://127.0.0.1:4318/v1/logs" or "copy file /var/log/audit.ndjson" (http to this machine alone)`, outside.IsSink},
		"witness":   {`witnesses: a URL and verifier keys in note form, such as "https://witness.example.org/ NAME+ID+BASE64" (http to this machine alone)`, outside.IsWitness},
		"base64":    {"base64", func(s string) bool { return len(s) <= 64<<10 && isBase64(s) }},
		"hash":      {"64 lower-case hex digits", func(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }},
		"label":     {"1 to 128 visible ASCII characters", isLabel},
		"control":   {`an address HOST:PORT, or "unix:" and an absolute path`, isControl},
		"x25519":    {"X25519 public keys, 52 base32 characters each", isOnionKey},
	}
})

// ServiceNames are the names that required_services may hold.
func ServiceNames() []string {
	return []string{
		"svc-gateway", "svc-overlay", "svc-registry", "ron-naming", "svc-storage", "svc-index", "svc-mailbox",
		"ron-audit", "ron-auth", "ron-policy", "ron-kms", "ron-metrics", "omnigate",
		"ron-ledger", "svc-wallet", "svc-rewarder",
	}
}

func isAddr(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || len(s) > 300 {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	// A host name may not look like an address that was mistyped.
	return host != "" && isHostName(host) && strings.Trim(host, "0123456789.") != ""
}

func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool {
			return r > unicode.MaxASCII || (r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r))
		}) {
			return false
		}
	}
	return true
}

func isPath(s string) bool {
	return path.IsAbs(s) && len(s) <= 4096 && !strings.ContainsFunc(s, unicode.IsControl)
}

func isCIDR(s string) bool {
	p, err := netip.ParsePrefix(s)
	return err == nil && p == p.Masked()
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" &&
		!strings.Contains(u.Host, "*") && u.Scheme+"://"+strings.ToLower(u.Host) == s
}

func refOf(kind string, pinned bool) func(string) bool {
	return func(s string) bool {
		r, err := bundle.ParseRef(s)
		return err == nil && r.Kind == kind && (!pinned || r.Version != 0)
	}
}

func isMetadata(s string) bool {
	if s == embedded || refOf(bundle.RefObject, false)(s) {
		return true
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" {
		return false
	}
	_, hasPassword := u.User.Password()
	secret := u.Query().Get("password")
	return !hasPassword && (secret == "" || refOf(bundle.RefObject, false)(secret))
}

func isObjects(s string) bool {
	if s == embedded {
		return true
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil {
		return false
	}
	for name, values := range u.Query() {
		switch name {
		case "endpoint", "region", "prefix", "path_style":
		case "credentials":
			if len(values) != 1 || !refOf(bundle.RefObject, false)(values[0]) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func isRoot(s string) bool {
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "keyfile", "passphrase-file", "shares":
		return rest != "" && len(rest) <= 4096 && !strings.ContainsFunc(rest, unicode.IsControl)
	case "systemd":
		return rest != "" && len(rest) <= 255 && !strings.ContainsAny(rest, "/\x00") && rest != "." && rest != ".."
	case "hashivault", "base64key":
		// What follows is judged by who asks the service; a secret is not its part.
		u, err := url.Parse(s)
		return err == nil && strings.HasPrefix(rest, "//") && u.User == nil && u.Fragment == "" && len(s) <= 4096
	}
	return false
}

func isOTLP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

func isBase64(s string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && !strings.ContainsAny(s, "\r\n")
}

func isLabel(s string) bool {
	return s != "" && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func isControl(s string) bool {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		return isPath(p)
	}
	return isAddr(s)
}

func isOnionKey(s string) bool {
	return len(s) == 52 && strings.Trim(strings.ToUpper(s), "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
