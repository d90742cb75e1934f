"""Hypotheses put down in study.yaml before training: each by a hash, with the trials that had ended by then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from reluexp.config import Config
from reluexp.config.inference import Hypothesis
from reluexp.environment import now

__all__ = ["digest", "register"]


def digest(hypothesis: Hypothesis, margins: Mapping[str, float] | None = None) -> str:
    """A short name for everything that a hypothesis says, the config's margins included."""
    content = [hypothesis.model_dump(mode="json"), dict(margins or {})]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def register(config: Config, before: Mapping[str, Any] | None, ended: int) -> dict[str, Any]:
    """The register of a study: `before`, and what the config adds to it now that `ended` trials have results.

    A hypothesis that is there already keeps its entry; a changed one is another. It is confirmatory if no trial had
    ended when it was put down.
    """
    found = dict(before or {})
    for own in config.hypotheses or []:
        entry = {"put_down": now(), "trials_ended": ended, "says": _says(own)}
        found.setdefault(digest(own, config.margins), entry)
    return found


def _says(hypothesis: Hypothesis) -> str:
    return json.dumps(hypothesis.model_dump(mode="json", exclude_none=True), sort_keys=True)
