"""Settings: presets, ranges, unknown names, files, hashes."""

import dataclasses
import json
import math

import pytest

from mesa_jax import configuration
from mesa_jax.domains import DOMAINS
from mesa_jax.methods import METHODS
from mesa_jax.settings import SettingError
from mesa_jax.study import presets, resolve
from mesa_jax.study.artifacts import naming
from mesa_jax.study.rules import Rule

CASES = [(domain, preset) for domain in DOMAINS for preset in presets.PRESETS]
FIELDS = [
    (section, field)
    for section, kind in configuration.SECTIONS.items()
    for field in dataclasses.fields(kind)
]
NAMES = [configuration.flag_of(section, field.name) for section, field in FIELDS]


def _settings(**sections) -> configuration.Configuration:
    settings = resolve.resolve("navigation1", "published", "quick")
    return configuration.override(settings, sections)


def _another(
    settings: configuration.Configuration, section: str, field
) -> configuration.Configuration:
    """The settings with one field at another value of its range."""
    value = getattr(getattr(settings, section), field.name)
    if field.metadata["choices"]:
        other = next(choice for choice in field.metadata["choices"] if choice != value)
    elif isinstance(value, tuple):
        other = (*value, 8)
    elif (section, field.name) == ("risk", "horizon"):
        other = 30.0  # longer than a step
    elif field.name == "num_tasks":
        other = value - 1  # as many bodies as there are may be all
    elif isinstance(value, int):
        other = value + (1000 if field.name == "steps" else 1)  # or no episode ends
    else:
        other = value / 2 if value else 0.1
    return configuration.override(settings, {section: {field.name: other}})


def _just_outside(field) -> list[float]:
    """The nearest values that an interval does not hold (0.5 beyond a closed end)."""
    interval = field.metadata["interval"]
    low, high = (float(end) for end in interval[1:-1].split(","))
    below = low - 0.5 if interval[0] == "[" else low
    above = high + 0.5 if interval[-1] == "]" else high
    return [below, above, math.nan]


RULES = [  # the later the further down
    Rule({"maml": {"steps": 1, "anchor": 0.5}}),
    Rule({"maml": {"steps": 2}}, preset="quick"),
    Rule({"maml": {"steps": 3}}, domain="navigation1"),
    Rule({"maml": {"steps": 4}}, domain="navigation1", tasks="flip"),
    Rule({"maml": {"steps": 5}}, preset="paper", domain="navigation1"),
    Rule({"maml": {"steps": 6, "anchor": 0.7}}, method="context"),
    Rule({"maml": {"steps": 7}}, domain="navigation2", method="context"),
]


@pytest.mark.parametrize(
    ("names", "method", "expected"),
    [
        (("cartpole_length", "published", "paper"), None, (1, 0.5)),
        (("cartpole_length", "published", "quick"), None, (2, 0.5)),
        (("navigation1", "published", "quick"), None, (3, 0.5)),
        (("navigation1", "flip", "quick"), "mesa", (4, 0.5)),
        (("navigation1", "flip", "paper"), None, (5, 0.5)),
        (("navigation1", "flip", "paper"), "context", (6, 0.7)),
        (("navigation2", "flip", "quick"), "context", (7, 0.7)),
        (("navigation2", "flip", "quick"), "mesa_context", (2, 0.5)),
    ],
)
def test_the_last_rule_of_the_names_holds(names, method, expected):
    found = resolve.resolve(*names, method=method, rules=RULES).maml
    assert (found.steps, found.anchor) == expected


@pytest.mark.parametrize("value", [200, 199])  # the common one, and another
def test_what_was_asked_for_is_over_every_rule(value):
    rules = [Rule({"maml": {"support_size": 7}}, method="context")]
    names = "navigation1", "flip", "quick"
    assert resolve.resolve(*names, rules=rules).maml.support_size == 200
    own = resolve.resolve(*names, method="context", rules=rules)
    assert own.maml.support_size == 7
    asked = {"maml": {"support_size": value}}
    mine = resolve.resolve(*names, asked, "context", rules)
    assert mine.maml.support_size == value
    assert (
        resolve.of_method(mine, "context", rules) == mine
    )  # also where it is taken twice


