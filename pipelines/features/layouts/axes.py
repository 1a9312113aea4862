"""Which axis of an array is time: what `verify` asks of every layout.

Input: shapes by name, and what is known of them. Does: tells a wrong order of axes from a wrong dimension.
Output: sentences for whoever has to mend it; none if all is well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

MOST_SHOWN = 5


class Problems(list[str]):
    """What is wrong, with a limit on how much of one kind is listed."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def say(self, kind: str, text: str) -> None:
        """Add a problem; those of one kind beyond the first MOST_SHOWN are only counted."""
        self.counts[kind] += 1
        if self.counts[kind] <= MOST_SHOWN:
            self.append(text)
        elif self.counts[kind] == MOST_SHOWN + 1:
            self.append(f"and more like this: {kind}")


def check_matrix(name: str, array: np.ndarray, problems: Problems, reader: str) -> bool:
    """Whether it is a float32 matrix of finite numbers; says what it is otherwise."""
    if array.ndim != 2:
        problems.say("not a matrix", f"{name} is {list(array.shape)}; {reader} reads a matrix: export again")
        return False
    if array.dtype != np.float32:
        problems.say("dtype", f"{name} is {array.dtype}; {reader} is given float32: convert with .astype('float32')")
    if array.dtype.kind in "fiu" and not np.isfinite(array).all():
        problems.say("not finite", f"{name} holds numbers that are not finite; extract its video again")
    return True


def check_axes(
    shapes: Mapping[str, tuple[int, ...]],
    problems: Problems,
    *,
    reader: str,
    time_axis: int,
    dim: int | None,
    steps: Mapping[str, int] | None = None,
) -> set[str]:
    """Say which matrices have their axes in the wrong order, or another dimension than the others.

    Args:
        shapes: of each matrix, by its name.
        time_axis: 0 for [T, D], 1 for [D, T].
        dim: how many numbers a step has, if that is known.
        steps: how many steps a matrix is to have, where that is known.

    Returns:
        The names of the matrices that are wrong.
    """
    right, wrong = ("[T, D]", "[D, T]")[:: 1 if time_axis == 0 else -1]
    dim_axis = 1 - time_axis
    steps = steps or {}
    dim = dim or _dim_of(shapes, dim_axis, steps)
    bad = set()
    for name, shape in shapes.items():
        has_dim, has_steps = dim in (None, shape[dim_axis]), steps.get(name, shape[time_axis]) == shape[time_axis]
        if has_dim and (has_steps or shape[dim_axis] != steps.get(name)):
            continue  # a wrong number of steps is another question
        bad.add(name)
        if shape[time_axis] == dim or (dim is None and shape[dim_axis] == steps.get(name)):
            problems.say("axis order", describe_turned(name, shape, wrong, right, reader))
        else:
            problems.say(
                "dimension",
                f"{name} has {shape[dim_axis]} numbers a step ({right} = {shape[0]} x {shape[1]}), not {dim}; export "
                "features of one backbone",
            )
    return bad


def _dim_of(shapes: Mapping[str, tuple[int, ...]], dim_axis: int, steps: Mapping[str, int]) -> int | None:
    """The dimension that most matrices have, from what does not vary between them."""
    told = Counter(
        shape[dim_axis] if shape[1 - dim_axis] == steps[name] else shape[1 - dim_axis]
        for name, shape in shapes.items()
        if name in steps and steps[name] in shape
    )
    if told:
        return told.most_common(1)[0][0]
    along = [Counter(shape[axis] for shape in shapes.values()) for axis in (0, 1)]
    if len(along[dim_axis]) > 1 and len(along[1 - dim_axis]) == 1:
        return next(iter(along[1 - dim_axis]))  # all are turned
    return along[dim_axis].most_common(1)[0][0] if shapes else None


def check_values(
    name: str, array: np.ndarray, expected: np.ndarray, problems: Problems, *, reader: str, time_axis: int, hertz: float
) -> bool:
    """Whether a matrix is what the features give; says in which way it differs. `hertz`: steps a second."""
    if array.shape == expected.shape and np.allclose(array, expected, rtol=1e-4, atol=1e-5):
        return True
    right, wrong = ("[T, D]", "[D, T]")[:: 1 if time_axis == 0 else -1]
    turned = array.shape == expected.T.shape and np.allclose(array.T, expected, rtol=1e-4, atol=1e-5)
    if turned or (array.shape == expected.T.shape != expected.shape):
        problems.say("axis order", describe_turned(name, array.shape, wrong, right, reader))
    elif array.shape != expected.shape:
        problems.say("shape", f"{name} is {array.shape}; its features give {expected.shape}: export again")
    else:
        differs = np.abs(array - expected).max(axis=1 - time_axis) > 1e-5
        at = int(np.flatnonzero(differs)[0]) if differs.any() else 0
        problems.say(
            "values",
            f"{name}: {int(differs.sum())} of {len(differs)} steps are not those of its features, the first at step "
            f"{at} ({(at + 0.5) / hertz:.3f} s); it was made of other features, or at another --fps or --align: export "
            "again",
        )
    return False


def describe_turned(name: str, shape: tuple[int, ...], wrong: str, right: str, reader: str) -> str:
    """What is said of a matrix whose axes are in the wrong order."""
    return f"{name} is {wrong} ({shape[0]} x {shape[1]}) where {reader} reads {right}: transpose it (array.T)"
