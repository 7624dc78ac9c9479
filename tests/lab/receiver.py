"""A receiver of webhooks as a process: `python -m tests.lab.receiver PORT SECRET FILE`.

It appends the id of each event that it has verified to the file, then answers.
"""

import http.server
import sys
from pathlib import Path

from standardwebhooks import Webhook


def serve(port: int, secret: str, file: Path) -> None:
    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            Webhook(secret).verify(body, dict(self.headers))
            with file.open("a") as received:
                received.write(self.headers["webhook-id"] + "\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    http.server.HTTPServer(("127.0.0.1", port), Receiver).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
