"""Reports of studies: several methods on several suites, by hand, half finished, and at full size."""

import json
import subprocess
import sys

import pytest
from made_up_runs import write_run
from seed_runs import numbers_of, report, rows_of, write_seed

pytestmark = pytest.mark.usefixtures("drawn")

SUITES = {"mirrored": ("MirroredCartPole", 0), "made up": ("MadeUp", 3)}
LOW = 22.3  # the anchors of MirroredCartPole, to 500


def write_study(folder, pairs, seeds=(1, 2), **more):
    """``study.json``; pairs: (suite, method) with their runs in ``suite_method``."""
    rows = [{"name": f"{suite}_{method}", "suite": suite, "method": method, "args": []} for suite, method in pairs]
    plan = {"name": "made up", "variants": rows, "seeds": list(seeds), "env_steps": 400, "reference": None, **more}
    folder.mkdir(exist_ok=True)
    (folder / "study.json").write_text(json.dumps(plan))
    return folder


def write_variant(study, suite, method, finals, first=1, **options):
    """Its seeds, each with final returns in scores: of a mirrored CartPole 0 is the random policy and 1 is 500."""
    for seed, scores in enumerate(finals, first):
        final = [LOW + score * (500 - LOW) for score in scores]
        name, version = SUITES[suite]
        identity = {"suite": name, "suite_version": version, "method": method} | options
        write_seed(study / f"{suite}_{method}", seed, [final] * 4, {3: final}, final, ratio=0.5, **identity)


@pytest.fixture
def study(tmp_path):
    """Two methods on two suites, two seeds each."""
    pairs = [(suite, method) for suite in SUITES for method in ("ours", "alone")]
    write_study(tmp_path / "s", pairs, reference="alone", method_order=["ours", "alone"])
    for suite in SUITES:
        write_variant(tmp_path / "s", suite, "ours", [[0.9, 0.8], [1.0, 0.6]])
        write_variant(tmp_path / "s", suite, "alone", [[0.5, 0.8], [0.7, 0.6]])
    return tmp_path / "s"


def value(study, metric, column="value", **key):
    (row,) = numbers_of(study, metric=metric, suite="mirrored", seed="", **key)
    return float(row[column])


def test_scores_and_comparisons_by_hand(study, capsys):
    printed = report(study, capsys)
    assert value(study, "final/score", method="ours", task="") == pytest.approx((0.85 + 0.8) / 2)
    assert value(study, "final/score", "iqm", method="ours", task="") == pytest.approx((0.9 + 0.8) / 2)
    assert value(study, "final/return", method="ours", task="0") == pytest.approx(LOW + 0.95 * (500 - LOW))
    assert value(study, "worst_task/score", method="ours") == pytest.approx(0.7)
    assert value(study, "area_under_curve/score", method="alone") == pytest.approx(0.65)
    # task 0: every run of ours is better; task 1: one win, one loss, two ties
    assert value(study, "probability_of_improvement", method="ours", other="alone") == pytest.approx((1 + 0.5) / 2)
    assert value(study, "probability_of_improvement", method="alone", other="ours") == pytest.approx(0.25)
    assert value(study, "transfer/score", method="ours", other="alone", task="0") == pytest.approx(0.95 - 0.6)
    assert value(study, "transfer/score", method="ours", task="1") == pytest.approx(0, abs=1e-9)
    assert value(study, "transfer/score", method="ours", task="") == pytest.approx(0.175)
    assert value(study, "profile", method="ours", x="0.7") == 0.75
    # the suite without anchors has no scores, profile or part in an overall number
    assert {row["metric"] for row in numbers_of(study, suite="made up")} & {"final/score", "profile"} == set()
    assert numbers_of(study, suite="made up", metric="transfer/return")
    assert not numbers_of(study, suite="all suites")
    lines = printed.splitlines()
    assert lines[2].split()[:2] == ["ours", "0.85"]
    assert "2/2" in lines[2]
    assert "score: mirrored low 22.3, high 500" not in printed
    assert "mirrored low 22.3, high 500" in (study / "report" / "report.md").read_text()


def test_all_suites_together(study, capsys):
    for run in study.glob("made up_*/seed_*/run.json"):
        identity = json.loads(run.read_text()) | {"suite": "MirroredCartPole", "suite_version": 0}
        run.write_text(json.dumps(identity))
    ours = [study / "made up_ours" / f"seed_{seed}" / "summary.json" for seed in (1, 2)]
    first, second = (path.read_text() for path in ours)
    ours[0].write_text(second)
    ours[1].write_text(first)
    report(study, capsys)
    (row,) = numbers_of(study, suite="all suites", method="ours")
    assert (row["metric"], row["runs"]) == ("final/score", "4")
    assert float(row["iqm"]) == pytest.approx((0.8 + 0.8 + 0.9 + 0.9) / 4)
    assert float(row["value"]) == pytest.approx(0.825)
    # The suites are drawn apart: were they not, each draw would hold the same scores. Four times 0.9 and 0.8 give the
    # most, four times 1 and 0.6 the least.
    assert (float(row["low"]), float(row["high"])) == pytest.approx((0.8, 0.85))


