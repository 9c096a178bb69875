#!/usr/bin/python3
"""held_connection.py PORT COMMAND…: a TLS connection asks, the command runs, the same connection asks again."""
import http.client
import ssl
import subprocess
import sys

context = ssl._create_unverified_context()
connection = http.client.HTTPSConnection("127.0.0.1", int(sys.argv[1]), timeout=20, context=context)


def ask():
    connection.request("GET", "/pve2/js/script.js")
    answer = connection.getresponse()
    answer.read()
    return answer.status


assert ask() == 200
socket = connection.sock
assert socket is not None
subprocess.run(sys.argv[2:], check=True)
assert ask() == 200
assert connection.sock is socket, "another connection"
