"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reluexp.environment import version_of
from reluexp.report.answer import answer
from reluexp.report.figures.captions import OF_PICTURE
from reluexp.report.figures.spec import GROUPS, FigureSpec, View
from reluexp.report.findings import findings
from reluexp.report.frames.across import across_sentences
from reluexp.report.tables import Table
from reluexp.report.terms import TERMS, Term
from reluexp.report.verdicts import base_of, cards_of, claims_of
from reluexp.stats import Results, describe_targets, outcome_of, settings

__all__ = ["Picture", "asset", "environment", "inline_svg", "remarks_of", "render_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("tables.js", "live.js", "chart.js")
_MOST_TRIALS = 1000  # rows of the table of trials that a browser shows at once
_ID = re.compile(r' id="([^"]+)"')
_REFERENCE = re.compile(r'(xlink:href="#|href="#|url\(#)([^")]+)')
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_PATH = re.compile(r' d="([^"]*)"')
_LONG = re.compile(r"(\.\d\d)\d+")


@dataclass(frozen=True)
class Picture:
    """A drawn figure for the page: exactly one of `svg` and `png` is used, the SVG if it is given."""

    name: str
    title: str
    caption: str
    svg: bytes | None = None
    png: bytes | None = None
    group: str = "outcome"
    terms: tuple[str, ...] = ()
    live: View | None = None

    @classmethod
    def of(cls, spec: FigureSpec, study: Results, file: dict[str, bytes]) -> Picture:
        """The picture of a study that a figure describes; `file` holds its SVG or its PNG."""
        return cls(spec.name, spec.title, spec.caption(study), **file, group=spec.group, terms=spec.terms,
                   live=spec.view)  # fmt: skip

    @property
    def view(self) -> str:
        """What the page's script is told of the chart, as JSON; empty where the picture is all."""
        return json.dumps({k: v for k, v in asdict(self.live).items() if v}) if self.live else ""

    @property
    def markup(self) -> Markup:
        """The picture as HTML that loads nothing."""
        if self.svg is not None:
            return inline_svg(self.svg.decode(), self.name, self.alternative)
        data = base64.b64encode(self.png or b"").decode()
        return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(self.alternative, Markup(data))

    @property
    def alternative(self) -> str:
        """Title and caption as plain text."""
        caption = OF_PICTURE.sub(r"\1", self.caption)
        return f"{self.title}. {caption}"

    @property
    def told(self) -> Markup:
        """The caption as HTML; what holds of the still picture alone in spans."""
        return Markup(OF_PICTURE.sub(r'<span class="of-picture">\1</span>', str(escape(self.caption))))


def inline_svg(svg: str, name: str, alternative: str) -> Markup:
    """An SVG for the middle of a page: no XML header, a text alternative, and no id that another figure also has.

    Coordinates get two decimals, of a unit that is 1/72 inch. Ids that nothing refers to are dropped, and so are
    repeated ones: matplotlib names a shape by its content.
    """
    body = _COMMENT.sub("", svg[svg.index("<svg") :])
    body = _PATH.sub(lambda found: f' d="{_LONG.sub(lambda number: number[1], found[1])}"', body)
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


def render_page(
    study: Results, frames: dict[str, Any], tables: dict[str, Table], pictures: Sequence[Picture], explored: str
) -> str:
    """The page as HTML; everything that comes from the study is escaped by jinja2.

    `frames` are the raw numbers of the tables, by name; `explored` is what the charts show, packed.
    """
    told = answer(study, frames["summary"], frames["differences"])
    sections = _sections(pictures)
    for section in sections:
        if section["anchor"] == "part-across":
            section.update(told=across_sentences(study), tables=[tables["across"], tables["ranks"]])
    claims, untested = claims_of(frames["claims"], study.evidence, {picture.name for picture in pictures})
    parts = [("answer", "answer"), ("comparison", "comparison"), *((s["anchor"], s["short"]) for s in sections)]
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            study=study,
            css=asset("page.css"),
            question=_question(study),
            facts=_facts(study),
            remarks=remarks_of(study),
            parts=[*parts, ("trials", "every trial"), ("lookup", "words, config, sources")],
            answer=[_unbroken(sentence) for sentence in told],
            findings=[_unbroken(sentence) for sentence in findings(study)],
            claims=claims,
            untested=untested,
            base=base_of(study),
            hypotheses=tables["hypotheses"],
            choice=tables["choice"],
            cards=cards_of(study, frames["differences"]),
            outcome=outcome_of(study).name,
            baseline=frames["differences"].attrs.get("baseline", ""),
            summary=tables["summary"],
            differences=tables["differences"],
            along=tables["along_axes"],
            along_count=len(frames["along_axes"]),
            groups=sections,
            targets=describe_targets(study) if len(study.trials) else "",
            trials=tables["trials"],
            most_trials=_MOST_TRIALS,
            terms=list(TERMS.values()),
            config=yaml.safe_dump(study.config, sort_keys=False, allow_unicode=True, width=100),
            provenance=_flat(study.provenance),
            citation=_citation(study),
            version=version_of("reluexp") or "source tree",
            data=explored,
            library=_library(),
            scripts=[asset(name) for name in _SCRIPTS],
        )
    )


