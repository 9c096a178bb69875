"""Logs in, reads and writes with proxmoxer: api_client.py PORT CA SERVICE STALE_TOKEN OTHER_TOKEN

Prints one JSON object: the version of proxmoxer, the product's version, the status of every write.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import proxmoxer

PORT, CA, SERVICE, STALE, OTHER = sys.argv[1:]


class Token:
    """proxmoxer's own authentication, but with another token, or with none."""

    def __init__(self, own, token):
        self.own, self.token = own, token

    def __getattr__(self, name):
        return getattr(self.own, name)

    def __call__(self, request):
        if self.token is not None:
            request.headers["CSRFPreventionToken"] = self.token
        return request


def login():
    return proxmoxer.ProxmoxAPI(
        "127.0.0.1", port=int(PORT), user="root@pam", password="demo", verify_ssl=CA, service=SERVICE, timeout=25
    )


def write(api):
    try:
        if SERVICE == "PMG":
            api("access/users")("bob@pmg").put(comment="by proxmoxer")
        else:
            api.cluster.options.put(keyboard="de")
    except proxmoxer.ResourceException as refusal:
        return refusal.status_code
    return 200


def write_with(token):
    api = login()
    session = api._store["session"]
    session.auth = Token(session.auth, token)
    return write(api)


api = login()
answer = {"proxmoxer": proxmoxer.__version__, "version": api.version.get()["version"], "own": write(api)}
with ThreadPoolExecutor() as pool:
    tokens = {"none": None, "stale": STALE, "other": OTHER}
    answer.update(zip(tokens, pool.map(write_with, tokens.values())))
print(json.dumps(answer))
