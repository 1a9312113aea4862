"""Wrong exports are found, also those that somebody else made, and each is told with its fix."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptfocus.pipelines.errors import InputError
from adaptfocus.pipelines.features.layouts import LAYOUTS, export, verify
from adaptfocus.pipelines.features.layouts.given import Given
from adaptfocus.pipelines.features.layouts.pickles import dump_array, load_array
from adaptfocus.pipelines.features.store import FeatureSet
from tests.pipelines.features.layout_files import FPS, MATRICES, SEGMENTATION, exported, rewritten


def test_pickles_that_python_2_cannot_read_are_caught(given: Given, maps: Given, tmp_path: Path) -> None:
    """Timeception's code is for Python 2.7, whose numpy ends at 1.16."""
    out, _ = exported("timeception", given, maps, tmp_path)
    one, two, three = sorted(out.glob("*.pkl"))
    one.write_bytes(pickle.dumps(load_array(one.read_bytes(), "x"), 3).replace(b"numpy._core", b"numpy.core"))
    two.write_bytes(dump_array(load_array(two.read_bytes(), "x")).replace(b"numpy.core", b"numpy._core"))
    _, problems = verify("timeception", str(out), maps)
    assert [text.split(",")[0] for text in problems] == [
        f"{one.name} is pickle protocol 3",
        f"{two.name} has numpy 2's names",
    ]
    assert "Python 2.7 reads 2 at most" in problems[0]
    assert three.name not in "".join(problems)


@pytest.mark.parametrize("with_features", [True, False])
@pytest.mark.parametrize("layout", MATRICES)
def test_a_wrong_order_of_axes_is_caught_and_said(
    layout: str, with_features: bool, given: Given, maps: Given, tmp_path: Path
) -> None:
    out, of = exported(layout, given, maps, tmp_path)
    rewritten(out, layout, lambda array: np.ascontiguousarray(array.T))
    _, problems = verify(layout, str(out), of if with_features else Given())
    reader = LAYOUTS[layout].reader
    wrong, right = ("[T, D]", "[D, T]")[:: 1 if layout in SEGMENTATION else -1]
    assert f"where {reader} reads {right}: transpose it (array.T)" in problems[0]
    assert f" is {wrong} (" in problems[0]
    assert sum("transpose it" in each for each in problems) == 4


@pytest.mark.parametrize("layout", MATRICES)
def test_a_wrong_order_of_axes_is_caught_in_a_folder_that_somebody_else_made(
    layout: str, given: Given, maps: Given, tmp_path: Path
) -> None:
    """Nothing is known of it, but one axis has the same length in every video, which identifies it."""
    out, _ = exported(layout, given, maps, tmp_path)
    (out / "adaptfocus.json").unlink()
    assert verify(layout, str(out), Given()) == (4, [])
    rewritten(out, layout, lambda array: np.ascontiguousarray(array.T))
    _, problems = verify(layout, str(out), Given())
    assert sum("transpose it" in each for each in problems) == 4


@pytest.mark.parametrize(("axes", "order"), [((0, 3, 1, 2), "(T, C, H, W)"), ((3, 0, 1, 2), "(C, T, H, W)")])
@pytest.mark.parametrize("with_features", [True, False])
def test_a_wrong_order_of_maps_is_caught_and_said(
    axes: tuple[int, ...], order: str, with_features: bool, given: Given, maps: Given, tmp_path: Path
) -> None:
    out, _ = exported("timeception", given, maps, tmp_path)
    rewritten(out, "timeception", lambda array: array.transpose(axes))
    _, problems = verify("timeception", str(out), maps if with_features else Given())
    assert f"is {order} " in problems[0]
    assert "where Timeception reads (T, H, W, C): array.transpose" in problems[0]


