"""Flags: seeds, one flag a setting, what is refused before anything is computed."""

import dataclasses
import importlib
import pathlib
import re
import signal
import subprocess
import sys

import jax
import pytest
from absl import app

from experiments import flags, run, whole
from mesa_jax import configuration
from mesa_jax.domains import DOMAINS
from mesa_jax.errors import UserError
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.study import files, memory, resolve, store
from mesa_jax.study.presets import PRESETS
from mesa_jax.study.study import Asked, Study

ROOT = pathlib.Path(__file__).parents[2]
LAUNCHES = ("run", "collect", "meta_train", "online", "plot")
WITH_SETTINGS = LAUNCHES[:-1]
FIELDS = [
    (section, field)
    for section, kind in configuration.SECTIONS.items()
    for field in dataclasses.fields(kind)
]


@pytest.fixture
def defined():
    """The flags of experiments.run, and none of them afterwards."""
    app.define_help_flags()
    before = set(flags.FLAGS)
    flags.define_launch(methods=",".join(METHODS), replays=True)
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()


@pytest.fixture
def start(defined, monkeypatch):
    """Runs a main with a command line in this process; returns the exit code."""

    def starter(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["experiments.run", *arguments])
        with pytest.raises(SystemExit) as ended:
            flags.run(main)
        return ended.value.code or 0

    return starter


@pytest.fixture
def stops(monkeypatch):
    """A launch that is not refused fails the test, and computes nothing."""
    monkeypatch.setattr(run, "collect", lambda *_: pytest.fail("it went on"))


def _launch(start, *arguments) -> tuple[Study, Asked]:
    """What a command line resolves to."""
    resolved = []
    assert start(lambda: resolved.append(flags.launch()), *arguments) == 0
    return resolved[0]


def _configured(start, *arguments) -> configuration.Configuration:
    return _launch(start, *arguments)[0].configuration


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("10", range(10)),
        ("1", [0]),
        ("3:8", range(3, 8)),
        ("0:1", [0]),
        ("2147483647:2147483648", [2**31 - 1]),
        (" 2 ", [0, 1]),
        ("1,3,5", [1, 3, 5]),
        ("5, 1,5", [1, 5]),
        ("0:3,7", [0, 1, 2, 7]),
        ("7,0:3,2:4", [0, 1, 2, 3, 7]),
        ("1e1", range(10)),
        ("1_0", range(10)),
    ],
)
def test_seeds_are_a_count_or_a_list_of_ranges_and_seeds(text, seeds):
    assert flags.parse_seeds(text) == tuple(seeds)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "x",
        "5:5",
        "8:3",
        "-2:3",
        "",
        ":",
        "3:",
        "1.5",
        "1,",
        ",",
        "1,-2",
        "1,x",
        "0:3,3:3",
        "0:90000,100000:190000",
        "²",
        "1:²",
        "2147483648",
        "100001",
        "0:99999999999",
        "1" * 5000,
        "2147483648:2147483649",
    ],
)
def test_other_seeds_are_refused_with_what_is_allowed(text):
    with pytest.raises(SettingError, match="seeds must be a count of at least 1, or a"):
        flags.parse_seeds(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("10000", 10_000), ("1e4", 10_000), ("10_000", 10_000), ("1.2e3", 1200)),
        *(("-1", -1), (" 7 ", 7), ("1.5", None), ("1e-1", None), ("1e400", None)),
        *(("0e999999999", None), ("nan", None), ("inf", None), ("²", None)),
        *(("", None), ("x", None), ("9" * 5000, None), ("1e-999999999", None)),
    ],
)
def test_a_whole_number_is_read_where_it_is_exactly_one(text, number):
    assert whole.integer(text) == number


