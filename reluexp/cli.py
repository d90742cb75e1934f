"""The command line: parses, makes one call to the library, prints."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from reluexp.environment import version_of
from reluexp.errors import ConfigError, Interrupted, ReluexpError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Train every architecture × activation × seed of a YAML file and measure what lives and dies.\n\n"
    "Example: reluexp run quickstart",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigName = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.", show_default=False)]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config.")]
Results = Annotated[Path, typer.Option(help="The folder of all studies.")]

_NO_READER = 141
_PIPED = 160
"""characters of a line that no terminal breaks"""


def _version(wanted: bool) -> None:
    if wanted:
        _say(f"reluexp {version_of('reluexp') or 'source tree'}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


def _say(text: str = "") -> None:
    from reluexp.plain import plain

    print(plain(text), file=sys.stdout)


def _warn(sentences: Iterable[str]) -> None:
    from reluexp.plain import plain

    for sentence in sentences:
        print(plain(f"note: {sentence}"), file=sys.stderr)


@app.command()
def run(
    config: ConfigName,
    set_: Overrides = None,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
    engine: Annotated[str, typer.Option(help="Who runs the stacks: local or ray.")] = "local",
    ray_address: Annotated[str | None, typer.Option(help="A Ray cluster, such as auto or ray://host:10001.")] = None,
    per_gpu: Annotated[int, typer.Option(help="Processes that share one GPU.")] = 1,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do the I-th of N parts, for job arrays.")] = None,
    stack: Annotated[int | None, typer.Option(help="Largest number of trials in a stack.")] = None,
    patience: Annotated[float, typer.Option(help="Seconds without a sign of life until a worker is hung.")] = 900,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier results of this study.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and train nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write no page, figures and tables at the end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Train every trial that is not done yet, then say what was found.

    Example: reluexp run quickstart --set train.lr=0.1 --set seeds=5
    """
    from reluexp.config import load_config
    from reluexp.engine import ENGINES
    from reluexp.plain import counted
    from reluexp.runner import resources_of
    from reluexp.store import Shard

    _one_of("--engine", engine, tuple(ENGINES))
    loaded = load_config(config, set_ or [])
    given: dict[str, object] = {"device": device, "workers": workers, "per_gpu": per_gpu, "stack": stack}
    given |= {"engine": engine, "address": ray_address, "patience": patience}
    resources = resources_of(given)
    part = None if shard is None else Shard.parse(shard)
    if dry_run:
        from reluexp.foretold import foretold

        for sentence in foretold(loaded, results, resources, fresh, part):
            _say(sentence)
        return
    from reluexp.progress import watching
    from reluexp.runner import run_loaded

    with _saying("stopped at once; finished stacks are kept"), watching(quiet) as listener:
        study = run_loaded(loaded, results, resources, fresh, part, listener)
    if part and study.trials.empty:
        _say(f"{study.path}: other shards have not chosen yet; run this shard again when they have")
        return
    _conclude(study, as_json, not no_report)
    if study.missing and not part:
        _warn([f"{counted(study.missing, 'trial')} have no results, or not whole ones; the same command goes on"])
    if study.trials["outcome"].eq("failed").any() or (study.missing and not part):
        raise typer.Exit(1)


