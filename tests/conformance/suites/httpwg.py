"""The cases of RFC 9113 by the authors of loona, after h2spec."""

import re
import subprocess

TITLE = "HTTP/2 (RFC 9113)"
SOURCE = "httpwg-cli 0.2.5 (crates.io)"
FRAME_TIMEOUT_MS = "1500"
LINE = re.compile(r"(Running test|Test passed|Test failed): RFC 9113 :: (.*)$")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def run(bench, proxy):
    command = [bench.tools / "bin/httpwg", "--address", f"127.0.0.1:{proxy.h2c}"]
    command += ["--verbose", "--frame-timeout", FRAME_TIMEOUT_MS, "--connect-timeout", "5000"]
    done = subprocess.run(
        command, env={**bench.environment, "SEQUENTIAL": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900
    )
    text = COLOURS.sub("", done.stdout.decode(errors="replace"))
    (bench.folder / f"httpwg-{proxy.name}.log").write_text(text)
    results, failed = {}, None
    for line in text.splitlines():
        if found := LINE.search(line):
            # A case that panics has no result.
            results[found[2]] = {"Running test": "no result", "Test passed": "", "Test failed": "failed"}[found[1]]
            failed = found[2] if found[1] == "Test failed" else None
        elif failed and line.strip():
            results[failed], failed = line.strip()[:200], None
    return results