def test_whole_numbers_may_be_written_short_in_every_kind_of_flag(start, tmp_path):
    given = "--maml_steps=1e4", "--data_transitions=10_000", "--meta_seed=1e1"
    given += "--risk_hidden=1e1,3_2", "--seeds=1e1,1_1"
    study, asked = _launch(start, f"--workdir={tmp_path}", *given)
    settings = study.configuration
    assert (settings.maml.steps, settings.data.transitions) == (10_000, 10_000)
    assert settings.risk.hidden == (10, 32)
    assert (study.meta_seed, asked.seeds) == (10, (10, 11))


@pytest.mark.parametrize("flag", ["maml_steps", "meta_seed"])
def test_what_is_no_whole_number_is_refused_by_name(start, tmp_path, capsys, flag):
    assert start(run.main, f"--workdir={tmp_path / 'w'}", f"--{flag}=1.5") == 1
    said = capsys.readouterr().err
    assert f"--{flag}=1.5" in said and "is no whole number (10000, 10_000" in said


NOT_LATENT = ("conditioning", "learner", "inner_clip")  # not with latent weights
# the horizon says the one; with the composite policy the other is refused
NOT_BESIDE = {("risk", "discount"), ("constraint", "kind")}


def test_every_setting_can_be_given_as_a_flag(start, tmp_path):
    names = "halfcheetah_disabled", "partial", "paper"  # it has several backends
    settings, arguments = resolve.resolve(*names), []
    for section, field in FIELDS:
        value = getattr(getattr(settings, section), field.name)
        if field.name in NOT_LATENT or (section, field.name) in NOT_BESIDE:
            continue
        if field.metadata["choices"]:
            others = [x for x in field.metadata["choices"] if x != value]
            value = "mjx" if "mjx" in others else others[0]
        elif isinstance(value, tuple):
            value = (*value, 8)
        else:
            # or no episode ends, or too few bodies calibrate a threshold
            more = {"steps": 2000, "heldout_bodies": 30}.get(field.name, 1)
            value = value + more if isinstance(value, int) else value / 2 or 0.1
        settings = configuration.override(settings, {section: {field.name: value}})
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        arguments.append(f"--{configuration.flag_of(section, field.name)}={text}")
    flags_of_names = zip(("domain", "tasks", "preset"), names, strict=True)
    arguments += [f"--{flag}={name}" for flag, name in flags_of_names]
    arguments += [f"--workdir={tmp_path}", "--methods=mesa"]
    assert _configured(start, *arguments) == settings


def test_what_latent_weights_do_not_go_with_can_be_given_as_flags(start, tmp_path):
    given = ("--risk_conditioning=encoded", "--maml_learner=first_order")
    given += ("--maml_inner_clip=0.5", "--methods=mesa")
    settings = _configured(start, f"--workdir={tmp_path}", *given)
    assert settings.risk.conditioning == "encoded"
    assert (settings.maml.learner, settings.maml.inner_clip) == ("first_order", 0.5)


def test_another_agent_can_be_given_as_a_flag(start, tmp_path):
    given = ("--constraint_kind=rcpo", "--constraint_weight=7", "--methods=mesa")
    settings = _configured(start, f"--workdir={tmp_path}", *given)
    assert (settings.constraint.kind, settings.constraint.weight) == ("rcpo", 7.0)
    assert resolve.of_method(settings, "mesa").constraint == settings.constraint


def test_a_launch_without_flags_takes_the_defaults(start, tmp_path):
    launch = _launch(start, f"--workdir={tmp_path / 'w'}")
    quick = resolve.resolve("navigation1", "published", "quick")
    everything = tuple(METHODS)
    assert launch == (Study(tmp_path / "w", quick, 0), Asked(everything, (0, 1, 2)))


def test_methods_seeds_and_meta_seed_are_taken_from_the_flags(start, tmp_path):
    given = ("--methods=mesa,recovery_rl", "--seeds=4:6", "--meta_seed=7")
    study, asked = _launch(start, f"--workdir={tmp_path}", *given)
    assert asked.methods == ("recovery_rl", "mesa")
    assert asked.seeds == (4, 5)
    assert study.meta_seed == 7


