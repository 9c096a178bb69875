"""A stranger who sends what a job says: raw sockets for HTTP/1.1, the library h2 for HTTP/2.

The job is one line of JSON on standard input, the answers one line of JSON on standard output. In the mode `hold` the line
`held` comes first. The script keeps all connections until it reads another line: the number of answers to wait for.

Job: protocol ("http/1.1", "h2"), to ([address, port]), from (the client's address), mode, pause (seconds), until_closed (see the end of
HTTP/2 connections), requests. Modes:
  at_once  send all, then read all answers
  in_turn  send one, read its answer, send the next
  leave    send one, wait for `pause`, leave it if no answer came, send the next
  close    the same, but end the connection
  hold     send all, then keep them open; with a pause, one more byte of each body after each pause

Request: method, path, headers ([[name, value]]), body, fill (bytes to send behind the body), length (announced, or null for
what is sent), head_only (the head stays unfinished), alone (on a connection of
its own), from (another address of the client), raw (bytes as text, instead of
TLS and all of the above).
Answer: status (null without one), seconds, closing (the server ends the connection behind it), retry (Retry-After), body.
"""

import json
import select
import socket
import ssl
import sys
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions

# Generous: the machines of the tests are slow and loaded.
DEADLINE = 60
GOAWAY = 7
# A body that the other side takes no more of stays as it is.
STALLED = 3


def secure(job, source, protocols):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    return context.wrap_socket(plain(job, source))


def plain(job, source):
    stream = socket.create_connection(tuple(job["to"]), DEADLINE, (source, 0))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


class Answer:
    """What came back, as far as it came."""

    def __init__(self):
        self.began = time.monotonic()
        self.seconds = None
        self.status = None
        self.headers = {}
        self.body = b""
        self.closing = False
        self.over = False

    def end(self):
        if not self.over:
            self.over = True
            self.seconds = time.monotonic() - self.began

    def reported(self):
        return {
            "status": self.status,
            "seconds": self.seconds,
            "closing": self.closing,
            "retry": self.headers.get("retry-after"),
            "body": self.body[:2000].decode("utf-8", "replace"),
        }


class Call1:
    """A request on a connection of its own, written by hand."""

    def __init__(self, job, source, request):
        self.answer = Answer()
        self.buffer = b""
        self.stream = None
        try:
            self.stream = plain(job, source) if request.get("raw") else secure(job, source, ["http/1.1"])
            self.stream.settimeout(STALLED)
            self.stream.sendall(self.bytes(request))
        except OSError:
            self.answer.closing = True

    @staticmethod
    def bytes(request):
        if request.get("raw"):
            return request["raw"].encode("latin-1")
        body = request.get("body", "").encode() + b"x" * request.get("fill", 0)
        length = len(body) if request.get("length") is None else request["length"]
        lines = [f"{request['method']} {request['path']} HTTP/1.1", "Host: node1:8006"]
        lines += [f"{name}: {value}" for name, value in request["headers"]]
        if length or request["method"] not in ("GET", "DELETE"):
            lines.append(f"Content-Length: {length}")
        end = "\r\n" if request.get("head_only") else "\r\n\r\n"
        return ("\r\n".join(lines) + end).encode() + body

    def one_more(self):
        try:
            if self.stream:
                self.stream.sendall(b"x")
        except OSError:
            pass

    def leave(self):
        if self.stream:
            self.stream.close()

    close = leave

    def socket(self):
        return self.stream

    def read(self, seconds):
        until = time.monotonic() + seconds
        while self.stream and not self.answer.over:
            left = until - time.monotonic()
            if left <= 0:
                return self.answer
            try:
                self.stream.settimeout(left)
                piece = self.stream.recv(65536)
            except TimeoutError:
                return self.answer
            except OSError:
                piece = b""
            self.buffer += piece
            self.parse(ended=not piece)
        return self.answer

    def parse(self, ended):
        answer = self.answer
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if found:
            first, *lines = head.decode("latin-1").split("\r\n")
            answer.status = int(first.split(" ")[1])
            pairs = [line.split(":", 1) for line in lines]
            answer.headers = {name.lower(): value.strip() for name, value in pairs}
            answer.closing = answer.headers.get("connection", "").lower() == "close"
            answer.body = body
            length = answer.headers.get("content-length")
            chunked = "transfer-encoding" in answer.headers
            ended |= body.endswith(b"0\r\n\r\n") if chunked else len(body) >= int(length or 1 << 40)
        if ended:
            answer.end()


