"""Domains from outside the package: names, errors, and the contract that is checked."""

import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import pytest

import mesa_jax as mesa
from experiments.examples import my_domain
from mesa_jax.domains import entry_of, full_name, outside
from mesa_jax.domains.contract import require_contract
from mesa_jax.settings import SettingError
from mesa_jax.study.artifacts import naming

NAME = "experiments.examples.my_domain:maker"
DOMAIN = my_domain.maker()


def test_a_name_has_its_sources_hash_and_stays_itself():
    name = full_name(NAME)
    assert name.startswith(f"{NAME}@") and len(name) == len(NAME) + 9
    assert full_name(name) == name
    assert full_name("navigation1") == "navigation1"


def test_a_configuration_takes_the_makers_defaults():
    config = mesa.configure(NAME)
    assert config.domain == full_name(NAME)
    assert (config.tasks, config.physics.horizon) == ("wiring", 50)


def test_a_domain_is_made_under_its_full_name():
    entry = entry_of(NAME)
    made = entry.make("wiring", entry.physics)
    assert made.spec.name == full_name(NAME)
    assert made.spec.observation_size == 2


def module(monkeypatch, tmp_path, source, name="written_here"):
    """Writes a module, and forgets that it was ever imported."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return f"{name}:maker"


def test_a_changed_module_has_other_data_and_its_old_name_is_refused(
    monkeypatch, tmp_path
):
    source = "from experiments.examples.my_domain import maker\n"
    first = mesa.configure(module(monkeypatch, tmp_path, source))
    module(monkeypatch, tmp_path, source + "WALL = 2.0\n")
    second = mesa.configure("written_here:maker")
    folders = {naming.domain_folder(one) for one in (first, second)}
    names = {naming.training_data_name(one, 0) for one in (first, second)}
    assert len(folders) == len(names) == 2
    assert all(name.isascii() and not set(name) & set('<>:"/\\|?*') for name in folders)
    with pytest.raises(SettingError, match="as the module's source is now"):
        mesa.configure(first.domain)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:maker", "can be imported.*No module named 'no_such_module'"),
        ("experiments.examples.my_domain:make", r"it has maker\)"),
        ("my_domain.py:maker:", "must be module:maker"),
        ("json:loads", r"takes \(tasks, physics\)"),
        ("math:sin", "with a source file"),
        ("navigaton1", "module:maker.*nearest: navigation1"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name, said):
    with pytest.raises(SettingError, match=said):
        mesa.configure(name)


def test_a_module_whose_own_import_is_missing_names_it(monkeypatch, tmp_path):
    name = module(monkeypatch, tmp_path, "import no_such_library\n")
    with pytest.raises(SettingError, match="no_such_library"):
        mesa.configure(name)


def test_a_horizon_that_the_maker_does_not_take_is_refused(monkeypatch, tmp_path):
    source = (
        "from experiments.examples import my_domain\n"
        "def maker(tasks, physics):\n    return my_domain.maker()\n"
    )
    entry = entry_of(module(monkeypatch, tmp_path, source))
    with pytest.raises(SettingError, match="horizon must be 50"):
        entry.make("wiring", entry.physics)  # 100, the package's default


def test_a_notebooks_maker_is_found_by_its_own_source(monkeypatch):
    notebook = types.ModuleType("notebook")  # has no source
    notebook.maker = my_domain.maker
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    found = outside.find("notebook:maker")
    assert found.tasks == "wiring" and "@" in found.name


# What a maker returns


def test_a_domain_that_keeps_the_contract_is_returned():
    assert require_contract("d", DOMAIN) is DOMAIN


def test_what_is_no_domain_is_named_with_what_it_lacks():
    thing = types.SimpleNamespace(spec=3, reset=4)
    with pytest.raises(SettingError, match="SimpleNamespace, which lacks train_tasks"):
        require_contract("d", thing)


def stepping(**changes):
    """The domain, with something else in what its step returns."""

    def step(key, state, action, task):
        reached, transition = DOMAIN.step(key, state, action, task)
        made = {k: f(transition) for k, f in changes.items()}
        return made.pop("state", reached), transition._replace(**made)

    return DOMAIN._replace(step=step)


BROKEN = {
    "cost is float32\\[\\]": stepping(cost=lambda t: t.cost[None]),
    "reward is float32": stepping(reward=lambda t: t.reward > 0),
    "next_observation is float32\\[2\\]": stepping(
        next_observation=lambda t: t.next_observation[:1]
    ),
    "of the form that reset returns": stepping(state=lambda t: t.observation[:1]),
    "reward is finite": stepping(reward=lambda t: t.reward * jnp.nan),
    "cost is 0 or 1": stepping(cost=lambda t: t.cost + 0.5),
    "observe is float32\\[2\\]": DOMAIN._replace(observe=lambda state: state[:1]),
    "reference_policy of \\[3, D\\]": DOMAIN._replace(
        reference_policy=lambda key, seen: jax.random.uniform(key, (1,))
    ),
    "train_tasks returns a NamedTuple": DOMAIN._replace(
        train_tasks=lambda key, n: {"gain": jnp.ones(n)}
    ),
    "test_tasks\\(key, 2\\)": DOMAIN._replace(
        test_tasks=lambda key, n: my_domain.Cart(jnp.ones(n + 1))
    ),
    "whose reset": DOMAIN._replace(reset=None),
    "horizon >= 1": DOMAIN._replace(spec=DOMAIN.spec._replace(horizon=0)),
    "success is a bool": DOMAIN._replace(success=lambda last, total: total),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_domain_is_refused_by_what_is_wrong(said):
    with pytest.raises(SettingError, match=said):
        require_contract("d", BROKEN[said])


def test_an_error_of_the_domains_own_says_when_it_came():
    def step(key, state, action, task):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        require_contract("d", DOMAIN._replace(step=step))
    assert any("domain d was tried" in note for note in caught.value.__notes__)


def test_the_example_is_short():
    source = pathlib.Path(my_domain.__file__).read_text(encoding="utf-8")
    _, found, body = source.partition("def maker")
    lines = [line for line in body.splitlines() if line.strip()]
    assert found and len(lines) < 30
