"""The daemon behind all proxies: JSON, files, consoles, and the raw answers that a suite asks for."""

import asyncio
import json
import logging
import threading
from email.utils import formatdate

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

MAX_BODY = 1 << 24
CONSOLE_PORTS = range(5950, 6000)
# The library logs each invalid frame of a suite.
logging.getLogger("websockets").setLevel(logging.CRITICAL)


class Daemon:
    """Runs in a thread of its own. `raw` maps the last part of a path to the bytes of an answer."""

    def __init__(self, scripts):
        self.scripts, self.raw = scripts, {}
        self.port = self.console = self.echo = None
        self.ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self.main()), daemon=True).start()
        if not self.ready.wait(10):
            raise SystemExit("the daemon does not start")

    async def main(self):
        # Cases of invalid frames end a connection before its handshake is over, which is no error here.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        front = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = front.sockets[0].getsockname()[1]
        self.console = await self.start_console()
        sockets = await serve(echo_messages, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None)
        self.echo = sockets.sockets[0].getsockname()[1]
        self.ready.set()
        await asyncio.Event().wait()

    @staticmethod
    async def start_console():
        """A byte echo on a port that the profile allows for consoles."""
        for port in CONSOLE_PORTS:
            try:
                await asyncio.start_server(echo_bytes, "127.0.0.1", port)
                return port
            except OSError:
                continue
        raise SystemExit("no console port is free")

    async def serve(self, reader, writer):
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def answer(self, reader, writer):
        """Answers one request; false if the connection ends."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = {}
        for name, _, value in (line.partition(":") for line in lines[1:] if line):
            fields[name.lower()] = value.strip()
        path = target.split("?")[0]
        if fields.get("upgrade", "").lower() == "websocket":
            await splice(reader, writer, head, self.echo)
            return False
        if fields.get("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await read_body(reader, fields)
        if (raw := self.raw.get(path.rpartition("/")[2])) is not None:
            writer.write(raw)
            await writer.drain()
            return False
        writer.write(self.content(method, path))
        await writer.drain()
        return "close" not in fields.get("connection", "").lower()

    def content(self, method, path):
        kind, status, body = "application/json;charset=UTF-8", "200 OK", b""
        if path.endswith("websocket"):
            body = json.dumps({"data": {"port": str(self.console)}}).encode()
        elif path.startswith("/pve2/js/"):
            file = self.scripts / path.rpartition("/")[2]
            kind, body = "text/javascript", file.read_bytes() if file.is_file() else b""
            status = status if body else "404 Not Found"
        else:
            body = json.dumps({"data": {"version": "9.0", "method": method}}).encode()
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Date: {formatdate(usegmt=True)}\r\n\r\n".encode() + (b"" if method == "HEAD" else body)


async def read_body(reader, fields):
    if "chunked" in fields.get("transfer-encoding", "").lower():
        while length := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(length + 2)
        while (await reader.readline()).strip():
            pass
    else:
        await reader.readexactly(min(int(fields.get("content-length", 0)), MAX_BODY))


async def echo_bytes(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def echo_messages(socket):
    try:
        async for message in socket:
            await socket.send(message)
    except ConnectionClosed:
        pass


async def splice(reader, writer, head, port):
    onward, back = await asyncio.open_connection("127.0.0.1", port)
    back.write(head)
    await asyncio.gather(copy(reader, back), copy(onward, writer), return_exceptions=True)


async def copy(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()
