"""Small worlds with known answers: a line, transitions, a toy dataset.

The line: a body at x moves by its action, x' = x + a, from 0. It violates where x' is
beyond its limit, reaches its goal where x' is at most -2, and has 4 steps. The reward
is x before the step. The scripted agent proposes one number and recovers with another
while x lies in an interval.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax import replay
from mesa_jax.types import Agent, Array, Decision, Domain, DomainSpec, Transition

HORIZON, GOAL = 4, -2.0
HELD = 2  # rows of an adaptation set


class Body(NamedTuple):
    limit: Array  # violates beyond it
    broken: Array  # the reward is no number from here on


def line_step(key, state, action, task):
    del key
    reached = state + action[0]
    violation = reached > task.limit
    terminated = violation | (reached <= GOAL)
    return reached, Transition(
        observation=state[None],
        action=action,
        reward=jnp.where(state >= task.broken, jnp.nan, state),
        cost=violation.astype(jnp.float32),
        discount=1.0 - terminated.astype(jnp.float32),
        next_observation=reached[None],
    )


LINE = Domain(
    spec=DomainSpec("line", observation_size=1, action_size=1, horizon=HORIZON),
    train_tasks=None,
    test_tasks=None,
    reset=lambda key, task: jnp.zeros(()),
    observe=lambda state: state[None],
    step=line_step,
    success=lambda transition, episode_return: transition.discount == 0.0,
    solvable=None,
    reference_policy=lambda key, observation: jnp.ones_like(observation),
    episode=None,
    decision_states=None,
)


class Script(NamedTuple):
    """State of the scripted agent: what it does, then what it has seen."""

    proposal: Array
    mode: Array  # the deterministic proposal
    rescue: Array  # the recovering action,
    low: Array  # from here
    high: Array  # to below here
    jitter: Array  # width of chance in the proposal
    task_updates: Array
    risk_updates: Array
    task_action: Array  # mean of the last batch learned from
    safety_action: Array
    safety_violations: Array  # sum of its cost


def script(proposal, mode=0.0, rescue=0.0, low=np.inf, high=np.inf, jitter=0.0):
    numbers = (proposal, mode, rescue, low, high, jitter, 0.0, 0.0, 0.0)
    doing = [jnp.float32(x) for x in numbers[:6]]
    counts = [jnp.zeros((), jnp.int32)] * 2
    return Script(*doing, *counts, *[jnp.float32(x) for x in numbers[6:]])


def scripted_decision(state, observation, proposed):
    recovered = (observation[0] >= state.low) & (observation[0] < state.high)
    action = jnp.where(recovered, state.rescue[None], proposed)
    return Decision(action, proposed, recovered)


def scripted_proposal(key, state, observation):
    chance = jax.random.uniform(key, observation.shape, minval=-1.0)
    return state.proposal + state.jitter * chance


def scripted_update(key, state, task_batch, safety_batch, learn_task, learn_risk):
    del key

    def seen(learn, new, old):
        return jnp.where(learn, new, old)

    state = state._replace(
        task_updates=state.task_updates + learn_task,
        risk_updates=state.risk_updates + learn_risk,
        task_action=seen(learn_task, jnp.mean(task_batch.action), state.task_action),
        safety_action=seen(
            learn_risk, jnp.mean(safety_batch.action), state.safety_action
        ),
        safety_violations=seen(
            learn_risk, jnp.sum(safety_batch.cost), state.safety_violations
        ),
    )
    return state, {"script/proposal": state.proposal}


SCRIPTED = Agent(
    init=None,
    propose=scripted_proposal,
    propose_mode=lambda state, observation: jnp.full_like(observation, state.mode),
    decide=scripted_decision,
    update=scripted_update,
    safety=lambda state: (state.proposal, state.rescue),
    with_safety=lambda state, proposal, rescue: state._replace(
        proposal=proposal, rescue=rescue
    ),
)


def stack(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def safe_rows(action):
    """An adaptation set [n] without a violation."""
    ones = jnp.ones(HELD)
    column = ones[:, None]
    return Transition(column, action * column, ones, 0.0 * ones, ones, column)


def keys_of(count):
    keys, evaluate_keys = jax.random.split(jax.random.key(1), (2, count))
    return keys, evaluate_keys


# Transitions


def transitions(seed, count=12, tasks=None) -> Transition:
    """Draws transitions [count, ...], or [tasks, count, ...]; a third violates."""
    rng = np.random.default_rng(seed)
    lead = (count,) if tasks is None else (tasks, count)
    cost = jnp.array(rng.random(lead) < 0.3, float)
    return Transition(
        observation=jnp.array(rng.normal(size=(*lead, 2))),
        action=jnp.array(rng.uniform(-1, 1, (*lead, 1))),
        reward=jnp.zeros(lead),
        cost=cost,
        discount=1.0 - cost,
        next_observation=jnp.array(rng.normal(size=(*lead, 2))),
    )


def numbered(numbers) -> Transition:
    """Rows that hold their number in every field (vectors: once and twice it)."""
    number = jnp.asarray(numbers, jnp.float32)
    vector = number[..., None] * jnp.array([1.0, 2.0])
    return Transition(vector, vector[..., :1], number, number, number, vector)


def violating(cost) -> Transition:
    """Numbered rows with the given violation indicators."""
    cost = jnp.asarray(cost, jnp.float32)
    return numbered(np.arange(cost.shape[-1]) + jnp.zeros_like(cost))._replace(
        cost=cost
    )


def numbers_of(rows: Transition) -> np.ndarray:
    """The rows' numbers, once all fields agree on them."""
    jax.tree.map(np.testing.assert_array_equal, rows, numbered(rows.reward))
    return np.asarray(rows.reward, int)


def numbers_beside_cost(rows: Transition) -> np.ndarray:
    """The rows' numbers, where the cost is a cost and not one of them."""
    return numbers_of(rows._replace(cost=rows.reward))


@jax.jit
def added_rows(ring, costs, keep):
    """The ring after numbered rows of these costs, those that are kept."""
    steps = (violating(costs), keep)
    return jax.lax.scan(lambda r, x: (replay.add(r, *x), None), ring, steps)[0]


# A toy dataset

TOY = DomainSpec(name="toy", observation_size=3, action_size=2, horizon=10)


class ToyTask(NamedTuple):
    strength: np.ndarray


TOY_TASK = ToyTask(np.zeros(1, np.float32))