def test_every_rule_is_of_known_names_and_changes_something():
    usual = configuration.to_json(configuration.Configuration())
    for rule in presets.rules():
        assert rule.preset in (None, *presets.PRESETS)
        assert rule.domain in (None, *DOMAINS)
        if rule.tasks:
            assert rule.tasks in DOMAINS[rule.domain].task_distributions
        if rule.method:
            assert rule.method in METHODS
        for section, fields in rule.values.items():
            assert fields.keys() <= usual[section].keys()
        assert rule.name


@pytest.mark.parametrize("frame_skip", [5, 1])
def test_a_horizon_means_the_same_at_another_frame_skip(frame_skip):
    """gamma = 1 - step / horizon, step = frame_skip x 0.01 s."""
    names = "halfcheetah_disabled", "published", "quick"
    asked = {"risk": {"horizon": 2.0}, "physics": {"frame_skip": frame_skip}}
    found = resolve.resolve(*names, asked).risk
    assert found.discount == pytest.approx(1.0 - 0.01 * frame_skip / 2.0)


def test_discount_and_horizon_are_two_words_for_one_thing():
    horizon, discount = ({"risk": {"horizon": 4.0}}, {"risk": {"discount": 0.9}})
    looking = configuration.override(_settings(), horizon)
    assert looking.risk.discount == pytest.approx(0.75)  # a step of navigation is 1
    again = configuration.override(looking, discount)
    assert (again.risk.discount, again.risk.horizon) == (0.9, 0.0)
    assert ("risk", "horizon") not in again.asked
    assert resolve.of_method(looking, "mesa_published").risk.horizon == 4.0
    both = {"risk": {"horizon": 4.0, "discount": 0.9}}
    with pytest.raises(SettingError, match="risk_horizon must be left out"):
        configuration.override(_settings(), both)
    with pytest.raises(SettingError, match=r"risk_horizon .* longer than a step"):
        configuration.override(_settings(), {"risk": {"horizon": 1.0}})
    same = configuration.override(_settings(), {"risk": {"discount": 0.75}})
    assert naming.prior_name(looking, "maml", 0) == naming.prior_name(same, "maml", 0)


def test_of_two_rules_for_one_thing_the_later_one_holds():
    rules = [Rule({"risk": {"horizon": 4.0}}), Rule({"risk": {"discount": 0.9}})]
    names = "navigation1", "flip", "quick"
    found = resolve.resolve(*names, rules=rules).risk
    assert (found.discount, found.horizon) == (0.9, 0.0)
    found = resolve.resolve(*names, rules=rules[::-1]).risk
    assert (found.discount, found.horizon) == (0.75, 4.0)


@pytest.mark.parametrize("domain", DOMAINS)
def test_published_rows_and_the_preset_have_the_papers_risk(domain):
    tasks = DOMAINS[domain].task_distributions[0]
    paper = presets.PUBLISHED_RISK[domain]
    for preset, method in (("quick", "mesa_published"), ("published_risk", "mesa")):
        found = resolve.resolve(domain, tasks, preset, method=method)
        assert found.risk.discount == paper["risk"]["discount"]
        assert found.recovery.risk_threshold == paper["recovery"]["risk_threshold"]
    quick, published = (
        resolve.resolve(domain, tasks, preset).online
        for preset in ("quick", "published_risk")
    )
    assert quick == published  # all else is as it is in quick


def test_a_configuration_without_rules_is_the_defaults():
    found = resolve.resolve("navigation1", "published", "quick", rules=[])
    assert found == dataclasses.replace(
        configuration.Configuration(), switches=found.switches
    )


