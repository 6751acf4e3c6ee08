"""The risk of the recovery policy itself: can a violation still be avoided?"""

from mesa_jax.risk.violation import RiskConfig, violation_probability
from mesa_jax.types import Parametrisation, RiskMeasure


def avoid(config: RiskConfig, bodies: Parametrisation | None = None) -> RiskMeasure:
    """Makes Q_risk(s, a) of an action followed by the recovery policy.

    It is `violation_probability` with another next action in its offline targets,

        y = c + (1 - c) gamma_risk Q_risk(s', pi_rec(s')),

    and pi_rec descends it: the discounted safety Bellman equation (Fisac et al., 2019,
    "Bridging Hamilton-Jacobi Safety Analysis and Reinforcement Learning"; Hsu et al.,
    2021, "Safety and Liveness Guarantees through Reach-Avoid Reinforcement Learning"),
    which for a cost of 0 or 1 reads so. For bodies that cannot rest: where the
    reference policy always falls, its own risk tells no state from another. Data of
    that policy alone make it over-optimistic (`rounds`). Online targets stay those that
    the agent is set to.

    Args:
      config: networks, discount, conditioning.
      bodies: the parameters that "identified" conditioning finds of a body.
    """
    return violation_probability(config, bodies)._replace(of_recovery=True)
