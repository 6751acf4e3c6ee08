"""Checks that this machine decides as the one that exported; needs NumPy alone.

`python check.py` beside `filter.py`, `weights.npz` and `check.npz` prints the largest
difference and how long a decision takes; it ends with 1 if it decides otherwise.
"""

import pathlib
import time

import numpy as np

TOLERANCE = 1e-5  # of actions and risks, and of the threshold


def difference(stored, action, info):
    """Returns the largest difference from stored decisions; inf: it decides otherwise.

    A risk within TOLERANCE of the threshold may go either way.
    """
    gap = np.abs(stored["risk"] - stored["threshold"])
    apart, fine = ~(gap <= TOLERANCE), ~np.isnan(stored["risk"])
    if any((stored[x] != info[x])[apart].any() for x in ("recovered", "fell_back")):
        return np.inf
    gaps = (
        np.abs(stored["action"] - action)[apart],
        np.abs(stored["risk"] - info["risk"]),
    )
    return np.max([np.max(x, initial=0.0) for x in (gaps[0], gaps[1][fine])])


def singly(stored):
    """Returns (observation, proposed) of each stored decision that is finite."""
    pairs = zip(stored["observation"], stored["proposed"], strict=True)
    return [pair for pair in pairs if np.isfinite(np.concatenate(pair)).all()]


def latencies(call, asked, count=5000):
    """Returns p50 and p99 of a call in microseconds of wall time, calls in a row.

    Args:
      call: anything.
      asked: a list of its arguments, taken in turn.
      count: calls.
    """
    took = []
    for n in range(count):
        begun = time.perf_counter()
        call(*asked[n % len(asked)])
        took.append(time.perf_counter() - begun)
    return 1e6 * np.percentile(took, (50, 99))


def main():
    """Checks the filter beside this file.

    Raises:
      SystemExit: with 1 where it decides otherwise than stored.
    """
    from filter import decide  # beside this file

    path = pathlib.Path(__file__).parent / "check.npz"
    with np.load(path, allow_pickle=False) as arrays:
        stored = dict(arrays)
    found = difference(stored, *decide(stored["observation"], stored["proposed"]))
    p50, p99 = latencies(decide, singly(stored))
    print(f"largest difference {found:.1e}; p50 {p50:.0f} us, p99 {p99:.0f} us")
    if not found <= TOLERANCE:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