# backend, frame skip, horizon; training bodies, transitions of each, adaptation set;
# collector, its updates a step and uniform steps; online episodes, steps, uniform ones
RESOLVED = {
    ("navigation1", "quick"): (
        *("closed_form", 1, 100, 24, 12_000, 200),
        *("random", None, None, 40, 0, 100),
    ),
    ("navigation2", "paper"): (
        *("closed_form", 1, 100, 25, 30_000, 200),
        *("random", None, None, 300, 0, 100),
    ),
    ("cartpole_length", "paper"): (  # the paper and its code
        *("closed_form", 2, 200, 20, 20_000, 400),
        *("sac", 1.0, 100, 400, 0, 100),
    ),
    ("halfcheetah_disabled", "quick"): (
        *("spring", 5, 200, 4, 20_000, 200),
        *("sac", 1.0, 1_000, 3000, 30_000, 500),
    ),
    ("halfcheetah_disabled", "paper"): (
        *("spring", 1, 1_000, 4, 400_000, 10_000),
        *("sac", 1.0, 10_000, 500, 0, 10_000),
    ),
}


@pytest.mark.parametrize(("domain", "preset"), RESOLVED)
def test_a_preset_is_what_its_domain_asks_for(domain, preset):
    settings = resolve.resolve(domain, "published", preset)
    physics, data, made = settings.physics, settings.data, settings.collect
    of_sac = made.collector == "sac"
    found = (
        *(physics.backend, physics.frame_skip, physics.horizon),
        *(data.train_bodies, data.transitions, data.adaptation, made.collector),
        made.updates / made.environments if of_sac else None,
        made.start_steps if of_sac else None,
        *(settings.online.episodes, settings.online.steps, settings.online.start_steps),
    )
    assert found == RESOLVED[domain, preset]


@pytest.mark.parametrize(("domain", "preset"), CASES)
def test_every_domain_builds_from_the_physics_of_its_presets(domain, preset):
    """A backend or a frame skip that a domain does not have is refused by its maker."""
    physics = resolve.resolve(domain, "published", preset).physics
    spec = DOMAINS[domain].make("published", physics).spec
    assert (spec.name, spec.horizon) == (domain, physics.horizon)


def test_the_paper_sizes_are_anchored_whatever_was_chosen_for_smaller_networks():
    quick, paper = (
        resolve.resolve("navigation2", "wind", preset) for preset in ("quick", "paper")
    )
    assert (quick.maml.anchor, paper.maml.anchor) == (0.0, 1.0)
    assert quick.maml.inner_steps == paper.maml.inner_steps


def test_bodies_and_preset_of_a_domain_join_field_by_field():
    published, partial = (
        resolve.resolve("halfcheetah_disabled", tasks, "quick")
        for tasks in ("published", "partial")
    )
    assert (published.data.train_bodies, partial.data.train_bodies) == (4, 12)
    assert (published.maml.num_tasks, partial.maml.num_tasks) == (4, 5)
    assert published.data.test_transitions == partial.data.test_transitions
    assert published.risk == partial.risk
    paper = resolve.resolve("halfcheetah_disabled", "partial", "paper")
    assert (paper.data.train_bodies, paper.data.transitions) == (12, 400_000)
    assert paper.physics.backend == partial.physics.backend
    assert (paper.sac.temperature, paper.sac.hidden) == (0.2, (256, 256))


def test_impaired_bodies_are_many_and_their_data_are_mixed():
    quick, paper = (
        resolve.resolve("ant_disabled", "impaired_outside", preset)
        for preset in ("quick", "paper")
    )
    data = quick.data
    assert (data.train_bodies, data.heldout_bodies, data.transitions) == (32, 8, 6_000)
    assert (quick.maml.num_tasks, quick.pooled.num_tasks) == (8, 8)
    assert quick.collect.collector == paper.collect.collector == "mixed"
    ends = [settings.collect.at_violation for settings in (quick, paper)]
    assert ends == ["ends", "goes_on"]
    poles = resolve.resolve("cartpole_length", "actuator", "quick")
    assert poles.data.train_bodies == 64


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_every_task_distribution_of_a_domain_resolves(domain):
    for tasks in DOMAINS[domain].task_distributions:
        assert resolve.resolve(domain, tasks, "quick").tasks == tasks


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_value_outside_its_range_is_refused_by_flag_value_and_range(section, field):
    if field.metadata["choices"]:
        outside, allowed = ["neither"], field.metadata["choices"]
    else:
        outside, allowed = _just_outside(field), [field.metadata["interval"]]
    for value in outside:
        given = (value,) if isinstance(field.default, tuple) else value
        with pytest.raises(SettingError) as refused:
            _settings(**{section: {field.name: given}})
        flag = configuration.flag_of(section, field.name)
        assert str(refused.value).startswith(f"{flag} must be ")
        assert str(refused.value).endswith(f"got {given!r}.")
        assert all(name in str(refused.value) for name in allowed)


