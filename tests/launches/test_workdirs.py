"""Commands over workdirs: ls, show, compare, rm and merge."""

import json
import shutil

import numpy as np
import pytest

from experiments import ls, online
from mesa_jax.methods import COMPARED
from mesa_jax.report.statistics import bootstrap
from mesa_jax.study import audit, batches, checkpoints, inventory, switches
from mesa_jax.study.locks import locked
from mesa_jax.study.records import RESULTS
from tests.launching import (
    EPISODES,
    SEEDS,
    before_online,
    command,
    copied,
    csv_of,
    launch,
    metrics_of,
    online_folder,
    run_here,
)


def contents(place) -> dict[str, bytes]:
    """Every file of a folder, without what a lock leaves."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture
def place(finished_workdir, tmp_path):
    return copied(finished_workdir, tmp_path / "runs" / "w")


# ls and show


def test_ls_tells_bodies_runs_version_and_size_of_each_workdir(place, tmp_path, capsys):
    shutil.copytree(place, tmp_path / "runs" / "deep" / "er")
    (tmp_path / "runs" / "no_workdir").mkdir()
    assert command("ls", tmp_path / "runs") == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split("|")[1].strip() for line in lines] == ["deep/er", "w"]
    runs = f"{', '.join(COMPARED)} x seeds 0:2"
    size = sum(len(content) for content in contents(place).values())
    for line in lines:
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        assert cells[:3] == ["navigation1 published", runs, "-"]
        number, unit = cells[4].split()
        assert abs(float(number) * 1e3 ** ls.UNITS.index(unit) - size) < size / 50


def test_ls_names_runs_that_are_not_at_their_end(place, capsys):
    ((batch, _),) = batches.stored(place)
    batch.write(place, finished=False)
    assert command("ls", place.parent) == 0
    cells = capsys.readouterr().out.splitlines()[2].split("|")
    assert cells[3].strip() == "-" and "x seeds 0:2" in cells[4]


def test_ls_goes_on_where_a_workdir_is_of_another_version(place, capsys):
    (place / "config.json").write_text(
        json.dumps({"domain": 1, "tasks": 1, "preset": 1})
    )
    assert command("ls", place.parent) == 0
    assert "not readable here" in capsys.readouterr().out


def test_show_tells_what_was_asked_made_and_found(place, capsys):
    assert command("show", place) == 0
    said = capsys.readouterr().out
    assert "--domain=navigation1 --tasks=published --preset=quick" in said
    assert "--maml_steps=4" in said and "--risk_hidden=8" in said
    assert f"{', '.join(COMPARED)} x seeds 0:2" in said
    for kind in ("maml", "pooled"):
        assert f"  {kind}-meta0-" in said
    assert said.count("step 4") == 2
    assert said.count("published-test-seed") == len(SEEDS)
    rows = RESULTS.read(place)
    mine = [
        r["violation"] for r in rows if (r["method"], r["stage"]) == ("mesa", "train")
    ]
    (line,) = [x for x in said.splitlines() if x.startswith("| mesa ")]
    assert float(line.split("|")[3].split("[")[0]) == sum(mine) / len(SEEDS)


@pytest.mark.parametrize("name", ["show", "rm"])
def test_a_folder_of_something_else_is_no_workdir(tmp_path, capsys, name):
    other = tmp_path / "model"
    other.mkdir()
    (other / "config.json").write_text('{"hidden_size": 8}')
    before = contents(other)
    given = ("--kinds=all", "--yes") if name == "rm" else ()
    assert command(name, other, *given) == 2
    assert "is no workdir: it has no config.json of ours" in capsys.readouterr().err
    assert contents(other) == before and not (other / "lock").exists()


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_a_wrong_number_of_folders_is_refused(arguments, capsys):
    assert command("show", *arguments) == 2
    assert "arguments must be WORKDIR and flags" in capsys.readouterr().err


def test_workdirs_of_other_switches_are_looked_at(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(switches, "recorded", lambda: "other=1")
    assert command("ls", place.parent) == command("show", place) == 0
    assert capsys.readouterr().out.count("published") > 2
    assert command("compare", place, place) == 0
    merged = tmp_path / "merged"
    copied = shutil.copytree(place, tmp_path / "copied")
    assert command("merge", place, copied, f"--workdir={merged}") == 0
    config = (merged / "config.json").read_bytes()
    assert config == (place / "config.json").read_bytes()


# rm


def test_rm_only_says_what_would_go_unless_told(place, capsys):
    before = contents(place)
    assert command("rm", place, "--methods=mesa") == 0
    said = capsys.readouterr().out
    assert "would go; add --yes" in said and "mesa x seeds 0:2" in said
    assert contents(place) == before


def test_rm_of_nothing_named_is_refused(place, capsys):
    assert command("rm", place, "--yes") == 2
    assert "--kinds must be given (runs, estimates" in capsys.readouterr().err


def states_of(place, run) -> dict[str, np.ndarray]:
    """The stored state of one run."""
    for batch, _ in batches.stored(place):
        if run in batch.runs():
            folder = batch.checkpoints(place)
            leaves = checkpoints.read(folder, checkpoints.steps(folder)[-1])
            at = batch.runs().index(run)
            return {name: leaf[at] for name, leaf in leaves.items()}
    raise AssertionError(run)


@pytest.mark.parametrize(
    "named",
    [("--methods=mesa",), ("--seeds=1:2",), ("--methods=mesa,multi_task", "--seeds=1")],
    ids="/".join,
)
def test_rm_takes_the_runs_named_and_leaves_the_others_as_they_were(
    finished_workdir, place, named
):
    before = finished_workdir.place
    ((whole, _),) = batches.stored(before)
    methods, seeds = list(COMPARED), [0, 1]
    if named[0].startswith("--methods"):
        methods = named[0].partition("=")[2].split(",")
    if "--seeds" in named[-1]:
        seeds = [1] if ":" in named[-1] else [0]
    gone = {r for r in whole.runs() if r.method in methods and r.seed in seeds}
    assert command("rm", place, *named, "--yes") == 0
    left = [run for batch, _ in batches.stored(place) for run in batch.runs()]
    assert sorted(left) == sorted(set(whole.runs()) - gone)
    for run in left:
        mine, theirs = states_of(place, run), states_of(before, run)
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[k], theirs[k], equal_nan=True) for k in mine)
    kept = [
        row
        for row in RESULTS.read(before)
        if (row["method"], row["seed"]) not in {(r.method, r.seed) for r in gone}
    ]
    assert list(map(str, RESULTS.read(place))) == list(map(str, kept))
    settings = launch(place).study.configuration
    assert audit.check(place, settings) == audit.Checked([], [])
    stages = {batch.name for batch, _ in batches.stored(place)}
    runs = {f"{run.method}-{run.seed}" for run in left}
    theirs = [r for r in metrics_of(place) if r["stage"].startswith("online-")]
    assert {r["stage"] for r in theirs} == stages
    assert {r["run"] for r in theirs} == runs
    assert {path.name for path in place.glob("tb/online-*")} == stages
    assert {path.name for path in place.glob("tb/online-*/*")} == runs


def test_what_rm_took_is_made_anew_with_the_same_numbers(finished_workdir, place):
    assert command("rm", place, "--kinds=runs", "--yes") == 0
    assert RESULTS.read(place) == [] and not list(place.glob("checkpoints/online-*"))
    run_here(launch(place), online.main)
    assert csv_of(place) == csv_of(finished_workdir.place)


def test_rm_takes_artefacts_by_kind(place):
    assert command("rm", place, "--kinds=priors,datasets", "--yes") == 0
    found = {one.kind for one in inventory.artefacts(place)}
    assert found == {"truths"}
    assert len(RESULTS.read(place)) == len(COMPARED) * len(SEEDS) * (EPISODES + 1)


def test_rm_leaves_what_no_launch_wrote(place, capsys):
    (place / "notes.txt").write_text("mine")
    assert command("rm", place, "--kinds=all", "--yes") == 0
    assert [path.name for path in place.iterdir()] == ["notes.txt"]
    assert "it holds notes.txt, which no launch wrote" in capsys.readouterr().out


def test_rm_of_everything_leaves_no_folder(place):
    (place / "export").mkdir()
    (place / "export" / "filter.py").write_text("")
    (place / "tuning.json").write_text("{}")
    assert command("rm", place, "--kinds=all", "--yes") == 0
    assert not place.exists() and place.parent.exists()


def test_rm_leaves_a_workdir_alone_that_a_launch_uses(place, capsys):
    before = contents(place)
    with locked(place):
        assert command("rm", place, "--kinds=all", "--yes") == 2
    assert "is in use by process" in capsys.readouterr().err
    assert contents(place) == before


# compare


def table_of(path, values: dict[str, list[float]]):
    """Writes a table of results: violations by method, seeds from 0 on."""
    lines = [f"{m},{i},{x}" for m, some in values.items() for i, x in enumerate(some)]
    path.write_text("\n".join(["method,seed,violations", *lines]) + "\n")
    return path


def test_compare_pairs_by_seed_with_the_projects_interval(tmp_path, capsys):
    ours, theirs = [5.0, 1.0, 3.0, 8.0, 2.0, 6.0], [1.0, 0.0, 2.0, 2.0, 2.0, 1.0]
    a = table_of(tmp_path / "a.csv", {"mesa": ours, "context": [1.0]})
    b = table_of(tmp_path / "b.csv", {"multi_task": [1.0], "mesa": theirs})
    assert command("compare", a, b) == 0
    (line,) = [
        x for x in capsys.readouterr().out.splitlines() if x.startswith("| mesa")
    ]
    _, seeds, mine, other, difference, p, _ = (x.strip() for x in line.split("|")[1:-1])
    less = np.array(theirs) - np.array(ours)
    low, high = bootstrap(6, lambda draws: less[draws].mean(1))
    assert (seeds, mine, other) == ("6", "4.2", "1.3")
    assert difference == f"{less.mean():.1f} [{low:.1f}, {high:.1f}]"
    assert float(p) == pytest.approx(2 / 2**5)  # 5 differences are not zero


def test_compare_takes_a_table_and_a_workdir_and_leaves_both(place, tmp_path, capsys):
    rows = [r for r in RESULTS.read(place) if r["stage"] == "train"]
    counts = [
        sum(r["violation"] for r in rows if (r["method"], r["seed"]) == ("mesa", seed))
        for seed in SEEDS
    ]
    table = table_of(tmp_path / "a.csv", {"mesa": [x + 3.0 for x in counts]})
    before = contents(place)
    assert command("compare", table, place) == 0
    said = capsys.readouterr().out
    (line,) = [x for x in said.splitlines() if x.startswith("| mesa")]
    assert line.split("|")[5].strip() == "-3.0"
    assert contents(place) == before


def test_compare_pairs_methods_and_names_unknown_ones(tmp_path, capsys):
    a = table_of(tmp_path / "a.csv", {"mesa": [5.0, 1.0]})
    b = table_of(tmp_path / "b.csv", {"context": [1.0, 0.0]})
    assert command("compare", a, b) == 2
    assert "no method is in both: mesa in A, context in B" in capsys.readouterr().err
    assert command("compare", a, b, "--methods=mesa:context") == 0
    assert "| mesa, context | 2 " in capsys.readouterr().out
    assert command("compare", a, b, "--methods=mesa:mese") == 2
    assert "--methods must be one of context" in capsys.readouterr().err


def test_compare_says_where_configurations_differ(place, tmp_path, capsys):
    other = tmp_path / "runs" / "other"
    shutil.copytree(place, other)
    config = json.loads((other / "config.json").read_text())
    config["resolved"]["sac"]["lr"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    assert command("compare", place, other) == 0
    assert "--sac_lr: 0.0003 in A, 0.5 in B" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "method,seed,violations\nmesa,x,1\n"]
)
def test_compare_refuses_what_is_no_table_of_results(tmp_path, capsys, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert command("compare", path, path) == 2
    assert str(path) in capsys.readouterr().err


# merge


@pytest.fixture(scope="module")
def parts(finished_workdir, tmp_path_factory):
    """Seeds 0 and 1 of two methods, made apart and in one workdir."""
    root = tmp_path_factory.mktemp("parts")
    places = {name: root / name for name in ("first", "second", "one")}
    for name, seeds in (("first", [0]), ("second", [1]), ("one", [0, 1])):
        before_online(finished_workdir.place, places[name])
        for seed in seeds:
            run_here(launch(places[name], ("multi_task", "mesa"), (seed,)), online.main)
    return places


def leaves_of(place) -> dict[str, dict[str, np.ndarray]]:
    """The values of each newest checkpoint."""
    return {
        folder.name: checkpoints.read(folder, checkpoints.steps(folder)[-1])
        for folder in sorted(place.glob("checkpoints/*"))
    }


NOT_ALIKE = (
    "checkpoints",
    "tb",
    "report",
    "provenance.json",
    "flags.txt",
    "lock.holder",
)
NOT_ALIKE += ("summary.json", "runs.csv", "random_policy.json")  # made by the next plot


def test_parts_that_were_made_apart_merge_into_what_one_workdir_has(parts, tmp_path):
    place = tmp_path / "merged"
    sources = parts["first"], parts["second"]
    before = [contents(source) for source in sources]
    assert command("merge", *sources, f"--workdir={place}") == 0
    mine, theirs = (
        {k: v for k, v in contents(p).items() if k.split("/")[0] not in NOT_ALIKE}
        for p in (place, parts["one"])
    )
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    mine, theirs = leaves_of(place), leaves_of(parts["one"])
    assert mine.keys() == theirs.keys()
    for name, leaves in mine.items():
        assert leaves.keys() == theirs[name].keys()
        for leaf, values in leaves.items():
            np.testing.assert_array_equal(values, theirs[name][leaf])
    assert {p.relative_to(place) for p in place.glob("tb/*/*")} == {
        p.relative_to(parts["one"]) for p in parts["one"].glob("tb/*/*")
    }
    noted = [json.loads((p / "provenance.json").read_text()) for p in (place, *sources)]
    assert all(x in noted[0] for some in noted[1:] for x in some)
    assert [contents(source) for source in sources] == before
    output = run_here(launch(place, ("multi_task", "mesa")), online.main)
    assert "nothing to do" in output and csv_of(place) == csv_of(parts["one"])


def test_a_part_that_is_not_at_its_end_goes_on_after_merging(parts, tmp_path):
    second, place = tmp_path / "second", tmp_path / "merged"
    shutil.copytree(parts["second"], second)
    ((batch, _),) = batches.stored(second)
    batch.write(second, finished=False)
    folder = online_folder(second)
    shutil.rmtree(folder / str(checkpoints.steps(folder)[-1]))
    assert command("merge", parts["first"], second, f"--workdir={place}") == 0
    assert "nothing to do" not in run_here(
        launch(place, ("multi_task", "mesa")), online.main
    )
    assert csv_of(place) == csv_of(parts["one"])


def test_other_configurations_are_refused_by_name(parts, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(parts["second"], other)
    config = json.loads((other / "config.json").read_text())
    config["resolved"]["sac"]["lr"] = 0.5
    (other / "config.json").write_text(json.dumps(config))
    assert command("merge", parts["first"], other, f"--workdir={tmp_path / 'm'}") == 2
    said = capsys.readouterr().err
    assert (
        "hold different configurations" in said and "--sac_lr: 0.0003 and 0.5" in said
    )
    assert not (tmp_path / "m").exists()


def _other_row(place):
    rows = RESULTS.read(place)
    RESULTS.write(place, [rows[0] | {"return": 1234.5}, *rows[1:]])


def _other_prior(place):
    (folder,) = place.glob("checkpoints/maml-*")
    (about,) = (json.loads(p.read_text()) for p in folder.glob("4/about.json"))
    leaves = checkpoints.read(folder, 4)
    first = next(iter(leaves))
    made_by = {k.removeprefix("--"): v for k, v in about["made_by"].items()}
    made_by.pop("meaning", None)
    checkpoints.save(folder, 4, leaves | {first: leaves[first] + 1}, made_by)


def _other_data(place):
    path = next(place.glob("datasets/*/*-train-*/arrays.npz"))
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_other_row, "results.csv: method multi_task meta_seed 0 seed 0"),
        (_other_prior, "checkpoints/maml-meta0-"),
        (_other_data, "datasets/navigation1/published-train-meta0-"),
    ],
)
def test_the_same_with_other_contents_is_refused_by_name(
    parts, tmp_path, capsys, change, named
):
    other = tmp_path / "other"
    shutil.copytree(parts["first"], other)
    change(other)
    assert command("merge", parts["first"], other, f"--workdir={tmp_path / 'm'}") == 2
    said = capsys.readouterr().err
    assert "hold the same with other contents" in said and named in said
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_merge_goes_into_a_new_folder(parts, capsys):
    both = parts["first"], parts["second"]
    assert command("merge", *both, f"--workdir={parts['one']}") == 2
    assert "--workdir must be a new folder" in capsys.readouterr().err
    assert command("merge", both[0], both[0], "--workdir=/nowhere/x") == 2
    assert "arguments must be several workdirs" in capsys.readouterr().err
