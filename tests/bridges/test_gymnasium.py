"""Guards around Gymnasium environments, and domains as environments."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mesa_jax as mesa
from mesa_jax.guard import Guard
from mesa_jax.readings import Rereading
from mesa_jax.types import Transition

gymnasium = pytest.importorskip("gymnasium")
from mesa_jax.bridges import gymnasium as bridge  # noqa: E402
from mesa_jax.bridges import gymnasium_spaces as spaces  # noqa: E402

LOW, HIGH = np.array([-3.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32)
LIMIT = 4  # steps of an episode


class Line(gymnasium.Env):
    """Moves by its action; a violation beyond 6, which ends the episode."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(LOW, HIGH)

    def __init__(self, tells=True, size=2):
        self.at, self.count, self.tells, self.commands = None, 0, tells, []
        if size != 2:
            self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (size,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.count = np.zeros(2, np.float32), 0
        return self.at.copy(), {}

    def step(self, action):
        self.commands.append(np.array(action))
        self.at = self.at + np.asarray(action, np.float32)
        self.count += 1
        out = bool(self.at.max() > 6.0)
        info = {"cost": float(out)} if self.tells else {}
        return self.at.copy(), 1.0, out, self.count >= LIMIT, info


@pytest.fixture(scope="module")
def system():
    small = {"risk": {"hidden": (8,)}, "recovery": {"hidden": (8,)}}
    config = mesa.configure("navigation1", tasks="flip", method="mesa")
    return mesa.build(config.override(**small))


@pytest.fixture(scope="module")
def filter(system):
    """A filter that recovers with (0.5, -0.5) where the first command is above 0.

    In the units of `Line` that is where the command is above -1: then (0, 2.5).
    """
    some = jnp.zeros((3, 2)), jnp.zeros((3, 2)), *[jnp.ones(3)] * 3, jnp.zeros((3, 2))
    critic, recovery = system.init(jax.random.key(0), Transition(*some))
    return mesa.SafetyFilter(
        critic,
        recovery,
        threshold=jnp.float32(0.5),
        novelty=jnp.float32(0.25),
        measure=system.risk._replace(estimate=lambda p, s, a: (a[..., 0] > 0) * 1.0),
        policy=system.recovery._replace(
            act=lambda p, s: jnp.broadcast_to(jnp.array([0.5, -0.5]), s.shape)
        ),
        method="mesa",
    )


def reads(filter, bodies=0):
    """How a guard of `Line` would read: each reading raises the novelty by one."""
    lead = (bodies,) if bodies else ()
    rows = [np.zeros((*lead, 3, *more)) for more in ((2,), (2,), (), (), (), (2,))]
    keys = jax.random.split(jax.random.key(0), bodies) if bodies else jax.random.key(0)

    def adapt(key, filter, latest):
        del key, latest
        return filter.replace(novelty=filter.novelty + 1.0)

    return Rereading(adapt, 3, Transition(*rows), keys)


def several(filter, count):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), filter)


SAFE, RISKY, RESCUE = (np.array(x, np.float32) for x in ((-2, 1), (0.5, 1), (0, 2.5)))


def test_actions_go_between_a_box_and_the_unit_cube():
    box = Line.action_space
    np.testing.assert_allclose(spaces.to_unit(box, LOW), [-1.0, -1.0])
    np.testing.assert_allclose(spaces.to_unit(box, [[-1.0, 7.5]]), [[0.0, 0.5]])
    np.testing.assert_allclose(spaces.to_unit(box, [9.0, -9.0]), [1.0, -1.0])
    assert np.isnan(spaces.to_unit(box, [np.inf, -np.inf])).all()
    np.testing.assert_allclose(spaces.to_box(box, [0.5, -0.5]), RESCUE)
    for i in range(20):
        box.seed(i)
        action = box.sample()
        again = spaces.to_box(box, spaces.to_unit(box, action))
        np.testing.assert_allclose(again, action, rtol=1e-6, atol=1e-6)
        assert box.contains(again)