def test_a_fault_is_taken_from_its_flag_and_kept_with_a_workdir(start, tmp_path):
    place, given = tmp_path / "w", ("--tasks=flip", "--fault=dead:onset=7,part=1/0")
    study, _ = _launch(start, f"--workdir={place}", *given)
    healthy = resolve.resolve("navigation1", "flip", "quick")
    struck = dataclasses.replace(healthy, fault="dead:part=0/1,onset=7")
    assert study.configuration == struck  # in one order, however it was written
    with store.opened(place, struck):
        pass
    assert _configured(start, f"--workdir={place}") == struck
    assert _configured(start, f"--workdir={place}", *given) == struck


@pytest.mark.parametrize("text", ["", "none", " none "])
def test_no_fault_is_told_by_an_empty_text(start, tmp_path, text):
    place = tmp_path / "w"
    healthy = resolve.resolve("navigation1", "published", "quick")
    assert _configured(start, f"--workdir={place}", f"--fault={text}") == healthy
    struck = dataclasses.replace(healthy, fault="dead:part=1")
    with store.opened(place, struck):
        pass
    healed = _configured(start, f"--workdir={place}", f"--fault={text}")
    assert configuration.differences(struck, healed) == [("fault", "dead:part=1", "")]


def test_replays_are_saved_where_asked(start, tmp_path):
    assert not _launch(start, f"--workdir={tmp_path}")[1].save_replay
    assert _launch(start, f"--workdir={tmp_path}", "--save_replay")[1].save_replay


def test_a_domain_brings_its_own_physics_and_a_flag_changes_it(start, tmp_path):
    given = f"--workdir={tmp_path}", "--domain=cartpole_length", "--horizon=50"
    given = *given, "--collector=sticky", "--methods=mesa"
    settings = _configured(start, *given)
    assert (settings.physics.frame_skip, settings.physics.horizon) == (2, 50)
    assert settings.collect.collector == "sticky"


def test_a_workdir_brings_its_own_configuration(start, tmp_path):
    place = tmp_path / "w"
    settings = resolve.resolve("navigation1", "flip", "paper")
    settings = configuration.override(settings, {"maml": {"inner_steps": 2}})
    with store.opened(place, settings):
        pass
    assert _configured(start, f"--workdir={place}") == settings
    same = "--tasks=flip", "--preset=paper", "--maml_inner_steps=2"
    assert _configured(start, f"--workdir={place}", *same) == settings
    changed = _launch(start, f"--workdir={place}", "--maml_inner_steps=3")[
        0
    ].configuration
    assert configuration.differences(settings, changed) == [("maml_inner_steps", 2, 3)]


def test_only_what_was_asked_for_differs_from_a_workdirs_configuration(start, tmp_path):
    place = tmp_path / "w"
    with store.opened(place, resolve.resolve("navigation1", "flip", "quick")):
        pass
    asked = _configured(start, f"--workdir={place}", "--preset=paper")
    assert asked == resolve.resolve("navigation1", "flip", "paper")


@pytest.mark.parametrize("value", [500, 501])  # the preset's, and another
def test_a_method_hears_what_was_asked_for_though_it_is_the_preset(
    start, tmp_path, value
):
    usual = resolve.resolve("navigation1", "published", "quick")
    own = resolve.of_method(usual, "context").online.readapt_every
    assert (usual.online.readapt_every, own) == (500, 10)
    given = f"--online_readapt_every={value}", "--methods=context"
    study, _ = _launch(start, f"--workdir={tmp_path / 'w'}", *given)
    assert study.of("context").configuration.online.readapt_every == value
    assert study.of("context").configuration.online.readapt_transitions == 20


