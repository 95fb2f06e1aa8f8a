"""``python docs/make_site.py`` gathers the pages in ``build/site-source`` and has Zensical make ``site`` of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import yaml
from pages import DOCS, ROOT, filled, made_pages, navigation

SOURCE = ROOT / "build" / "site-source"
LEFT_OUT = ("*.py", "__pycache__", "worker.js", "report.html")  # the last: of that name is what report.md becomes
FROM_NETWORK = r'<script src="https://unpkg.com/iframe-worker/shim"[^>]*></script>'
TARGET = r'\b(?:href|src)="([^"#?:]+)(?:[#?][^"]*)?"'


def main(site: Path) -> int:
    """Build the site into a folder; gives the exit code, which is not 0 where a link leads nowhere."""
    gather(SOURCE)
    command = [
        sys.executable,
        "-m",
        "zensical",
        "build",
        "--strict",
        "--clean",
        "--config-file",
        str(SOURCE / "mkdocs.yml"),
    ]
    code = subprocess.run(command, check=False).returncode
    if code:
        return code
    missing = dead_links(SOURCE / "site")
    own_script(SOURCE / "site")
    print("".join(f"dead link: {line}\n" for line in missing), end="", file=sys.stderr)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(SOURCE / "site", site)
    return int(bool(missing))


def gather(source: Path) -> None:
    """Lay out all that the site is made of, in a folder that is made anew."""
    shutil.rmtree(source, ignore_errors=True)
    pages = source / "docs"
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name, text in made_pages().items():
        (pages / name).write_text(text, encoding="utf-8")
    for page in pages.rglob("*.md"):
        name = page.relative_to(pages).as_posix()
        page.write_text(filled(name, page.read_text(encoding="utf-8")), encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config["nav"] = navigation(config["nav"])
    config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT)]
    (source / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def own_script(site: Path) -> None:
    """Put our own script where the theme would load one from the network; it serves the search on disk."""
    own = f"<script>{(DOCS / 'worker.js').read_text(encoding='utf-8')}</script>"
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(FROM_NETWORK, lambda _: own, text), encoding="utf-8")


def dead_links(site: Path) -> list[str]:
    """Links, pictures and scripts that are not there, with their pages; Zensical looks at links to pages only."""
    return [
        f"{page.relative_to(site)}: {target}"
        for page in sorted(site.rglob("*.html"))
        for target in sorted(set(re.findall(TARGET, page.read_text(encoding="utf-8"))))
        if not (site / target[1:] if target[0] == "/" else page.parent / unquote(unescape(target))).exists()
    ]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT / "site"))