@pytest.mark.parametrize("section", ["risk", "recovery", "sac"])
def test_a_network_without_layers_is_refused(section):
    with pytest.raises(SettingError, match=f"{section}_hidden must be a list"):
        _settings(**{section: {"hidden": ()}})


def test_more_bodies_an_outer_step_than_there_are_is_refused():
    with pytest.raises(SettingError, match=r"maml_num_tasks .*data_train_bodies \(3\)"):
        _settings(data={"train_bodies": 3}, maml={"num_tasks": 4})


@pytest.mark.parametrize("steps", [1, 99])
def test_fewer_online_steps_than_an_episode_are_refused(steps):
    """A run would end before its first episode does, and have nothing to show."""
    with pytest.raises(
        SettingError, match=r"^online_steps must be 0 .*\(horizon 100\)"
    ):
        _settings(online={"steps": steps})
    assert _settings(online={"steps": 100}).online.steps == 100
    assert _settings(online={"steps": 0}).online.steps == 0
    with pytest.raises(SettingError, match=r"^online_steps .*\(horizon 101\)"):
        _settings(online={"steps": 100}, physics={"horizon": 101})


@pytest.mark.parametrize("section", ["maml", "pooled"])
def test_an_outer_step_takes_at_most_the_bodies_there_are(section):
    """Unless more were asked for: that is refused."""
    settings = _settings(data={"train_bodies": 3})
    assert getattr(settings, section).num_tasks == 3
    assert resolve.of_method(settings, "context").maml.num_tasks == 3
    with pytest.raises(SettingError, match=rf"^{section}_num_tasks must be at most"):
        _settings(data={"train_bodies": 3}, **{section: {"num_tasks": 4}})


