"""``make app``: the explorer's page on this machine, without a kernel, for any number of visitors."""

from __future__ import annotations

import argparse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from resteutils.explorer.page import document

__all__ = ["server"]

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def server(host: str = "127.0.0.1", port: int = 8866, results_dir: str = "") -> ThreadingHTTPServer:
    """A server of one page, made once; the browser is told to load nothing else.

    ``port`` 0 takes a free one. Raises ``OSError`` where the port is taken.
    """
    page = document(results_dir, head="<h1>ReSTE explorer</h1>").encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            if self.path.split("?")[0] not in ("/", "/index.html"):
                self.send_error(404)
                return
            self.send_response(200)
            for name, value in (
                ("Content-Type", "text/html; charset=utf-8"),
                ("Content-Length", str(len(page))),
                ("Content-Security-Policy", _POLICY),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_) -> None:
            """One line a request says nothing to whoever serves a page to themselves."""

    return ThreadingHTTPServer((host, port), Page)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m resteutils.explorer.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--results-dir", default="")
    chosen = parser.parse_args()
    try:
        serving = server(chosen.host, chosen.port, chosen.results_dir)
    except (OSError, OverflowError) as error:
        parser.error(f"{chosen.host}:{chosen.port} cannot be served ({error}); --port, or PORT=, names another")
    with serving:
        print(f"The explorer is at http://{chosen.host}:{serving.server_port}/ (Ctrl-C ends it)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
