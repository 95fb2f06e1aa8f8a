"""A stand-in for the server that a sweep's agent asks for trials; runs themselves stay offline."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml


class SweepServer:
    """Hands out one trial after the other, the next one once the agent says that none is running.

    Args:
        sweep: The file of the sweep.
        trials: Parameters of each trial by the run's id.
    """

    def __init__(self, sweep: Path, trials: dict[str, dict[str, Any]]) -> None:
        self.config = sweep.read_text(encoding="utf-8")
        self.waiting = list(trials.items())
        self.address = ""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "agentHeartbeat(" in query:
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(self._commands(variables))}}
        if "createAgent(" in query:
            return {"createAgent": {"agent": {"id": "agent"}}}
        if "SweepWithRuns" in query:
            return {"project": {"sweep": {"id": "s", "name": "sweep", "config": self.config, "runs": {"edges": []}}}}
        return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _commands(self, variables: dict[str, Any]) -> list[dict[str, Any]]:
        if json.loads(variables["runState"]):
            return []
        if not self.waiting:
            return [{"type": "exit"}]
        run_id, parameters = self.waiting.pop(0)
        args = {name: {"value": value} for name, value in parameters.items()}
        return [{"type": "run", "run_id": run_id, "program": yaml.safe_load(self.config)["program"], "args": args}]


@contextmanager
def serving(server: SweepServer) -> Iterator[SweepServer]:
    """Answer at ``server.address`` while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"data": server.answer(asked["query"], asked.get("variables") or {})}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}"
    thread = Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
