"""Requests that test the parsers of Node.js and gunicorn. A proxy answers what they accept, and refuses what they refuse."""

import re

from .wire import REFUSALS, exchange

# Both suites are of parsers, so their requests have no Host. RFC 9112 section 3.2 makes a server refuse these.
REQUEST = re.compile(
    rb"^[A-Z-]+ (?:https?://(?:[^\r\n/?# ]*@)?([^\r\n/?# ]+)\S*|\S+) HTTP/1\.1\r\n(?!(?:[^\r\n]+\r\n)*Host:)",
    re.MULTILINE | re.IGNORECASE,
)


def with_host(request):
    return REQUEST.sub(lambda found: found[0] + b"Host: " + (found[1] or b"localhost") + b"\r\n", request)


def completed(request):
    """A parser refuses a head before its end, a proxy after it."""
    return request if b"\r\n\r\n" in request else request.removesuffix(b"\r\n") + b"\r\n\r\n"


def verdict(port, request, good, refused, upgrades=False):
    """`good` requests are to be answered; then a refusal is expected, or none. After an upgrade anything may follow."""
    request = with_host(completed(request) if refused else request)
    statuses, closed = exchange(port, request, good + refused)
    answered = next((place for place, status in enumerate(statuses) if status in REFUSALS), len(statuses))
    seen = f"{' '.join(map(str, statuses)) or 'no answer'}{', closed' if closed else ''}"
    if refused:
        # An answer that does not wait for the body says nothing about it; then the connection has to be closed.
        ended = answered <= good if answered < len(statuses) else closed and answered <= good + 1
        return "" if ended else f"not refused: {seen}"
    return "" if answered >= good and (upgrades or answered == len(statuses)) else f"refused: {seen}"


def run_all(cases, port):
    return {name: verdict(port, *case) for name, case in cases}


class Llhttp:
    TITLE = "HTTP/1 requests of llhttp's tests"
    SOURCE = "llhttp, in aiohttp 3.12.15 (PyPI)"

    @staticmethod
    def run(bench, proxy):
        return run_all(llhttp_cases(bench.sources / "llhttp/request"), proxy.port)


def llhttp_cases(folder):
    for name, _, text, log in llhttp_blocks(folder, "request"):
        error = re.search(r"error code=(\d+)", log)
        # 21 and 22 are pauses for upgrades.
        refused = error is not None and error[1] not in ("21", "22", "23", "24")
        yield name, (text, log.count("message complete"), refused, error is not None and error[1] == "22")


def llhttp_blocks(folder, kind):
    """Name, metadata, bytes and expected events of each case in the Markdown files."""
    form = re.compile(r"^<!-- meta=(\{.*?\}) -->\n```http\n(.*?)\n```\n+```log\n(.*?)```", re.DOTALL | re.MULTILINE)
    for file in sorted(folder.glob("*.md")):
        text = file.read_text()
        for found in form.finditer(text):
            # Pauses and lenient modes are options of that parser.
            if re.sub(r"\s|\"noScan\":true|,", "", found[1]) != f'{{"type":"{kind}"}}':
                continue
            title = re.findall(r"^##+ (.*)$", text[: found.start()], re.MULTILINE)[-1].replace("`", "")
            yield f"{file.stem}: {title}", found[1], unescaped(found[2]), found[3]


def unescaped(text):
    text = re.sub(r"\\(\r\n|\r|\n)", "", text)
    text = re.sub(r"\r\n|\r|\n", "\r\n", text)
    for letter, byte in (("r", "\r"), ("n", "\n"), ("t", "\t"), ("f", "\f")):
        text = text.replace(f"\\{letter}", byte)
    text = re.sub(r"\\x([0-9a-fA-F]+)", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\([0-7]{1,3})", lambda found: chr(int(found[1], 8)), text)
    return text.encode("latin-1", errors="replace")


class Gunicorn:
    TITLE = "HTTP/1 requests of gunicorn's tests"
    SOURCE = "gunicorn 23.0.0 (PyPI)"

    @staticmethod
    def run(bench, proxy):
        return run_all(gunicorn_cases(bench.sources / "gunicorn"), proxy.port)


def gunicorn_cases(folder):
    for kind in ("valid", "invalid"):
        for file in sorted((folder / kind).glob("*.http")):
            expectation = file.with_suffix(".py").read_text()
            # These try an option of gunicorn, or end before the request does.
            if "cfg.set" in expectation or "NoMoreData" in expectation:
                continue
            request = file.read_bytes().replace(b"\n", b"").replace(b"\\r\\n", b"\r\n")
            request = request.replace(b"\\0", b"\0").replace(b"\\n", b"\n").replace(b"\\t", b"\t")
            yield f"{kind}/{file.stem}", (request, expectation.count('"method":'), kind == "invalid")
