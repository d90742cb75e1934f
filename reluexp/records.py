"""What a stack's training writes down: rows of columns [replica], and the lives of units; both can be saved whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

__all__ = ["Lives", "Records"]

Row = dict[str, Any]


class Records:
    """Rows by table; a row holds for all replicas that are active, with a tensor [replica] or one value per column."""

    def __init__(self, tables: dict[str, list[Row]] | None = None) -> None:
        self.tables: dict[str, list[Row]] = tables or {}

    def add(self, table: str, active: Tensor, columns: Row) -> None:
        """One row for each active replica."""
        own = {k: v.detach().double().cpu() if isinstance(v, Tensor) else v for k, v in columns.items()}
        self.tables.setdefault(table, []).append({"active": active.cpu().clone(), **own})

    def frame(self, table: str, trials: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
        """The table with those columns after `trial`, trial by trial; a column that a row lacks is null there."""
        rows = self.tables.get(table, [])
        replicas = np.concatenate([np.flatnonzero(row["active"].numpy()) for row in rows]) if rows else np.empty(0, int)
        data: dict[str, Any] = {"trial": np.asarray(trials, object)[replicas]}
        for column in columns:
            data[column] = _column([row.get(column) for row in rows], [row["active"].numpy() for row in rows])
        return pd.DataFrame(data).iloc[np.argsort(replicas, kind="stable")].reset_index(drop=True)


def _column(values: list[Any], active: list[np.ndarray]) -> Any:
    if any(isinstance(value, str) for value in values):
        return [value for value, mask in zip(values, active, strict=True) for _ in range(int(mask.sum()))]
    whole = all(isinstance(value, int) for value in values)
    parts = []
    for value, mask in zip(values, active, strict=True):
        array = np.asarray(np.nan if value is None else value, float)
        parts.append(np.broadcast_to(array, mask.shape)[mask])
    joined = np.concatenate(parts) if parts else np.empty(0)
    return joined.astype(np.int64) if whole and len(joined) else joined


class Lives:
    """The life of every unit [replica, channel] of every site, at the resolution of the measurements."""

    def __init__(self, sites: list[dict[str, Tensor]] | None = None) -> None:
        self.sites: list[dict[str, Tensor]] = sites or []

    def update(self, step: int, units: list[dict[str, Tensor]], active: Tensor) -> None:
        """Adds a measurement; replicas that are not active keep what they had."""
        if not self.sites:
            self.sites = [_born(step, own["dead"].cpu()) for own in units]
        for life, measured in zip(self.sites, units, strict=True):
            own = {name: value.cpu() for name, value in measured.items()}
            mask = active.cpu()[:, None]
            died, revived = own["dead"] & ~life["dead"] & mask, ~own["dead"] & life["dead"] & mask
            life["died_at"] = torch.where(died & (life["died_at"] < 0), step, life["died_at"])
            life["since"] = torch.where(died, step, torch.where(revived, -1, life["since"]))
            life["revived"] = life["revived"] + revived.long()
            for name in ("dead", "off", "firing_rate", "sample_rate"):
                life[name] = torch.where(mask, own[name], life.get(name, own[name]))

    def frame(self, trials: Sequence[str]) -> pd.DataFrame:
        """The table `units`; columns that are not measured yet are null."""
        parts = [pd.DataFrame(_unit_columns())]
        for number, life in enumerate(self.sites):
            replicas, width = life["dead"].shape
            flat = {name: value.flatten().numpy() for name, value in life.items()}
            parts.append(
                pd.DataFrame(
                    _unit_columns()
                    | {
                        "trial": np.repeat(np.asarray(trials, object), width),
                        "site": number,
                        "unit": np.tile(np.arange(width), replicas),
                        "born_dead": flat["born"],
                        "died_at_step": np.where(flat["died_at"] < 0, np.nan, flat["died_at"]),
                        "revived": flat["revived"],
                        "dead_since_step": np.where(flat["since"] < 0, np.nan, flat["since"]),
                        "dead_at_end": flat["dead"],
                        "off_at_end": flat["off"],
                        "firing_rate": flat["firing_rate"],
                        "sample_rate": flat["sample_rate"],
                    }
                )
            )
        whole = pd.concat(parts[1:], ignore_index=True) if len(parts) > 1 else parts[0]
        order = {trial: i for i, trial in enumerate(trials)}
        return whole.sort_values("trial", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _born(step: int, dead: Tensor) -> dict[str, Tensor]:
    never = torch.full(dead.shape, -1)
    return {
        "born": dead.clone(),
        "dead": dead.clone(),
        "died_at": never,
        "since": torch.where(dead, step, never),
        "revived": torch.zeros_like(never),
    }


def _unit_columns() -> dict[str, Any]:
    """Every column of `units` in order, empty."""
    measured = ("trial", "site", "unit", "born_dead", "died_at_step", "revived", "dead_since_step", "dead_at_end")
    later = ("cause_bias", "cause_weights", "cause_input")
    columns: dict[str, Any] = {name: [] for name in measured}
    columns |= {"confirmed_dead": None, "off_at_end": [], "starved_at_end": None, "firing_rate": [], "sample_rate": []}
    return columns | {"cause": None, **dict.fromkeys(later), "spike": None}
