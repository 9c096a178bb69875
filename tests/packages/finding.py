#!/usr/bin/python3
"""finding.py LEVEL PROBE PATTERN: whether `nodegate doctor pve` has this finding. Prints the command that mends it."""
import json
import re
import subprocess
import sys

level, probe, pattern = sys.argv[1:]
shown = subprocess.run(["nodegate", "doctor", "pve", "--json"], stdout=subprocess.PIPE, check=False)
report = json.loads(shown.stdout)
errors = sum(finding["level"] == "error" for finding in report["findings"])
assert shown.returncode == (1 if errors else 0), shown.returncode
assert report["errors"] == errors and report["root"], report
for finding in report["findings"]:
    if (finding["level"], finding["probe"]) == (level, probe) and re.search(pattern, finding["what"]):
        if level in ("error", "warning"):
            assert finding["why"] and finding["mend"], finding
        print(finding["mend"] or "")
        sys.exit()
for finding in report["findings"]:
    print(finding["level"], finding["probe"], finding["what"], file=sys.stderr)
sys.exit(1)
