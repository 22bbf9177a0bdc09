"""A receiver of what programs under test send over HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import NamedTuple


class Sent(NamedTuple):
    path: str
    body: bytes


@contextmanager
def receiving() -> Iterator[tuple[str, SimpleQueue[Sent]]]:
    """Its address, and what is posted to it, as it comes."""
    came: SimpleQueue[Sent] = SimpleQueue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert "content-encoding" not in self.headers, "compressed"
            came.put(Sent(self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()
            thread.join()
