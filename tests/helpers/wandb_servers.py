"""Weights & Biases servers on this machine: six kinds of dead ones, and one that takes a run's history.

``python wandb_servers.py KIND FOLDER`` trains nothing, tracks four epochs in a process of its own, and prints what
became of them as one line of JSON.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWERS = {
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "401": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    "html": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html></html>",
}
DEAD = ("refusing", "hanging", "dropping", *ANSWERS)


def dead(kind: str) -> int:
    """Start a server of that kind in a thread; return its port."""
    server = socket.create_server(("127.0.0.1", 0))
    port, held = server.getsockname()[1], []
    if kind == "refusing":
        server.close()
        return port

    def serve() -> None:
        while True:
            client, _ = server.accept()
            if kind == "hanging":
                held.append(client)
                continue
            with client:
                if kind in ANSWERS and client.recv(65536):
                    client.sendall(ANSWERS[kind])

    threading.Thread(target=serve, daemon=True).start()
    return port


class Taking(ThreadingHTTPServer):
    """Takes a run and its history while ``up``; otherwise every connection is dropped."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.up, self.rows, self.refused = True, {}, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = gzip.decompress(sent) if self.headers.get("Content-Encoding") == "gzip" else sent
        if not self.server.up:
            self.server.refused += 1
            self.close_connection = True
            return
        answer = {}
        if self.path == "/graphql":
            answer = {"data": self.graphql(json.loads(sent))}
        elif self.path.endswith("/file_stream"):
            history = json.loads(sent).get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
            self.server.rows |= {history["offset"] + n: line for n, line in enumerate(history["content"])}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST

    def graphql(self, query: dict) -> dict:
        name = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
        project = {"id": "p", "name": "reste-reproduced", "entity": {"id": "e", "name": "tester"}}
        if name and name[1] == "RunResumeStatus":
            return {"model": {**project, "bucket": None}}
        if name and name[1] == "UpsertBucket":
            run = {"id": "r", "name": query["variables"].get("name"), "displayName": "run", "historyLineCount": 0}
            return {"upsertBucket": {"bucket": {**run, "config": "{}", "project": project}, "inserted": True}}
        if name and name[1] == "CreateRunFiles":
            port = self.server.server_address[1]
            files = [{"name": n, "uploadUrl": f"http://127.0.0.1:{port}/{n}"} for n in query["variables"]["files"]]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        return {}


def main(kind: str, folder: Path) -> dict:
    server = Taking() if kind in ("outage", "lost") else None
    port = server.server_address[1] if server else dead(kind)
    os.environ |= {"WANDB_MODE": "online", "WANDB_API_KEY": "x" * 40, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    os.environ |= {"HOME": str(folder), "WANDB_SILENT": "true"}
    from resteutils.training import tracking

    tracking.START_SECONDS, tracking.FINISH_SECONDS = 5.0, 40.0 if kind == "outage" else 5.0
    said: list[str] = []
    tracker = tracking.open_tracker("first", "table3", {"lr": 0.1}, folder, say=said.append)
    for epoch in (1, 2, 3, 4):
        if server and epoch == 2:
            server.up = False
        tracker.log({"train_loss": 1 / epoch}, epoch)
        if kind == "outage" and epoch == 3:
            threading.Timer(4, lambda: setattr(server, "up", True)).start()
    tracker.finish({"top1": 50.0})
    rows = [json.loads(line)["epoch"] for _, line in sorted(server.rows.items())] if server else []
    return {"said": said, "kind": type(tracker).__name__, "taken": rows, "refused": server.refused if server else 0}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))), flush=True)
    os._exit(0)  # the servers' threads have nothing to finish
