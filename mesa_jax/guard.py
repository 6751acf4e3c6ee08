"""A filter that keeps up with its body: it reads the latest transitions again.

`Guard` is the one object here with a memory; everything that it computes is the pure
filter's, and what it reads, and when, is what online runs of the method read.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mesa_jax.constraints import JointFilter
from mesa_jax.filter import FilterInfo, SafetyFilter
from mesa_jax.readings import Rereading, reread
from mesa_jax.settings import SettingError, known
from mesa_jax.types import Array, Transition

FALLBACKS = ("recovery", "proposal")


class Guard:
    """Judges proposed actions step by step, of one body or of S side by side.

        action = guard(observation, proposed)
        ...                                     # the body moves
        guard.observe(next_observation, cost, terminated)

    It compiles when it is made, so that no step waits for that. Numbers that change are
    attributes, with the filter's axes: [] of one body, [S] of several.

    Attributes:
      filter: as it is now; its body is read again every so many steps. A
        `JointFilter` is not, and `info.risk` then has an axis of constraints.
      rereading: how that is done; None where it is not.
      sizes: D and A.
      info: `FilterInfo` of the last decision, in NumPy arrays; None before the first.
      steps: that were observed.
      interventions: decisions on which the recovery policy acted.
      fallbacks: decisions on which something was not finite.
      left_out: steps that were not finite, and are in no reading.
      readings: how often the body was read again.
    """

    def __init__(
        self,
        filter: SafetyFilter | JointFilter,
        rereading: Rereading | None = None,
        fallback: str = "recovery",
    ):
        """Makes a guard of an adapted filter.

        Args:
          filter: of one body or of S.
          rereading: of the same bodies; None: the filter stays as it is.
          fallback: what is executed where no action can be decided upon, since numbers
            are not finite: the recovery policy's last finite action ("recovery"), or
            what is proposed ("proposal"). Where there is none it is what is proposed,
            and where that is not finite, zeros.

        Raises:
          SettingError: on another fallback, or a filter of bodies in a grid.
        """
        self._fallback = known("fallback", fallback, FALLBACKS)
        if rereading is not None and isinstance(filter, JointFilter):
            raise SettingError("rereading", "one", "None where constraints are several")
        self._lead = filter.bodies
        if len(self._lead) > 1:
            raise SettingError("filter", f"one of {self._lead} bodies", "of S bodies")
        self.rereading, self.sizes = rereading, filter.sizes
        zeros = np.zeros(self._lead, int)
        self.steps, self.interventions, self.fallbacks = zeros, zeros, zeros
        self.left_out, self.readings = zeros, zeros
        self.info, self._moving = None, None
        self._spare = np.full((*self._lead, self.sizes[1]), np.nan, np.float32)
        self._use(filter)
        self._program = jax.jit(_decision(filter))
        given = np.zeros((*self._lead, sum(self.sizes) + self.sizes[1]), np.float32)
        jax.block_until_ready(self._program(self._leaves, given))
        if rereading is not None:
            rows = [np.array(x, np.float32) for x in rereading.latest]
            self._latest = Transition(*rows)
            self._renew = jax.jit(reread(rereading))
            nobody = np.zeros(self._lead, bool)
            jax.block_until_ready(self._renew(filter, self._latest, zeros, nobody))

    def __call__(self, observation: Array, proposed: Array) -> np.ndarray:
        """Returns what is to be executed, [..., A]; always finite.

        Args:
          observation: [..., D] of the body, or of each of S.
          proposed: [..., A] in [-1, 1].

        Raises:
          SettingError: naming the argument that has another shape.
        """
        observation = self._vector("observation", observation, self.sizes[0])
        proposed = self._vector("proposed", proposed, self.sizes[1])
        given = np.concatenate([observation, proposed, self._spare], axis=-1)
        found, size = np.asarray(self._program(self._leaves, given)), self.sizes[1]
        action, risk = found[..., :size], found[..., 2 * size : -2]
        if isinstance(self.filter, SafetyFilter):
            risk = risk[..., 0][()]  # no arrays of no axes
        recovered, fell_back = found[..., -2] > 0.0, found[..., -1] > 0.0
        if self._fallback == "recovery":
            self._spare = found[..., size : 2 * size]
        self.info = FilterInfo(proposed, risk, recovered, fell_back, self._novelty)
        self._moving = observation, action
        self.interventions = self.interventions + recovered
        self.fallbacks = self.fallbacks + fell_back
        return action.copy()

    def observe(
        self,
        next_observation: Array,
        cost: Array | float,
        terminated: Array | bool = False,
        reward: Array | float = 0.0,
        moved: Array | bool = True,
    ) -> None:
        """Keeps what the last decision led to, and reads the body in its turn.

        Args:
          next_observation: [..., D] that the step reached, before any reset.
          cost: [...] 1 where it violates the constraint, else 0.
          terminated: [...] whether the episode terminated; a time limit does not.
          reward: [...]
          moved: [...] False where this was no step of a body, as a reset is in some
            vector environments; the decision does not count there.

        Raises:
          SettingError: before a decision, or naming the argument that is wrong.
        """
        if self._moving is None:
            raise SettingError("observe", "no decision before it", "after a decision")
        reached = self._vector("next_observation", next_observation, self.sizes[0])
        cost, ended, reward, moved = (
            np.broadcast_to(np.asarray(x, kind), self._lead)
            for x, kind in zip((cost, terminated, reward, moved), _KINDS, strict=True)
        )
        if not np.isin(cost[np.isfinite(cost)], (0.0, 1.0)).all():
            raise SettingError("cost", cost.tolist(), "0 or 1 (a violation)")
        (seen, action), self._moving = self._moving, None
        made = Transition(seen, action, reward, cost, 1.0 - ended, reached)
        self.interventions = self.interventions - (self.info.recovered & ~moved)
        self.fallbacks = self.fallbacks - (self.info.fell_back & ~moved)
        self.steps = self.steps + moved
        if self.rereading is not None:
            self._remember(made, moved)
            self._read(moved)

    def _use(self, filter: SafetyFilter | JointFilter) -> None:
        self.filter, self._leaves = filter, jax.tree.leaves(filter)
        self._novelty = np.asarray(filter.novelty)[()]

    def _vector(self, name: str, values: Array, size: int) -> np.ndarray:
        values = np.array(values, np.float32)  # a caller may go on writing into its own
        if values.shape != (*self._lead, size):
            allowed = f"of shape {(*self._lead, size)}"
            raise SettingError(name, f"one of shape {values.shape}", allowed)
        return values

    def _remember(self, made: Transition, moved: np.ndarray) -> None:
        """Puts a finite step of bodies that moved in the place of their oldest."""
        numbers = len(self._lead)
        finite = np.ones(self._lead, bool)
        for x in made:
            finite &= np.isfinite(x).all(axis=tuple(range(numbers, np.ndim(x))))
        self.left_out = self.left_out + (moved & ~finite)
        keep = moved & finite
        for rows, row in zip(self._latest, made, strict=True):
            # where all are of one body, `keep` adds an axis
            rows[keep] = np.concatenate(
                [rows[keep][:, 1:], np.asarray(row)[keep][:, None]], axis=1
            )

    def _read(self, moved: np.ndarray) -> None:
        """Adapts anew the bodies whose turn it is."""
        turn, rest = np.divmod(self.steps, self.rereading.every)
        due = moved & (rest == 0)
        if due.any():
            found = self._renew(self.filter, self._latest, turn, due)
            self._use(jax.block_until_ready(found))
            self.readings = self.readings + due


_KINDS = (np.float32, bool, np.float32, bool)  # of cost, terminated, reward, moved


def _decision(like: SafetyFilter | JointFilter) -> Callable:
    """Makes `(leaves, given [..., D + 2 A]) -> found [..., 2 A + C + 2]`, of a filter.

    Few arrays pass between Python and the device, each of which takes time. Given are
    observation, proposal and spare; found are action, spare, a risk a constraint, and
    whether the recovery policy acts and something is not finite.
    """
    structure, (seen, size) = jax.tree.structure(like), like.sizes

    def decision(leaves, given):
        observation, proposed, spare = jnp.split(given, (seen, seen + size), axis=-1)
        filter = jax.tree.unflatten(structure, leaves)
        action, info = filter.decide(observation, proposed, spare)
        rescue = filter.recover(observation)
        finite = jnp.isfinite(observation).all(-1) & jnp.isfinite(rescue).all(-1)
        spare = jnp.where(finite[..., None], rescue, spare)
        risks = info.risk.reshape(*like.bodies, -1)
        signs = jnp.stack([info.recovered, info.fell_back], axis=-1)
        return jnp.concatenate([action, spare, risks, signs], axis=-1)

    return decision
