"""The four proxies with the same certificate, daemon and files, and the relays that some suites need."""

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
SCRIPTS = "usr/share/pve-manager/js"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A child that ends with the run; its output goes to a file."""

    def __init__(self, name, folder, command, port):
        self.log = folder / f"{name}.out"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        deadline = time.monotonic() + START_TIMEOUT
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise SystemExit(f"{name} does not listen on port {port}:\n{self.log.read_text(errors='replace')}")
            time.sleep(0.05)

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.child.kill()


@dataclass
class Proxy:
    """`port` speaks TLS, `h2c` HTTP/2 without TLS, `ws` HTTP/1.1 without TLS and with a cookie."""

    name: str
    port: int
    h2c: int
    ws: int
    version: str
    processes: list = field(default_factory=list)


@dataclass
class Lab:
    """What the proxies share."""

    folder: Path
    root: Path
    binary: str
    ticket: str
    daemon: int

    @property
    def chain(self):
        return self.root / "etc/pve/local/pve-ssl.pem"

    @property
    def authority(self):
        return self.root / "etc/pve/pve-root-ca.pem"

    @property
    def key(self):
        return self.root / "etc/pve/local/pve-ssl.key"


def nodegate(lab, port):
    settings = ["listen.address=127.0.0.1", f"listen.port={port}", f"backend.address=127.0.0.1:{lab.daemon}", "http2=true"]
    return [lab.binary, "--root", lab.root, *(word for setting in settings for word in ("--set", setting)), "run", "pve"]


def nginx(lab, port):
    temporary = "".join(
        f"  {kind}_temp_path {lab.folder}/nginx-{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = f"""\
daemon off; pid {lab.folder}/nginx.pid; error_log {lab.folder}/nginx.error;
events {{ worker_connections 4096; }}
http {{
  include /etc/nginx/mime.types; access_log off; etag on;
{temporary}  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream daemon {{ server 127.0.0.1:{lab.daemon}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {lab.chain}; ssl_certificate_key {lab.key}; ssl_protocols TLSv1.2 TLSv1.3;
    location /pve2/js/ {{ alias {lab.root}/{SCRIPTS}/; }}
    location / {{
      proxy_pass http://daemon; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""
    file = lab.folder / "nginx.conf"
    file.write_text(configuration)
    return ["nginx", "-c", file, "-e", lab.folder / "nginx.start"]


HAPROXY = """\
global
  ssl-default-bind-options ssl-min-ver TLSv1.2
  ssl-server-verify none
  log /dev/null local0
defaults
  timeout connect 10s
  timeout client 65s
  timeout server 65s
  timeout tunnel 65s
"""


def haproxy(lab, port):
    """HAProxy serves no files, so its daemon does."""
    combined = lab.folder / "combined.pem"
    combined.write_bytes(lab.chain.read_bytes() + lab.key.read_bytes())
    file = lab.folder / "haproxy.cfg"
    file.write_text(
        f"{HAPROXY}  mode http\n"
        f"frontend front\n  bind 127.0.0.1:{port} ssl crt {combined} alpn h2,http/1.1\n  default_backend daemon\n"
        f"backend daemon\n  server one 127.0.0.1:{lab.daemon}\n"
    )
    return ["haproxy", "-db", "-f", file]


def caddy(lab, port):
    file = lab.folder / "Caddyfile"
    file.write_text(
        "{\n  admin off\n  auto_https off\n}\n"
        f"https://:{port} {{\n  bind 127.0.0.1\n  tls {lab.chain} {lab.key}\n"
        f"  handle_path /pve2/js/* {{\n    root * {lab.root}/{SCRIPTS}\n    file_server\n  }}\n"
        f"  handle {{\n    reverse_proxy 127.0.0.1:{lab.daemon}\n  }}\n}}\n"
    )
    return ["caddy", "run", "--adapter", "caddyfile", "--config", file]


def relays(lab, name, port):
    """HAProxy in front of a proxy, where a suite speaks no TLS or sends no cookie."""
    h2c, ws = free_port(), free_port()
    file = lab.folder / f"relay-{name}.cfg"
    file.write_text(
        f"{HAPROXY}"
        f"listen h2c\n  mode tcp\n  bind 127.0.0.1:{h2c}\n  server one 127.0.0.1:{port} ssl alpn h2\n"
        f"listen ws\n  mode http\n  bind 127.0.0.1:{ws}\n  http-request set-header Cookie PVEAuthCookie={lab.ticket}\n"
        f"  http-request set-header Host localhost\n  server one 127.0.0.1:{port} ssl alpn http/1.1\n"
    )
    return h2c, ws, Process(f"relay-{name}", lab.folder, ["haproxy", "-db", "-f", file], h2c)


PROXIES = {"nodegate": nodegate, "nginx": nginx, "HAProxy": haproxy, "Caddy": caddy}
VERSIONS = {"nginx": ["nginx", "-v"], "HAProxy": ["haproxy", "-v"], "Caddy": ["caddy", "version"]}


def version(lab, name):
    command = VERSIONS.get(name) or [lab.binary, "--version"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    words = done.stdout.split("\n")[0].replace("/", " ").split()
    return next(word for word in words if word.lstrip("v")[:1].isdigit())


def start(lab, name):
    port = free_port()
    main = Process(name, lab.folder, PROXIES[name](lab, port), port)
    h2c, ws, relay = relays(lab, name, port)
    return Proxy(name, port, h2c, ws, version(lab, name), [relay, main])


def prepare_lab(folder, binary, standin, daemon_port):
    """A root with keys and certificates, made by the stand-in for the product's daemon."""
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    root.mkdir(parents=True)
    environment = {**os.environ, "HOME": str(folder)}
    subprocess.run([standin, "demo", root], check=True, env=environment)
    done = subprocess.run([standin, "ticket", root, "root@pam"], check=True, stdout=subprocess.PIPE, text=True)
    return Lab(folder, root, binary, done.stdout.strip(), daemon_port)
