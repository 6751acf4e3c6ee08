"""Recorded transitions of one body: chains of states with episodes that end somehow."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mesa_jax.types import Transition

VIOLATES, GOAL, CUT = "violates", "goal", "cut"
NUMBERS = st.floats(-1e6, 1e6, width=32)  # -0.0 and subnormal ones among them


def chained(states: list, actions, rewards, ends: list[str]) -> Transition:
    """Returns the transitions of episodes.

    Args:
      states: [L + 1, D] of each episode of L steps.
      actions, rewards: [n, A] and [n] of all steps.
      ends: what ends each episode.
    """
    last = np.cumsum([len(one) - 1 for one in states]) - 1
    cost, discount = np.zeros(last[-1] + 1, np.float32), np.ones(last[-1] + 1)
    cost[[at for at, end in zip(last, ends, strict=True) if end == VIOLATES]] = 1
    discount[[at for at, end in zip(last, ends, strict=True) if end != CUT]] = 0
    return Transition(
        observation=np.concatenate([one[:-1] for one in states]),
        action=actions,
        reward=rewards,
        cost=cost,
        discount=discount.astype(np.float32),
        next_observation=np.concatenate([one[1:] for one in states]),
    )


def some(seed: int = 0, lengths=(3, 1, 4), ends=(VIOLATES, CUT, GOAL)) -> Transition:
    """Returns transitions of 3 observations and 2 actions."""
    draw = np.random.default_rng(seed)
    normal = lambda *shape: draw.normal(size=shape).astype(np.float32)  # noqa: E731
    count = sum(lengths)
    states = [normal(length + 1, 3) for length in lengths]
    return chained(states, np.tanh(normal(count, 2)), normal(count), list(ends))


@st.composite
def recordings(draw) -> Transition:
    """Draws transitions of any sizes, numbers and ends of episodes."""
    sizes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    ends = draw(st.tuples(*[st.sampled_from([VIOLATES, GOAL, CUT])] * len(lengths)))
    numbers = lambda *shape: draw(  # noqa: E731
        arrays_of.arrays(np.float32, shape, elements=NUMBERS)
    )
    states = [numbers(length + 1, sizes[0]) for length in lengths]
    count = sum(lengths)
    unit = st.floats(-1.0, 1.0, width=32)
    actions = draw(arrays_of.arrays(np.float32, (count, sizes[1]), elements=unit))
    return chained(states, actions, numbers(count), list(ends))


def same_bits(ours: Transition, theirs: Transition) -> None:
    """Asserts that two recordings are equal, bit for bit."""
    for name, one, other in zip(Transition._fields, ours, theirs, strict=True):
        assert one.dtype == other.dtype == np.float32, name
        assert one.shape == other.shape, name
        assert one.tobytes() == np.ascontiguousarray(other).tobytes(), name
