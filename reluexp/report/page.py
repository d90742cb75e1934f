"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reluexp.findings import findings
from reluexp.report.tables import Table
from reluexp.stats import Results, describe_targets, settings

__all__ = ["Picture", "inline_svg", "render_page"]

_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(xlink:href="#|href="#|url\(#)([^")]+)')


@dataclass(frozen=True)
class Picture:
    """A drawn figure for the page: exactly one of `svg` and `png` is used, the SVG if it is given."""

    name: str
    title: str
    caption: str
    svg: bytes | None = None
    png: bytes | None = None

    @property
    def markup(self) -> Markup:
        """The picture as HTML that loads nothing."""
        if self.svg is not None:
            return inline_svg(self.svg.decode(), self.name, f"{self.title}. {self.caption}")
        data = base64.b64encode(self.png or b"").decode()
        alt = escape(f"{self.title}. {self.caption}")
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(alt, Markup(data))


def inline_svg(svg: str, name: str, alternative: str) -> Markup:
    """An SVG for the middle of a page: no XML header, a text alternative, and no id that another figure also has.

    Ids that nothing refers to are dropped, and so are repeated ones: matplotlib names a shape by its content.
    """
    body = svg[svg.index("<svg") :]
    wanted = {found[2] for found in _REFERENCE.finditer(body)}

    def identity(found: re.Match[str]) -> str:
        if found[1] not in wanted:
            return ""
        wanted.remove(found[1])
        return f' id="{name}-{found[1]}"'

    body = _ID.sub(identity, body)
    body = _REFERENCE.sub(lambda found: f"{found[1]}{name}-{found[2]}", body)
    body = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", body, count=1)
    label = str(escape(alternative))
    return Markup(
        body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    )  # drawn by matplotlib, which escapes


def render_page(study: Results, tables: dict[str, Table], pictures: list[Picture]) -> str:
    """The page as HTML; everything that comes from the study is escaped by jinja2."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html.j2").render(
        study=study,
        question=_question(study),
        facts=_facts(study),
        findings=findings(study),
        summary=tables["summary"],
        differences=tables["differences"],
        targets=describe_targets(study) if len(study.trials) else "",
        trials=tables["trials"],
        pictures=pictures,
        config=yaml.safe_dump(study.config, sort_keys=False, allow_unicode=True, width=100),
        provenance=_flat(study.provenance),
    )


def _question(study: Results) -> list[str]:
    """The comment that the config begins with, as paragraphs; without the line that editors read."""
    paragraphs = [""]
    for line in str(getattr(study, "config_text", None) or "").splitlines():
        if line.strip() and not line.startswith("#"):
            break
        text = line.lstrip("#").strip()
        if text.startswith("yaml-language-server"):
            continue
        if text:
            paragraphs[-1] = f"{paragraphs[-1]} {text}".strip()
        elif paragraphs[-1]:
            paragraphs.append("")
    return [text for text in paragraphs if text]


def _facts(study: Results) -> list[tuple[str, str]]:
    """What was run and how it ended, counted."""
    frame = settings(study)
    facts = [("trials", str(len(frame))), ("seeds", str(frame["seed"].nunique()))]
    for column, name in (("activation", "activations"), ("dataset", "data set"), ("architecture", "architecture")):
        values = sorted({str(value) for value in frame[column]})
        several = column == "activation" or len(values) > 2
        facts.append((name, str(len(values)) if several else ", ".join(values)))
    stuck = int(frame["stuck"].sum())
    counts = [(o, int(frame["outcome"].eq(o).sum())) for o in ("finished", "diverged", "failed")]
    return [*facts, *((name, str(count)) for name, count in [*counts, ("stuck", stuck)])]


def _flat(mapping: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as dotted names and texts.

    >>> _flat({"versions": {"python": "3.11"}, "command": ["reluexp", "run"]})
    [('versions.python', '3.11'), ('command', 'reluexp run')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append(
                (f"{prefix}{key}", " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
            )
    return rows
