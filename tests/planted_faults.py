"""Faults that the quick tests must catch: what each is, where, and which tests look."""

from typing import NamedTuple


class Fault(NamedTuple):
    """One edit of a source file; `old` occurs in it exactly once."""

    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]  # files under tests/


def _in(file: str, *tests: str):
    """Makes `fault(why, old, new)` of a file that these tests look at."""
    names = tuple("{}/test_{}.py".format(*name.split("/")) for name in tests)
    return lambda why, old, new: Fault(file, old, new, why, names)


_equations = _in("mesa_jax/equations.py", "method/equations")
_networks = _in("mesa_jax/networks/mlp.py", "method/equations", "method/risk")
_sac = _in("mesa_jax/agents/sac.py", "method/agents")
_recovery = _in("mesa_jax/agents/recovery.py", "method/agents")
_rescue = _in("mesa_jax/agents/recovery_policy.py", "method/agents")
_dual = _in("mesa_jax/equations.py", "method/constrained")
_sqrl = _in("mesa_jax/agents/sqrl.py", "method/constrained")
_rspo = _in("mesa_jax/agents/rspo.py", "method/constrained")
_conservative = _in("mesa_jax/agents/conservative.py", "method/constrained")
_planning = _in("mesa_jax/planning.py", "method/carl")
_dynamics = _in("mesa_jax/risk/dynamics.py", "method/carl")
_risk = _in("mesa_jax/risk/violation.py", "method/risk")
_switch = _in("mesa_jax/equations.py", "method/agents", "method/equations")
_pole = _in("mesa_jax/domains/pole.py", "method/cartpole")
_effects = _in("mesa_jax/domains/fault_effects.py", "method/faults")
_safety = _in("mesa_jax/prior.py", "method/prior")
_inner = _in("mesa_jax/meta/inner.py", "method/meta", "method/prior")
_maml = _in("mesa_jax/meta/maml.py", "method/meta", "method/encoder")
_learner = _in("mesa_jax/meta/learner.py", "method/meta", "method/encoder")
_anil = _in("mesa_jax/meta/anil.py", "method/meta")
_reptile = _in("mesa_jax/meta/reptile.py", "method/meta")
_pooled = _in("mesa_jax/meta/pooled.py", "method/meta")
_latent = _in("mesa_jax/networks/latent.py", "method/latent")
_context = _in(
    "mesa_jax/networks/encoder.py", "method/properties_arrays", "method/encoder"
)
_replay = _in("mesa_jax/replay.py", "method/replay")
_rollout = _in("mesa_jax/rollout.py", "method/rollout")
_step = _in("mesa_jax/run_step.py", "method/rollout")
_training = _in("mesa_jax/training.py", "method/training")
_online = _in(
    "mesa_jax/online.py", "method/training", "method/readaptation", "method/rollout"
)
_simulation = _in("mesa_jax/simulation.py", "method/simulation")
_statistics = _in("mesa_jax/report/statistics.py", "report/robust")
_trials = _in("mesa_jax/study/artifacts/trials.py", "study/sweep")
_metrics = _in("mesa_jax/evaluation/metrics.py", "method/evaluation")
_calibration = _in("mesa_jax/evaluation/calibration.py", "method/evaluation")
_support = _in("mesa_jax/novelty.py", "method/novelty")
_collection = _in("mesa_jax/collector.py", "method/data")
_faults = _in("mesa_jax/domains/faults.py", "method/faults")
_navigation = _in("mesa_jax/domains/navigation.py", "method/domains")
_cartpole = _in("mesa_jax/domains/cartpole.py", "method/cartpole")
_adapt = _in("mesa_jax/study/artifacts/adapted.py", "launches/context_launches")

