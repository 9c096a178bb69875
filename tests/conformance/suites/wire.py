"""Raw HTTP/1.1 over TLS: what a proxy answers to bytes."""

import re
import socket
import ssl
import time

TIMEOUT = 3.0
# An incomplete request is not answered: wait this long for a refusal.
QUIET = 0.4
REFUSALS = {400, 411, 413, 414, 431, 501, 505}


def connect(port):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    plain = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    return context.wrap_socket(plain, server_hostname="localhost")


class Answer:
    def __init__(self, status, fields, body, complete):
        self.status, self.fields, self.body, self.complete = status, fields, body, complete


class Reader:
    def __init__(self, stream):
        self.stream, self.buffer, self.open = stream, b"", True

    def fill(self, timeout):
        """Reads once; false at the end, after an error, or after the timeout."""
        if not self.open:
            return False
        self.stream.settimeout(max(timeout, 0.01))
        try:
            piece = self.stream.recv(65536)
        except TimeoutError:
            return False
        except (OSError, ValueError):
            piece = b""
        self.open = bool(piece)
        self.buffer += piece
        return self.open

    def until(self, end, deadline):
        while end not in self.buffer:
            if not self.fill(deadline - time.monotonic()):
                return None
        found, _, self.buffer = self.buffer.partition(end)
        return found

    def exactly(self, length, deadline):
        while len(self.buffer) < length:
            if not self.fill(deadline - time.monotonic()):
                found, self.buffer = self.buffer, b""
                return found
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    def chunked(self, deadline):
        body = b""
        while (line := self.until(b"\r\n", deadline)) is not None:
            length = int(line.split(b";")[0], 16)
            if length == 0:
                while (line := self.until(b"\r\n", deadline)):
                    pass
                return body, line is not None
            body += self.exactly(length, deadline)
            if self.until(b"\r\n", deadline) is None:
                break
        return body, False

    def answer(self, timeout, head=False):
        """The next final answer, or None."""
        deadline = time.monotonic() + timeout
        while True:
            top = self.until(b"\r\n\r\n", deadline)
            found = top and re.match(rb"HTTP/1\.[01] (\d{3})", top)
            if not found:
                return None
            status = int(found[1])
            if status >= 200 or status == 101:
                break
        fields = []
        for line in top.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            fields.append((name.lower().strip(), value.strip()))
        named = dict(fields)
        if head or status in (101, 204, 304):
            return Answer(status, fields, b"", True)
        if b"chunked" in named.get(b"transfer-encoding", b""):
            body, complete = self.chunked(deadline)
        elif b"content-length" in named:
            length = int(named[b"content-length"])
            body = self.exactly(length, deadline)
            complete = len(body) == length
        else:
            while self.fill(deadline - time.monotonic()):
                pass
            body, self.buffer, complete = self.buffer, b"", not self.open
        return Answer(status, fields, body, complete)


def exchange(port, request, expected):
    """The statuses of the answers to `request`, at most `expected` and one more, and whether the connection was closed."""
    with connect(port) as stream:
        try:
            stream.sendall(request)
        except OSError:
            pass
        reader, statuses = Reader(stream), []
        while len(statuses) <= expected:
            answer = reader.answer(TIMEOUT if len(statuses) < expected else QUIET, request.startswith(b"HEAD "))
            if answer is None:
                break
            statuses.append(answer.status)
        return statuses, not reader.open
