"""The findings of testssl.sh about versions, ciphers, forward secrecy and known attacks. Certificates are the same for all."""

import json
import subprocess

TITLE = "TLS, findings of testssl.sh that are no weakness"
SOURCE = "testssl.sh (Debian)"
GOOD = {"OK", "INFO"}


def run(bench, proxy):
    report = bench.folder / f"testssl-{proxy.name}.json"
    report.unlink(missing_ok=True)
    command = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1"]
    command += ["-p", "-s", "-f", "-U", "--jsonfile", report, f"localhost:{proxy.port}"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900)
    results = {}
    for found in json.loads(report.read_text()):
        if found["id"] not in ("engine_problem", "scanTime"):
            failure = "" if found["severity"] in GOOD else f"{found['severity']} {found['finding']}"
            results[found["id"]] = failure[:200]
    return results
