// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Reference returns docs/configuration.md: every key of a bundle, from the same
// schema that decodes it.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(referenceHead)
	keys := map[string]Key{}
	for _, k := range Keys() {
		keys[k.Path] = k
	}
	var walk func(t *table, doc string)
	walk = func(t *table, doc string) {
		var subs []*field
		if t.path != "" {
			fmt.Fprintf(&b, "\n## `[%s]`\n\n%s\n", t.path, doc)
			if slots := rows(t); slots > 0 {
				b.WriteString("\n| key | type | default | accepts | a change is | meaning |\n|---|---|---|---|---|---|\n")
			}
		}
		for _, f := range t.fields {
			if f.sub != nil {
				subs = append(subs, f)
			}
			if f.isTable() {
				continue
			}
			writeRow(&b, f.name, keys[f.path])
		}
		for _, f := range subs {
			text := f.doc
			if f.typ.Kind() == reflect.Slice {
				text = "One element of the list `" + f.path + "`, written `[[" + f.path + "]]` or `{ … }`."
			}
			walk(f.sub, text)
		}
	}
	walk(schema(), "")
	b.WriteString(referenceTail)
	return []byte(b.String())
}

// rows counts the keys of a table that are not tables themselves.
func rows(t *table) int {
	n := 0
	for _, f := range t.fields {
		if f.sub == nil || f.typ.Kind() == reflect.Slice {
			n++
		}
	}
	return n
}

func writeRow(b *strings.Builder, name string, k Key) {
	def := "required"
	if !k.Required {
		def = "`" + k.Default + "`"
	}
	apply := map[Apply]string{Live: "live", Rebind: "live, rebinds the listener", Restart: "at the next start"}[k.Apply]
	cells := []string{"`" + name + "`", k.Type, def, k.Accepts, apply, k.Doc}
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(c, "|", "\\|")
	}
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

const referenceHead = `# Configuration

<!-- Generated from internal/config by "go test ./internal/config -update". Do not edit. -->

A node reads one signed TOML document, its *config bundle*, and the envelope beside it, ` + "`BUNDLE.toml.sig`" + `. Unknown and duplicate keys,
wrong types and values out of range are errors that name file, line, key and what is accepted; all of them are reported at once, with exit
code 3. Only then are hash, signature, signer and version judged, with exit code 4.

- **Integers** are whole numbers up to 2^53-1. There are no floats and no TOML dates.
- **Durations** are text such as ` + "`\"5s\"`, `\"250ms\"` or `\"1h30m\"`" + `.
- **Sizes** are text such as ` + "`\"64KiB\"`" + ` (B, KiB, MiB, GiB, TiB), or a whole number of bytes.
- **References** are ` + "`\"KMS:key/NAME\"` and `\"KMS:obj/NAME\"`, with `@vN`" + ` for one version.
- A key that is not in the bundle has its default. An empty text means "none", and is accepted only where that is the default.

Commands: ` + "`macronode config validate FILE`, `macronode config print`" + ` (every value with where it comes from), ` + "`macronode bundle sign FILE --data DIR --bump`" + `.
`

const referenceTail = `
## Outside the bundle

Only these may be set outside the signed document. A flag beats its variable.

| flag | variable | stands for |
|---|---|---|
| ` + "`--data DIR`" + ` | ` + "`MACRONODE_DATA`" + ` | ` + "`data.dir`" + ` |
| ` + "`--log-level LEVEL`" + ` | ` + "`MACRONODE_LOG_LEVEL`, else `RUST_LOG`" + ` (its first bare level; ` + "`trace`" + ` is ` + "`debug`" + `) | ` + "`telemetry.log_level`" + ` |
| ` + "`--log-format FORMAT`" + ` | ` + "`MACRONODE_LOG_FORMAT`" + ` | ` + "`telemetry.log_format`" + ` |
| ` + "`--graceful-timeout DURATION`" + ` | ` + "`MACRONODE_GRACEFUL_TIMEOUT`" + ` | ` + "`server.drain_timeout`" + ` |
| ` + "`--allow-rollback VERSION@HASH`" + ` | ` + "`MACRONODE_ALLOW_ROLLBACK`" + ` | lets one bundle in whose version is not above the last applied; audited |
| ` + "`--endpoints FILE`" + ` | ` + "`MACRONODE_ENDPOINTS`" + ` | where the node's addresses are written while it listens |
| ` + "`--operator-cap-out FILE`" + ` | ` + "`MACRONODE_OPERATOR_CAP_OUT`" + ` | where the operator's capability is written |
| ` + "`--trust FILE`" + ` | ` + "`MACRONODE_TRUST`" + ` | trust anchors, instead of ` + "`DIR/trust.json`" + ` |

## What is hashed and signed

` + "`meta.bundle_hash`" + ` is BLAKE3-256 over the RFC 8785 canonical JSON of the decoded document without that key: white space, comments and the
notation of a number do not matter. The envelope is DSSE with payload type ` + "`application/vnd.macronode.config+toml`" + `; its payload is the
file, byte for byte. Who may sign stands in ` + "`DIR/trust.json`" + `, never in the bundle. The last applied version and hash are remembered: a lower
version, or the same version with another hash, is refused. Roll back by signing the old content again with ` + "`--bump`" + `.
`
