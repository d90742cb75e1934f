"""Results of nothing but trials: what a study in memory has besides its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pandas as pd

from reluexp.config import Setting
from reluexp.config.inference import Hypothesis

__all__ = ["Bare"]


class Bare:
    """Nothing was said in a config, tuned or stated, so that no verdict is given on anything."""

    base: ClassVar[Setting | None] = None
    tuned_axes: ClassVar[tuple[str, ...]] = ()
    stated: ClassVar[tuple[Hypothesis, ...]] = ()
    shows_earlier: ClassVar[bool] = False
    selection: ClassVar[str] = ""
    missing: ClassVar[int] = 0
    evidence: ClassVar[Mapping[str, Any]] = {}

    def notes(self) -> list[str]:
        return []

    def nothing(self) -> pd.DataFrame:
        return pd.DataFrame()

    claims = claim_parts = hypotheses = choice = sensitivity = nothing