FAULTS = [
    # targets
    _equations(
        "the risk target bootstraps through a violation",
        "cost + (1.0 - cost) * discount * next_risk",
        "cost + discount * next_risk",
    ),
    _equations(
        "the risk target passes a gradient",
        "jax.lax.stop_gradient(cost + (1.0 - cost) * discount * next_risk)",
        "cost + (1.0 - cost) * discount * next_risk",
    ),
    _equations(
        "SAC's target takes the higher twin", "jnp.min(next_q)", "jnp.max(next_q)"
    ),
    _equations(
        "SAC's target has the entropy's sign reversed",
        "jnp.min(next_q) - temperature",
        "jnp.min(next_q) + temperature",
    ),
    _equations(
        "the temperature moves away from its target entropy",
        "return -jnp.exp(log_temperature)",
        "return jnp.exp(log_temperature)",
    ),
    _equations(
        "polyak's sides are swapped", "t + rate * (o - t)", "o + rate * (t - o)"
    ),
    _equations("the inner step ascends", "p - a * g", "p + a * g"),
    _equations(
        "rho is the logarithm of the rate",
        "value + jnp.log(-jnp.expm1(-value))",
        "jnp.log(value)",
    ),
    _risk(
        "the risk bootstraps past a termination",
        'discount = target_params["discount"] * batch.discount',
        'discount = target_params["discount"] * jnp.ones_like(batch.discount)',
    ),
    _risk(
        "the risk discount is one step off",
        'discount = target_params["discount"] * batch.discount',
        'discount = target_params["discount"] ** 2 * batch.discount',
    ),
    _risk(
        "the risk target asks the state that was left",
        "estimate(target_params, batch.next_observation, next_action)",
        "estimate(target_params, batch.observation, next_action)",
    ),
    _risk(
        "the estimate is the lowest member",
        "functools.reduce(jnp.maximum, risks)",
        "functools.reduce(jnp.minimum, risks)",
    ),
    _risk(
        "members' errors are averaged, not summed",
        "error = jnp.mean(jnp.sum(errors, axis=0))",
        "error = jnp.mean(errors)",
    ),
    _risk(
        "members' errors are summed over the batch, not over members",
        "error = jnp.mean(jnp.sum(errors, axis=0))",
        "error = jnp.mean(jnp.sum(errors, axis=1))",
    ),
    _networks(
        "the squashed density lacks a factor of two",
        "log_slope = 2.0 * (",
        "log_slope = 1.0 * (",
    ),
    _networks(
        "actions are scaled the wrong way round",
        "(action - fixed.action_mean) / fixed.action_std",
        "(action - fixed.action_mean) * fixed.action_std",
    ),
    # SAC
    _sac(
        "SAC's target asks the online critic",
        "q_values(state.target_critic, batch.next_observation, action)",
        "q_values(state.critic, batch.next_observation, action)",
    ),
    _sac(
        "SAC bootstraps past a termination",
        "discounts = discount * batch.discount",
        "discounts = discount * jnp.ones_like(batch.discount)",
    ),
    _sac(
        "the actor takes the higher twin",
        "jnp.minimum(first, second)",
        "jnp.maximum(first, second)",
    ),
    _sac(
        "the actor descends the value",
        "temperature * log_prob - value",
        "temperature * log_prob + value",
    ),
    _sac(
        "the actor learns from the critics before their update",
        "state.actor, critic, temperature, actor_key",
        "state.actor, state.critic, temperature, actor_key",
    ),
    _sac(
        "the target critics follow the critics before their update",
        "equations.polyak(state.target_critic, critic, config.target_rate)",
        "equations.polyak(state.target_critic, state.critic, config.target_rate)",
    ),
    _sac(
        "the twins' errors are summed over the batch, not over the twins",
        "jnp.sum((values - targets[None]) ** 2, axis=0)",
        "jnp.sum((values - targets[None]) ** 2, axis=1)",
    ),
    _sac(
        "the target entropy is +A nats",
        "log_temperature, log_prob, -float(action_size)",
        "log_temperature, log_prob, float(action_size)",
    ),
    # the switch and the online safety half
    _switch(
        "the threshold's comparison is reversed",
        "risk > threshold",
        "risk < threshold",
    ),
    _switch(
        "the recovery policy also acts at the threshold",
        "risk > threshold",
        "risk >= threshold",
    ),
    _switch(
        "the decision calls the proposed action executed",
        "return Decision(action, proposed, recovered)",
        "return Decision(proposed, action, recovered)",
    ),
    _recovery(
        "the recovery policy learns from the critic before its update",
        "state.recovery, risk_params, batch.observation",
        "state.recovery, state.risk, batch.observation",
    ),
    _rescue(
        "the recovery policy ascends the risk",
        "return risk + penalty,",
        "return penalty - risk,",
    ),
    _recovery(
        "the online risk target is the online critic",
        "state.risk, state.risk_target, batch, next_action",
        "state.risk, state.risk, batch, next_action",
    ),
    _recovery(
        "the online risk target's polyak is swapped",
        "equations.polyak(state.risk_target, risk_params, target_rate)",
        "equations.polyak(risk_params, state.risk_target, target_rate)",
    ),
    _recovery(
        "the next action is the policy's at the state that was left",
        "next_action(safety_key, state, safety_batch.next_observation)",
        "next_action(safety_key, state, safety_batch.observation)",
    ),
    _recovery(
        "the safety half learns when the task may",
        "equations.select(learn_risk, learned, state)",
        "equations.select(learn_task, learned, state)",
    ),
    _recovery(
        "the task learns from the safety replay",
        "sac.update(task_key, state.sac, task_batch,",
        "sac.update(task_key, state.sac, safety_batch,",
    ),
    # constrained agents
    _dual(
        "lambda falls while the constraint is violated",
        "return -log_multiplier * jax.lax.stop_gradient(excess)",
        "return log_multiplier * jax.lax.stop_gradient(excess)",
    ),
    _dual(
        "risk is paid for with more reward",
        "reward - multiplier * cost)",
        "reward + multiplier * cost)",
    ),
    _sqrl("what is beyond is chosen", "risks <= threshold", "risks > threshold"),
    _rspo("lambda grows", "(1.0 - state.share)", "state.share"),
    _conservative(
        "what is not seen is taken for safe",
        "error - alpha * gap",
        "error + alpha * gap",
    ),
    # planning in a model
    _planning(
        "a plan is judged by its luckiest particles",
        "jax.lax.top_k(costs, judged)[0]",
        "-jax.lax.top_k(-costs, judged)[0]",
    ),
    _planning(
        "the dearest plans are the elites",
        "jax.lax.top_k(-costs, config.elites)",
        "jax.lax.top_k(costs, config.elites)",
    ),
    _planning(
        "a step's reward is what it costs",
        "config.price * caught - expected",
        "config.price * caught + expected",
    ),
    _planning(
        "particles move without noise",
        "states = mean + std * noise",
        "states = mean",
    ),
    _dynamics(
        "violations are weighted by their own share",
        "(batch.cost.size - violating) / jnp.maximum(violating, 1.0)",
        "violating / batch.cost.size",
    ),
    _dynamics(
        "a log-variance is taken for a log-deviation",
        "jnp.exp(0.5 * log_variance)",
        "jnp.exp(log_variance)",
    ),
    # the prior's losses
    _safety(
        "the outer target is the prior's own",
        '{"adapted": adapted, "inner": target}[outer_target]',
        '{"adapted": prior, "inner": target}[outer_target]',
    ),
    _safety(
        "the anchor holds the adapted critic",
        "critic_inner(prior_key, prior, prior, batch, given)",
        "critic_inner(prior_key, adapted, prior, batch, given)",
    ),
    _safety(
        "the anchor has no weight", "loss + anchor * prior_loss", "loss + prior_loss"
    ),
    _safety(
        "the un-adapted recovery policy is judged",
        "recovery_inner(key, adapted, target, batch, given)",
        "recovery_inner(key, prior, target, batch, given)",
    ),
    _safety(
        "the Bellman error counts the next actions' spread",
        "jnp.mean((estimates - jnp.mean(targets, axis=0)) ** 2)",
        "jnp.mean((estimates - targets) ** 2)",
    ),
    # the inner loop
    _inner(
        "a gradient passes the inner bootstrap target",
        "fixed, target, jax.lax.stop_gradient(adapted), target_rate",
        "fixed, target, adapted, target_rate",
    ),
    _inner(
        "each inner step starts from the prior",
        "space.step(params, adapted, rates, gradients)",
        "space.step(params, space.begin(params), rates, gradients)",
    ),
    _inner(
        "each inner gradient is the prior's",
        "space.weights(params, adapted),\n            space.weights(fixed, target),",
        "space.weights(params, space.begin(params)),\n"
        "            space.weights(fixed, target),",
    ),
    _inner(
        "inner rates are not softplus",
        "jax.tree.map(jax.nn.softplus, prior.rates[i])",
        "prior.rates[i]",
    ),
    _inner(
        "the policy's loss sends a gradient to the critic",
        "return jax.lax.stop_gradient(adapted[:i] + params[i + 1 :])",
        "return adapted[:i] + params[i + 1 :]",
    ),
    _inner(
        "all inner steps draw from one key",
        "jax.random.fold_in(key, i),\n            space.weights(params, adapted)",
        "jax.random.fold_in(key, 0),\n            space.weights(params, adapted)",
    ),
    _inner(
        "first order goes through the inner gradients",
        "return jax.lax.stop_gradient(inner_gradient(loss)(*arguments))",
        "return inner_gradient(loss)(*arguments)",
    ),
    _inner(
        "a long inner gradient is lengthened",
        "jnp.minimum(1.0, norm / length)",
        "jnp.maximum(1.0, norm / length)",
    ),
    _maml(
        "the inner loop adapts on the query",
        "inner_key, loop, prior, batch.support,",
        "inner_key, loop, prior, batch.query,",
    ),
    _maml(
        "the outer loss is the support's",
        "became, batch.query)",
        "became, batch.support)",
    ),
    _learner("the outer loss judges the prior", "adapted[i],\n", "begun[i],\n"),
    _maml(
        "the inner steps come one outer step late",
        "== config.inner_every - 1",
        "== 0",
    ),
    _learner(
        "the rates' gradient is not followed",
        "optax.apply_updates(state.prior.rates, updates)",
        "state.prior.rates",
    ),
    _learner(
        "a test body adapts with meta-training's bootstrap target",
        "InnerLoop(parts, gradient, adaptation.target_rate)",
        "InnerLoop(parts, gradient, config.target_rate)",
    ),
    _trials("rows do not share their outer step", "None if is_step(path) else 0", "0"),
    _statistics("a tie counts whole", "0.5 * (gap == 0)", "1.0 * (gap == 0)"),
    _statistics("a fifth is left out", "CUT = 0.25", "CUT = 0.2"),
    _anil("all but the head adapts", "mine, rho, -jnp.inf", "mine, -jnp.inf, rho"),
    _reptile("the prior moves away", "prior.params, moved", "moved.params, prior"),
    _reptile("the query's steps begin at the prior", "loop, moved,", "loop, prior,"),
    _pooled(
        "fine-tuning's bootstrap target is swapped",
        "equations.polyak(targets, params, config.target_rate)",
        "equations.polyak(params, targets, config.target_rate)",
    ),
    _pooled(
        "the second part sees the first before its update",
        "others(i, learned, params),",
        "others(i, params, params),",
    ),
    _pooled(
        "fine-tuning draws one batch for all steps",
        "jax.random.split(jax.random.fold_in(key, i))",
        "jax.random.split(jax.random.fold_in(key, 0))",
    ),
    _latent(
        "low-rank steps are added",
        "made -= scale[:, None, None] * move.gradient",
        "made += scale[:, None, None] * move.gradient",
    ),
    _latent(
        "the latent's step does not know the earlier ones",
        "pulled -= jnp.sum(move.gradient * g, (1, 2))[:, None] * move.basis",
        "pass",
    ),
    _latent(
        "each low-rank step starts from the prior's latent",
        "rates.basis * now.z",
        "rates.basis * prior.z",
    ),
    # what reads its body
    _context(
        "attention is over features, not over transitions",
        "features), axis=0)",
        "features), axis=1)",
    ),
    _context(
        "changes of state are not scaled",
        "change / statistics.change_std",
        "change",
    ),
    _context(
        "the encoding's products are transposed",
        "(*kernel.shape[:-2], size, len(encoding), -1)",
        "(*kernel.shape[:-2], len(encoding), size, -1).swapaxes(-3, -2)",
    ),
    _adapt(
        "a body begins with another's encoding",
        "program(keys, start, bodies.rows, bodies.tasks, steps)",
        "program(keys, start, jax.tree.map("
        "lambda x: x[::-1], bodies.rows), bodies.tasks, steps)",
    ),
    _support(
        "a body's distance counts it among the others",
        "(i + 1 + jnp.arange(count - 1)) % count",
        "(i + jnp.arange(count - 1)) % count",
    ),
    # memory
    _replay(
        "the latest rows are one old", "replay.added - 1 - age", "replay.added - age"
    ),
    _replay(
        "violations fill the safe share",
        "np.diff(_violating_of_first(count, fraction))",
        "1 - np.diff(_violating_of_first(count, fraction))",
    ),
    _replay(
        "overwritten rows stay members of their class",
        "held = replay.members.held.at[old].add(-leaves.astype(jnp.int32))",
        "held = replay.members.held",
    ),
    _replay(
        "a class is drawn from its first slots",
        "(members.first[kind] + rank)",
        "(0 * members.first[kind] + rank)",
    ),
    # online
    _step(
        "the task replay holds the executed action",
        '"proposed": decision.proposed, "executed": decision.action',
        '"proposed": decision.action, "executed": decision.proposed',
    ),
    _step(
        "the safety replay holds the proposed action",
        "replay.add(state.safety_replay, executed, keep)",
        "replay.add(state.safety_replay, relabelled, keep)",
    ),
    _step(
        "a time limit terminates",
        "return Moved(progress, ended, record, transition, finite)",
        "transition = transition._replace(discount=1.0 - ended)\n"
        "    return Moved(progress, ended, record, transition, finite)",
    ),
    _rollout(
        "an episode lasts one step too long",
        "progress.length + 1 >= domain.spec.horizon",
        "progress.length + 1 > domain.spec.horizon",
    ),
    _rollout(
        "evaluations come one episode late",
        "new_state.episode % config.evaluate_every == 0",
        "new_state.episode % config.evaluate_every == 1",
    ),
    _step(
        "uniform proposals last one step too long",
        "state.env_steps < config.start_steps",
        "state.env_steps <= config.start_steps",
    ),
    _step(
        "learning starts with exactly a batch",
        "active & (replay.size(state.safety_replay) > size)",
        "active & (replay.size(state.safety_replay) >= size)",
    ),
    _step(
        "the safety batch is drawn from the task replay",
        "replay.sample(safety_key, state.safety_replay, size, fraction)",
        "replay.sample(safety_key, state.task_replay, size, fraction)",
    ),
    _rollout(
        "evaluation proposes by chance",
        "proposed = agent.propose_mode(state.agent, observation)",
        "proposed = agent.propose(step_key, state.agent, observation)",
    ),
    _step(
        "success counts where it violates",
        "success &= (violation == 0) & finite",
        "success &= finite",
    ),
    _training(
        "the prior with the greatest held-out error is kept",
        "mean_error < state.best_error",
        "mean_error > state.best_error",
    ),
    _training(
        "query rows are the support's",
        "query_of)(keys[1], tasks)",
        "query_of)(keys[0], tasks)",
    ),
    _online(
        "evaluations are written one slot late",
        "states.episode // config.evaluate_every - 1",
        "states.episode // config.evaluate_every",
    ),
    _online(
        "runs read their body anew before their first step",
        "& (rest == 0) & (turn > 0)",
        "& (rest == 0)",
    ),
    _online(
        "what adapts anew starts from the other choice",
        'config.readapt_from == "current"',
        'config.readapt_from == "prior"',
    ),
    # data, truth and measures
    _simulation(
        "the true risk is discounted one step more",
        "discount**i",
        "discount ** (i + 1)",
    ),
    _simulation(
        "the true risk counts violations after the first",
        "alive *= transition.discount * (1.0 - transition.cost)",
        "alive *= transition.discount",
    ),
    _simulation(
        "data end at a violation past which physics goes on",
        "terminated & ~((transition.cost > 0.5) & domain.spec.continues)",
        "terminated",
    ),
    _calibration(
        "danger is where the truth is at the threshold",
        "    dangerous = truth > threshold\n    ordered",
        "    dangerous = truth < threshold\n    ordered",
    ),
    _metrics(
        "the noise floor has the wrong factor",
        "(halves[0] - halves[1]) ** 2) / 4.0",
        "(halves[0] - halves[1]) ** 2) / 2.0",
    ),
    _calibration(
        "the calibrated threshold lets one more through",
        "first = ordered[jnp.maximum(allowed - 1, 0)]",
        "first = ordered[allowed]",
    ),
    _collection(
        "a data episode has no time limit",
        "ends_data(domain, transition) | out_of_time",
        "ends_data(domain, transition)",
    ),
    # bodies
    _faults(
        "a fault lasts one step too long",
        "task.clock < task.end",
        "task.clock <= task.end",
    ),
    _effects(
        "a delay is one step too long",
        "return recent[:-1], recent[severity.astype(jnp.int32)]",
        "return recent[:-1], memory[severity.astype(jnp.int32)]",
    ),
    _faults(
        "the command that moved the body is recorded",
        "observation=state.seen, action=command",
        "observation=state.seen, action=executed",
    ),
    _navigation(
        "the reward is the distance after the step",
        "distance = jnp.linalg.norm(state)",
        "distance = jnp.linalg.norm(reached)",
    ),
    _navigation(
        "the gain matrix is transposed", "task.gain @ action", "action @ task.gain"
    ),
    _navigation(
        "a violation does not terminate",
        "terminated = violation | (distance < GOAL_RADIUS)",
        "terminated = distance < GOAL_RADIUS",
    ),
    _pole(
        "the pole pulls the cart the wrong way",
        "(inertia * push - coupling * torque)",
        "(inertia * push + coupling * torque)",
    ),
    _cartpole(
        "the track's end does not violate",
        "jnp.abs(state[..., 0]) >= TRACK",
        "jnp.abs(state[..., 0]) > TRACK",
    ),
]