def test_a_later_launch_uses_what_was_asked_for_before(start, tmp_path):
    place, given = tmp_path / "w", ("--online_readapt_every=500", "--methods=context")
    first, _ = _launch(start, f"--workdir={place}", *given)
    with store.opened(place, first.configuration):
        pass
    assert files.read_json(place / store.CONFIG)["asked"] == {
        "online": {"readapt_every": 500}
    }
    later, _ = _launch(start, f"--workdir={place}", "--methods=context")
    assert later.of("context").configuration.online.readapt_every == 500
    with store.opened(place, later.configuration):
        pass


def test_a_later_launch_that_asks_another_thing_of_one_method_is_refused(
    start, tmp_path
):
    place = tmp_path / "w"
    with store.opened(place, resolve.resolve("navigation1", "published", "quick")):
        pass
    before = (place / store.CONFIG).read_bytes()
    later = _configured(start, f"--workdir={place}", "--online_readapt_every=500")
    with pytest.raises(store.WorkdirError) as refused, store.opened(place, later):
        pass
    told = str(refused.value).splitlines()[1:]
    assert told == [
        "  --online_readapt_every of context: 10 there, 500 asked",
        "  --online_readapt_every of mesa_context: 10 there, 500 asked",
    ]
    assert (place / store.CONFIG).read_bytes() == before


def test_a_later_launch_may_ask_for_what_every_method_has(start, tmp_path):
    place = tmp_path / "w"
    with store.opened(place, resolve.resolve("navigation1", "rotation", "quick")):
        pass
    given = "--tasks=rotation", "--risk_discount=0.8", "--quality_rollouts=256"
    later = _configured(start, f"--workdir={place}", *given)
    assert later.risk.discount == 0.8
    with store.opened(place, later):
        pass
    assert files.read_json(place / store.CONFIG)["asked"] == {}


BAD = {
    "--domain=navigatoin1": "--domain must be one of ",
    "--tasks=flop": "(nearest: flip), got 'flop'",
    "--preset=qiuck": "(nearest: quick), got 'qiuck'",
    "--methods=mesa,messa": "(nearest: mesa), got 'messa'",
    "--methods=": "--methods must be a list of ",
    "--seeds=0": "--seeds must be a count of at least 1, or a range",
    "--seeds=": "--seeds must be a count of at least 1, or a range",
    "--seeds=5:5": "--seeds must be a count of at least 1, or a range",
    "--seeds=-3": "--seeds must be a count of at least 1, or a range",
    "--seeds=2147483648:2147483649": "--seeds must be ",  # beyond int32
    "--meta_seed=-1": "--meta_seed must be at least 0 and below ",
    "--meta_seed=4294967296": "--meta_seed must be ",  # beyond uint32
    "--maml_inner_steps=-1": "--maml_inner_steps must be in [0, 1_000], got -1.",
    "--maml_support_least=201": (
        "--maml_support_least must be at most maml_support_size (200), got 201."
    ),
    "--maml_inner_lr=nan": "--maml_inner_lr must be in (0, inf), got nan.",
    "--risk_encoder=64,12": "--risk_encoder must be with a last width that 8 divides",
    "--maml_num_tasks=25": "--maml_num_tasks must be at most data_train_bodies (24)",
    "--pooled_lr=inf": "--pooled_lr must be in (0, inf), got inf.",
    "--recovery_risk_threshold=1": "--recovery_risk_threshold must be in (0, 1), got 1",
    "--online_relabel=both": "--online_relabel must be one of proposed, executed, got",
    "--risk_hidden=": "--risk_hidden must be a list of 1 to 64 numbers, got ()",
    "--risk_hidden=64,x": "--risk_hidden must be integers, as 64,64, got '64,x'.",
    "--risk_hidden=64,0": "--risk_hidden must be in [1, 10_000], got (64, 0).",
    "--data_adaptation=20000": "must be at most data_test_transitions (10000), got",
    "--frame_skip=0": "--frame_skip must be in [1, 1_000], got 0.",
    "--frame_skip=2": "--frame_skip must be 1 in this domain, got 2.",
    "--backend=spring": "--backend must be one of closed_form in this domain, got 'sp",
    "--backend=sprung": "--backend must be one of closed_form, spring, mjx, positional",
    "--collector=sacc": "--collector must be one of random, sticky, sac, mixed, got ",
    "--fault=dad:part=1": "--fault must be ",
    "--fault=dead:part=2": "--fault must be of action parts below 2 in navigation1",
    "--fault=length:severity=2": "--fault must be of the kinds dead, weak, stuck, ",
    "--workdir=": "--workdir must be given",
    "--workdir=gs://bucket/x": "--workdir must be a path of this machine's file system",
    "--workdir=s3://bucket/x": "--workdir must be a path of this machine's file system",
    "--workdir=file:///tmp/x": "--workdir must be a path of this machine's file system",
    "--workdir=gs:/bucket/x": "--workdir must be a path of this machine's file system",
    "--workdir=host:/x": "--workdir must be a path of this machine's file system",
    "--workdir=~no-such-user/x": "--workdir must be a path without ~, since that home",
    "seeds=3": "must be flags, as --name=value, got 'seeds=3'.",
}


