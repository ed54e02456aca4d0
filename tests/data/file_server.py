"""A small web server on 127.0.0.1 that can misbehave on purpose, for tests of downloads."""

import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How the server treats its files; requests are noted in `log` as (path, headers)."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    validators: bool = True
    break_after: list[int] = field(default_factory=list)  # bytes sent before each of the next connections breaks
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # statuses given before the file is
    content_type: str = "application/octet-stream"
    length: bool = True
    pause: float = 0.0  # seconds between blocks
    block: int = 1 << 14
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    behaviour: Behaviour

    def log_message(self, *_):
        pass

    def do_GET(self):
        b = self.behaviour
        b.log.append((self.path, dict(self.headers)))
        b.times.append(time.monotonic())
        if b.answers:
            status, headers = b.answers.pop(0)
            self._head(status, {"Content-Length": "0", **headers})
            return
        content = b.files.get(self.path.lstrip("/"))
        if content is None:
            self._head(404, {"Content-Length": "0"})
            return
        etag = f'"{sha256(content).hexdigest()[:8]}"'
        start = self._start(content, etag)
        if start is None:
            self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        headers = {"Content-Type": b.content_type} | ({"ETag": etag} if b.validators else {})
        if b.length:
            headers["Content-Length"] = str(len(content) - (start or 0))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers)
        self._body(content[start:], b.break_after.pop(0) if b.break_after else None)

    def _start(self, content, etag):
        asked = self.headers.get("Range")
        if not asked or not self.behaviour.ranges or self.headers.get("If-Range", etag) != etag:
            return 0
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        return start if start < len(content) else None

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, content, limit):
        for start in range(0, len(content), self.behaviour.block):
            part = content[start : start + self.behaviour.block]
            if limit is not None and start + len(part) > limit:
                self.wfile.write(part[: limit - start])
                self.wfile.flush()
                self.close_connection = True
                return
            try:
                self.wfile.write(part)
            except OSError:
                return
            time.sleep(self.behaviour.pause)


class FileServer:
    """Use as a context manager; `url` is its root, with a slash."""

    def __init__(self, **behaviour):
        self.behaviour = Behaviour(**behaviour)

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"behaviour": self.behaviour})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def ranges_asked(self):
        return [headers.get("Range") for _, headers in self.behaviour.log]
