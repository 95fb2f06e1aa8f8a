"""The site is built whole, opens without a network, and a link that leads nowhere stops it."""

import re

import pytest
from helpers import docs_script


@pytest.fixture(scope="module")
def make_site():
    return docs_script("make_site")


def test_what_is_not_there_is_told(make_site, tmp_path):
    (tmp_path / "a page.html").write_text("<p>")
    (tmp_path / "index.html").write_text(
        '<a href="a%20page.html#top"> <a href="gone.html"> <img src="gone.png?x=1"> <a href="#top"> <a href="https://x.y">'
    )
    assert make_site.dead_links(tmp_path) == ["index.html: gone.html", "index.html: gone.png"]


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_loads_nothing_from_the_network(make_site, tmp_path):
    pytest.importorskip("zensical")
    site = tmp_path / "site"
    assert make_site.main(site) == 0
    pages = {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert {"options.html", "run-folder.html", "changelog.html", "results/sharing/report.html"} <= pages.keys()
    for name, text in pages.items():
        assert not re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"(https?://[^\"]*)\"", text), name
    assert "data.rollout_steps" in pages["options.html"]
    assert "sharing/ratio" in pages["heartbeat.html"]
    assert "action_params" in pages["api.html"]
