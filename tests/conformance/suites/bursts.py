"""Many requests at once over one HTTP/2 connection, by three clients that are not nodegate's."""

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATH = "/api2/json/access/domains"


def counted(total, failed, what):
    return {f"request {number}": what if number <= failed else "" for number in range(1, total + 1)}


class H2load:
    TITLE = "HTTP/2 bursts: 20 connections, 30 streams each"
    SOURCE = "h2load (Debian)"

    @staticmethod
    def run(bench, proxy):
        total = 20_000
        command = ["h2load", f"-n{total}", "-c20", "-m30", f"https://127.0.0.1:{proxy.port}{PATH}"]
        text = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600).stdout
        good = re.search(r"(\d+) 2xx", text)
        protocol = re.search(r"Application protocol: (\S+)", text)
        if protocol is None or protocol[1] != "h2":
            return counted(total, total, "no HTTP/2")
        return counted(total, total - int(good[1]), "no answer 200")


def client(command, total):
    text = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600).stdout
    good = re.search(r"^(\d+) answered", text, re.MULTILINE)
    return counted(total, total - (int(good[1]) if good else 0), "no answer 200")


class Node:
    TITLE = "Node http2: 60 requests at once, ten times"
    SOURCE = "Node.js (Debian)"

    @staticmethod
    def run(bench, proxy):
        command = ["node", HERE / "burst.mjs", f"https://localhost:{proxy.port}", PATH, bench.lab.authority, "10", "60"]
        return client(command, 600)


class Java:
    TITLE = "Java HttpClient: 30 requests at once, five times"
    SOURCE = "OpenJDK (Debian)"

    @staticmethod
    def run(bench, proxy):
        command = ["java", HERE / "Burst.java", f"https://localhost:{proxy.port}{PATH}", "5", "30"]
        return client(command, 150)
