# A WSGI application for a prefork server: a call takes its worker for as long as its path says.
import os
import time

DEAD = float(os.environ.get("DEAD_SECONDS", "8"))


def seconds(path):
    if "/storage/dead/" in path:
        return DEAD
    if path.endswith("/config"):
        return 0.05
    return 0.005


def application(environ, start_response):
    time.sleep(seconds(environ["PATH_INFO"]))
    body = b'{"data":[]}'
    start_response("200 OK", [
        ("Content-Type", "application/json;charset=UTF-8"),
        ("Content-Length", str(len(body))),
    ])
    return [body]
