import math
from pathlib import Path

import pytest
from seed_runs import TABLES, curve, report, rows_of, write_seed


def test_curves_of_three_seeds_by_hand(three, capsys):
    report(three, capsys)
    # up: 10, 40, 70 and carried over the second rollout, in which none of its episodes ended
    assert curve(three, "train/return", "0") == [(100, 40, 30, 3), (200, 40, 30, 3), (300, 60, 30, 3), (400, 70, 30, 3)]
    # down: not known at first
    assert curve(three, "train/return", "1") == [(200, 50, 30, 3), (300, 50, 30, 3), (400, 50, 0, 3)]
    # the mean over tasks, of each seed first: at 200 it is (10 + 20) / 2 + level, at 400 (40 + 50 + level) / 2
    assert curve(three, "train/return") == [(200, 45, 30, 3), (300, 55, 30, 3), (400, 60, 15, 3)]
    assert curve(three, "eval/return", "1") == [(200, 4, 2, 3), (400, 80, pytest.approx(math.sqrt(700)), 3)]
    assert curve(three, "eval/return") == [(200, 3, 1.5, 3), (400, 87.5, pytest.approx(math.sqrt(147.25)), 3)]
    assert curve(three, "kl/policy")[0] == (100, pytest.approx(0.02), pytest.approx(0.01), 3)
    # over 2 networks and 2 layers the KL of a task is 4 (seed + task)
    assert curve(three, "kl/posterior", "1")[3] == (400, 12, 4, 3)
    assert curve(three, "kl/posterior")[3] == (400, 10, 4, 3)
    for steps, mean, std, runs in curve(three, "sharing/ratio", "", "critic", "head"):
        assert (mean, std, runs) == (pytest.approx(0.3), pytest.approx(0.1), 3), steps
    assert curve(three, "sharing/theta_norm", "", "actor", "layer_1")[1] == (200, 5, 2, 3)
    assert curve(three, "sharing/mu_norm", "", "actor", "layer_1")[1] == (200, 1, 0.5, 3)
    assert curve(three, "sharing/ratio")[0][1:3] == (pytest.approx(0.25), pytest.approx(0.1))


def test_the_table_and_the_scores_of_three_seeds(three, capsys):
    lines = report(three, capsys).splitlines()
    cells = [line.split() for line in lines[:6] if not line.startswith("-")]
    assert cells[1:3] == [["0", "up", "95.0", "3.0", "3"], ["1", "down", "80.0", "26.5", "3"]]
    assert cells[3:] == [["mean", "87.5", "12.1", "3"]]
    solved = "solved: 2 of 3 seeds; median env steps to solve: 400 (1 unsolved, counted as slower than any other)"
    assert lines[6] == solved
    assert lines[7] == (
        "protocol: MadeUp v3; varshare; seeds 1, 2, 3; 400 env steps; deterministic evaluation of the final weights, "
        "20 episodes a task; solved: every task's mean return >= 90; std over seeds (n - 1)"
    )
    names = ["returns.png", "sharing.png", "norms.png", "kl.png", *TABLES]
    assert lines[8:] == [str(three / "report" / name) for name in names]
    assert {path.name for path in (three / "report").iterdir()} == set(names)
    assert (three / "report" / "returns.png").read_bytes().startswith(b"\x89PNG")
    first, _, third = rows_of(three / "report" / "scores.csv")
    assert first == {
        "seed": "1",
        "run": "seed_1",
        "state": "finished",
        "env_steps": "400",
        "final_return_task_0": "95",
        "final_return_task_1": "100",
        "final_return_mean": "97.5",
        "solved": "yes",
        "steps_to_solve": "200",
        "seconds": "10",
    }
    assert (third["final_return_mean"], third["solved"], third["steps_to_solve"]) == ("74", "no", "")


def test_one_seed_has_no_band(tmp_path, capsys, drawn):
    write_seed(tmp_path / "e", 7, [[1.0, 2.0], [3.0, 4.0]], final=[95.0, 85.0], total_env_steps=[200])
    lines = report(tmp_path / "e", capsys).splitlines()
    assert lines[2].split() == ["0", "up", "95.0", "-", "1"]
    assert lines[6].startswith("solved: 0 of 1 seeds; median env steps to solve: none, too few seeds solved")
    assert "; seed 7; 200 env steps" in lines[7]
    assert "std" not in lines[7]
    assert curve(tmp_path / "e", "train/return") == [(100, 1.5, None, 1), (200, 3.5, None, 1)]
    title, axes, caption = drawn["returns"]
    assert title.endswith("varshare, 1 seed")
    assert "no band" in caption
    assert "Thin" not in caption
    assert not any(panel.collections for panel in axes.values())


@pytest.mark.parametrize(("num_tasks", "bands"), [(1, 1), (3, 3), (12, 0)])
def test_tasks_have_bands_if_they_are_few(tmp_path, capsys, drawn, num_tasks, bands):
    for seed in (1, 2):
        write_seed(tmp_path / "e", seed, [[seed] * num_tasks, [2 * seed] * num_tasks], ratio=0.5 + 0.1 * seed)
    report(tmp_path / "e", capsys)
    axes = drawn["returns"][1]
    assert len(axes["Training" if num_tasks == 1 else "Training, by task"].collections) == bands
    assert ("Training, mean over tasks" in axes) == (num_tasks > 1)
    assert len(drawn["sharing"][1]["By task, all layers"].lines) == num_tasks + (num_tasks > 1)
    assert "Band: ± 1 standard deviation over seeds (n − 1)" in drawn["sharing"][2]


def test_a_suite_that_cannot_be_solved(tmp_path, capsys):
    write_seed(tmp_path / "e", 1, [[1.0, 2.0]] * 4, final=[-5.0, 3.0], solved_return=None)
    assert "solved" not in report(tmp_path / "e", capsys)
    (row,) = rows_of(tmp_path / "e" / "report" / "scores.csv")
    assert (row["state"], row["solved"], row["steps_to_solve"]) == ("finished", "", "")


def test_a_second_report_replaces_its_own_files_only(three, capsys):
    folder = three / "report"
    report(three, capsys)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "notes.txt").write_text("mine")
    (folder / "mine.png").write_bytes(b"mine")
    (folder / "scores.csv").write_text("")
    report(three, capsys)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    mine = {"notes.txt": b"mine", "mine.png": b"mine"}
    assert after == before | mine
    for details in three.glob("seed_*/diagnostics.csv"):
        details.unlink()
    report(three, capsys)
    assert {path.name for path in folder.iterdir()} == {"returns.png", "kl.png", *TABLES, *mine}


@pytest.mark.parametrize("name", ["returns.png", "scores.csv"])
def test_a_file_is_replaced_whole_or_not_at_all(three, capsys, monkeypatch, name):
    report(three, capsys)
    before = {path.name: path.read_bytes() for path in (three / "report").iterdir()}
    replace = Path.replace

    def full_disk(part, target):
        assert part.stat().st_size > 0
        if target.name == name:
            raise OSError(28, "No space left on device", str(target))
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", full_disk)
    assert "No space left on device" in report(three, capsys, code=1)
    assert {path.name: path.read_bytes() for path in (three / "report").iterdir()} == before
