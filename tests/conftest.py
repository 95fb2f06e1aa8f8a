"""Puts this folder on the import path, so that tests can import ``helpers``; spares tests what takes long."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, of those that tell: one that starts last would leave the other workers with nothing to do."""

    def seconds(item: pytest.Item) -> float:
        marker = item.get_closest_marker("slow")
        return marker.kwargs.get("seconds", 0.0) if marker else 0.0

    items.sort(key=seconds, reverse=True)


@pytest.fixture(scope="session", autouse=True)
def _ask_packages_once() -> Iterator[None]:
    """Each Trainer asks every installed package for callbacks, which takes as long as a short run."""
    from lightning.pytorch.trainer.connectors import callback_connector

    name = "_load_external_callbacks"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callback_connector, name, functools.cache(getattr(callback_connector, name)))
        yield


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What was drawn, sheet → {panel: axes}, neither laid out nor rendered, which takes seconds: files are empty."""
    from varshare_pl.results import images, style

    sheets = {}
    draw_sheet = style.draw_sheet

    def draw(title: str, panels: Any, *layout: Any) -> dict[str, Any]:
        figure = draw_sheet(title, panels, *layout)
        return dict(zip((panel.title for panel in panels), figure.axes, strict=True))

    def write(axes: dict[str, Any], path: Path) -> Path:
        sheets[path.stem] = axes
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(style, "ConstrainedLayoutEngine", Mock())
    monkeypatch.setattr(style, "draw_sheet", draw)
    monkeypatch.setattr(images, "write_image", write)
    return sheets