@app.command()
def report(
    studies: Annotated[
        list[str] | None, typer.Argument(help="A study or its folder, or several side by side; default: the latest.")
    ] = None,
    results: Results = Path("results"),
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the study's own report folder.")] = None,
    formats: Annotated[str, typer.Option("--format", help="Any of html,csv,md,tex,png,svg,pdf.")] = (
        "html,csv,md,tex,png,svg"
    ),
    style: Annotated[Path | None, typer.Option(help="A file of matplotlib rcParams for the figures.")] = None,
    earlier: Annotated[
        bool, typer.Option("--earlier", help="With the trials that only earlier configs of the study asked for.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="AXIS=VALUE,…", help="A part of the study; can be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What was found, as JSON.")] = False,
) -> None:
    """Draw figures and tables and one page of what was found, and say it here.

    Example: reluexp report quickstart --format html,pdf
    """
    if only and out is None:
        raise ConfigError("--only: say with --out where the report of a part goes; the study's own is of the whole")
    with _saying("stopped; every file of a report is written whole or not at all, and the same command makes the rest"):
        _report(_loaded(studies or [""], results, earlier, only or []), out, formats, style, as_json)


def _report(found: list[Any], out: Path | None, formats: str, style: Path | None, as_json: bool) -> None:
    from reluexp.report import write_report, write_together
    from reluexp.report.style import Style, paper_style, styled
    from reluexp.report.terminal import as_data
    from reluexp.report.together import COLUMN

    wanted = [form.strip() for form in formats.split(",")]
    if len(found) > 1:
        path = write_together(found, out, wanted, styled(COLUMN, style))
        _say(_json([as_data(study, path) for study in found]) if as_json else str(_near(path)))
        return
    base = paper_style() if "pdf" in wanted and not {"html", "svg", "png"} & set(wanted) else Style()
    path = write_report(found[0], out, wanted, styled(base, style) if style else None)
    _show(found[0], path, as_json)


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="One kind of thing; default: all.", show_default=False)] = None,
) -> None:
    """Show the shipped configs and what a config can name; of one kind with the options, or files, of each.

    Example: reluexp list activations
    """
    from reluexp.catalogue.metrics import METRICS
    from reluexp.config import question_of, shipped_configs
    from reluexp.config.models import CHOICES
    from reluexp.config.reference import keys_of
    from reluexp.engine import ENGINES

    choices = {f"{field}s": registry for field, registry in CHOICES.items()}
    shipped = shipped_configs()
    kinds: dict[str, list[tuple[str, str]]] = {"configs": [(name, question_of(path)) for name, path in shipped.items()]}
    kinds |= {
        name: [(entry.name, f"{entry.summary} ({entry.reference})") for entry in registry.entries]
        for name, registry in choices.items()
    }
    kinds["engines"] = [(entry.name, f"{entry.summary} ({entry.reference})") for entry in ENGINES.entries]
    kinds["metrics"] = [(metric.name, metric.meaning) for metric in METRICS.values()]
    kinds["claims"] = []
    if kind in (None, "claims"):  # they bring pandas and scipy along
        from reluexp.claims import CLAIMS

        kinds["claims"] = [(claim.name, f"{claim.statement} ({claim.reference})") for claim in CLAIMS.entries]
    _one_of("kind", kind or "activations", tuple(kinds))
    for name in [kind] if kind else kinds:
        _say(f"{name}:")
        width = max(len(entry) for entry, _ in kinds[name])
        for entry, summary in kinds[name]:
            _say(f"  {entry:<{width}}  {summary}")
            if kind == "configs":
                _say(f"  {'':<{width}}    {shipped[entry]}")
            for key in keys_of(choices[name][entry].options) if kind in choices else []:
                default = f" = {key.default}" if key.default else ""
                _say(f"  {'':<{width}}    {key.name}{default}: {key.allowed}{f'; {key.meaning}' * bool(key.meaning)}")


@app.command()
def plan(
    config: ConfigName,
    set_: Overrides = None,
    results: Results = Path("results"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="Processes to plan for; as run has them.")] = None,
) -> None:
    """Show the trials, how they stack, and a rough estimate; trains nothing.

    Example: reluexp plan mnist_cnn
    """
    from reluexp.config import load_config
    from reluexp.foretold import foretold
    from reluexp.runner import resources_of

    resources = resources_of({"device": device, "workers": workers})
    for sentence in foretold(load_config(config, set_ or []), results, resources):
        _say(sentence)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="A study or its folder; default: the latest.")] = "",
    results: Results = Path("results"),
) -> None:
    """Count the trials that are done and to do, and of these the failed and begun.

    Example: reluexp status quickstart
    """
    from reluexp.planning.plan import NUMERICS
    from reluexp.standing import stock_for_run
    from reluexp.store import Store, find_study
    from reluexp.study import Study

    store = Store(find_study(study, results))
    found = Study(store)
    standing = stock_for_run(store, found.asked, found.provenance)
    _say(f"{store.root}: {standing.told(store.begun(NUMERICS))}")
    for owner in store.owners():
        _say(f"running: {owner}")
    _warn(standing.notes())


@app.command()
def check(
    study: Annotated[str, typer.Argument(help="A study or its folder; default: the latest.")] = "",
    results: Results = Path("results"),
) -> None:
    """Compare every file of a study with its checksum and say what to do; changes nothing.

    Example: reluexp check quickstart
    """
    from reluexp.checking import check_study
    from reluexp.store import find_study

    found = check_study(find_study(study, results, readable=False))
    for sentence in found.sentences:
        _say(sentence)
    if not found.sound:
        raise typer.Exit(1)


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Every key in words, to be read.")] = False,
    tables: Annotated[bool, typer.Option("--tables", help="The columns of the results in words.")] = False,
) -> None:
    """Print the JSON Schema of configs, for editors, or every key in words, or the columns of the results.

    Example: reluexp schema > schema.json
    """
    from reluexp.catalogue.columns import described
    from reluexp.config import json_schema
    from reluexp.config.reference import reference

    if tables and markdown:
        raise ConfigError("--markdown tells of configs, --tables of results: one of them at a time")
    _say(described() if tables else reference() if markdown else json_schema())