@pytest.mark.parametrize("argument", list(BAD))
def test_a_bad_value_ends_with_2_and_one_message_before_anything_is_done(
    start, stops, tmp_path, monkeypatch, capsys, argument
):
    monkeypatch.chdir(tmp_path)
    assert start(run.main, "--workdir=w", argument) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("\nError: ")
    assert BAD[argument] in printed.err
    assert len(printed.err.splitlines()) == 2  # the blank line and the message
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("domain", "method", "more", "message"),
    [
        ("halfcheetah_disabled", "system_id", (), "--risk_conditioning must be"),
        ("navigation1", "context", ("--data_train_bodies=1",), "--data_train_bodies"),
        ("navigation1", "context", ("--risk_weights=latent",), "--risk_conditioning"),
    ],
)
def test_a_row_whose_own_settings_can_not_be_is_refused_at_once(
    start, stops, tmp_path, capsys, domain, method, more, message
):
    place = tmp_path / "w"
    more = (*more, "--maml_num_tasks=1", f"--methods=mesa,{method}")
    assert start(run.main, f"--workdir={place}", f"--domain={domain}", *more) == 2
    assert message in capsys.readouterr().err
    assert not place.exists()


ABSURD = {
    int: ("-1", "2147483648", "99999999999", "1e11", "1.5"),
    float: ("nan", "-inf"),
}
ABSURD |= {tuple: ("²", "-1", "99999999999", "9" * 5000, "", "nan", "8," * 99 + "8")}
ABSURD[float] += "1e400", "1e39", "1e300", "-1e-300", "x"


@pytest.mark.parametrize(
    ("section", "field"),
    [(s, f) for s, f in FIELDS if not isinstance(f.default, str)],
    ids=lambda x: getattr(x, "name", x),
)
def test_absurd_numbers_are_refused_before_anything_is_written(
    start, stops, tmp_path, capsys, section, field
):
    place, flag = tmp_path / "w", configuration.flag_of(section, field.name)
    for value in ABSURD[type(field.default)]:
        given = f"--workdir={place}", f"--{flag}={value}", "--methods=mesa"
        assert start(run.main, *given) in (1, 2)
        said = capsys.readouterr().err
        assert flag in said and "Traceback" not in said
    assert not place.exists()


def test_minus_zero_is_zero(start, tmp_path):
    given = f"--workdir={tmp_path / 'w'}", "--methods=mesa", "--recovery_lr=-0.0"
    assert repr(_configured(start, *given).recovery.lr) == "0.0"