@pytest.mark.parametrize(
    ("kind", "names", "nearest", "known"),
    [
        ("domain", ("navigaton1", "flip", "quick"), "navigation1", DOMAINS),
        ("tasks", ("navigation1", "flop", "quick"), "flip", ("published", "flip")),
        ("preset", ("navigation1", "flip", "qiuck"), "quick", presets.PRESETS),
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(
    kind, names, nearest, known
):
    with pytest.raises(SettingError) as refused:
        resolve.resolve(*names)
    message = str(refused.value)
    assert message.startswith(f"{kind} must be one of ")
    assert all(name in message for name in known)
    assert f"(nearest: {nearest})" in message


def test_an_unknown_method_lists_the_known_ones_and_the_nearest():
    with pytest.raises(SettingError) as refused:
        resolve.known_methods(["mesa", "recovery"])
    assert "got 'recovery'" in str(refused.value)
    assert "(nearest: recovery_rl)" in str(refused.value)
    assert all(name in str(refused.value) for name in METHODS)


def test_no_methods_are_refused():
    with pytest.raises(SettingError, match=r"methods must be a list of .*mesa"):
        resolve.known_methods([])


def test_methods_come_once_and_in_the_order_of_the_comparison_table():
    first, second = list(METHODS)[:2]
    assert resolve.known_methods([second, first, second]) == (first, second)


@pytest.mark.parametrize(("domain", "preset"), CASES)
def test_settings_come_back_from_json_unchanged(domain, preset):
    settings = resolve.resolve(domain, "published", preset)
    settings = configuration.override(settings, {"risk": {"hidden": (7, 5, 3)}})
    text = json.dumps(configuration.to_json(settings))
    assert resolve.from_json(json.loads(text)) == settings


@pytest.mark.parametrize("change", ["lacks a section", "lacks a field", "has another"])
def test_settings_of_another_version_are_refused_by_section(change):
    values = configuration.to_json(_settings())
    if change == "lacks a section":
        del values["maml"]
    elif change == "lacks a field":
        del values["maml"]["inner_lr"]
    else:
        values["maml"]["meta_batch"] = 3
    with pytest.raises(ValueError, match="'maml' was written by another version"):
        resolve.from_json(values)


def test_values_out_of_range_are_refused_from_json_too():
    values = configuration.to_json(_settings())
    values["risk"]["discount"] = 1.5
    with pytest.raises(ValueError, match="discount"):
        resolve.from_json(values)


@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_difference_is_named_as_its_flag(section, field):
    ours = _settings()
    theirs = _another(ours, section, field)
    asked = getattr(getattr(theirs, section), field.name)
    kept = getattr(getattr(ours, section), field.name)
    expected = [configuration.flag_of(section, field.name), kept, asked]
    found = configuration.differences(ours, theirs)
    assert list(found[-1]) == json.loads(json.dumps(expected))
    others = ["risk_discount"] if expected[0] == "risk_horizon" else []  # the same
    assert [name for name, *_ in found[:-1]] == others


def test_names_of_the_launch_are_differences_too():
    ours = resolve.resolve("navigation1", "published", "quick")
    theirs = dataclasses.replace(ours, tasks="flip")
    assert configuration.differences(ours, theirs) == [("tasks", "published", "flip")]
    assert configuration.differences(ours, ours) == []


def test_a_fault_is_a_difference_and_comes_back_from_json():
    ours = _settings()
    theirs = dataclasses.replace(ours, fault="dead:part=1")
    assert configuration.differences(ours, theirs) == [("fault", "", "dead:part=1")]
    assert resolve.from_json(configuration.to_json(theirs)) == theirs


def test_no_two_settings_have_the_same_flag():
    of_launches = ["domain", "tasks", "preset", "fault", "save_replay", "workdir"]
    assert len({*NAMES, *of_launches}) == len(NAMES) + len(of_launches)


def test_some_settings_have_a_flag_of_their_own():
    pairs = zip(FIELDS, NAMES, strict=True)
    own = {name for (section, f), name in pairs if name != f"{section}_{f.name}"}
    assert own == {"backend", "frame_skip", "horizon", "collector", "risk"}
    with pytest.raises(
        SettingError, match=r"^frame_skip must be in \[1, 1_000\], got 0"
    ):
        _settings(physics={"frame_skip": 0})


def test_more_adaptation_rows_than_are_collected_are_refused():
    with pytest.raises(SettingError, match=r"data_test_transitions \(150\)"):
        _settings(data={"test_transitions": 150, "adaptation": 151})
    kept = _settings(data={"test_transitions": 150, "adaptation": 150}).data
    assert kept.adaptation == kept.test_transitions


def test_a_method_adapts_on_what_there_is_where_its_own_would_be_more():
    few = _settings(data={"test_transitions": 300})
    assert few.data.adaptation == 200
    own = resolve.of_method(few, "recovery_rl_published").data
    assert own.adaptation == own.test_transitions == 300
    assert _settings(data={"test_transitions": 100}).data.adaptation == 100


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_method_fits_every_distribution(domain):
    for tasks in DOMAINS[domain].task_distributions:
        for preset in presets.PRESETS:
            common = resolve.resolve(domain, tasks, preset)
            for method in METHODS:
                resolve.of_method(common, method)


def _prior_depends(prior: str, section: str, name: str) -> bool:
    """What a prior is computed from: learner, critic, data, networks."""
    if section == "data":
        return name not in ("adaptation", "adaptation_body", "test_transitions")
    if section == "recovery":
        # the policy's, not the agent's
        return name in ("hidden", "saturation_penalty", "initializer", "objective")
    if section == "rounds":  # nothing else of none
        return name == "count"
    return section in (prior, "risk", "physics", "collect")


@pytest.mark.parametrize("prior", ["maml", "pooled"])
@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_a_prior_is_another_only_where_what_it_depends_on_is(prior, section, field):
    ours = _settings()
    theirs = _another(ours, section, field)
    changed = naming.prior_name(ours, prior, 0) != naming.prior_name(theirs, prior, 0)
    assert changed == _prior_depends(prior, section, field.name)


@pytest.mark.parametrize("change", [{"tasks": "flip"}, {"domain": "elsewhere"}])
def test_a_prior_is_another_for_other_bodies(change):
    ours = _settings()
    theirs = dataclasses.replace(ours, **change)
    assert naming.prior_name(ours, "maml", 0) != naming.prior_name(theirs, "maml", 0)


def test_a_prior_is_another_for_another_meta_seed_and_learner():
    names = {
        naming.prior_name(_settings(), p, m) for p in ("maml", "pooled") for m in (0, 1)
    }
    assert len(names) == 4


def test_training_data_depend_on_the_meta_seed_and_test_bodies_on_the_seed():
    settings = _settings()
    train = {naming.training_data_name(settings, seed) for seed in range(3)}
    test = {naming.adaptation_data_name(settings, seed) for seed in range(3)}
    assert len(train | test) == 6


def test_a_larger_adaptation_set_is_a_prefix_of_the_same_dataset():
    few, many = _settings(data={"adaptation": 50}), _settings(data={"adaptation": 200})
    assert naming.adaptation_data_name(few, 4) == naming.adaptation_data_name(many, 4)
    assert naming.training_data_name(few, 0) == naming.training_data_name(many, 0)


def _data_depends(kind: str, section: str, name: str, by_sac: bool) -> bool:
    """What the datasets are made from: bodies, physics, who collects, and how many."""
    if section == "data":
        counts = ("train_bodies", "heldout_bodies", "transitions")
        of_test = ("test_transitions", "adaptation_body")
        return name in (counts if kind == "training" else of_test)
    return section in ("physics", "collect") or (section == "sac" and by_sac)


@pytest.mark.parametrize("kind", ["training", "adaptation"])
@pytest.mark.parametrize("domain", ["navigation1", "cartpole_length"])
@pytest.mark.parametrize(("section", "field"), FIELDS, ids=NAMES)
def test_data_are_others_only_where_what_makes_them_is(domain, kind, section, field):
    name = getattr(naming, f"{kind}_data_name")
    ours = resolve.resolve(domain, "published", "quick")
    theirs = _another(ours, section, field)
    by_sac = ours.collect.collector == "sac"
    assert by_sac == (domain == "cartpole_length")
    expected = _data_depends(kind, section, field.name, by_sac)
    assert (name(ours, 0) != name(theirs, 0)) == expected


def test_a_fault_changes_no_data_no_prior_and_no_truth():
    for domain in DOMAINS:
        ours = resolve.resolve(domain, "published", "quick")
        theirs = dataclasses.replace(ours, fault="dead:part=0")
        for name in (
            naming.training_data_name,
            naming.adaptation_data_name,
            lambda settings, seed: naming.prior_name(settings, "maml", seed),
            lambda settings, seed: naming.truth_name(settings, f"test-seed{seed}"),
        ):
            assert name(ours, 0) == name(theirs, 0)


def test_the_truth_depends_on_physics_discount_and_how_it_is_asked_for():
    ours = resolve.resolve("cartpole_length", "published", "quick")
    changing = {
        NAMES[FIELDS.index((section, field))]
        for section, field in FIELDS
        if naming.truth_name(ours, "test-seed0")
        != naming.truth_name(_another(ours, section, field), "test-seed0")
    }
    asked = {"quality_decision_states", "quality_rollouts", "quality_precision"}
    physics = {"backend", "frame_skip", "horizon", "physics_lost_after"}
    assert changing == asked | physics | {"risk_discount", "risk_horizon"}


@pytest.mark.parametrize("method", ["context", "mesa_context"])
@pytest.mark.parametrize(("domain", "preset"), CASES)
def test_rows_that_encode_have_settings_in_every_domain(domain, preset, method):
    base = resolve.resolve(domain, "published", preset)
    ours = resolve.of_method(base, method)
    assert ours.risk.conditioning == "encoded" and ours.maml.steps == 8000
    assert ours.maml.num_tasks == min(8, base.data.train_bodies)
    limbs = domain in ("halfcheetah_disabled", "ant_disabled")
    every_on = ours.online.readapt_every, ours.online.readapt_transitions
    assert every_on == ((100, 100) if limbs else (10, 20))
    assert ours.online.readapt_from == ("current" if limbs else "prior")
