"""The models.

`contract.py` says what every backbone promises, `specs.py` what each takes, and `makers.py` how each is built. Each
family of models has a file of its own.
"""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.backbones.building import build, input_spec_of, load_pretrained, normalise, own_weights
    from adaptfocus.trainers.backbones.contract import Backbone, freeze, parameter_groups
    from adaptfocus.trainers.backbones.makers import MAKERS, maker_of
    from adaptfocus.trainers.backbones.specs import BACKBONES, HEAD, PACKAGED, InputSpec, entry_of, place_of_weights

__all__ = [
    "BACKBONES", "HEAD", "MAKERS", "PACKAGED", "Backbone", "InputSpec", "build", "entry_of", "freeze", "input_spec_of",
    "load_pretrained", "maker_of", "normalise", "own_weights", "parameter_groups", "place_of_weights",
]  # fmt: skip
_HOMES = {
    "building": ("build", "input_spec_of", "load_pretrained", "normalise", "own_weights"),
    "contract": ("Backbone", "freeze", "parameter_groups"),
    "makers": ("MAKERS", "maker_of"),
    "specs": ("BACKBONES", "HEAD", "PACKAGED", "InputSpec", "entry_of", "place_of_weights"),
}
__getattr__ = lazily(__name__, _HOMES)
