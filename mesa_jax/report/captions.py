"""Captions of a report's figures: where each belongs, and what is seen in it."""

import fnmatch
from typing import NamedTuple

CURVES, MAPS, QUALITY, OTHERS = "curves", "maps", "quality", "others"  # of a page


class Caption(NamedTuple):
    """Holds the part of the page that a figure belongs to, its title and caption."""

    part: str
    title: str
    says: str  # one sentence, for those who see it
    alt: str  # for those who do not


CAPTIONS = {  # by the figure's file, in the order of a page
    "violations_and_successes.png": Caption(
        CURVES,
        "Violations and successes over the run",
        "Violations so far (top; lower is safer) and successes so far (bottom; higher "
        "is better), a line a method, each labelled with its mean at the end.",
        "Curves of cumulative violations and successes, a line a method",
    ),
    "violations_and_returns.png": Caption(
        CURVES,
        "Violations and returns over the run",
        "Violations so far (top; lower is safer) and the mean return of the last ten "
        "episodes (bottom; higher is better), a line a method, each labelled with its "
        "mean at the end.",
        "Curves of cumulative violations and of returns, a line a method",
    ),
    "ratio.png": Caption(
        CURVES,
        "Successes per violation",
        "(Successes + 1) / (violations + 1) so far, on a logarithmic axis: above the "
        "grey line a method has succeeded more often than it has violated.",
        "Curves of the ratio of successes to violations, a line a method",
    ),
    "after_fault.png": Caption(
        OTHERS,
        "After the fault",
        "The same body under each method at a few moments after the fault, and below "
        "it the whole run with each violation and each recovered step.",
        "Pictures of a body after the fault, a row a method, with time lines",
    ),
    "online_thresholds.png": Caption(
        OTHERS,
        "Violations and successes by risk threshold",
        "Violations and successes of online runs at each risk threshold; below a "
        "threshold's risk the task policy's action is let pass.",
        "Curves of violations and successes against the risk threshold",
    ),
    "training_*.png": Caption(
        OTHERS,
        "How a prior was trained",
        "Error and calibration on held-out training bodies before and after "
        "adaptation, norms of gradients and learned rates, over meta-training.",
        "Curves of meta-training over outer steps",
    ),
    "risk_maps.png": Caption(
        MAPS,
        "Before and after adaptation",
        "Risk of two commands in each place of the plane, the simulator's truth on "
        "top: a method is right where its map has the truth's colours, and its error "
        "stands above the map.",
        "Maps of risk: the truth, and each method before and after adaptation",
    ),
    "risk_maps_bodies.png": Caption(
        MAPS,
        "On several test bodies",
        "Risk of one command on a few test bodies, the simulator's truth on top and "
        "each adapted method below it.",
        "Maps of risk on several test bodies: the truth and each adapted method",
    ),
    "risk_error.png": Caption(
        QUALITY,
        "Error by adaptation steps and transitions",
        "Squared error of the risk measure to the simulator's, over adaptation steps "
        "and over adaptation transitions; lower is better.",
        "Curves of the risk measure's squared error, a line a method",
    ),
    "risk_reliability.png": Caption(
        QUALITY,
        "Reliability diagrams",
        "Mean true risk against mean predicted risk in bins: on the diagonal a "
        "prediction means what it says, above it danger is underestimated.",
        "Reliability diagrams, a column a method, before and after adaptation",
    ),
    "risk_tradeoff.png": Caption(
        QUALITY,
        "Dangers missed against false alarms",
        "Share of dangerous states held safe against share of safe states held "
        "dangerous over all thresholds, the mark at the one in use; lower left is "
        "better.",
        "Curves of false-safe against false-alarm rates, a line a method",
    ),
    "filter_test_test.png": Caption(
        QUALITY,
        "Filter test on test bodies",
        "Violating episodes against steps recovered along the threshold, under hard "
        "proposals and without a learner, on test bodies; lower left is better.",
        "Curves of violating episodes against recovered steps on test bodies",
    ),
    "filter_test_training.png": Caption(
        QUALITY,
        "Filter test on bodies like the training ones",
        "The same on new bodies of the training distribution, where nothing of the "
        "test bodies has been seen.",
        "Curves of violating episodes against recovered steps on training-like bodies",
    ),
}


def caption_of(name: str) -> Caption:
    """Returns the caption of a figure's file; of one that is not ours, its name."""
    for pattern, caption in CAPTIONS.items():
        if fnmatch.fnmatchcase(name, pattern):
            if "*" in pattern:
                stem = name.removesuffix(".png").partition("_")[2]
                return caption._replace(title=f"{caption.title}: {stem}")
            return caption
    said = f"{name}, which no launch of ours draws."
    return Caption(OTHERS, name, said, f"Figure {name}")


def order_of(name: str) -> tuple[int, str]:
    """Returns a sort key: the order of the captions, then the name."""
    for i, pattern in enumerate(CAPTIONS):
        if fnmatch.fnmatchcase(name, pattern):
            return i, name
    return len(CAPTIONS), name