@pytest.mark.parametrize(
    "given",
    [
        ("--online_episodes=10000000", "--seeds=5"),
        ("--online_steps=1000000000", "--online_episodes=10000000", "--seeds=5"),
        ("--online_episodes=9000000", "--horizon=100000"),
        ("--data_transitions=100000000", "--data_train_bodies=10000"),
        ("--quality_decision_states=1000000", "--quality_rollouts=1000000"),
        ("--risk_hidden=10000,10000,10000", "--risk_ensemble_size=100"),
        ("--horizon=100000", "--data_transitions=90000", "--collector=sticky"),
        ("--sac_hidden=10000,10000,10000", "--seeds=100"),
        (
            "--rounds_transitions=1000000",
            "--rounds_count=100",
            "--data_train_bodies=100",
        ),
        (
            "--maml_support_size=1000000",
            "--maml_num_tasks=10000",
            "--data_train_bodies=10000",
            "--data_transitions=1",
        ),
    ],
    ids=lambda given: given[0],
)
def test_settings_that_fit_no_memory_together_are_refused_by_name(
    start, stops, tmp_path, capsys, given
):
    place = tmp_path / "w"
    assert start(run.main, f"--workdir={place}", "--methods=mesa", *given) == 2
    said = capsys.readouterr().err
    assert f"{given[0].split('=')[0]} must be so small that" in said
    assert not place.exists()


def test_data_that_fit_no_memory_are_refused_without_methods_too():
    """As of a launch that only collects."""
    settings = resolve.resolve("navigation1", "published", "quick")
    domain = DOMAINS["navigation1"].make("published", settings.physics)
    memory.require_room_of_methods(settings, domain.spec, (), 0)
    many = {"data": {"transitions": 10**8, "train_bodies": 1000}}
    with pytest.raises(SettingError, match=r"^data_transitions must be so small"):
        more = configuration.override(settings, many)
        memory.require_room_of_methods(more, domain.spec, (), 0)


def test_the_presets_fit_memory_with_many_seeds(start, tmp_path):
    many = "--seeds=100", "--methods=mesa,multi_task,context"
    for name, entry in DOMAINS.items():
        for preset in PRESETS:
            names = f"--domain={name}", f"--preset={preset}"
            assert entry.task_distributions
            _launch(start, f"--workdir={tmp_path / 'w'}", *names, *many)


def test_a_missing_workdir_ends_with_2_and_one_message(start, capsys):
    assert start(run.main) == 2
    assert capsys.readouterr().err.startswith("\nError: --workdir must be given")


@pytest.mark.parametrize("argument", ["--maml_steps=many", "--maml_stepz=5"])
def test_what_absl_refuses_names_the_flag(start, tmp_path, capsys, argument):
    assert start(run.main, f"--workdir={tmp_path / 'w'}", argument) != 0
    assert argument.split("=")[0].lstrip("-") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_ends_with_2_and_the_difference(
    start, stops, tmp_path, capsys
):
    place = tmp_path / "w"
    settings = resolve.resolve("navigation1", "published", "quick")
    with store.opened(place, settings):
        pass
    before = {path: path.read_bytes() for path in place.iterdir()}
    assert start(run.main, f"--workdir={place}", "--tasks=flip", "--sac_lr=0.5") == 2
    message = capsys.readouterr().err
    assert "--tasks: 'published' there, 'flip' asked" in message
    assert "--sac_lr: 0.0003 there, 0.5 asked" in message
    assert {path: path.read_bytes() for path in place.iterdir()} == before


PATHS = {  # by launch, its flags that take one
    "plot": ["workdir"],
    "tabulate": ["workdirs"],
    "benchmark": ["output", "yardstick"],
}


