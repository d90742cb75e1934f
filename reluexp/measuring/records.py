"""What a stack's training writes down: rows of columns [replica], and the lives of units; both can be saved whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from reluexp.catalogue.columns import TABLES
from reluexp.measuring.causes import CAUSES

__all__ = ["Lives", "Records"]

Row = dict[str, Any]

_LATEST = ("dead", "off", "starved", "firing_rate", "sample_rate", "slope_ratio", "activity")
_NO_SHARE = torch.tensor(torch.nan, dtype=torch.float64)
_UNEXPLAINED = {"cause": torch.tensor(0), "cause_bias": _NO_SHARE, "cause_weights": _NO_SHARE, "cause_input": _NO_SHARE}
_EXPLAINED = tuple(_UNEXPLAINED)


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

    def newly_dead(self, units: list[dict[str, Tensor]], active: Tensor) -> list[Tensor]:
        """What became dead since the last measurement [replica, channel], for each site."""
        if not self.sites:
            return [torch.zeros_like(own["dead"].cpu()) for own in units]
        mask = active.cpu()[:, None]
        return [own["dead"].cpu() & ~life["dead"] & mask for life, own in zip(self.sites, units, strict=True)]

    def update(
        self,
        step: int,
        units: list[dict[str, Tensor]],
        active: Tensor,
        causes: dict[int, dict[str, Tensor]] | None = None,
        spiked: Tensor | None = None,
    ) -> None:
        """Adds a measurement; replicas that are not active keep what they had.

        `causes` explain deaths by site, `spiked` [replica] says whether a gradient spike came since the last one.
        """
        died = self.newly_dead(units, active)
        if not self.sites:
            self.sites = [_born(step, own["dead"].cpu()) for own in units]
        for site, (life, measured) in enumerate(zip(self.sites, units, strict=True)):
            own = {name: value.cpu() for name, value in measured.items()}
            mask = active.cpu()[:, None]
            revived = ~own["dead"] & life["dead"] & mask
            life["died_at"] = torch.where(died[site] & (life["died_at"] < 0), step, life["died_at"])
            life["since"] = torch.where(died[site], step, torch.where(revived, -1, life["since"]))
            life["revived"] = life["revived"] + revived.long()
            self._explain(life, died[site], (causes or {}).get(site, {}), spiked)
            for name in _LATEST:
                if name in own:
                    life[name] = torch.where(mask, own[name], life.get(name, own[name]))

    def confirm(self, site: int, seen: Tensor) -> None:
        """Takes what the pass over the whole training set found: `Probe.confirm`'s counts of samples."""
        self.sites[site]["seen"] = seen.cpu()

    def _explain(self, life: dict[str, Tensor], died: Tensor, causes: dict[str, Tensor], spiked: Tensor | None) -> None:
        for name in _EXPLAINED:
            life[name] = torch.where(died, causes.get(name, _UNEXPLAINED[name]), life[name])
        if spiked is not None:
            life["spike"] = torch.where(died, spiked.cpu()[:, None].long(), life["spike"])

    def frame(self, trials: Sequence[str]) -> pd.DataFrame:
        """The table `units`; a column is null where it was not measured."""
        parts = [pd.DataFrame(_unit_columns())]
        for number, life in enumerate(self.sites):
            width = life["dead"].shape[1]
            rows = {"trial": np.repeat(np.asarray(trials, object), width), "site": number}
            rows["unit"] = np.tile(np.arange(width), life["dead"].shape[0])
            parts.append(pd.DataFrame(_unit_columns() | rows | _written(life)))
        whole = pd.concat(parts[1:], ignore_index=True) if len(parts) > 1 else parts[0]
        order = {trial: i for i, trial in enumerate(trials)}
        return whole.sort_values("trial", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def _written(life: dict[str, Tensor]) -> dict[str, Any]:
    """The columns of one site's units, one row each."""
    flat = {name: value.flatten().numpy() for name, value in life.items()}
    columns: dict[str, Any] = {
        "born_dead": flat["born"],
        "died_at_step": _or_null(flat["died_at"]),
        "revived": flat["revived"],
        "dead_since_step": _or_null(flat["since"]),
        "dead_at_end": flat["dead"],
        "off_at_end": flat["off"],
        "starved_at_end": pd.array(flat["starved"], "boolean") if "starved" in flat else None,
        "cause": pd.array([CAUSES[number] for number in flat["cause"]], "str"),
        "spike": pd.array(flat["spike"] > 0, "boolean"),
        **{name: flat[name] for name in ("firing_rate", "sample_rate", "slope_ratio", "activity")},
        **{name: flat[name] for name in _EXPLAINED if name != "cause"},
    }
    columns["spike"][flat["spike"] < 0] = pd.NA
    if "seen" in flat:
        columns["confirmed_dead"] = pd.array(flat["seen"] < 0, "boolean")
        columns["responds_after"] = _or_null(flat["seen"])
    return columns


def _or_null(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, np.nan, values)


def _born(step: int, dead: Tensor) -> dict[str, Tensor]:
    never = torch.full(dead.shape, -1)
    return {
        "born": dead.clone(),
        "dead": dead.clone(),
        "died_at": never,
        "since": torch.where(dead, step, never),
        "revived": torch.zeros_like(never),
        **{name: value.expand(dead.shape) for name, value in _UNEXPLAINED.items()},
        "spike": never,
    }


def _unit_columns() -> dict[str, Any]:
    """Every column of `units` in order, empty."""
    return dict.fromkeys(TABLES["units"]) | {"trial": []}