def test_a_guarded_environment_executes_what_the_guard_decides(filter):
    line = Line()
    env = bridge.GuardedEnv(line, Guard(filter))
    env.reset()
    _, reward, terminated, truncated, info = env.step(SAFE)
    assert (reward, terminated, truncated) == (1.0, False, False)
    assert line.commands[-1].tolist() == SAFE.tolist()  # to the last bit
    assert (info["recovered"], info["fell_back"], info["risk"]) == (False, False, 0.0)
    assert (info["cost"], info["novelty"]) == (0.0, 0.25)
    *_, info = env.step(RISKY)
    np.testing.assert_allclose(line.commands[-1], RESCUE)
    np.testing.assert_array_equal(info["proposed"], RISKY)
    np.testing.assert_array_equal(info["executed"], line.commands[-1])
    assert (info["recovered"], info["risk"]) == (True, 1.0)
    assert (env.guard.interventions, env.guard.steps) == (1, 2)


def test_a_guard_reads_what_the_environment_did(filter):
    env = bridge.GuardedEnv(Line(), Guard(filter, reads(filter)))
    env.reset()
    for _ in range(3):
        *_, terminated, _, info = env.step(RISKY)
    assert terminated and info["cost"] == 1.0  # (0, 7.5) is beyond 6
    assert env.guard.readings == 1 and float(env.guard.filter.novelty) == 1.25
    latest = env.guard._latest
    np.testing.assert_array_equal(latest.cost, [0, 0, 1])
    np.testing.assert_array_equal(latest.discount, [1, 1, 0])
    np.testing.assert_allclose(latest.action, [[0.5, -0.5]] * 3)
    np.testing.assert_allclose(latest.observation[:, 1], [0.0, 2.5, 5.0])
    np.testing.assert_allclose(latest.next_observation[:, 1], [2.5, 5.0, 7.5])
    env.reset()
    env.step(SAFE)  # of another episode
    np.testing.assert_allclose(latest.observation[:, 1], [2.5, 5.0, 0.0])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_proposal_that_is_not_finite_never_arrives(filter, number):
    line = Line()
    env = bridge.GuardedEnv(line, Guard(filter))
    env.reset()
    *_, info = env.step(np.array([number, 1.0], np.float32))
    np.testing.assert_allclose(line.commands[-1], RESCUE)
    assert info["fell_back"] and info["recovered"]
    *_, info = env.step(np.array([-99.0, 99.0]))  # it is judged, and done, as clipped
    np.testing.assert_array_equal(line.commands[-1], [-3.0, 10.0])
    assert not info["fell_back"] and not info["recovered"]


def test_the_cost_is_the_callers_or_the_environments(filter):
    seen = []

    def cost(*step):
        seen.append(step)
        return step[2][1] > 3.0

    env = bridge.GuardedEnv(Line(tells=False), Guard(filter, reads(filter)), cost)
    env.reset()
    costs = [env.step(RISKY)[-1]["cost"] for _ in range(2)]
    assert costs == [0.0, 1.0]
    np.testing.assert_allclose([x[1] for x in seen[1][:3]], [2.5, 2.5, 5.0])
    env = bridge.GuardedEnv(Line(tells=False), Guard(filter, reads(filter)))
    env.reset()
    with pytest.raises(mesa.SettingError, match=r"^cost must be given, as a function"):
        env.step(SAFE)
    env = bridge.GuardedEnv(Line(tells=False), Guard(filter))  # nothing is read
    env.reset()
    assert "cost" not in env.step(SAFE)[-1]


def test_an_environment_that_does_not_fit_is_refused(filter):
    guard = Guard(filter)
    with pytest.raises(mesa.SettingError, match=r"^observation space .* \(2,\)"):
        bridge.GuardedEnv(Line(size=3), guard)
    with pytest.raises(mesa.SettingError, match=r"^action space .* finite ends"):
        line = Line()
        line.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        bridge.GuardedEnv(line, guard)
    with pytest.raises(mesa.SettingError, match=r"^guard must be of one body"):
        bridge.GuardedEnv(Line(), Guard(several(filter, 2)))
    vector = gymnasium.vector.SyncVectorEnv([Line] * 2)
    with pytest.raises(mesa.SettingError, match=r"^guard must be of 2 bodies"):
        bridge.GuardedVectorEnv(vector, guard)