class Connection2:
    """A connection of HTTP/2."""

    def __init__(self, job, source):
        self.source = source
        self.calls = {}
        self.buffer = b""
        self.open, self.leaving = True, False
        self.stream = secure(job, source, ["h2"])
        if self.stream.selected_alpn_protocol() != "h2":
            raise OSError("HTTP/2 is off there")
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        self.flush()
        until = time.monotonic() + DEADLINE
        while self.open and not self.state.remote_settings.max_concurrent_streams < 1 << 31:
            if time.monotonic() > until:
                raise OSError("no settings came")
            self.pump(1)

    def flush(self):
        self.write(self.state.data_to_send())

    def write(self, data):
        try:
            self.stream.settimeout(STALLED)
            self.stream.sendall(data)
        except OSError:
            self.end()

    def end(self):
        self.open = False
        for call in self.calls.values():
            call.answer.closing = True
            call.answer.end()

    def pump(self, seconds):
        """Takes what comes within so many seconds, once."""
        if not self.open:
            return
        try:
            self.stream.settimeout(max(seconds, 0.001))
            piece = self.stream.recv(65536)
            if not piece:
                return self.end()
            for event in self.state.receive_data(self.without_goaway(piece)):
                self.take(event)
        except TimeoutError:
            return
        except (OSError, h2.exceptions.ProtocolError):
            return self.end()
        self.flush()

    def see_end(self):
        """GOAWAY may come behind the last answer."""
        until = time.monotonic() + DEADLINE
        while self.open and not self.leaving and time.monotonic() < until:
            self.pump(1)

    def without_goaway(self, piece):
        """Whole frames. The library takes no answers behind GOAWAY, so it does not get to see that one."""
        self.buffer += piece
        frames = b""
        while len(self.buffer) >= 9:
            length = 9 + int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < length:
                break
            frame, self.buffer = self.buffer[:length], self.buffer[length:]
            if frame[3] != GOAWAY:
                frames += frame
                continue
            self.leaving = True
            for call in self.calls.values():
                call.answer.closing = True
        return frames

    def take(self, event):
        call = self.calls.get(getattr(event, "stream_id", None))
        if call is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            call.answer.headers = dict(event.headers)
            call.answer.status = int(call.answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            call.answer.body += event.data
            self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            call.answer.end()

    def room(self):
        # nodegate lets the ninth request before a login wait, so a connection more does more harm.
        limit = min(8, self.state.remote_settings.max_concurrent_streams)
        return self.open and not self.leaving and self.state.open_outbound_streams < limit


class Call2:
    """A request on a stream."""

    def __init__(self, connection, request):
        self.answer = Answer()
        self.connection = connection
        state = connection.state
        self.number = state.get_next_available_stream_id()
        connection.calls[self.number] = self
        pseudo = [(":method", request["method"]), (":scheme", "https"), (":authority", "node1:8006")]
        head = pseudo + [(":path", request["path"])]
        head += [(name.lower(), value) for name, value in request["headers"]]
        body = request.get("body", "").encode() + b"x" * request.get("fill", 0)
        length = len(body) if request.get("length") is None else request["length"]
        if length or request["method"] not in ("GET", "DELETE"):
            head.append(("content-length", str(length)))
        if request.get("head_only"):
            return self.send_half(head)
        state.send_headers(self.number, head, end_stream=length == 0)
        self.send(body, whole=length == len(body))

    def send_half(self, head):
        """HEADERS without END_HEADERS, which the library would not write."""
        self.connection.flush()
        self.connection.state.send_headers(self.number, head)
        frame = bytearray(self.connection.state.data_to_send())
        frame[4] &= ~4
        self.connection.write(frame)

    def send(self, body, whole):
        state, connection = self.connection.state, self.connection
        moved = time.monotonic()
        while body and connection.open and not self.answer.over:
            try:
                room = min(state.local_flow_control_window(self.number), state.max_outbound_frame_size)
            except h2.exceptions.ProtocolError:
                return
            if room == 0:
                connection.flush()
                connection.pump(0.1)
                if time.monotonic() - moved > STALLED:
                    return
                continue
            state.send_data(self.number, body[:room], end_stream=whole and len(body) <= room)
            body, moved = body[room:], time.monotonic()
            connection.flush()
        connection.flush()

    def one_more(self):
        try:
            self.connection.state.send_data(self.number, b"x")
            self.connection.flush()
        except h2.exceptions.ProtocolError:
            pass

    def leave(self):
        try:
            self.connection.state.reset_stream(self.number, 8)
            self.connection.flush()
        except h2.exceptions.ProtocolError:
            pass

    def close(self):
        self.connection.stream.close()
        self.connection.end()

    def socket(self):
        return self.connection.stream if self.connection.open else None

    def read(self, seconds):
        until = time.monotonic() + seconds
        while not self.answer.over and time.monotonic() < until:
            self.connection.pump(until - time.monotonic())
        return self.answer


class Stranger:
    """Opens connections as they are needed."""

    def __init__(self, job):
        self.job = job
        self.connections = []

    def call(self, request):
        source = request.get("from") or self.job["from"]
        if self.job["protocol"] == "http/1.1" or request.get("raw"):
            return Call1(self.job, source, request)
        for connection in self.connections:
            if connection.source == source and connection.room() and not request.get("alone"):
                return Call2(connection, request)
        try:
            connection = Connection2(self.job, source)
        except OSError:
            return Refused()
        self.connections.append(connection)
        return Call2(connection, request) if connection.room() else Refused()


class Refused:
    """The server took no connection."""

    def __init__(self):
        self.answer = Answer()
        self.answer.closing = True
        self.answer.end()

    def read(self, _):
        return self.answer

    def leave(self):
        pass

    one_more = close = socket = leave


def drip(calls, pause):
    """Until a line comes: how many answers are worth waiting for."""
    while not select.select([sys.stdin], [], [], pause or 1)[0]:
        if pause:
            for call in calls:
                call.one_more()
    return int(sys.stdin.readline() or 0)


def gather(calls, wanted, seconds=DEADLINE):
    """Reads the answers as they come, until so many are there."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        waiting = [call for call in calls if not call.answer.over and call.socket()]
        if not waiting or len(calls) - len(waiting) >= wanted:
            return
        ready, _, _ = select.select({call.socket() for call in waiting}, [], [], until - time.monotonic())
        for call in waiting:
            if call.socket() in ready:
                ready.remove(call.socket())
                call.read(0.001)


def run(job):
    stranger, mode, pause = Stranger(job), job["mode"], job.get("pause") or 0
    calls = []
    for request in job["requests"]:
        call = stranger.call(request)
        calls.append(call)
        if mode == "in_turn":
            call.read(DEADLINE)
        elif mode in ("leave", "close") and not call.read(pause).over:
            call.leave() if mode == "leave" else call.close()
    wanted = len(calls) if mode == "at_once" else 0
    if mode == "hold":
        print("held", flush=True)
        wanted = drip(calls, pause)
    gather(calls, wanted)
    if job.get("until_closed"):
        for connection in stranger.connections:
            connection.see_end()
    return [call.answer.reported() for call in calls]


print(json.dumps(run(json.loads(sys.stdin.readline()))), flush=True)
