"""The sheets of a report about sharing: over the run, and by suite, layer and task at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from varshare_pl.results.analysis import Analysis, SuiteResults
from varshare_pl.results.colors import Style, layer_styles, task_styles
from varshare_pl.results.curves import SHARING
from varshare_pl.results.heat_map import MAP, Layer, similarity_panels
from varshare_pl.results.images import Sheet
from varshare_pl.results.lines import NETWORKS
from varshare_pl.results.panels import band_panel, seed_panel
from varshare_pl.results.run_tables import Array
from varshare_pl.results.sheets import methods_panel, panel_sheet
from varshare_pl.results.style import PANEL_HEIGHT, Panel

LABELS = {
    "sharing/ratio": ("Sharing ratio", "1: all shared"),
    "sharing/theta_norm": ("Norm of the shared weights", "‖θ̄‖"),
    "sharing/mu_norm": ("Norm of the task weights", "‖μ̃ₘ‖"),
    "kl/posterior": ("KL of posterior from prior", "nats"),
    "kl/policy": ("KL of old from new policy", "nats"),
}
SEEDS = "A ring is a seed, lines join the means."


def energy_sheets(analysis: Analysis, styles: dict[str, Style]) -> Iterator[Sheet]:
    """The final sharing energy of each layer on every suite, of each method that has one."""
    suites = [results.suite.label for results in analysis.suites]
    expected = analysis.study.expected_head_energy
    panels = []
    for method in analysis.study.methods if len(suites) > 1 else ():
        found = [results.layers[method].energy if method in results.layers else {} for results in analysis.suites]
        for network in NETWORKS:
            theory = np.array([expected.get(suite, np.nan) for suite in suites]) if network == "actor" else None
            title = f"{styles[method].name}: {network}"
            panels.append(_seed_panel(title, "sharing energy (1: all shared)", suites, network, found, theory))
    caption = f"Final sharing energy of each layer, by suite. {SEEDS}"
    if expected:
        caption += " Crosses: what the study's file expects of the actor's head."
    height = max(PANEL_HEIGHT, 0.5 + 0.26 * len(suites))
    yield from panel_sheet("sharing_by_suite", "Sharing energy by suite", panels, 2, caption, height=height)


def curve_sheets(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    """Sharing, norms and KLs of whole networks over the run."""
    label = results.suite.label
    of = "Mean over networks, layers and tasks; "
    mean, interval = "line and band: mean ± std over seeds.", "line and band: IQM over seeds with its 95 % interval."
    for name, title, centre, seconds, caption in (
        ("sharing", "Sharing, norms and KL", "mean", False, of + mean),
        ("sharing_iqm", "Sharing, norms and KL, IQM", "iqm", False, of + interval),
        ("sharing_seconds", "Sharing, norms and KL over wall time", "iqm", True, of + interval),
    ):
        panels = [
            methods_panel(results, styles, metric, *LABELS[metric], centre, seconds=seconds) for metric in SHARING
        ]
        folded = name != "sharing"
        yield from panel_sheet(f"{name}_{label}", f"{title}: {label}", panels, 3, caption, label, folded=folded)


def layer_sheets(results: SuiteResults, styles: dict[str, Style]) -> Iterator[Sheet]:
    """Layers and tasks, for each method that has residuals: over the run, and their norms and cosines at its end."""
    for method in results.bands:
        yield from _over_the_run(results, method, styles[method].name)
        yield from _residuals(results, method, styles[method].name)
        yield from _similarity(results, method, styles[method].name)


def _over_the_run(results: SuiteResults, method: str, shown: str) -> Iterator[Sheet]:
    suite, bands = results.suite, results.bands[method]
    panels = []
    for metric in ("sharing/ratio", "sharing/mu_norm"):
        for network in NETWORKS:
            found = [band for band in bands if (band.metric, band.network) == (metric, network)]
            looks = layer_styles([band.layer for band in found])
            lines = [(b.layer.replace("_", " "), look, b) for b, look in zip(found, looks, strict=True)]
            title, ylabel = LABELS[metric]
            panels.append(band_panel(f"{network.capitalize()}: {title.lower()}", ylabel, lines, "mean", "Layer"))
    for metric in ("sharing/ratio", "kl/posterior"):
        found = [band for band in bands if band.metric == f"{metric}_by_task" and band.task is not None]
        looks = task_styles(len(suite.names))
        lines = [(suite.names[b.task], looks[b.task], b) for b in found if b.task is not None]
        title, ylabel = LABELS[metric]
        panels.append(band_panel(f"{title}, by task", ylabel, lines, "mean", "Task"))
    caption = "Mean ± std over seeds; by layer: mean over tasks; by task: ratio, mean over layers; KL, their sum."
    title = f"Layers and tasks: {shown} on {suite.label}"
    order = [panels[i] for i in (0, 1, 4, 2, 3, 5)]
    yield from panel_sheet(f"layers_{suite.label}_{method}", title, order, 3, caption, suite.label, folded=True)


def _residuals(results: SuiteResults, method: str, shown: str) -> Iterator[Sheet]:
    suite, norms = results.suite, results.layers[method].norms
    by_task = [{layer: values[:, [m]] for layer, values in norms.items()} for m in range(len(suite.names))]
    panels = [_seed_panel(network.capitalize(), "‖μ̃ₘ‖", suite.names, network, by_task) for network in NETWORKS]
    title = f"Norms of the tasks' own weights: {shown} on {suite.label}"
    height = max(PANEL_HEIGHT, 0.5 + 0.26 * len(suite.names))
    caption = f"Final norm of each task's residual, by layer. {SEEDS}"
    name = f"residuals_{suite.label}_{method}"
    yield from panel_sheet(name, title, panels, 2, caption, suite.label, height=height, folded=True)


def _similarity(results: SuiteResults, method: str, shown: str) -> Iterator[Sheet]:
    suite, cosines = results.suite, results.layers[method].cosines
    title = f"Cosine of the tasks' own weights: {shown} on {suite.label}"
    caption = (
        "Final cosine between the residuals of two tasks, mean over seeds; tasks that are alike stand side by side."
    )
    panels = similarity_panels(cosines, suite.names) if cosines else []
    name = f"similarity_{suite.label}_{method}"
    yield from panel_sheet(name, title, panels, 2, caption, suite.label, height=MAP, folded=True)


def _seed_panel(
    title: str,
    xlabel: str,
    rows: Sequence[str],
    network: str,
    found: Sequence[dict[Layer, Array]],
    expected: Array | None = None,
) -> Panel | None:
    """A row for each name with the values (num_runs, 1) of its layers; None where the network has none."""
    layers = list(dict.fromkeys(layer for values in found for layer in values if layer[0] == network))
    none = np.zeros((0, 1))
    lines = [
        (layer.replace("_", " "), look, [values.get((network, layer), none)[:, 0] for values in found])
        for (_, layer), look in zip(layers, layer_styles([layer for _, layer in layers]), strict=True)
    ]
    return seed_panel(title, xlabel, rows, lines, expected) if lines else None