@pytest.mark.parametrize("flag", [flag for some in PATHS.values() for flag in some])
def test_every_path_is_expanded_and_no_address_is_one(
    monkeypatch, tmp_path, flag, capsys
):
    given = flags.flags.FlagValues()
    kind = flags.flags.DEFINE_list if flag == "workdirs" else flags.flags.DEFINE_string
    kind(flag, None, "a path", flag_values=given)
    monkeypatch.setattr(flags, "FLAGS", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    given(["launch", f"--{flag}=~/a"])
    assert flags.path(flag) == tmp_path / "a"
    assert flags.paths(flag) == [tmp_path / "a"]
    for text in ("gs://bucket/a", "http://host/a", "hdfs:/a", "~nobody-here/a", ""):
        given(["launch", f"--{flag}={text}"])
        with pytest.raises(SettingError, match=f"^{flag} must be "):
            flags.path(flag)
    for text in ("C:/a", "a:b", "x~/a", "gs"):
        given(["launch", f"--{flag}={text}"])
        assert flags.path(flag) == pathlib.Path(text)


def test_several_paths_are_each_expanded(monkeypatch, tmp_path):
    given = flags.flags.FlagValues()
    flags.flags.DEFINE_list("workdirs", None, "paths", flag_values=given)
    monkeypatch.setattr(flags, "FLAGS", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    given(["launch", "--workdirs=~/a, b"])
    assert flags.paths("workdirs") == [tmp_path / "a", pathlib.Path("b")]


def test_a_launch_works_in_the_home_folder_that_it_was_told(
    start, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert _launch(start, "--workdir=~/runs/a")[0].folder == tmp_path / "runs" / "a"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_device_ends_with_2_before_anything_is_written(
    start, tmp_path, monkeypatch, capsys
):
    def none():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", none)
    place = tmp_path / "w"
    assert start(run.main, f"--workdir={place}") == 2
    assert "\nError: JAX found no device (JAX_PLATFORMS is " in capsys.readouterr().err
    assert not place.exists()


def _raiser(error):
    def main():
        raise error

    return main


def kinds_of(error):
    return {error}.union(*(kinds_of(kind) for kind in error.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(kinds_of(UserError), key=str))
def test_every_mistake_of_the_user_becomes_one_message(start, capsys, kind):
    error = kind("x", 1, "at least 2") if kind is SettingError else kind("of a kind")
    assert start(_raiser(error)) == 2
    printed = capsys.readouterr().err
    assert str(error) in printed
    assert "Traceback" not in printed


def test_a_mistake_of_ours_is_not_hidden(defined, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments.run"])
    with pytest.raises(KeyError, match="of ours"):
        flags.run(_raiser(KeyError("of ours")))


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "SIGTERM")]
)
def test_an_interruption_says_where_things_are_and_how_to_go_on(
    start, capsys, tmp_path, monkeypatch, number, word
):
    def stopped(*_):
        files.write_json(tmp_path / "w/checkpoints/maml-1/10/manifest.json", {})
        signal.raise_signal(number)
        raise AssertionError("the signal was not heard")

    monkeypatch.setattr(run, "collect", stopped)
    assert start(run.main, f"--workdir={tmp_path / 'w'}") == 128 + number
    message = capsys.readouterr().err
    assert word in message
    assert f"checkpoint is in {tmp_path / 'w'};\nthe same command goes on" in message
    assert "Traceback" not in message


def test_an_interruption_before_the_first_checkpoint_promises_none(
    start, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(run, "collect", lambda *_: _raiser(KeyboardInterrupt())())
    assert start(run.main, f"--workdir={tmp_path / 'w'}") == 130
    assert "There is no checkpoint yet; the same command" in capsys.readouterr().err
    assert start(_raiser(KeyboardInterrupt())) == 130  # where there is no workdir
    assert capsys.readouterr().err == "\nInterrupted.\n"


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, str, str]]:
    """Exit code and output of --help of every launch, started all at once."""
    begun = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"experiments.{name}", "--help"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in LAUNCHES
    }
    outputs = {name: process.communicate() for name, process in begun.items()}
    return {name: (begun[name].returncode, *outputs[name]) for name in LAUNCHES}


@pytest.mark.parametrize("name", LAUNCHES)
def test_help_shows_the_docstring_with_its_command(helps, name):
    code, out, err = helps[name]
    assert code in (0, 1), err  # absl ends --help with 1
    assert err == ""
    lines = [line.strip() for line in out.splitlines()]
    docstring = importlib.import_module(f"experiments.{name}").__doc__
    wanted = [line.strip() for line in docstring.splitlines() if line.strip()]
    assert [line for line in wanted if line not in lines] == []
    assert any(f"python -m experiments.{name} " in line for line in wanted)


