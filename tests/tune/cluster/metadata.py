"""A spot machine's metadata service, as Amazon's second version answers."""

import json
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any


class Metadata(BaseHTTPRequestHandler):
    """Answers a request of a spot machine."""

    taken: datetime | None = None

    def do_PUT(self) -> None:
        """Give a token to whoever names its lifetime."""
        named = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self.answer(200 if named else 400, b"token")

    def do_GET(self) -> None:
        """Tell whoever has the token."""
        known = self.headers.get("X-aws-ec2-metadata-token") == "token"
        if not known or self.path != "/latest/meta-data/spot/instance-action" or self.taken is None:
            return self.answer(404 if known else 401, b"")
        notice = {"action": "terminate", "time": self.taken.strftime("%Y-%m-%dT%H:%M:%SZ")}
        return self.answer(200, json.dumps(notice).encode())

    def answer(self, status: int, body: bytes) -> None:
        """Send it."""
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""