@pytest.mark.parametrize("mode", list(gymnasium.vector.AutoresetMode)[:2])
def test_a_guarded_vector_environment_is_as_guarded_environments(filter, mode):
    """One body violates at its third step, the other runs into its time limit."""
    vector = gymnasium.vector.SyncVectorEnv([Line] * 2, autoreset_mode=mode)
    guard = Guard(several(filter, 2), reads(filter, 2))
    env = bridge.GuardedVectorEnv(vector, guard)
    alone = [bridge.GuardedEnv(Line(), Guard(filter, reads(filter))) for _ in range(2)]
    env.reset()
    for one in alone:
        one.reset()
    next_step = mode == gymnasium.vector.AutoresetMode.NEXT_STEP
    ended = [False, False]
    for _ in range(7):
        actions = np.stack([RISKY, SAFE])
        *_, terminated, truncated, info = env.step(actions)
        for i, one in enumerate(alone):
            if ended[i] and next_step:
                one.reset()
                ended[i] = False
                assert not info["recovered"][i]
                continue
            *_, gone, over, told = one.step(actions[i])
            assert (terminated[i], truncated[i]) == (gone, over)
            for name in ("recovered", "risk", "cost", "novelty"):
                assert info[name][i] == told[name], name
            np.testing.assert_array_equal(info["executed"][i], told["executed"])
            ended[i] = gone or over
            if ended[i] and not next_step:
                one.reset()
    for i, one in enumerate(alone):
        assert guard.steps[i] == one.guard.steps >= 6
        assert guard.interventions[i] == one.guard.interventions
        for ours, theirs in zip(guard._latest, one.guard._latest, strict=True):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-6)
    assert guard.readings.tolist() == [2, 2]


@pytest.fixture(scope="module")
def body(system):
    return jax.tree.map(lambda x: x[0], system.domain.test_tasks(jax.random.key(1), 1))


def test_a_domain_is_an_environment_as_others_are(system, body):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(infinity|spec).*")
        check_env(bridge.DomainEnv(system.domain, body), skip_render_check=True)


def test_a_domain_moves_ends_and_costs_as_it_does(system, body):
    env = bridge.DomainEnv(system.domain, body)
    seen, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3)
    np.testing.assert_array_equal(seen, again)
    action, length, cost = np.array([0.0, 1.0], np.float32), 0, 0.0
    moved = np.asarray(body.gain) @ action + np.asarray(body.drift)
    while not cost and length < system.domain.spec.horizon:
        before = seen
        seen, reward, terminated, truncated, info = env.step(action)
        cost, length = info["cost"], length + 1
        assert reward == pytest.approx(-np.linalg.norm(before), rel=1e-5)
        if not cost:
            np.testing.assert_allclose(seen - before, moved, atol=0.3)
    assert cost == 1.0 and terminated and not truncated and not info["is_success"]
    env.reset(seed=4)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(env._spec.horizon)]
    assert ends[-1] == (False, True) or any(gone for gone, _ in ends)


def test_a_fault_strikes_at_a_step_of_all_episodes_together(system, body):
    env = bridge.DomainEnv(system.domain, body, fault="reversed:part=1,onset=3")
    plain = bridge.DomainEnv(system.domain, body)
    action, sums = np.array([0.0, 1.0], np.float32), []
    for _ in range(5):
        both = []
        for one in (env, plain):
            start, _ = one.reset(seed=5)
            both.append(one.step(action)[0] - start)
        sums.append(both)
    for ours, theirs in sums[:3]:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    push = 2.0 * np.asarray(body.gain) @ action
    for ours, theirs in sums[3:]:
        np.testing.assert_allclose(theirs - ours, push, atol=1e-4)
    with pytest.raises(mesa.SettingError):
        bridge.DomainEnv(system.domain, body, fault="gone:part=1")
