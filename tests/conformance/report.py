"""The table of the results, and the failures that are explained."""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from servers import PROXIES
from suites import SUITES

OWN = "nodegate"
MOST_PRINTED = 40
BEGIN, END = "<!-- {}: written by make conformance -->", "<!-- end of {} -->"


@dataclass
class Explanation:
    """Why a case fails on nodegate. `case` and `failure` are patterns as of a shell; `reference` names the section."""

    suite: str
    case: str
    failure: str
    reference: str
    reason: str

    def covers(self, case, failure):
        return fnmatch.fnmatchcase(case, self.case) and fnmatch.fnmatchcase(failure, self.failure)


class Explained:
    def __init__(self, path):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        self.entries = [Explanation(*line.split("\t")) for line in lines]

    def find(self, suite, case, failure):
        return next((entry for entry in self.of(suite) if entry.covers(case, failure)), None)

    def of(self, suite):
        return [entry for entry in self.entries if entry.suite == suite]


def failures(kept, suite, proxy=OWN):
    return kept.get(suite, {}).get(proxy, {}).get("failed", {})


def cell(kept, suite, proxy):
    found = kept[suite].get(proxy)
    return f"{found['count'] - len(found['failed']):,}" if found else "–"


def present(kept):
    return [name for name in SUITES if name in kept]


def table(kept, explained):
    rows = [f"| suite | cases | {' | '.join(PROXIES)} | explained |", f"|---|{'---:|' * (len(PROXIES) + 2)}"]
    for name in present(kept):
        count = max(proxy["count"] for proxy in kept[name].values())
        known = sum(1 for failed in failures(kept, name).items() if explained.find(name, *failed))
        cells = " | ".join(cell(kept, name, proxy) for proxy in PROXIES)
        rows.append(f"| {SUITES[name].TITLE} | {count:,} | {cells} | {known or '–'} |")
    return "\n".join(rows)


def sources(kept):
    rows = ["| suite | name | from |", "|---|---|---|"]
    rows += [f"| {SUITES[name].TITLE} | `{name}` | {SUITES[name].SOURCE} |" for name in present(kept)]
    versions = {proxy: kept[name][proxy]["version"] for name in present(kept) for proxy in kept[name]}
    text = ", ".join(f"{proxy} {versions[proxy]}" for proxy in PROXIES if proxy in versions)
    return "\n".join([*rows, "", f"The proxies were {text}."])


def explanations(kept, explained):
    """A section for each suite with explained failures: the reason, the section, and the cases."""
    text = []
    for name in present(kept):
        found = {}
        for case, failure in sorted(failures(kept, name).items()):
            if entry := explained.find(name, case, failure):
                found.setdefault((entry.reference, entry.reason), []).append(case)
        if found:
            text += ["", f"### {SUITES[name].TITLE}"]
        for (reference, reason), cases in found.items():
            text += ["", *wrapped(f"**{reference}.** {reason} ({count(cases)}: {listing(cases)})")]
    return "\n".join(text).strip()


def count(cases):
    return f"{len(cases):,} case{'' if len(cases) == 1 else 's'}"


def listing(cases, most=6):
    text = ", ".join(case if "`" in case else f"`{case}`" for case in cases[:most])
    return text + (", …" if len(cases) > most else "")


def wrapped(text, width=100):
    lines, line = [], ""
    # The name of a case stays in one line.
    for word in re.findall(r"(?:`[^`]*`|[^\s`])+", text):
        if len(line) + len(word) >= width:
            lines, line = [*lines, line], ""
        line += f" {word}" if line else word
    return [*lines, line]


def write(page, kept, explained):
    text = page.read_text()
    parts = {"table": table(kept, explained), "suites": sources(kept), "explanations": explanations(kept, explained)}
    for name, part in parts.items():
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = text.partition(begin)
        after = rest.partition(end)[2]
        text = f"{before}{begin}\n\n{part}\n\n{end}{after}"
    page.write_text(text)


def complain(kept, explained, names):
    """Prints what is not explained; 1 if there is any."""
    bad = 0
    for name in (name for name in names if name in kept):
        failed = failures(kept, name)
        unknown = [case for case in failed if not explained.find(name, case, failed[case])]
        bad += len(unknown)
        for case in unknown[:MOST_PRINTED]:
            print(f"NOT EXPLAINED {name}: {case}: {failed[case]}")
        if len(unknown) > MOST_PRINTED:
            print(f"NOT EXPLAINED {name}: {len(unknown) - MOST_PRINTED} more, see target/conformance/results.json")
        for entry in explained.of(name):
            if not any(entry.covers(*found) for found in failed.items()):
                print(f"explained, but passes: {name}: {entry.case}")
    print(f"{bad} failures are not explained" if bad else "every failure is explained")
    return 1 if bad else 0
