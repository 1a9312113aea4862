"""When each action happens: scores along time, thresholds, intervals, and files that other programs read."""

from typing import TYPE_CHECKING

from adaptfocus.lazily import lazily

if TYPE_CHECKING:
    from adaptfocus.trainers.localisation.intervals import intervals_above, propose
    from adaptfocus.trainers.localisation.localising import Localisation, localise

__all__ = ["Localisation", "intervals_above", "localise", "propose"]
__getattr__ = lazily(
    __name__, {"intervals": ("intervals_above", "propose"), "localising": ("Localisation", "localise")}
)