def test_a_further_method_changes_no_older_number(study, capsys):
    report(study, capsys)
    before = rows_of(study / "report" / "scores.csv")
    plan = json.loads((study / "study.json").read_text())
    plan["variants"].insert(0, {"name": "mirrored_new", "suite": "mirrored", "method": "new", "args": []})
    plan["method_order"] = ["new", "ours", "alone"]
    (study / "study.json").write_text(json.dumps(plan))
    write_variant(study, "mirrored", "new", [[0.1, 1.2], [0.3, 0.0]])
    report(study, capsys)
    after = rows_of(study / "report" / "scores.csv")
    assert [row for row in after if "new" not in (row["method"], row["other"])] == before
    assert len(after) > len(before) + 100


def test_experiments_in_one_folder_are_compared_without_a_plan(study, capsys):
    (study / "study.json").unlink()
    for run in (study / "mirrored_alone").glob("seed_*/run.json"):
        run.write_text(json.dumps(json.loads(run.read_text()) | {"method": "independent"}))
    (study / "notes").mkdir()
    write_seed(study / "another", 1, [[9.0, 9.0]] * 4, final=[60.0, 60.0], suite_version=3, method="ours")
    report(study, capsys)
    rows = numbers_of(study, metric="transfer/score", suite="MirroredCartPole", method="ours", other="independent")
    assert [float(row["value"]) for row in rows] == pytest.approx([0.35, 0, 0.175], abs=1e-9)
    # two of one method go by their folders
    assert {row["method"] for row in numbers_of(study, suite="MadeUp")} == {"another", "made up_ours", "alone"}
    assert numbers_of(study, metric="probability_of_improvement", method="another", other="alone")


def test_gaps_are_marked_everywhere(tmp_path, capsys):
    study = write_study(tmp_path / "s", [("mirrored", m) for m in ("ours", "alone", "late")], seeds=[1, 2, 3, 4])
    write_variant(study, "mirrored", "ours", [[0.9, 0.8], [1.0, 0.6]])
    write_seed(study / "mirrored_ours", 3, [[9.0, 9.0]], suite="MirroredCartPole", suite_version=0, method="ours")
    write_seed(study / "mirrored_ours", 4, [[9.0, 9.0]], suite="MirroredCartPole", suite_version=0, method="ours")
    write_variant(study, "mirrored", "alone", [[0.5, 0.5]] * 2)
    write_variant(study, "mirrored", "alone", [[9.0, 9.0]], first=101)
    failures = study / "failures"
    failures.mkdir()
    for variant, seed, message in (("ours", 3, "loss is not finite"), ("alone", 4, None), ("alone", 1, "old")):
        failure = {"variant": f"mirrored_{variant}", "seed": seed, "exit_code": 1, "message": message}
        (failures / f"mirrored_{variant}__seed_{seed}.json").write_text(json.dumps(failure))
    printed = report(study, capsys)
    for line in (
        "mirrored_alone: seed_101 left out, not among the study's seeds",
        "failed: mirrored_ours, seed 3: loss is not finite",
        "unfinished, not in the scores: mirrored_ours: seed_4 at 100 of 400 env steps",
        "failed: mirrored_alone, seed 4: exit code 1",
        "not started: seed 3 of mirrored_alone",
        "not started: seeds 1 to 4 of mirrored_late",
    ):
        assert line in printed.splitlines()
    assert "seed 1: old" not in printed  # it was started again and finished
    page = (study / "report" / "report.md").read_text()
    assert "| runs | 12: 4 finished, 2 failed, 1 unfinished, 5 not started |" in page
    assert "| ours | 2/4 (1 failed) |" in page
    assert "| late | 0/4 | – |" in page
    states = {(row["method"], row["seed"]): row["value"] for row in numbers_of(study, metric="state")}
    assert [states["ours", seed] for seed in "1234"] == ["finished", "finished", "failed", "unfinished"]
    assert [states["alone", seed] for seed in "1234"] == ["finished", "finished", "not started", "failed"]
    assert value(study, "final/score", method="alone", task="") == pytest.approx(0.5)


def test_other_budgets_and_the_tuning_are_told(study, capsys):
    plan = json.loads((study / "study.json").read_text())
    tuning = {"trials": 8, "env_steps": 100_000, "seeds": [101, 102], "sampler": "tpe", "parameters": ["model.gamma"]}
    (study / "study.json").write_text(json.dumps(plan | {"tuning": tuning, "env_steps": None}))
    for run in (study / "mirrored_ours").glob("seed_*"):
        summary = json.loads((run / "summary.json").read_text())
        summary["final"] |= {"env_steps": 300, "episodes_per_task": 5}
        (run / "summary.json").write_text(json.dumps(summary))
        identity = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps(identity | {"total_env_steps": [300]}))
    printed = report(study, capsys)
    assert "mirrored: env steps are not the same for all methods: 300 (ours), 400 (alone)" in printed
    assert "episodes of the final evaluation are not the same for all methods: 5 (ours), 20 (alone)" in printed
    told = "8 trials for each method of 100,000 env steps on seeds 101, 102; sampler tpe; model.gamma"
    assert f"| tuning | {told} |" in (study / "report" / "report.md").read_text()


