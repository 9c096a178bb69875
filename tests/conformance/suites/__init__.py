"""The suites in the order of the table.

Each is a module with a TITLE, the SOURCE of its cases, and `run(bench, proxy)`. That returns a dict from the name of a case
to the description of its failure, which is empty if the case passed.
"""

from . import autobahn, bursts, h2spec, httplint, httpwg, parsers, responses, testssl

SUITES = {
    "h2spec": h2spec,
    "httpwg": httpwg,
    "h2load": bursts.H2load,
    "node": bursts.Node,
    "java": bursts.Java,
    "autobahn": autobahn,
    "llhttp": parsers.Llhttp,
    "gunicorn": parsers.Gunicorn,
    "llhttp-responses": responses,
    "httplint": httplint,
    "testssl": testssl,
}
