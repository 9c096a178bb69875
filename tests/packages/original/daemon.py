#!/usr/bin/python3
"""A stand-in for pveproxy, pmgproxy, spiceproxy and pvedaemon, which are not to be had here: the verbs, the pid file, the
user and the port of the one it is called as. It answers each request with its name. Proxies write an access log,
pveproxy serves its files and has a console that echoes, and pvedaemon fails if the target says so. If SAME exists, a page
is that file, and a call is answered as by any of them."""
import os
import pwd
import signal
import ssl
import sys
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.path.basename(sys.argv[0])
SAME = "/run/same-answers"
FILES = ("/pve2/", "/usr/share/pve-manager/")
# pid file, address, port, certificate, user
DAEMONS = {
    "pveproxy": ("/run/pveproxy/pveproxy.pid", "0.0.0.0", 8006, "/etc/pve/local/pve-ssl", "www-data"),
    "pmgproxy": ("/run/pmgproxy/pmgproxy.pid", "0.0.0.0", 8006, "/etc/pmg/pmg-api", "www-data"),
    "spiceproxy": ("/run/pveproxy/spiceproxy.pid", "0.0.0.0", 3128, None, "www-data"),
    "pvedaemon": ("/run/pvedaemon.pid", "127.0.0.1", 85, None, "root"),
}
PID_FILE, ADDRESS, PORT, CERTIFICATE, USER = DAEMONS[NAME]
LOGS = {
    "pveproxy": "/var/log/pveproxy/access.log",
    "pmgproxy": "/var/log/pmgproxy/pmgproxy.log",
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if "vncwebsocket" in self.path:
            return self.open_console()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if NAME == "pveproxy" and self.path.startswith(FILES[0]):
            return self.send_file(FILES[1] + self.path.split("?")[0].removeprefix(FILES[0]))
        name = "product" if os.path.exists(SAME) else NAME
        if self.path.startswith("/api2/"):
            body, kind = f'{{"data":"original {name}"}}', "application/json;charset=UTF-8"
        else:
            body, kind = f"<html>original {name}</html>", "text/html; charset=UTF-8"
            if os.path.exists(SAME):
                with open(SAME, encoding="utf-8") as page:
                    body = page.read()
        status = 500 if NAME == "pvedaemon" and "fail" in self.path else 200
        self.send(status, kind, body.encode(), {"Cache-Control": "max-age=0"})

    def send_file(self, path):
        try:
            with open(path, "rb") as file:
                modified = formatdate(os.fstat(file.fileno()).st_mtime, usegmt=True)
                self.send(200, "application/javascript", file.read(), {"Last-Modified": modified})
        except OSError:
            self.send(404, "text/plain", b"no such file")

    def send(self, status, kind, body, headers={}):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def open_console(self):
        """pvedaemon names the port of the console; a proxy echoes binary frames with a mask of zeroes."""
        if NAME == "pvedaemon":
            return self.send(200, "application/json;charset=UTF-8", b'{"data":{"port":"5900"}}')
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.end_headers()
        while len(head := self.rfile.read(6)) == 6:
            length = head[1] & 0x7F
            self.wfile.write(bytes([0x82, length]) + self.rfile.read(length))

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_request(self, code="-", size="-"):
        if NAME in LOGS:
            now = time.strftime("%d/%m/%Y:%H:%M:%S %z")
            with open(LOGS[NAME], "a", encoding="utf-8") as log:
                log.write(f'{self.client_address[0]} - - [{now}] "{self.requestline}" {int(code)} {size}\n')

    def log_message(self, *_):
        pass


def running():
    """The process that the pid file names, as long as it lives: a number, or None."""
    try:
        with open(PID_FILE, encoding="ascii") as file:
            pid = int(file.read())
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return None if file.read().rsplit(") ", 1)[1][0] == "Z" else pid
    except (OSError, ValueError):
        return None


def start():
    if running():
        return
    server = ThreadingHTTPServer((ADDRESS, PORT), Handler)
    if CERTIFICATE:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = CERTIFICATE + ".key"
        context.load_cert_chain(CERTIFICATE + ".pem", key if os.path.exists(key) else None)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    account = pwd.getpwnam(USER)
    directory = os.path.dirname(PID_FILE)
    if directory != "/run" and not os.path.isdir(directory):
        os.mkdir(directory, 0o700)
        os.chown(directory, account.pw_uid, account.pw_gid)
    child = os.fork()
    if child:
        with open(PID_FILE, "w", encoding="ascii") as file:
            file.write(f"{child}\n")
        os._exit(0)
    os.setsid()
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


def stop():
    pid = running()
    if not pid:
        return
    os.kill(pid, signal.SIGTERM)
    for _ in range(150):
        if not running():
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)


def restart():
    pid = running()
    if pid:
        os.kill(pid, signal.SIGHUP)
    else:
        start()


def status():
    print("running" if running() else "stopped")


{"start": start, "stop": stop, "restart": restart, "status": status}[sys.argv[1]]()
