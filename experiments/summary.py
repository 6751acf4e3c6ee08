"""The summary of a study's online runs."""

from mesa_jax.report import statistics
from mesa_jax.study import audit, records
from mesa_jax.study.artifacts.reference import onset, random_policy, test_body
from mesa_jax.study.study import Study


def summary_of(study: Study) -> dict:
    """Checks results.csv, writes the summary and returns it.

    Which bodies can succeed the domain says.
    """
    place, settings, system = study.folder, study.configuration, study.system
    unfinished = audit.check(place, settings).unfinished
    ran = records.seeds(statistics.ended(records.read(place), unfinished))
    solvable, struck = {}, {}
    for seed in ran:
        body = test_body(system.domain, seed)
        solvable[seed] = bool(system.domain.solvable(body))
        if settings.fault:
            struck[seed] = onset(system, seed)
    return statistics.summarize(
        place,
        solvable,
        system.domain.spec.has_success,
        struck,
        random_policy(study, ran),
        settings.online.steps,
        unfinished,
    )
