"""What MAML is configured by: meta-training, and the inner loop on a test body."""

import dataclasses

from mesa_jax.settings import SettingError, setting, validate


@dataclasses.dataclass(frozen=True)
class MAMLConfig:
    """Configures meta-training by MAML."""

    steps: int = setting(2500, "outer steps", "[1, 10_000_000]")
    num_tasks: int = setting(5, "bodies an outer step", "[1, 10_000]")
    support_size: int = setting(
        200, "transitions the inner loop adapts on", "[1, 1_000_000]"
    )
    query_size: int = setting(256, "transitions of the outer loss", "[1, 1_000_000]")
    support_least: int = setting(
        0,
        "transitions that an outer step's support has at least, their number drawn "
        "log-uniformly; 0: it has support_size",
        "[0, 1_000_000]",
    )
    support_windows: float = setting(
        0.0,
        "share of the supports that are consecutive transitions, as those that an "
        "online run adapts anew on",
        "[0, 1]",
    )
    inner_steps: int = setting(5, "K", "[0, 1_000]")
    inner_every: int = setting(
        1,
        "inner steps are taken in every maml_inner_every-th outer step, none in others",
        "[1, 1_000_000]",
    )
    inner_lr: float = setting(0.1, "alpha at the start; learned per tensor", "(0, inf)")
    inner_clip: float = setting(
        0.0,
        "global norm of an inner step's gradient, at training and test; 0: any",
        "[0, inf)",
    )
    learner: str = setting(
        "maml",
        "outer gradient through the inner steps' own gradients, or past them; anil: "
        "the last layer alone adapts; reptile: no outer gradient",
        choices=("maml", "first_order", "anil", "reptile"),
    )
    target_rate: float = setting(
        1.0, "bootstrap target: 0 the frozen prior, 1 the adapting critic", "[0, 1]"
    )
    outer_target: str = setting(
        "adapted",
        "whose bootstrap target the outer loss takes: the adapted critic's, or the "
        "inner loop's last",
        choices=("adapted", "inner"),
    )
    anchor: float = setting(
        1.0,
        "weight of the un-adapted critic's own TD loss in the outer loss",
        "[0, inf)",
    )
    outer_lr: float = setting(
        1e-3, "beta, Adam; decays over the second half", "(0, inf)"
    )
    outer_lr_end: float = setting(
        0.01, "share of it at the end; 1 keeps it constant", "(0, 1]"
    )
    recovery: str = setting(
        "meta",
        "policy learned by the outer loss, or beside it against the critic as it is",
        choices=("meta", "beside"),
    )
    beside_lr: float = setting(
        1e-4, "Adam of a recovery policy learned beside", "(0, inf)"
    )
    keep: str = setting(
        "best",
        "which prior is kept: best (of the least held-out Bellman error) or last",
        choices=("best", "best_of_second_half", "last"),
    )
    rate_lr: float = setting(
        1e-3, "Adam on the learned rates; 0: they stay as they begin", "[0, inf)"
    )
    gradient_clip: float = setting(40.0, "global norm of a part's gradient", "(0, inf)")

    def __post_init__(self):
        validate(self)
        if self.support_least > self.support_size:
            allowed = f"at most maml_support_size ({self.support_size})"
            raise SettingError("support_least", self.support_least, allowed)


@dataclasses.dataclass(frozen=True)
class InnerLoopConfig:
    """Configures the adaptation of a prior by its learned inner steps."""

    steps: int = setting(5, "inner steps on a test body", "[0, 100_000]")
    steps_outside: int = setting(
        0,
        "inner steps where an encoded adaptation set lies outside what the prior was "
        "trained on; 0: as inside",
        "[0, 100_000]",
    )
    target_rate: float = setting(
        1.0, "bootstrap target: 0 the frozen prior, 1 the adapting critic", "[0, 1]"
    )
    settle_steps: int = setting(
        0,
        "Adam steps of the recovery policy after its inner ones, against the adapted "
        "critic: on some bodies those end half-way from the prior; none where the "
        "critic takes none",
        "[0, 1_000_000]",
    )
    settle_lr: float = setting(3e-3, "their rate", "(0, inf)")

    def __post_init__(self):
        validate(self)
