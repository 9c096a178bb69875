"""The cases of the Autobahn testsuite, driven by kosoku: the original runner needs Python 2.

nodegate ends the WebSocket and echoes bytes, as its consoles do. The others pass frames on to a WebSocket server.
"""

import asyncio

from kosoku import FailureError, run_fuzzingclient

TITLE = "Autobahn, cases 1 to 7, 9 and 10"
SOURCE = "kosoku 0.1.0 (PyPI)"
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
CONSOLE = "/api2/json/nodes/localhost/qemu/100/vncwebsocket?port=5900&vncticket=any"


def run(bench, proxy):
    url = f"ws://127.0.0.1:{proxy.ws}{CONSOLE}"
    try:
        results = asyncio.run(run_fuzzingclient(url, CASES, None, concurrency=4))
    except FailureError as failure:
        results = failure.results
    return {result.case_id: "" if result.passed else description(result) for result in results}


def description(result):
    text = f"{result.behavior.value}/{result.behavior_close.value}: {result.result} {result.result_close}"
    same = "same bytes, " if same_bytes(result) else ""
    return same + " ".join(text.split())[:200]


def same_bytes(result):
    """Whether the messages have the expected bytes, regardless of their types and bounds."""
    received = joined(result.received, "latin-1")
    expected = (result.expected or {}).values()
    return any(joined(events, coding) == received for events in expected for coding in ("latin-1", "utf-8"))


def joined(events, coding):
    """Each run of messages as one, each other event as it is. kosoku shows bytes as the characters with their numbers."""
    text = []
    for kind, *content in events:
        if kind != "message":
            text.append((kind, *content))
            continue
        data = content[0] if isinstance(content[0], bytes) else content[0].encode(coding, errors="replace")
        if text and text[-1][0] == "message":
            data = text.pop()[1] + data
        text.append(("message", data))
    return [event for event in text if event != ("message", b"")]
