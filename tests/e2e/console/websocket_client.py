"""websocket_client.py URL HEADER [ORIGIN]: opens a console with Debian's python3-websocket, prints what it echoes.

Without ORIGIN the library writes its own: http://HOST:PORT, although it speaks TLS.
"""
import ssl
import sys

import websocket

url, header, origin = (sys.argv[1:] + [""])[:3]
client = websocket.create_connection(
    url,
    timeout=30,
    header=[header],
    origin=origin or None,
    sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False},
)
client.send_binary(b"echo from the machine")
sys.stdout.write(client.recv().decode())
client.close()