def test_each_error_names_its_fix(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("mstcn", given, maps, tmp_path)
    name = "P03_cam01_P03_tea"
    feature, truth = out / "features" / f"{name}.npy", out / "groundTruth" / f"{name}.txt"
    bundle = out / "splits" / "train.split1.bundle"
    whole = np.load(feature)

    def said(*with_features: FeatureSet) -> str:
        return "\n".join(verify("mstcn", str(out), Given(with_features, fps=FPS))[1])

    cases: list[tuple[Callable[[], Any], str]] = [
        (
            lambda: np.save(feature, whole[:, :-3]),
            "frames and its groundTruth 110 labels; MS-TCN silently cuts to the shorter",
        ),
        (lambda: np.save(feature, whole.astype(np.float64)), "is float64; MS-TCN takes float32"),
        (lambda: np.save(feature, whole[:-1]), "has 5 numbers a step"),
        (lambda: np.save(feature, whole * np.nan), "not finite"),
        (lambda: np.save(feature, whole[None]), "reads a matrix"),
        (lambda: feature.write_bytes(b"rubbish"), "is not a plain .npy file"),
        (lambda: np.save(feature, np.array([{}]), allow_pickle=True), "is not a plain .npy file"),
        (feature.unlink, f"features/{name}.npy is missing"),
        (truth.unlink, f"groundTruth/{name}.txt is missing"),
        (lambda: truth.write_text("SIL\n" * 109 + "stir\n"), "labels that mapping.txt lacks: ['stir']"),
        (lambda: bundle.write_text(bundle.read_text().rstrip()), "its last line has no newline, and MS-TCN drops it"),
        (lambda: bundle.write_text(f"{name}.txt\n{name}.txt\n"), "twice: remove one"),
        (lambda: bundle.write_text(f"{name}\n"), "MS-TCN reads NAME.txt, with no other dot in it"),
        (lambda: bundle.unlink(), "train.split1.bundle is missing; MS-TCN reads train and test"),
        (lambda: (out / "mapping.txt").write_text("1 SIL\n2 pour_milk\n"), "numbers from 0 and"),
    ]
    for change, text in cases:
        change()
        assert text in said(), text
        export("mstcn", given, str(out), overwrite=True)
    np.save(feature, np.roll(whole, 7, axis=1))
    assert said() == "", "nothing can be told without the features"
    assert "110 of 110 steps are not those of its features, the first at step 0 (0.033 s)" in said(*given.sets)


def test_features_at_another_rate_are_caught(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("opentad", given, maps, tmp_path)
    rewritten(out, "opentad", lambda array: array[::2])
    assert "its features give" in verify("opentad", str(out), given)[1][0]
    (out / "P06_a_P06_milk.npy").unlink()
    (out / "stranger.npy").write_bytes((out / "P03_cam01_P03_tea.npy").read_bytes())
    said = "\n".join(verify("opentad", str(out), given)[1])
    assert "1 videos of the features have no file: ['P06_a_P06_milk']" in said
    assert "files of no video in the features: ['stranger']" in said


def test_rows_that_are_not_of_length_one_are_caught(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("mmn", given, maps, tmp_path)
    rewritten(out, "mmn", lambda array: array * 3)
    assert "MMN reads rows that are L2-normalised" in verify("mmn", str(out), Given())[1][0]
    rewritten(out, "mmn", lambda array: array[:20] / 3)
    assert "has 20 rows; MMN reads 32" in verify("mmn", str(out), Given())[1][0]
    (out / "train.json").write_text("[]")
    assert "does not have MMN's form" in verify("mmn", str(out), Given())[1][-1]
    (out / "features.hdf5").write_bytes(b"rubbish")
    assert "is not an HDF5 file" in verify("mmn", str(out), Given())[1][0]


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/adaptfocus-was-here",)


def test_a_pickle_runs_nothing(given: Given, maps: Given, tmp_path: Path) -> None:
    out, _ = exported("timeception", given, maps, tmp_path)
    victim = next(out.glob("*.pkl"))
    victim.write_bytes(pickle.dumps(Evil()))
    _, problems = verify("timeception", str(out), maps)
    assert "is not a pickle of a numpy array (it asks for posix.system" in problems[0]
    assert not Path("/tmp/adaptfocus-was-here").exists()
    for data in (pickle.dumps([1, 2]), pickle.dumps(np.array([{}], object))):
        with pytest.raises(InputError, match=r"wanted a numpy array|is not a pickle of a numpy array"):
            load_array(data, "x.pkl")
    for protocol in (2, 4, 5):
        array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
        assert np.array_equal(load_array(pickle.dumps(array, protocol), "x"), array)
    np.testing.assert_array_equal(load_array(pickle.dumps(np.zeros((2, 2))), "x"), np.zeros((2, 2)))
