"""CARL (Zhang et al., 2020, arXiv 2008.06622): plan cautiously in a learned model."""

import jax
import jax.numpy as jnp

from mesa_jax.agents.constraint import unfiltered
from mesa_jax.agents.recovery import RecoveryConfig, recovery_rl
from mesa_jax.agents.sac import SAC
from mesa_jax.planning import PlannerConfig, cross_entropy, imagined_cost
from mesa_jax.types import Agent, Policy, RiskMeasure


def carl(
    sac: SAC,
    model: RiskMeasure,
    recovery: Policy,
    config: RecoveryConfig,
    planner: PlannerConfig,
    members: int,
) -> Agent:
    """Makes CARL, and CARL-Reward, on this frame's data and updates.

    It executes the first action of a plan (`planning.cross_entropy`) by its model
    (`risk.dynamics`), where a predicted step whose probability of a violation exceeds
    epsilon_risk costs `planner.price`. With an infinite threshold none does: it judges
    plans by their worst particles alone (CARL-Reward), or, where all count, not at all
    cautiously (the plain model-based agent). The model goes on learning from the safety
    replay; there is no task policy that learns.

    Args:
      sac: unused, but for the state that all agents have.
      model: a measure that predicts.
      recovery: a policy that is learned beside it, and never acts.
      config: rates of the model.
      planner: of the search.
      members: of the model; they divide the planner's particles.
    """
    agent = unfiltered(recovery_rl(sac, model, recovery, config))

    def propose(key, state, observation):
        def cost(key, plans):
            given = model.predict, state.risk, observation, plans, state.risk_threshold
            return imagined_cost(key, *given, planner, members)

        size = recovery.act(state.recovery, observation).shape[-1]
        return cross_entropy(key, cost, planner, size)[0]

    def propose_mode(state, observation):
        return propose(jax.random.key(0), state, observation)

    def update(key, state, task_batch, safety_batch, learn_task, learn_risk):
        del learn_task
        new_state, metrics = agent.update(
            key, state, task_batch, safety_batch, jnp.array(False), learn_risk
        )
        learned = {k: v for k, v in metrics.items() if not k.startswith("sac/")}
        return new_state, learned

    return agent._replace(propose=propose, propose_mode=propose_mode, update=update)
