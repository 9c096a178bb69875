"""Answers of all kinds, examined by httplint, which REDbot uses for its checks of a message."""

from httplint import HttpResponseLinter
from httplint.note import levels

from .wire import Reader, connect

TITLE = "httplint, answers without a fault"
SOURCE = "httplint 2026.10.4 (PyPI)"
SCRIPT = "/pve2/js/pvemanagerlib.js"
# nodegate delays the answer to a wrong credential.
PATIENCE = 10.0
API = "/api2/json/access/domains"
REQUESTS = {
    "file": f"GET {SCRIPT} HTTP/1.1",
    "file, HEAD": f"HEAD {SCRIPT} HTTP/1.1",
    "file, gzip": f"GET {SCRIPT} HTTP/1.1\r\nAccept-Encoding: gzip",
    "file, range": f"GET {SCRIPT} HTTP/1.1\r\nRange: bytes=0-99",
    "file, unsatisfiable range": f"GET {SCRIPT} HTTP/1.1\r\nRange: bytes=99999999-",
    "file, not modified": f"GET {SCRIPT} HTTP/1.1\r\nIf-Modified-Since: %MODIFIED%",
    "file, failed precondition": f"GET {SCRIPT} HTTP/1.1\r\nIf-Match: \"other\"",
    "no such file": "GET /pve2/js/none.js HTTP/1.1",
    "API": f"GET {API} HTTP/1.1",
    "API, HEAD": f"HEAD {API} HTTP/1.1",
    "API, gzip": f"GET {API} HTTP/1.1\r\nAccept-Encoding: gzip",
    "API, 401": "GET /api2/json/version HTTP/1.1\r\nCookie: PVEAuthCookie=wrong",
    "API, POST": f"POST {API} HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=1",
    "method unknown": "BREW / HTTP/1.1",
    "OPTIONS": "OPTIONS * HTTP/1.1",
    "target malformed": "GET /%zz HTTP/1.1",
}


def exchange(port, request):
    line, _, rest = request.partition("\r\n")
    head, _, body = rest.partition("\r\n\r\n")
    text = "\r\n".join(part for part in (line, "Host: localhost", head, "Connection: close") if part)
    with connect(port) as stream:
        stream.sendall(f"{text}\r\n\r\n{body}".encode())
        return Reader(stream).answer(PATIENCE, line.startswith("HEAD"))


def run(bench, proxy):
    results, modified = {}, b""
    for name, request in REQUESTS.items():
        answer = exchange(proxy.port, request.replace("%MODIFIED%", modified.decode()))
        if answer is None:
            results[name] = "no answer"
            continue
        modified = modified or dict(answer.fields).get(b"last-modified", b"")
        results[name] = "; ".join(faults(request, answer))
    return results


def faults(request, answer):
    """The notes of levels BAD and WARN."""
    linter = HttpResponseLinter(no_content=request.startswith("HEAD"))
    linter.process_response_topline(b"HTTP/1.1", str(answer.status).encode(), b"")
    linter.process_headers(answer.fields)
    linter.feed_content(answer.body)
    linter.finish_content(answer.complete)
    return sorted(f"{note.level.name} {note.summary}" for note in linter.notes if note.level in (levels.BAD, levels.WARN))
