"""results.csv and thresholds.csv against checkpoints: what is damaged comes back."""

import re
import shutil

import numpy as np
import pytest

from experiments import thresholds
from experiments.online import keep
from mesa_jax import configuration
from mesa_jax.run_state import EpisodeRecord
from mesa_jax.study import audit, batches, checkpoints, files, records, resolve
from mesa_jax.study.audit import Seen
from mesa_jax.study.batches import Batch
from mesa_jax.study.runs import Chunk

EPISODES, EVERY, STEPS = 6, 2, 50
SETTINGS = configuration.override(
    resolve.resolve("navigation1", "flip", "quick"),
    {"online": {"episodes": EPISODES, "evaluate_every": EVERY}},
)
BY_STEPS = configuration.override(
    SETTINGS, {"online": {"steps": STEPS}, "physics": {"horizon": STEPS}}
)
BATCH = Batch(("unconstrained", "recovery_rl"), (0, 1, 7), 0)
OTHER = Batch(("mesa",), (0,), 2)


def seen_of(batch: Batch, episodes=EPISODES) -> Seen:
    """Records of runs that have all had so many episodes."""
    rng, runs = np.random.default_rng(len(batch.methods)), len(batch.runs())

    def some(count):
        values = rng.integers(0, 2, (6, runs, count)).astype(np.int32)
        returns = rng.normal(size=(runs, count)).astype(np.float32)
        ends = np.cumsum(np.full((runs, count), 5), axis=1, dtype=np.int32)
        return EpisodeRecord(ends, returns, *values[:5])

    counts = np.full(runs, episodes, np.int32)
    return Seen(counts, 5 * counts, some(EPISODES), some(EPISODES // EVERY))


def save(place, batch, seen, settings=SETTINGS, step=100) -> None:
    made_by = batch.made_by(settings)
    checkpoints.save(batch.checkpoints(place), step, seen._asdict(), made_by)


@pytest.fixture
def place(tmp_path):
    """A workdir of two finished batches."""
    rows = []
    for batch in (BATCH, OTHER):
        seen = seen_of(batch)
        save(tmp_path, batch, seen)
        batch.write(tmp_path, finished=True)
        rows += audit.rows_of(SETTINGS, batch, seen)
    records.RESULTS.write(tmp_path, rows)
    return tmp_path


def content(place) -> bytes:
    return (place / "results.csv").read_bytes()


def edited(number: int, edit):
    """Damages the lines of a results.csv from one on."""

    def damage(path):
        lines = path.read_text().splitlines(keepends=True)
        lines[number:] = edit(lines[number:])
        path.write_text("".join(lines))

    return damage


def flipped(column: str, line: int = 5):
    """Another digit in a column of a line."""

    def change(lines):
        at = [*records.RESULTS.columns].index(column)
        cells = lines[0].split(",")
        end = len(cells[at].rstrip("\n")) - 1
        digit = str((int(cells[at][end]) + 1) % 10)
        cells[at] = cells[at][:end] + digit + cells[at][end + 1 :]
        return [",".join(cells), *lines[1:]]

    return edited(line, change)


def bytes_at(at: int, those: bytes):
    def damage(path):
        was = path.read_bytes()
        path.write_bytes(was[:at] + those + was[at + len(those) :])

    return damage


TEXT = ("domain", "tasks", "method", "stage")
NUMBERS = [name for name in records.RESULTS.columns if name not in TEXT]
DAMAGES = {
    "no file": lambda path: path.unlink(),
    "an empty file": lambda path: path.write_text(""),
    "a header alone": edited(1, lambda lines: []),
    "another header": edited(0, lambda lines: ["a,b\n", *lines[1:]]),
    "a deleted row": edited(9, lambda lines: lines[1:]),
    "a deleted run": edited(1, lambda lines: lines[9:]),
    "a row twice": edited(9, lambda lines: [lines[0], *lines]),
    "a torn end": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no UTF-8": bytes_at(300, b"\xff"),
    "a quote": bytes_at(300, b'"'),
    "another domain": edited(
        3, lambda lines: [lines[0].replace("navigation1", "navigation2"), *lines[1:]]
    ),
    "another stage": edited(
        3, lambda lines: [lines[0].replace("train", "evaluate"), *lines[1:]]
    ),
    **{f"a digit of {name}": flipped(name) for name in NUMBERS},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_comes_back_from_the_checkpoints_and_it_is_said(
    place, capsys, damage
):
    whole, path = content(place), place / "results.csv"
    DAMAGES[damage](path)
    was = path.read_bytes() if path.exists() else None
    found = audit.check(place, SETTINGS)
    assert content(place) == whole
    assert found == audit.Checked([], [])
    assert "is written again from the checkpoints" in capsys.readouterr().out
    kept = place / "results.csv.damaged"
    assert (kept.read_bytes() if kept.exists() else None) == was
    audit.check(place, SETTINGS)
    assert capsys.readouterr().out == ""


def test_any_flipped_bit_is_found(place):
    whole, path = content(place), place / "results.csv"
    header, rng = whole.index(b"\n"), np.random.default_rng(0)
    for bit in rng.integers(8 * header, 8 * len(whole), 60):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        audit.check(place, SETTINGS)
        assert content(place) == whole or _only_blanks(damaged, whole), bit


def _only_blanks(damaged: bytes, whole: bytes) -> bool:
    """Whether the rows read alike: another kind of line end, say."""
    return damaged.split() == whole.split()


def test_a_whole_file_is_left_as_it_is(place, capsys):
    path = place / "results.csv"
    before = path.stat().st_mtime_ns
    assert audit.check(place, SETTINGS) == audit.Checked([], [])
    assert path.stat().st_mtime_ns == before and capsys.readouterr().out == ""


def test_runs_of_which_no_list_knows_are_kept(place):
    theirs = Batch(("oracle",), (3,), 0)
    foreign = audit.rows_of(SETTINGS, theirs, seen_of(theirs))
    records.RESULTS.replace(place, foreign)
    whole = content(place)
    DAMAGES["a deleted row"](place / "results.csv")
    assert audit.check(place, SETTINGS).unfinished == []
    assert content(place) == whole
    records.RESULTS.replace(place, foreign[:2])
    assert audit.check(place, SETTINGS).unfinished == [
        {"method": "oracle", "meta_seed": 0, "seed": 3, "episodes": 2}
    ]


def test_a_damaged_file_that_nothing_can_mend_is_named(tmp_path):
    (tmp_path / "results.csv").write_bytes(b"\xff")
    with pytest.raises(records.ResultsError, match=r"results\.csv can not be read"):
        audit.check(tmp_path, SETTINGS)


# Runs that are not at their end


@pytest.mark.parametrize("settings", [SETTINGS, BY_STEPS], ids=["episodes", "steps"])
def test_a_run_is_unfinished_as_its_state_says(tmp_path, settings):
    seen = seen_of(BATCH)
    episodes = np.array([6, 6, 4, 6, 1, 0], np.int32)
    seen = seen._replace(episode=episodes, env_steps=5 * episodes)
    if settings is BY_STEPS:  # ends in the middle of an episode
        seen.env_steps[[0, 1, 3]] = STEPS
        seen = seen._replace(episode=seen.episode - 1 * (seen.episode == 6))
    save(tmp_path, BATCH, seen, settings)
    BATCH.write(tmp_path, finished=False)
    records.RESULTS.write(tmp_path, audit.rows_of(settings, BATCH, seen))
    whole = content(tmp_path)
    found = audit.check(tmp_path, settings)
    runs = [(r["method"], r["seed"], r["episodes"]) for r in found.unfinished]
    assert runs == [
        *(("unconstrained", 7, 4), ("recovery_rl", 1, 1), ("recovery_rl", 7, 0))
    ]
    assert found.to_repeat == [] and content(tmp_path) == whole


def test_rows_ahead_of_the_checkpoint_are_no_damage_before_the_end(tmp_path, capsys):
    seen = seen_of(BATCH)
    BATCH.write(tmp_path, finished=False)
    records.RESULTS.write(
        tmp_path, audit.rows_of(SETTINGS, BATCH, seen)
    )  # and then a kill
    behind = seen._replace(episode=seen.episode - 2, env_steps=seen.env_steps - 10)
    save(tmp_path, BATCH, behind)
    whole = content(tmp_path)
    assert len(audit.check(tmp_path, SETTINGS).unfinished) == len(BATCH.runs())
    assert content(tmp_path) == whole and capsys.readouterr().out == ""


# Checkpoints that are gone


def test_rows_that_no_checkpoint_holds_stand_unchecked_while_they_are_whole(
    place, capsys
):
    shutil.rmtree(BATCH.checkpoints(place))
    whole = content(place)
    assert audit.check(place, SETTINGS) == audit.Checked([], [])
    assert f"holds all rows of {BATCH.name}" in capsys.readouterr().out
    assert content(place) == whole


def test_a_batch_of_which_rows_are_lost_is_run_again(place):
    shutil.rmtree(BATCH.checkpoints(place))
    DAMAGES["a deleted row"](place / "results.csv")
    found = audit.check(place, SETTINGS)
    assert found.to_repeat == [BATCH]
    assert len(found.unfinished) == len(BATCH.runs())


def test_a_batch_that_lost_its_last_checkpoint_repeats_its_end(place, capsys):
    behind = seen_of(BATCH)
    behind = behind._replace(episode=behind.episode - 1)
    checkpoints._remove(BATCH.checkpoints(place) / "100")
    save(place, BATCH, behind, step=50)
    found = audit.check(place, SETTINGS)
    assert found == audit.Checked([], [BATCH])  # its rows stand meanwhile
    assert "stand unchecked" in capsys.readouterr().out


def test_records_of_other_settings_are_refused(place):
    other = configuration.override(SETTINGS, {"recovery": {"risk_threshold": 0.77}})
    with pytest.raises(
        checkpoints.CheckpointError, match=r"risk_threshold: 0\.\d+ there, 0\.77 asked"
    ):
        audit.check(place, other)


# Rows


@pytest.mark.parametrize("seed", range(5))
def test_rows_added_chunk_by_chunk_are_all_rows(seed):
    rng, seen = np.random.default_rng(seed), seen_of(BATCH)
    whole, since, added = audit.rows_of(SETTINGS, BATCH, seen), None, []
    while since is None or (since < EPISODES).any():
        before = np.zeros(len(BATCH.runs()), int) if since is None else since
        now = np.minimum(before + rng.integers(0, 4, len(before)), EPISODES)
        some = seen._replace(episode=now)
        added += audit.rows_of(SETTINGS, BATCH, some, since)
        since = now
    assert audit._same(added, whole)


def test_a_chunk_adds_its_rows_and_reads_none(place):
    seen, before, path = seen_of(BATCH), content(place), place / records.RESULTS.file
    path.write_bytes(b"\xff no table\n")  # whoever reads it can not go on
    with pytest.raises(records.ResultsError):
        records.RESULTS.read(place)
    keep(place, SETTINGS, BATCH, Chunk(seen, seen.episode - 1))
    added = content(place).removeprefix(b"\xff no table\n").splitlines()
    assert len(added) == 2 * len(BATCH.runs())  # an episode and an evaluation
    path.write_bytes(before)
    keep(place, SETTINGS, BATCH, Chunk(seen, None))
    assert content(place) == before


# thresholds.csv

SWEEP = Batch(("recovery_rl", "mesa"), (0, 1), 0, (0.1, 0.5))


@pytest.fixture
def swept(tmp_path):
    seen = seen_of(SWEEP)
    save(tmp_path, SWEEP, seen)
    SWEEP.write(tmp_path, finished=True)
    thresholds._write_rows(tmp_path, thresholds._rows(SWEEP, seen))
    return tmp_path


SWEEP_DAMAGES = {
    "no file": lambda path: path.unlink(),
    "a deleted row": edited(3, lambda lines: lines[1:]),
    "a flipped digit": edited(2, lambda lines: [lines[0][:-2] + "9\n", *lines[1:]]),
    "an unknown method": edited(
        2, lambda lines: [lines[0].replace("mesa", "mess"), *lines[1:]]
    ),
    "no number": edited(2, lambda lines: [lines[0].replace("0,", "x,"), *lines[1:]]),
    "a number without end": edited(
        2, lambda lines: [lines[0].replace(",0,", ",1e999,"), *lines[1:]]
    ),
    "no UTF-8": bytes_at(130, b"\xff"),
    "a torn end": lambda path: path.write_bytes(path.read_bytes()[:-9]),
}


@pytest.mark.parametrize("damage", SWEEP_DAMAGES)
def test_damaged_lines_of_thresholds_come_back_too(swept, capsys, damage):
    path = swept / thresholds.TABLE.file
    whole = path.read_bytes()
    rows = thresholds.check(swept, SETTINGS)
    assert len(rows) == len(SWEEP.runs()) and capsys.readouterr().out == ""
    SWEEP_DAMAGES[damage](path)
    assert not path.exists() or path.read_bytes() != whole
    assert thresholds.check(swept, SETTINGS) == rows
    assert path.read_bytes() == whole
    assert "is written again from the checkpoints" in capsys.readouterr().out


def test_a_sweep_that_is_not_at_its_end_is_left_out_and_named(swept, capsys):
    SWEEP.write(swept, finished=False)
    assert thresholds.check(swept, SETTINGS) == []
    assert f"{SWEEP.name} is not at its end" in capsys.readouterr().out


def test_lost_lines_of_thresholds_say_what_to_do(swept):
    shutil.rmtree(SWEEP.checkpoints(swept))
    rows = thresholds.check(swept, SETTINGS)
    assert len(rows) == len(SWEEP.runs())  # they stand
    (swept / thresholds.TABLE.file).unlink()
    with pytest.raises(records.ResultsError, match=r"Delete .* to run them again"):
        thresholds.check(swept, SETTINGS)


# Lists of runs


def test_no_flipped_bit_makes_another_list_of_runs(tmp_path):
    BATCH.write(tmp_path, finished=True)
    path = BATCH.manifest(tmp_path)
    whole = path.read_bytes()
    named = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            assert batches.stored(tmp_path) == [(BATCH, True)]
        except files.DamagedFileError as error:
            assert str(path) in str(error) and "Delete it" in str(error)
            named += 1
    assert named > 0.8 * 8 * len(whole)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("[]", "no list of runs"),
        ("3", "no list of runs"),
        ("{}", "no list of runs"),
        ('{"finished": true}', "no list of runs"),
        ('{"methods": 3, "seeds": [0], "meta_seed": 0, "finished": true}', "no list"),
        (
            '{"methods": ["mess"], "seeds": [0], "meta_seed": 0, "finished": true}',
            "no method 'mess'",
        ),
        (
            '{"methods": ["mesa"], "seeds": [0], "meta_seed": 0, "finished": true}',
            "not those of its name",
        ),
    ],
)
def test_a_list_of_runs_that_is_none_is_named(tmp_path, text, why):
    path = tmp_path / "online" / "online-12345678.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(files.DamagedFileError, match=re.escape(why)) as error:
        batches.stored(tmp_path)
    assert str(path) in str(error.value)


def test_what_makes_a_batch_is_named_by_its_flags():
    made_by = BATCH.made_by(SETTINGS)
    assert made_by["--online_episodes"] == EPISODES
    assert made_by["--seeds"] == BATCH.seeds
    assert made_by["--sac_lr"] == SETTINGS.sac.lr
    assert made_by != OTHER.made_by(SETTINGS)
    for section in configuration.SECTIONS:  # every field of the settings is there
        for name in vars(getattr(SETTINGS, section)):
            assert f"--{configuration.flag_of(section, name)}" in made_by
