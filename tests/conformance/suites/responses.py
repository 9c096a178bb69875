"""Answers of a daemon that test the parser of Node.js. A proxy passes on what that accepts, and answers 5xx for the rest."""

import re

from .parsers import llhttp_blocks
from .wire import TIMEOUT, Reader, connect

TITLE = "Answers of the daemon, of llhttp's tests"
SOURCE = "llhttp, in aiohttp 3.12.15 (PyPI)"
PATH = "/api2/json/access/domains"


def run(bench, proxy):
    results = {}
    for number, (name, _, answer, log) in enumerate(llhttp_blocks(bench.sources / "llhttp/response", "response")):
        error = re.search(r"error code=(\d+)", log)
        status = re.search(r"^HTTP/1\.[01] (\d{3})", answer.decode("latin-1"))
        if status is None and error is None or status and status[1].startswith("1"):
            continue
        complete = log.count("message complete")
        if error is None and not (complete == 1 or ends_with_connection(answer)):
            continue
        bench.daemon.raw["domains"] = answer
        try:
            results[f"{number} {name}"] = verdict(proxy.port, status and int(status[1]), error and not complete)
        finally:
            del bench.daemon.raw["domains"]
    return results


def ends_with_connection(answer):
    """RFC 9112 section 6.3: without a length, or if `chunked` is not the last transfer coding."""
    head = answer.lower().partition(b"\r\n\r\n")[0]
    codings = re.findall(rb"transfer-encoding:(.*)", head)
    return b"content-length" not in head and not (codings and codings[-1].split(b",")[-1].strip() == b"chunked")


def verdict(port, status, refused):
    with connect(port) as stream:
        stream.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        found = Reader(stream).answer(TIMEOUT)
    if refused:
        passed_on = found is not None and found.status < 500 and found.complete
        return f"passed on with status {found.status}" if passed_on else ""
    if found is None:
        return "no answer"
    return "" if found.status == status else f"status {found.status} instead of {status}"