def test_labels_of_any_letters(tmp_path, capsys):
    label = "β̃ <0.1> & 50%_a|b"
    rows = [
        {"name": "mirrored_x", "suite": "mirrored", "method": label},
        {"name": "made up_x", "suite": "made up", "method": label},
        {"name": "made up_y", "suite": "made_up", "method": label},
    ]
    study = write_study(tmp_path / "s", [], method_order=[label, "gone"], variants=rows)
    for suite, name in (("mirrored", "x"), ("made up", "x"), ("made up", "y")):
        write_variant(study, suite, name, [[0.5, 0.5]] * 2)
    assert label in report(study, capsys)
    page = (study / "report" / "report.html").read_text()
    assert "β̃ &lt;0.1&gt; &amp; 50%_a|b" in page
    assert "<0.1>" not in page
    assert r"β̃ \textless{}0.1\textgreater{} \& 50\%\_a\textbar{}b" in (study / "report" / "tables.tex").read_text()
    assert r"50%\_a\|b" in (study / "report" / "report.md").read_text()
    assert numbers_of(study, method=label)
    assert (study / "report" / "figures" / "layers_mirrored_β_0.1_50__a_b.png").is_file()
    curves = sorted(path.name for path in (study / "report" / "figures").glob("curves_made*.png"))
    assert curves == ["curves_made_up-2.png", "curves_made_up.png"]  # of two suites


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": None}, "study.json: not the plan of a study: TypeError"),
        ({"seeds": ["x"]}, "study.json: not the plan of a study: ValueError"),
        ({"variants": [{"name": "a"}]}, "study.json: not the plan of a study: KeyError: 'suite'"),
        (
            {"variants": [{"name": n, "suite": "s", "method": "m"} for n in "ab"]},
            "two variants are method m on suite s",
        ),
        ({"variants": [{"name": "nothing", "suite": "s", "method": "m"}]}, "holds no run of its study yet"),
        (
            {"variants": [{"name": f"{s}_ours", "suite": "s", "method": s} for s in SUITES]},
            "suite s: suite is MirroredCartPole in mirrored_ours, MadeUp in made up_ours",
        ),
    ],
)
def test_plans_that_do_not_fit_end_in_one_line(study, capsys, changes, message):
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps(plan | changes))
    error = report(study, capsys, code=2)
    assert message in error
    assert error.count("\n") == 1
    assert not (study / "report").exists()


def test_a_spoilt_failure_or_a_mixed_variant_ends_in_one_line(study, capsys):
    run = study / "mirrored_ours" / "seed_2" / "run.json"
    text = run.read_text()
    run.write_text(text.replace("MirroredCartPole", "CartPole"))
    error = report(study, capsys, code=2)
    assert (
        "mirrored_ours: its runs differ in more than the seed: suite is MirroredCartPole in seed_1, CartPole" in error
    )
    run.write_text(text)
    (study / "failures").mkdir()
    (study / "failures" / "x.json").write_text('{"variant": "x"}')
    assert "x.json: not the record of a failure: KeyError: 'seed'" in report(study, capsys, code=2)


@pytest.mark.slow(seconds=80)
def test_240_runs_take_less_than_a_gigabyte(tmp_path):
    methods = [f"method_{k}" for k in range(8)]
    suites = ["ComplexCartPole", "IdenticalCartPole", "Other"]
    pairs = [(suite, method) for suite in suites for method in methods]
    study = write_study(tmp_path / "s", pairs, seeds=range(1, 11), env_steps=307_200, reference="method_1")
    for suite, method in pairs:
        for seed in range(1, 11):
            run = study / f"{suite}_{method}" / f"seed_{seed}"
            run.mkdir(parents=True)
            write_run(run, 5, 60, sharing=True)
            identity = {"suite": suite, "suite_version": 0, "method": method, "seed": seed, "solved_return": 475.0}
            names = [f"task {m}" for m in range(5)]
            identity |= {"task_names": names, "total_env_steps": [307_200]}
            (run / "run.json").write_text(json.dumps(identity))
            final = {"env_steps": 307_200, "episodes_per_task": 20, "solved": True}
            final["return_per_task"] = [480.0 + seed] * 5
            (run / "summary.json").write_text(
                json.dumps({"finished": True, "final": final, "steps_to_solve": 5120 * seed})
            )
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    code = "import re, sys; from varshare_pl.cli.main import main; code = main(['report', sys.argv[1]]); "
    code += "print(code, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    done = subprocess.run([sys.executable, "-c", code, study], capture_output=True, text=True, check=True)
    status, kilobytes = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert int(kilobytes) < 1_000_000
