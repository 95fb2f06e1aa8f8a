"""Reads what W&B wrote offline: LevelDB's log format with protobuf records inside."""

import json
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
FULL, LAST = 1, 4


@dataclass
class OfflineRun:
    """One process's part of a run."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[Any] = field(default_factory=list)
    artifacts: list[Any] = field(default_factory=list)
    exit_code: int | None = None


def records(path: Path) -> Any:
    data = path.read_bytes()
    assert data[:4] in (b":W&B", b"")
    at, content = 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # no room for a header: the rest of the block is padding
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            return  # not yet written to its end
        content += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            content = b""
            yield record


def nested(items: Any) -> dict[str, Any]:
    """Items of a record; keys may be paths."""
    values: dict[str, Any] = {}
    for item in items:
        *path, last = list(item.nested_key) or [item.key]
        inner = values
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = json.loads(item.value_json)
    return values


def read_offline(folder: Path) -> list[OfflineRun]:
    """All finished parts of the run in a run's folder, in the order in which they were started."""
    return [_read_finished(path) for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb"))]


def _read_finished(path: Path) -> OfflineRun:
    """Read one part; W&B's own process may still be writing its end."""
    deadline = time.monotonic() + 15
    while (part := _read(path)).exit_code is None:
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.05)
    return part


def _read(path: Path) -> OfflineRun:
    part = OfflineRun()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            part.run = record.run
            part.config |= nested(record.run.config.update)  # what a sweep's agent set
        elif kind == "config":
            part.config |= nested(record.config.update)
        elif kind == "history":
            part.history.append(nested(record.history.item))
        elif kind == "summary":
            part.summary |= nested(record.summary.update)
        elif kind == "artifact":
            part.artifacts.append(record.artifact)
        elif kind == "metric":
            part.metrics.append(record.metric)
        elif kind == "exit":
            part.exit_code = record.exit.exit_code
    return part
