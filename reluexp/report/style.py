"""How figures look: sizes and matplotlib's rcParams, for the page, for papers, and as a file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reluexp.catalogue.registry import nearest
from reluexp.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NARROW", "Style", "paper_style", "styled"]

NARROW = 4.5
"""inches below which fewer panels stand beside each other, as in one column of two"""

_WIDTHS, _DPI = (1.0, 60.0), (10.0, 1200.0)
_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titley": 1.0,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "axes.formatter.useoffset": False,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 1.7,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "reluexp",
    "pdf.fonttype": 42,
}
_PAPER: dict[str, Any] = {
    "font.family": ["STIXGeneral", "DejaVu Serif"],  # both come with matplotlib; the second has what the first lacks
    "mathtext.fontset": "stix",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "lines.linewidth": 1.1,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
}


@dataclass(frozen=True)
class Style:
    """Sizes in inches, limits, and matplotlib's rcParams for every figure.

    `ax`: axes of one's own in the place of a new figure; then sizes and rcParams are those that hold there.
    """

    width: float = 8.4
    row_height: float = 2.9
    seeds: int = 30
    facets: int = 6
    dpi: int = 150
    rc: dict[str, Any] = field(default_factory=lambda: dict(_RC))
    ax: Axes | None = None

    @property
    def title_size(self) -> float:
        """Of a panel's title, in points; words such as `large` are not looked up."""
        size = self.rc.get("axes.titlesize", _RC["axes.titlesize"])
        return float(size) if isinstance(size, (int, float)) else float(_RC["axes.titlesize"])


def paper_style(width: float = 5.5) -> Style:
    """Figures at a paper's text width in inches (5.5: NeurIPS and ICLR; 3.25: one column of two), Times-like."""
    base = Style()
    return replace(base, width=width, row_height=max(1.6, 2.2 * width / 5.5), facets=6, rc={**base.rc, **_PAPER})


def styled(style: Style, given: str | Path | Mapping[str, Any] | None) -> Style:
    """The style with the rcParams of a matplotlib style file (`axes.titlesize: 9`, one a line) or of a mapping.

    `figure.figsize` sets the width, `figure.dpi` the dots of PNGs. Raises ConfigError when a file cannot be
    read, and for what does not exist or makes pictures too large.
    """
    import warnings

    if given is None:
        return style
    if not isinstance(given, (str, Path, Mapping)):
        raise ConfigError(f"style: a Style, a style file, or rcParams as a mapping; got: {type(given).__name__}")
    source = "style" if isinstance(given, Mapping) else f"--style: {given}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = _in_memory(given) if isinstance(given, Mapping) else _from_file(Path(given))
    except (OSError, ValueError, KeyError, UserWarning) as error:
        raise ConfigError(f"{source}: {' '.join(str(error).split())}") from error
    found: dict[str, Any] = {str(name): value for name, value in read.items()}
    if found.get("text.usetex"):
        raise ConfigError(f"{source}: text.usetex: figures have plain text, which is no TeX")
    size, dpi = found.pop("figure.figsize", None), found.pop("figure.dpi", None)
    width = _within(source, "figure.figsize", float(size[0]), _WIDTHS) if size else style.width
    dots = round(_within(source, "figure.dpi", float(dpi), _DPI)) if dpi else style.dpi
    return replace(style, width=width, dpi=dots, rc={**style.rc, **found})


def _in_memory(given: Mapping[str, Any]) -> dict[str, Any]:
    import matplotlib as mpl

    for key in given:
        if key not in mpl.rcParams:
            raise ConfigError(f"style: {key!r} is no rcParam of matplotlib{nearest(str(key), list(mpl.rcParams))}")
    return dict(mpl.RcParams(given).items())


def _from_file(path: Path) -> dict[str, Any]:
    import matplotlib as mpl

    if not path.is_file():
        raise ConfigError(f"--style: got {str(path)!r}; there is no such file; give one with matplotlib's rcParams")
    _refuse_unknown(path, list(mpl.rcParams))
    return dict(mpl.rc_params_from_file(path, use_default_template=False).items())


def _within(source: str, key: str, value: float, bounds: tuple[float, float]) -> float:
    """Pictures beyond these bounds could not be drawn or not be kept."""
    least, most = bounds
    if not least <= value <= most:
        raise ConfigError(f"{source}: {key}: got {value:g}; from {least:g} to {most:g}")
    return value


def _refuse_unknown(path: Path, known: list[str]) -> None:
    """matplotlib itself logs unknown keys and goes on without them."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key = line.partition("#")[0].partition(":")[0].strip()
        if key and key not in known:
            raise ConfigError(f"--style: {path}:{number}: {key!r} is no rcParam of matplotlib{nearest(key, known)}")
