// Copyright 2026 The macronode authors. SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rustyonions/macronode/test/bench/children"
	"github.com/rustyonions/macronode/test/bench/sigv4"
)

const (
	// crowd is how many tenants there are, of equal weight: the first makes the
	// storm, the others behave.
	crowd = 10
	// Objects of each tenant that are read, in turn: with crowdCache, too many
	// for the node to have checked before.
	objectsEach = 64
	crowdCache  = 16 * mib
	// Names that MinIO's writes use in turn; each is signed beforehand.
	namesEach = 4096
)

// crowdRequest is what all tenants ask for.
type crowdRequest struct {
	put  bool
	size int64
}

func (r crowdRequest) String() string {
	if r.put {
		return "PUT " + sizeName(r.size)
	}
	return "GET " + sizeName(r.size)
}

// parseRequest reads get:SIZE or put:SIZE.
func parseRequest(text string) (crowdRequest, error) {
	kind, size, _ := strings.Cut(text, ":")
	n, err := parseSize(size)
	if err == nil && kind != "get" && kind != "put" {
		err = fmt.Errorf("%q is neither get:SIZE nor put:SIZE", text)
	}
	return crowdRequest{kind == "put", n}, err
}

// crowdServer is a server with the requests of all tenants. Servers that know
// no tenants have as many clients.
type crowdServer struct {
	*server
	heads [crowd][]string // of what each tenant asks
	good  int             // status of a good answer
	forks bool            // its work is done by processes that are not looked at
}

func tenantName(i int) string { return "t" + strconv.Itoa(i) }

// head makes a request's head of net/http's form of it.
func head(req *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", req.Method, req.URL.RequestURI(), req.URL.Host)
	_ = req.Header.Write(&b)
	if req.ContentLength > 0 {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", req.ContentLength)
	}
	return b.String() + "\r\n"
}

// crowdNode is a node with ten tenants, whose objects are stored.
func (b *bench) crowdNode(ctx context.Context, r crowdRequest) (*crowdServer, error) {
	s, err := b.startNode(ctx, crowdCache)
	if err != nil {
		return nil, err
	}
	n := s.node
	var labels []string
	for i := range crowd {
		labels = append(labels, tenantName(i))
	}
	tenants, err := n.Tenants(ctx, labels...)
	if err == nil {
		err = n.Policy(ctx, tenants...)
	}
	if err == nil {
		err = n.Reload(ctx)
	}
	if err != nil {
		return nil, s.Failed(err)
	}
	out := &crowdServer{server: s, good: http.StatusOK}
	if r.put {
		out.good = http.StatusCreated
	}
	for i, t := range tenants {
		own := *s
		own.getHeader[1] = "Bearer " + t.Token
		own.put = func(_ string, body []byte) (*http.Request, error) {
			req, err := post(s.url+"/o", body)
			if err == nil {
				req.Header.Set(own.getHeader[0], own.getHeader[1])
			}
			return req, err
		}
		if !r.put {
			if err := out.fill(ctx, &own, i, r.size); err != nil {
				return nil, err
			}
			continue
		}
		req, err := own.put("", make([]byte, r.size))
		if err != nil {
			return nil, err
		}
		out.heads[i] = []string{head(req)}
	}
	return out, nil
}

// fill stores tenant i's objects as own, and makes the requests that read them.
func (c *crowdServer) fill(ctx context.Context, own *server, i int, size int64) error {
	client := newClient(1)
	defer client.CloseIdleConnections()
	for j := range objectsEach {
		path, err := storeOne(ctx, client, own, fmt.Sprintf("%s-%d", tenantName(i), j), content(size, i*objectsEach+j))
		if err != nil {
			return err
		}
		req, err := http.NewRequest(http.MethodGet, own.url+path, nil)
		if err != nil {
			return err
		}
		if own.getHeader[0] != "" {
			req.Header.Set(own.getHeader[0], own.getHeader[1])
		}
		c.heads[i] = append(c.heads[i], head(req))
	}
	return nil
}

// crowdMinIO is MinIO with its own limit of requests on: without it, it takes
// thousands at once and refuses nobody.
func (b *bench) crowdMinIO(ctx context.Context, r crowdRequest) (*crowdServer, error) {
	s, keys, err := b.startMinIOWith(ctx, fmt.Sprintf("MINIO_API_REQUESTS_MAX=%d", minioRequests))
	if err != nil {
		return nil, err
	}
	out := &crowdServer{server: s, good: http.StatusOK}
	for i := range crowd {
		if !r.put {
			if err := out.fill(ctx, s, i, r.size); err != nil {
				return nil, err
			}
			continue
		}
		now := time.Now() // good for 15 minutes
		for j := range namesEach {
			req, err := http.NewRequest(http.MethodPut, fmt.Sprintf("%s/%s/w-%s-%d", s.url, bucket, tenantName(i), j), nil)
			if err != nil {
				return nil, err
			}
			keys.Sign(req, sigv4.Unsigned, now)
			req.ContentLength = r.size
			out.heads[i] = append(out.heads[i], head(req))
		}
	}
	return out, nil
}

const minioRequests = 32

// nginxConf is a plain server of files, one worker, as its documentation has it.
const nginxConf = `daemon off;
%[4]sworker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 8192; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  server { listen %[2]s; root %[3]s; }
}
`

// crowdNginx serves the same objects as files. It checks nothing, and it does
// not store: no write of nginx is durable.
func (b *bench) crowdNginx(ctx context.Context, r crowdRequest) (*crowdServer, error) {
	dir, err := b.scratch("nginx")
	if err != nil {
		return nil, err
	}
	port, err := children.FreePort()
	if err != nil {
		return nil, err
	}
	addr, root, conf, user := "127.0.0.1:"+strconv.Itoa(port), filepath.Join(dir, "root"), filepath.Join(dir, "conf"), ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the scratch folder is ours alone
	}
	out := &crowdServer{good: http.StatusOK, forks: true}
	err = errors.Join(os.Mkdir(root, 0o700), os.WriteFile(filepath.Join(root, "ready"), []byte("ready\n"), 0o600),
		os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, addr, root, user), 0o600))
	for i := range crowd {
		for j := range objectsEach {
			name := fmt.Sprintf("%s-%d", tenantName(i), j)
			err = errors.Join(err, os.WriteFile(filepath.Join(root, name), content(r.size, i*objectsEach+j), 0o600))
			out.heads[i] = append(out.heads[i], "GET /"+name+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
		}
	}
	if err != nil {
		return nil, err
	}
	version, _ := exec.CommandContext(ctx, b.set.nginx, "-v").CombinedOutput()
	p, err := b.procs.Start("nginx", filepath.Join(dir, "log"), nil, b.set.nginx, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	if err != nil {
		return nil, fmt.Errorf("nginx (install it, or set BENCH_NGINX): %w", err)
	}
	out.server = &server{Proc: p, name: "nginx", url: "http://" + addr, dir: dir, version: strings.TrimPrefix(firstLine(version), "nginx version: "),
		command: "`nginx -c CONF`: `worker_processes 1; sendfile on; tcp_nopush on; access_log off;` and no `limit_conn`; the objects as files"}
	return out, p.Ready(ctx, out.url+"/ready")
}
