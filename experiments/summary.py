"""The summary of a study's online runs."""

import pathlib

from mesa_jax.report import measures
from mesa_jax.report.summary import OnlineRuns, summarize
from mesa_jax.study import audit, files, records
from mesa_jax.study.artifacts.reference import body_of_seed, onset, random_policy
from mesa_jax.study.records import ResultsError
from mesa_jax.study.study import Study

RUNS = "runs.csv"


def online_runs(study: Study) -> OnlineRuns:
    """Checks results.csv; returns its finished runs with what they are compared with.

    Which bodies can succeed the domain says.
    """
    place, settings, system = study.folder, study.configuration, study.system
    unfinished = audit.check(place, settings).unfinished
    rows = records.ended(records.RESULTS.read(place), unfinished)
    seeds, domain = records.seeds(rows), system.domain
    return OnlineRuns(
        rows,
        unfinished,
        {seed: bool(domain.solvable(body_of_seed(domain, seed))) for seed in seeds},
        domain.spec.has_success,
        {seed: onset(system, seed) for seed in seeds if settings.fault},
        random_policy(study, seeds),
        settings.online.steps,
    )


def save_summary(place: pathlib.Path, online: OnlineRuns) -> dict:
    """Returns the summary of a workdir's runs, once it and a table of them are written.

    The summary is JSON, the table has a line a run.

    Raises:
      ResultsError: if there is no finished run.
    """
    try:
        summary = summarize(online)
    except ResultsError as error:
        raise ResultsError(f"{place}: {error}") from None
    files.write_derived(place / "summary.json", summary)
    lines = measures.listed(online.rows, list(summary["methods"]), online.struck)
    columns = dict.fromkeys(name for line in lines for name in line)
    table = [columns, *([line.get(name, "") for name in columns] for line in lines)]
    text = "".join(",".join(map(str, row)) + "\n" for row in table)
    files.write_derived(place / RUNS, text)
    return summary
