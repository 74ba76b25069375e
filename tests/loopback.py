"""A web server on this machine that misbehaves on request."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Host:
    """What a server has, how it behaves, and what it was asked.

    Args:
        files: Path to content.
    """

    def __init__(self, files):
        self.files, self.asked = files, []
        self.ranges, self.tag, self.kind = True, '"one"', "application/zip"
        self.break_after, self.statuses, self.url = [], [], ""

    def range_of(self, path):
        """Ranges that were asked for of one file, in order; "" for the whole."""
        return [span for name, span in self.asked if name == path]


@contextmanager
def serving(files):
    """Runs a server for a while."""
    host = Host(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"host": host}))
    host.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    host: Host

    def log_message(self, *args):
        pass

    def do_GET(self):
        host, span = self.host, self.headers.get("Range", "")
        host.asked.append((self.path, span))
        if host.statuses or self.path not in host.files:
            return self.send_error(host.statuses.pop(0) if host.statuses else 404)
        content, start = host.files[self.path], 0
        if span and host.ranges and self.headers.get("If-Range", host.tag) == host.tag:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
        self._send(content, start)

    def _send(self, content, start):
        host = self.host
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        for name, value in (("Content-Length", len(content) - start), ("ETag", host.tag), ("Content-Type", host.kind)):
            self.send_header(name, str(value))
        self.end_headers()
        end = start + host.break_after.pop(0) if host.break_after else len(content)
        self.wfile.write(content[start:end])
        if end < len(content):
            self.wfile.flush()
            self.connection.close()
