"""Imports point one way, and heavy packages are loaded only where they are needed."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import varshare_pl

PACKAGE = Path(varshare_pl.__file__).parent
MODULES = sorted(
    p.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".") for p in PACKAGE.rglob("*.py")
)
# Files that face Lightning; whatever else imports it would load it for commands that do not need it.
FACING_LIGHTNING = (
    "varshare_pl.rollout.datamodule",
    "varshare_pl.ppo.module",
    "varshare_pl.ppo.trainer_state",
    "varshare_pl.callbacks.",
    "varshare_pl.cli.",
)

# Each package may import those on its own level or below. ``results`` reads files and knows nothing of training.
ORDER = [
    {"errors", "earlier"},
    {"paths", "text"},
    {"arguments"},
    {"random", "types", "parallel", "processes", "compilation", "compressed", "files", "yaml_files", "discovery"},
    {"envs", "run_folder", "checkpoints"},
    {"networks"},
    {"rollout", "sharing", "combiners"},
    {"learning"},
    {"ppo"},
    {"results"},
    {"trained"},
    {"callbacks"},
    {"study"},
    {"cli"},
    {"api"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
ALONE = {
    "envs": {"errors", "types", "processes"},
    "networks": {"errors", "earlier", "random", "types", "parallel", "compilation"},
    "sharing": {"errors", "types", "networks", "discovery"},
    "combiners": {"errors", "discovery"},
}
# Importing the package registers its envs and the command line starts itself; both stand outside the order.
OUTSIDE = {"__init__", "__main__"}


@functools.cache
def imported(module):
    """Names of our own and of other modules that a module's import statements load, lazily or not."""
    tree = ast.parse((PACKAGE.parent / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module == "varshare_pl":
                names |= {f"varshare_pl.{alias.name}" for alias in node.names}
            else:
                names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part(module):
    return module.split(".")[1] if "." in module else "__init__"


@pytest.mark.parametrize("module", [m for m in MODULES if part(m) not in OUTSIDE])
def test_imports_point_one_way(module):
    own = part(module)
    assert own in LEVEL, f"{own} is new: give it a level"
    for name in imported(module):
        if not name.startswith("varshare_pl.") or part(name) in (own, "__version__"):
            continue
        assert LEVEL[part(name)] < LEVEL[own], f"{module} imports {name}"
        assert part(name) in ALONE.get(own, LEVEL), f"{module} imports {name}"


def circle(imports):
    """The modules of one circle of imports, the first again at its end; empty if there is none."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other():
    # within a package too, and lazily no less: two modules that need each other are one, or one is below the other
    names = {module.removesuffix(".__init__"): module for module in MODULES}
    imports = {name: {n for n in imported(module) if n in names} - {name} for name, module in names.items()}
    assert circle(imports) == []
    assert "varshare_pl.cli.study" in imports["varshare_pl.cli.main"]
    back = imports | {"varshare_pl.cli.study": {"varshare_pl.cli.main"}}
    assert set(circle(back)) == {"varshare_pl.cli.main", "varshare_pl.cli.study"}


def test_the_order_is_that_of_the_files():
    parts = {part(m) for m in MODULES} - OUTSIDE
    assert parts <= set(LEVEL)
    assert {"envs", "networks", "rollout", "sharing", "learning", "ppo", "callbacks", "cli"} <= parts


@pytest.mark.parametrize("module", MODULES)
def test_only_files_that_face_lightning_import_it(module):
    if not module.startswith(FACING_LIGHTNING):
        assert not {name for name in imported(module) if name.split(".")[0] in ("lightning", "pytorch_lightning")}


def loaded(*modules):
    """The top-level packages that a fresh interpreter has loaded after importing these modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_the_core_runs_without_lightning():
    lazy = ("__main__", "__init__")
    core = [m for m in MODULES if not m.startswith(FACING_LIGHTNING) and not m.endswith(lazy)]
    core = [
        m
        for m in core
        if part(m) in ("envs", "networks", "rollout", "sharing", "learning", "ppo", "trained", "checkpoints")
    ]
    assert len(core) > 25
    packages = loaded(*core)
    assert "torch" in packages
    assert not packages & {"lightning", "pytorch_lightning", "wandb"}


@pytest.mark.parametrize(
    "module",
    [
        *("varshare_pl", "varshare_pl.cli.main", "varshare_pl.envs", "varshare_pl.run_folder"),
        *("varshare_pl.api.run", "varshare_pl.api.study"),
    ],
)
def test_light_modules_load_nothing_heavy(module):
    packages = loaded(module)
    assert not packages & {"torch", "lightning", "matplotlib", "pandas", "wandb", "pygame"}
    assert "varshare_pl" in packages


def test_the_plot_command_loads_no_torch():
    assert not loaded("varshare_pl.results.cli") & {"torch", "lightning"}
