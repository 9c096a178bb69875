#!/usr/bin/env python3
"""make-routes.py TABLE.tsv > NAME.routes: the compact route table of a profile.

TABLE.tsv has a header line and the columns method, path, protected, proxyto, proxyto_callback, allowtoken, auth,
download, upload, websocket. The output has a line a path: the path template, then each METHOD with its flags behind a
colon (see docs/reference/profile.md, "Route tables").
"""
import csv
import re
import sys

# The last parameter of these swallows the rest of the path, slashes included.
REST = [r"/storage/\{storage\}/content/\{volume\}$", r"/firewall/ipset/\{name\}/\{cidr\}$", r"^/config/mynetworks/\{cidr\}$"]


def flags(row):
    for letter, holds in [
        ("p", row["protected"] == "1"),
        ("n", row["proxyto"] == "node"),
        ("m", row["proxyto"] == "master"),
        ("c", row["proxyto_callback"] == "1"),
        ("t", row["allowtoken"] == "0"),
        ("o", row["auth"] == "world"),
        ("d", row["download"] == "1"),
        ("u", row["upload"] == "1"),
        ("w", row["websocket"] == "1"),
    ]:
        if holds:
            yield letter


def main():
    paths = {}
    with open(sys.argv[1], newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            path = row["path"]
            if any(re.search(rest, path) for rest in REST):
                path = re.sub(r"\{([^{}]*)\}$", r"{*\1}", path)
            letters = "".join(flags(row))
            paths.setdefault(path, []).append(row["method"] + (":" + letters if letters else ""))
    for path in sorted(paths):
        print(path, *sorted(paths[path]))


main()
