"""What study.yaml says: read as plain data within bounds, and of the form in which it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

__all__ = ["misshapen", "read_yaml"]

_MOST_BYTES = 10_000_000
_ALIAS = re.compile(r"(^|[\s\[{,])\*\S", re.MULTILINE)
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is twenty times faster


def misshapen(content: dict[str, Any]) -> str:
    """What in a study.yaml beside the config, which is checked as every config is, has a form that nobody wrote."""
    provenance, register = content.setdefault("provenance", {}), content.get("hypotheses") or {}
    if not isinstance(provenance, dict):
        return "its provenance is not a mapping"
    runs = provenance.get("runs") or []
    for part in ("data", "code"):
        if not isinstance(provenance.get(part) or {}, dict):
            return f"provenance.{part} is not a mapping"
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        return "provenance.runs is not a list of mappings"
    if not isinstance(register, dict) or not all(
        isinstance(e, dict) and "trials_ended" in e for e in register.values()
    ):
        return "hypotheses is not a mapping of what was put down"
    return "" if isinstance(content.get("given") or "", str) else "given is not a text"


def read_yaml(path: Path) -> Any:
    """Plain data. Raises ValueError, beside what reading raises, for what reluexp does not write."""
    if not path.is_file():
        raise ValueError("this is no file")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.stat().st_size:,} bytes; reluexp writes at most {_MOST_BYTES:,}")
    text = path.read_text("utf-8")
    # A few aliases of aliases would be billions of values once written out; reluexp writes none.
    if _ALIAS.search(text) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, _Loader)):
        raise ValueError("there are aliases in it; reluexp writes none")
    return yaml.load(text, _Loader)
