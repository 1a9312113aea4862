"""Settings of saliency."""

from __future__ import annotations

from typing import Literal

import pydantic

from adaptfocus.pipelines.settings import Settings


class SaliencyConfig(Settings):
    """How saliency is estimated. A later visit moves a bin by `update_rate`; a bin fades by `staleness` each epoch.

    `form`: with "running_max", a bin keeps its highest score and the time of it; a single bin is then the pair (spike,
    time) of the paper's figure. `read`: whether a clip is weighted by the saliency after its own visit, or before it.
    """

    bins: int = pydantic.Field(default=20, ge=1, le=1000)
    update_rate: float = pydantic.Field(default=0.5, gt=0, le=1)
    staleness: float = pydantic.Field(default=0.98, gt=0, le=1)
    form: Literal["bins", "running_max"] = "bins"
    read: Literal["after", "before"] = "after"