@pytest.mark.parametrize("name", LAUNCHES)
def test_help_lists_the_flags_that_are_in_the_docstrings_command(helps, name):
    docstring = importlib.import_module(f"experiments.{name}").__doc__
    words = [w.split("=")[0] for w in docstring.split() if w.startswith("--")]
    assert "--workdir" in words
    assert [w for w in words if f"  {w}:" not in _flag_lines(helps[name][1])] == []


@pytest.mark.parametrize("name", WITH_SETTINGS)
def test_help_lists_every_setting_with_meaning_and_range(helps, name):
    text = " ".join(helps[name][1].split())
    for section, field in FIELDS:
        assert f"--{configuration.flag_of(section, field.name)}: " in text
        allowed = ", ".join(field.metadata["choices"]) or field.metadata["interval"]
        assert f"{field.metadata['meaning']} ({allowed}; default " in text


NAMES = [
    ("navigation1", "flip", "quick"),
    ("navigation2", "wind", "paper"),
    ("halfcheetah_disabled", "partial", "paper"),
    ("ant_disabled", "impaired", "quick"),
    ("cartpole_length", "published", "published_risk"),
]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: " ".join(map(str, names)))
def test_help_has_the_defaults_of_what_is_asked_for(start, capsys, names):
    """In any order of the flags; of methods those that are others."""
    found = resolve.resolve(*names)
    words = zip(("domain", "tasks", "preset"), names, strict=True)
    given = ["--help", *(f"--{flag}={name}" for flag, name in words)]
    assert start(run.main, *given) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"settings of {', '.join(names)} physics: " in said
    of_methods = {method: resolve.resolve(*names, method=method) for method in METHODS}
    for section, field in FIELDS:
        flag = configuration.flag_of(section, field.name)
        (text,) = re.findall(rf"--{flag}: .*?; default (.*?)\)(?= --| \w+: |$)", said)
        default, *others = text.split("; ")
        assert default == _said(found, section, field)
        mine = {}
        for other in others:
            value, _, methods = other.partition(" for ")
            mine |= dict.fromkeys(methods.split(", "), value)
        for method, settings in of_methods.items():
            theirs = _said(settings, section, field)
            assert mine.get(method, default) == theirs


def _said(settings, section, field) -> str:
    value = getattr(getattr(settings, section), field.name)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def test_help_has_the_defaults_of_recordings_without_their_files(start, capsys):
    assert start(run.main, "--help", "--domain=recorded") == 0
    assert "settings of recorded-1x1, files, quick" in capsys.readouterr().out


def test_help_has_the_values_of_a_workdir_and_of_other_flags(start, tmp_path, capsys):
    place = tmp_path / "w"
    settings = resolve.resolve("navigation2", "wind", "quick", {"maml": {"steps": 7}})
    with store.opened(place, settings):
        pass
    before = {path: path.read_bytes() for path in place.iterdir()}
    assert start(run.main, f"--workdir={place}", "--help") == 0
    said = capsys.readouterr().out
    assert "settings of navigation2, wind, quick" in said
    assert "--maml_steps: outer steps ([1, 10_000_000]; default 7)" in said
    assert start(run.main, "--help", "--maml_steps=9") == 0
    assert (
        "--maml_steps: outer steps ([1, 10_000_000]; default 9)"
        in capsys.readouterr().out
    )
    assert {path: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize("argument", ["--domain=navigatoin1", "--maml_stepz=3"])
def test_help_with_a_wrong_flag_names_it(start, capsys, argument):
    assert start(run.main, argument, "--help") == 2
    assert argument.split("=")[0].lstrip("-") in capsys.readouterr().err


def _flag_lines(text: str) -> str:
    """The help with boolean flags as --name and without short names."""
    return text.replace("--[no]", "--").replace(",--", "\n  --")
