#!/usr/bin/python3
"""links.py FOLDER: whether each link of the pages in a folder leads to a file of that folder."""
import pathlib
import re
import sys

folder = pathlib.Path(sys.argv[1])
pages = sorted(folder.rglob("*.md"))
links, missing = 0, 0
for page in pages:
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s#]+)", prose):
        if "://" in target:
            continue
        links += 1
        file = (page.parent / target).resolve()
        if not file.exists() or folder not in file.parents:
            missing += 1
            print(f"{page}: {target} is not installed")
print(f"{len(pages)} pages, {links} links, {missing} of them lead nowhere")
sys.exit(1 if missing or len(pages) < 60 or links < 200 else 0)
