"""The page of all options is made from the parser: nothing is missing, nothing in it is out of date."""

import re

import pytest
from helpers import docs_script

from varshare_pl.cli import main


@pytest.fixture(scope="module")
def pages():
    return docs_script("pages")


@pytest.fixture(scope="module")
def page(pages):
    return pages.options_page()


def test_every_option_of_a_run_has_a_row_with_its_default(pages, page, capsys):
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (?:`(.*?)`)? \|", page, re.MULTILINE))
    assert main.main(["fit", "--print_config"]) == 0
    import yaml

    printed = yaml.safe_load(capsys.readouterr().out)
    flat = {}
    for key, value in printed.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": below for name, below in value.items()}
        else:
            flat[key] = value
    assert set(rows) == set(flat) | {"config"}
    assert len(rows) > 50
    for key, value in flat.items():
        shown = rows[key]
        if key == "model.sharing":
            assert value["class_path"].endswith(f".{shown}")
        else:
            assert yaml.safe_load(shown) == value, key


def test_every_row_explains(page):
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    assert all(len(row) == 4 and len(row[3]) > 8 for row in rows), [row for row in rows if len(row) != 4]


def test_every_command_has_its_help(pages, page):
    commands = set(re.findall(r"^### varshare ([a-z-]+)", page, re.MULTILINE)) | {"fit", "validate", "describe"}
    with pytest.raises(main.ConfigError) as told:
        main._dispatch(["none"])
    assert commands == set(re.findall(r"[a-z-]+", str(told.value).partition(";")[2].removesuffix(" are"))) - {"and"}
    assert "--stochastic" in page
