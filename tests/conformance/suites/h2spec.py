"""h2spec in its strict mode."""

import subprocess
import xml.etree.ElementTree as xml

TITLE = "h2spec, strict"
SOURCE = "h2spec 2.6.0 (GitHub)"


def run(bench, proxy):
    program = bench.tools / "bin/h2spec"
    if not program.exists():
        return None
    report = bench.folder / f"h2spec-{proxy.name}.xml"
    command = [program, "--strict", "--tls", "--insecure", "--host", "127.0.0.1", "--port", str(proxy.port)]
    command += ["--path", "/api2/json/access/domains", "--timeout", "5", "--junit-report", report]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=1800)
    results = {}
    for case in xml.parse(report).iter("testcase"):
        name = f"{case.get('package')}: {case.get('classname')}"
        failure = next((child for child in case if child.tag in ("failure", "error")), None)
        if case.find("skipped") is None:
            results[name] = "" if failure is None else " ".join("".join(failure.itertext()).split())[:200]
    return results
