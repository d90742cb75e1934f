"""What the time went into."""

from __future__ import annotations

import pandas as pd

from reluexp.stats import Results

__all__ = ["measuring_share", "phase_seconds"]


def phase_seconds(study: Results) -> pd.DataFrame:
    """Seconds of all workers together and their share in the whole, by epoch and phase."""
    timing = study.timing
    if timing.empty or "seconds" not in timing:
        return pd.DataFrame({"epoch": [], "phase": [], "seconds": [], "share": []})
    found = timing.groupby(["epoch", "phase"], dropna=False)["seconds"].sum().reset_index()
    return found.assign(share=found["seconds"] / found["seconds"].sum())


def measuring_share(study: Results) -> float | None:
    """Seconds spent measuring per second spent training; None where times are not known."""
    timing = study.timing
    if timing.empty or "seconds" not in timing:
        return None
    seconds = timing.groupby("phase")["seconds"].sum()
    return float(seconds.get("measure", 0.0) / seconds["train"]) if seconds.get("train", 0.0) > 0 else None
