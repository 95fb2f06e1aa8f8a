"""Colours, dashes and markers: legible on white, told apart by colour-blind readers and in grey."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest

from varshare_pl.results.colors import (
    COLORS,
    DASHES,
    GREY,
    MARKERS,
    METHODS,
    layer_styles,
    marked,
    method_styles,
    task_styles,
)

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
BLIND = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def linear(color):
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(color):
    """Of a colour on white, as WCAG 2 has it."""
    return 1.05 / (TO_XYZ[1] @ linear(color) + 0.05)


def lab(rgb):
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1.0, 1.08883]
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_reference_numbers_are_right():
    assert contrast("black") == pytest.approx(21)
    assert contrast("#F0E442") < 1.4  # the yellow that a method had
    assert lab(linear("white")) == pytest.approx([100, 0, 0], abs=0.02)


def test_every_colour_has_a_contrast_of_three_on_white():
    looks = [*task_styles(3), *task_styles(50), *layer_styles([f"layer_{i}" for i in range(9)])]
    looks += method_styles({name: name for name in [*METHODS, *"abcdefghijklmnopqrst"]}, {}, {}).values()
    for color in (*COLORS, GREY, *(look.color for look in looks)):
        assert contrast(color) >= 3, color


@pytest.mark.parametrize("kind", BLIND)
def test_colour_blind_readers_tell_colours_apart(kind):
    seen = [lab(np.array(BLIND[kind]) @ linear(color)) for color in COLORS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 20  # 2.3 is just noticed, between patches


def test_dashes_and_markers_tell_lines_apart_in_grey():
    labels = [*METHODS, *(f"other_{i}" for i in range(len(COLORS) * len(DASHES) - len(METHODS)))]
    looks = method_styles({name: name for name in labels}, {}, {}).values()
    assert len({(str(look.dashes), look.marker) for look in looks}) == len(labels)
    for few in (task_styles(8), layer_styles([f"layer_{i}" for i in range(8)])):
        assert len({(str(look.dashes), look.marker) for look in few}) == 8
    places = [marked(look, 100) for look in task_styles(8)]
    assert all(len(place) >= 6 for place in places)
    assert len({place[0] for place in places}) == len(MARKERS)  # none hides another's


def test_a_method_looks_the_same_whatever_it_is_called():
    alone = method_styles({"paco": "paco"}, {}, {})["paco"]
    renamed = method_styles({"varshare": "varshare", "ours": "paco", "base": "shared"}, {}, {})["ours"]
    assert renamed[:3] == alone[:3]
    combined = method_styles({"pcgrad": "shared pcgrad", "shared": "shared"}, {}, {})
    again = method_styles({"surgery": "shared pcgrad", "one net": "shared"}, {}, {})
    assert combined["pcgrad"][:3] == again["surgery"][:3]
    assert combined["shared"][:3] == again["one net"][:3]


def test_variants_of_a_method_have_colours_of_their_own():
    looks = method_styles({"strong": "varshare", "varshare": "varshare", "weak": "varshare"}, {}, {})
    assert looks["varshare"].color == COLORS[0]
    assert len({look.color for look in looks.values()}) == 3
    assert method_styles({"strong": "varshare", "weak": "varshare"}, {}, {})["strong"].color == COLORS[0]


def test_names_and_colours_that_a_study_gives():
    looks = method_styles({"ours": "varshare", "paco": "paco"}, {"ours": "VarShare"}, {"paco": "tab:red"})
    assert [look.name for look in looks.values()] == ["VarShare", "paco"]
    assert looks["paco"].color == "tab:red"