def _one_of(what: str, given: str, allowed: tuple[str, ...]) -> None:
    from reluexp.catalogue.registry import nearest

    if given not in allowed:
        raise ConfigError(f"{what}: got {given!r}; allowed: {', '.join(allowed)}{nearest(given, list(allowed))}")


def _loaded(names: list[str], results: Path, earlier: bool, only: list[str]) -> list[Any]:
    """The studies of those names, as far as they are asked for, without what no report needs."""
    from reluexp.store import find_study

    folders = [find_study(name, results) for name in names]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError(f"one study is named twice: {' '.join(names)}; name each once")
    from reluexp.config.source import levels_of
    from reluexp.report import UNREAD
    from reluexp.study import load

    found = [load(folder, UNREAD, earlier=earlier) for folder in folders]
    if only:
        found = [study.only(levels_of(only)) for study in found]
    for study in found:
        _warn(study.notes())
    return found


def _conclude(study: Any, as_json: bool, reports: bool) -> None:
    from reluexp.report import write_report

    saved, later = "training is finished and saved", f"`reluexp report {_near(study.path)}`"
    with _saying(f"{saved}; the report was not written; {later} makes it"):
        path = write_report(study, formats=("html", "csv", "md", "tex", "svg")) if reports else None
    with _saying(f"{saved}{f', the report is {_near(path)}' if path else ''}; {later} says what was found"):
        _show(study, path, as_json)


@contextmanager
def _saying(text: str) -> Iterator[None]:
    """What a Ctrl-C in the block is answered with."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(text) from None


def _json(found: Any) -> str:
    return json.dumps(found, indent=2)  # in ASCII: no character of a name is left for a terminal to obey


def _show(study: Any, path: Path | None, as_json: bool) -> None:
    """What was found, and where to look."""
    from reluexp.plain import plain
    from reluexp.report.findings import findings
    from reluexp.report.terminal import as_data, shown

    if as_json:
        _say(_json(as_data(study, path)))
        return
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED
    console = Console(markup=False, highlight=False, width=wide)
    for part in shown(study, console):
        console.print(part)
    for sentence in findings(study):
        console.print(f"• {plain(sentence)}")
    _say(f"\nreport: {_near(path) if path else f'none was written; `reluexp report {_near(study.path)}` makes one'}")


def _near(path: Path) -> Path:
    """As one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    """Runs the command line; our own errors become a message and an exit code, a bug keeps its traceback."""
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # its own keeps a fifth of a large report's memory
    os.environ["MPLBACKEND"] = "agg"  # figures are written to files, whatever is there to show them
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed before this process began
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 for as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            if stream.isatty():
                stream.reconfigure(errors="replace")  # signs that a terminal lacks are question marks there
            else:
                stream.reconfigure(encoding="utf-8")
    sys.exit(_heard(_guarded(app)))


def _heard(code: int) -> int:
    """The exit code, or another where the output could not be written: 141 where its reader has gone, as of others."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _unwritten(error)
    return code


def _unwritten(error: OSError) -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed on the way out
    if isinstance(error, BrokenPipeError):
        return _NO_READER
    _warn_plain(f"error: the output could not be written: {error.strerror}")
    return 2


def _warn_plain(text: str) -> None:
    from reluexp.plain import brief, plain

    print(plain(brief(text)), file=sys.stderr)


def _guarded(command: Callable[..., Any]) -> int:
    try:
        code = command(standalone_mode=False)
    except Interrupted as error:
        _warn_plain(str(error))
        return 130
    except KeyboardInterrupt:
        code = 130
    except ReluexpError as error:
        _warn_plain(f"error: {error}")
        return 2
    except typer.Exit as error:
        return error.exit_code
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        return _NO_READER
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO) and not error.filename:
            return _unwritten(error)
        if hasattr(error, "format_message"):  # wrong usage, as Typer's parser found it
            if message := error.format_message():  # none where a call without a command has shown the help
                _warn_plain(f"error: {message}")
            return 2
        raise
    if code == 130:  # what Typer makes of a Ctrl-C
        print("stopped", file=sys.stderr)
    return code if isinstance(code, int) else 0
