"""Decides about proposed actions: a safety filter that needs NumPy and nothing else.

    action, info = decide(observation, proposed)

reads `weights.npz` beside it.
"""

import functools
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent


class Filter:
    """Judges proposed actions of one body by its weights, and changes nothing."""

    def __init__(self, weights):
        weights = {key: np.asarray(x, np.float32) for key, x in weights.items()}
        self.threshold, self.nets = weights["threshold"], []
        for name in ("critic", "recovery"):
            count = sum(key.startswith(f"{name}_kernel_") for key in weights)
            numbered = [
                (f"{name}_kernel_{n}", f"{name}_bias_{n}") for n in range(count)
            ]
            layers = [(weights[kernel], weights[bias]) for kernel, bias in numbered]
            self.nets.append((weights[f"{name}_mean"], weights[f"{name}_std"], layers))
        inputs, seen = (mean.size for mean, _, _ in self.nets)
        self.sizes = seen, inputs - seen

    def decide(self, observation, proposed):
        """Returns the action, always finite, and how it came about.

        Of one observation [D] and proposal [A], or of batches of them. By name: risk of
        the proposal, recovered (the recovery policy acts), and fell_back (something is
        not finite: the recovery policy acts or, if it can not, the proposal or zeros).
        """
        o, a = np.asarray(observation, np.float32), np.asarray(proposed, np.float32)
        lead = o.shape[:-1]
        shapes = [(*lead, size) for size in self.sizes]
        if [o.shape, a.shape] != shapes or len(lead) > 1:
            wanted = f"[{self.sizes[0]}] and [{self.sizes[1]}], or batches of them"
            given = f"{list(o.shape)} and {list(a.shape)}"
            raise ValueError(f"observation and proposed must be {wanted}, got {given}.")
        with np.errstate(all="ignore"):
            found = self._decide(*(x if lead else x[None] for x in (o, a)))
        action, *info = found if lead else (x[0] for x in found)
        return action, dict(zip(("risk", "recovered", "fell_back"), info, strict=True))

    def _decide(self, o, a):
        seen, asked = np.isfinite(o).all(axis=1), np.isfinite(a).all(axis=1)
        logits = _outputs(self.nets[0], np.concatenate((o, a), axis=1))
        risk = 0.5 + 0.5 * np.tanh(0.5 * logits[..., 0].max(axis=0))
        judged, action = seen & asked & np.isfinite(risk), a.copy()
        fell_back = ~judged
        if fell_back.any():
            risk[fell_back], action[~asked] = np.nan, 0.0
        recovered = np.where(judged, risk, np.inf) > self.threshold
        if recovered.any():
            rescue = np.tanh(_outputs(self.nets[1], o)[0])
            able = seen & np.isfinite(rescue).all(axis=1)
            fell_back |= recovered & ~able
            recovered &= able
            action[recovered] = rescue[recovered]
        return action, risk, recovered, fell_back


def _outputs(net, values):
    mean, std, layers = net
    values = (values - mean) / std
    for kernel, bias in layers:
        values = (
            values if kernel is layers[0][0] else np.maximum(values, 0.0)
        ) @ kernel
        values += bias
    return values


@functools.cache
def load(path=HERE / "weights.npz"):
    """Returns the filter of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        return Filter(dict(arrays))


def decide(observation, proposed):
    """Returns the action and how it came about, as `Filter.decide` does."""
    return load().decide(observation, proposed)
