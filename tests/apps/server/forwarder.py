"""A reverse proxy as a process of its own: python forwarder.py TARGET_PORT PREFIX [NAME=VALUE ...].

Sends its own Host, takes the prefix off, adds these headers, and prints the port that it listens at.
"""

import http.client
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TARGET, PREFIX = int(sys.argv[1]), sys.argv[2]
ADDED = dict(pair.split("=", 1) for pair in sys.argv[3:])


class Forwarder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        connection = http.client.HTTPConnection("127.0.0.1", TARGET)
        connection.request(self.command, self.path.removeprefix(PREFIX), body, kept | ADDED)
        reply = connection.getresponse()
        data = reply.read()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = forward

    def log_message(self, format: str, *args: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Forwarder)
print(server.server_port, flush=True)
server.serve_forever()