def environment() -> Environment:
    """The templates, with everything escaped that is not marked as ours."""
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["sortkey"] = _sort_key
    return made


def _sort_key(value: float) -> str:
    """A number as the page's script reads it."""
    return "" if math.isnan(value) else f"{value:.6g}".replace("inf", "Infinity")


def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((_TEMPLATES / name).read_text("utf-8"))


@lru_cache(maxsize=1)
def _library() -> Markup:
    """plotly.js as its Python package carries it, gzipped, in base64; importing the package would take a second."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("plotly is not installed; install it with pip, or reinstall reluexp")
    path = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return Markup(base64.b64encode(gzip.compress(path.read_bytes(), 9, mtime=0)).decode())


def _sections(pictures: Sequence[Picture]) -> list[dict[str, Any]]:
    """The parts with figures; a word is explained beside the first figure that uses it, and named at later ones."""
    told: set[str] = set()
    sections = []
    for group, (title, short) in GROUPS.items():
        own = []
        for picture in (picture for picture in pictures if picture.group == group):
            notes: list[Term] = [TERMS[term] for term in picture.terms if term not in told]
            seen = [term for term in picture.terms if term in told]
            told.update(picture.terms)
            own.append({"notes": notes, "seen": seen, **_shown(picture)})
        if own:
            sections.append(
                {
                    "anchor": f"part-{group}",
                    "title": title,
                    "short": short,
                    "pictures": own,
                    "told": [],
                    "tables": [],
                }
            )
    return sections


def _unbroken(sentence: str) -> str:
    """With numbers and their per cent signs on one line."""
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _shown(picture: Picture) -> dict[str, Any]:
    return {
        "name": picture.name,
        "title": picture.title,
        "caption": picture.told,
        "view": picture.view,
        "markup": picture.markup,
    }


def _citation(study: Results) -> str:
    """BibTeX for the program and for the study, with its year where that is known."""
    started = str(study.provenance.get("started", ""))
    year = f"  year = {{{started[:4]}}},\n" if started else ""
    version = version_of("reluexp") or "source tree"
    key = re.sub(r"[^A-Za-z0-9]+", "-", study.name)
    return (
        f"@software{{reluexp,\n  title = {{reluexp: experiments on dying ReLUs and convergence}},\n{year}"
        f"  version = {{{version}}}\n}}\n\n"
        f"@misc{{reluexp-{key},\n  title = {{Results of the study {study.name}}},\n{year}"
        f"  note = {{{len(study.trials)} trials, trained with reluexp {version}{f', {started}' if started else ''}}}"
        "\n}"
    )


def _question(study: Results) -> list[str]:
    """The comment that the config begins with, as paragraphs; without the line that editors read."""
    paragraphs = [""]
    for line in study.config_text.splitlines():
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


def remarks_of(study: Results) -> list[str]:
    """What a study read from a folder says of trials left out, and of those of earlier configs."""
    return [f"{text[:1].upper()}{text[1:]}." for text in study.notes()]


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
    counts += [("stuck", stuck)] if outcome_of(study).share else []
    return [*facts, *((name, str(count)) for name, count in counts)]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as dotted names and texts.

    >>> _flat({"versions": {"python": "3.11"}, "command": ["reluexp", "run"], "runs": [{"host": "a"}]})
    [('versions.python', '3.11'), ('command', 'reluexp run'), ('runs.1.host', 'a')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        if isinstance(value, list) and any(isinstance(own, dict) for own in value):
            value = {str(number): own for number, own in enumerate(value, 1)}
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            told = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            rows.append((f"{prefix}{_of_data(key)}", told))
    return rows


def _of_data(key: str) -> str:
    """The options of a data set in fewer words, where a key is made of them; those that are not set left out."""
    if not key.startswith("{"):
        return key
    options = json.loads(key)
    more = ", ".join(f"{name}={value}" for name, value in options.items() if name != "name" and value not in (None, 0))
    return f"{options['name']}({more})" if more else str(options["name"])
