#!/usr/bin/python3
"""held.py connection|console|tunnel COMMAND…: opens a TLS connection or a console at port 8006, or a viewer's tunnel through
port 3128, uses it, runs the command, and uses it again. held.py ending-console COMMAND…: the command ends the console, and
the next one opens."""
import base64
import hashlib
import hmac
import http.client
import socket
import ssl
import subprocess
import sys
import threading
import time


def connection(command):
    context = ssl._create_unverified_context()
    client = http.client.HTTPSConnection("127.0.0.1", 8006, timeout=20, context=context)

    def ask():
        client.request("GET", "/pve2/js/script.js")
        answer = client.getresponse()
        answer.read()
        return answer.status

    assert ask() == 200
    opened = client.sock
    assert opened is not None
    subprocess.run(command, check=True)
    assert ask() == 200
    assert client.sock is opened, "another connection"


class Console:
    """A websocket to port 5900 of this machine, which echoes."""

    PATH = "/api2/json/nodes/node1/qemu/100/vncwebsocket?port=5900&vncticket=PVEVNC"

    def __init__(self):
        context = ssl._create_unverified_context()
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", 8006), timeout=20))
        self.socket.sendall(
            f"GET {self.PATH} HTTP/1.1\r\nHost: node1:8006\r\nAuthorization: PVEAPIToken=root@pam!a=b\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        status = self.stream.readline()
        assert b" 101 " in status, status
        while self.stream.readline() != b"\r\n":
            pass

    def use(self, text):
        # A binary frame with a mask of zeroes (RFC 6455, section 5.2).
        self.socket.sendall(bytes([0x82, 0x80 | len(text), 0, 0, 0, 0]) + text)
        answer = self.stream.read(2 + len(text))
        assert answer == bytes([0x82, len(text)]) + text, answer

    def has_ended(self):
        # 8 is the operation code of a close frame.
        return self.stream.read(1) in (b"", b"\x88")


def console(command):
    start_machine(5900)
    held = Console()
    held.use(b"before")
    subprocess.run(command, check=True)
    held.use(b"after")


def ending_console(command):
    start_machine(5900)
    held = Console()
    held.use(b"before")
    subprocess.run(command, check=True)
    assert held.has_ended()
    Console().use(b"after")


def tunnel(command):
    start_machine(61000)
    with open("/etc/pve/pve-www.key", "rb") as file:
        secret = base64.b64encode(hmac.digest(file.read(), b"", "sha256")).rstrip(b"=")
    signed = f"pvespiceproxy:{int(time.time()):08x}:100:localhost:61000"
    target = f"{signed}::{hashlib.sha1(signed.encode() + secret).hexdigest()}:61000"
    viewer = socket.create_connection(("127.0.0.1", 3128), timeout=20)
    viewer.sendall(f"CONNECT {target} HTTP/1.0\r\nHost: {target}\r\n\r\n".encode())
    stream = viewer.makefile("rb")
    assert b" 200 " in stream.readline()
    while stream.readline() != b"\r\n":
        pass

    def use(line):
        viewer.sendall(line)
        assert stream.readline() == line

    use(b"before\n")
    subprocess.run(command, check=True)
    use(b"after\n")


def start_machine(port):
    """A machine that echoes on each of its connections."""
    machine = socket.create_server(("127.0.0.1", port))

    def accept():
        while True:
            opened, _ = machine.accept()
            threading.Thread(target=echo, args=(opened,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def echo(opened):
    while data := opened.recv(4096):
        opened.sendall(data)


USES = {"connection": connection, "console": console, "ending-console": ending_console, "tunnel": tunnel}
USES[sys.argv[1]](sys.argv[2:])
