"""Shipped configs spoilt in hundreds of ways, and files that are no configs: one message of ours that names the key."""

from __future__ import annotations

import contextlib
import copy
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reluexp.config import load_config, shipped_configs
from reluexp.config.source import dotted, read_document
from reluexp.errors import ConfigError
from reluexp.planning.limits import refuse_oversized

Path_ = tuple[str | int, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every value that holds no other, and where it is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    inner = list(inner)
    for key, item in inner:
        yield from leaves(item, (*path, key))
    if not inner:
        yield path, value


def keys(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every key of a mapping, and where it is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        if isinstance(value, dict):
            yield (*path, key)
        yield from keys(item, (*path, key))


def put(data: Any, path: Path_, value: Any) -> Any:
    """A copy with another value there."""
    found = inner = copy.deepcopy(data)
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return found


def misspelt(random_: random.Random, data: Any, path: Path_) -> tuple[Any, Path_]:
    """A letter of a key doubled, left out, or swapped with its neighbour; the order of the keys stays."""
    key = str(path[-1])
    place = random_.randrange(len(key) - 1)
    swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
    wrong = random_.choice([key[:place] + key[place] + key[place:], key[:place] + key[place + 1 :], swapped])
    wrong = wrong if wrong not in (key, "") else f"{key}x"
    found = inner = copy.deepcopy(data)
    for part in path[:-1]:
        inner = inner[part]
    items = [(wrong if name == path[-1] else name, item) for name, item in inner.items()]
    inner.clear()
    inner.update(items)
    return found, (*path[:-1], wrong)


def wrong_values(value: Any, key: str | int) -> list[Any]:
    """Values that no key accepts in the place of this one."""
    anything: list[Any] = [{"no": "such"}, {"no": ["such"]}, [{"no": 1}]]
    if isinstance(value, bool):
        return [*anything, "perhaps", 7]
    if isinstance(value, (int, float)):
        return [*anything, -3, float("nan"), float("inf"), 10**30, "many", "1e999", False]
    return [*anything, -1, True, *([] if key in ("study", "root") else ["nosuchthing", "\x1b[2J"])]


def mutants() -> list[tuple[str, str, Any, Path_]]:
    """Config by config: what was done, the data, and the path that the message must name."""
    found = []
    random_ = random.Random(0)
    for name, file in sorted(shipped_configs().items()):
        data = yaml.safe_load(file.read_text("utf-8"))
        paths = [path for path in keys(data) if isinstance(path[-1], str) and len(path[-1]) > 1]
        for path in paths:
            spoilt, wrong = misspelt(random_, data, path)
            found.append((name, "misspelt", spoilt, wrong))
        for path, value in leaves(data):
            for wrong_value in random_.sample(wrong_values(value, path[-1]), 3):
                found.append((name, "value", put(data, path, wrong_value), path))
        for path in paths:
            whole = [key for key in path if isinstance(key, str)]
            if whole[-1] in ("train", "probe", "grid", "dataset", "architecture"):
                found.append((name, "structure", put(data, path, random_.choice([3.5, [[1]], [None]])), path))
    return found


def names_the_key(message: str, path: Path_) -> bool:
    """Whether a message names the key, or the nearest one around it, as the user wrote it."""
    renamed = [("train", "optimizer", "lr") if tuple(path[:2]) == ("train", "lr") else path]
    text = re.sub(r"^(grid(?:\[\d+\])?)\.train\.lr", r"\1.train.optimizer.lr", dotted(renamed[0]))
    wanted = [text, repr(text)[1:-1]]
    return any(f" {name}:" in message or f" {name}[" in message or f" {name}." in message for name in wanted)


def refusal(path: Path) -> str:
    """The message; raises whatever else happens."""
    try:
        refuse_oversized(load_config(path))
    except ConfigError as error:
        return str(error)
    return ""


def test_mutants_of_the_shipped_configs_are_told_what_is_wrong(
    tmp_path: Path, full: bool, figure: Callable[[str], None]
) -> None:
    all_ = mutants()
    chosen = all_ if full else random.Random(1).sample(all_, 260)
    slowest, accepted, kinds = 0.0, [], {}
    for number, (name, kind, data, path) in enumerate(chosen):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(data, allow_unicode=False, sort_keys=False), "utf-8")
        start = time.process_time()
        message = refusal(file)
        slowest = max(slowest, time.process_time() - start)
        if not message:
            accepted.append((name, kind, path, number))
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        assert names_the_key(message, path), (name, kind, path, message)
        assert f"{name}.yaml" in message or "has" in message, message
        assert message.replace("\n", "").isprintable()
        assert len(message) < 10_000
        assert "\x1b" not in message
    assert not accepted, accepted
    assert slowest < 1
    figure(
        f"{sum(kinds.values())} mutants of {len(shipped_configs())} shipped configs ({kinds}): each refused with the "
        f"key named, none a traceback; the slowest took {slowest:.2f} s"
    )


BOMB = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES: dict[str, bytes] = {
    "empty": b"",
    "a comment": b"# nothing\n",
    "tabs": b"train:\n\tepochs: 3\n",
    "twice": b"seeds: 3\nseeds: 4\n",
    "laughs": BOMB.encode(),
    "itself": b"a: &a [*a]\n",
    "10 MB": b"seeds: [" + b"1, " * 3_400_000 + b"2]\n",
    "deep lists": b"a: " + b"[" * 100_000,
    "deep mappings": b"{a: " * 20_000,
    "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(600)),
    "latin": "study: Übung\n".encode("latin-1"),
    "utf-16": "seeds: 3\n".encode("utf-16"),
    "zeros": b"\0" * 5000,
    "binary": bytes(range(256)) * 20,
    "a long line": b"study: " + b"x" * 200_000,
    "many keys": b"".join(b"k%d: 1\n" % n for n in range(20_000)),
    "nan": b"train: {lr: .nan}\n",
    "huge": b"train: {lr: 1e999}\n",
    "digits": b"seeds: " + b"9" * 5000 + b"\n",
    "slash": b"study: a/b\n",
    "up": b"study: ..\n",
    "nul": b'study: "a\\0b"\n',
    "control": b'study: "a\\u0007b"\n',
    "300": b"study: " + b"a" * 300,
    "device": b"study: CON\n",
    "grid of a billion": b"grid:\n" + b"".join(
        b"  %s: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" % key
        for key in (b"train.lr", b"train.batch_size", b"train.epochs", b"train.clip_norm", b"probe.every",
                    b"probe.early", b"architecture.width", b"init.gain", b"probe.size")
    ),
    "a trillion parameters": b"architecture: {width: [1000000, 1000000]}\n",
    "data of terabytes": b"dataset: {name: blobs, samples: 100000000, features: 100000}\n",
    "code": b"activation: !!python/object/apply:os.system ['touch harm']\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_config_is_one_message_within_a_second(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(FILES[name])
    start = time.process_time()
    message = refusal(path)
    assert time.process_time() - start < 2  # of this process alone; under 1 s was seen
    assert message
    assert len(message) < 10_000
    assert all(line.isprintable() for line in message.splitlines())
    assert not (tmp_path / "harm").exists()


def test_absurd_sizes_are_told_with_their_number(tmp_path: Path) -> None:
    def told(name: str) -> str:
        path = tmp_path / "x.yaml"
        path.write_bytes(FILES[name])
        return refusal(path)

    assert "1,000,076,000,010 parameters, which need about 20 TB of memory; this machine has" in told(
        "a trillion parameters"
    )
    assert "10,000,000,000 trials" in told("grid of a billion")
    assert "10,000,000,000,000 numbers" in told("data of terabytes")


def test_the_real_command_gives_exit_code_2_and_one_message(tmp_path: Path) -> None:
    """The same, through the command and with a folder or an odd name in the place of the file."""
    (tmp_path / "folder.yaml").mkdir()
    names = ["folder.yaml", "a\x00b", "x" * 300, "../..", "no\x1b[2Jsuch", "-", "CON"]
    for name in ("laughs", "a trillion parameters", "binary", "deep lists"):
        (tmp_path / f"{name}.yaml").write_bytes(FILES[name])
        names.append(f"{name}.yaml")
    code = (
        "import sys\nfrom reluexp.cli import _guarded, app\n"
        "for name in eval(sys.argv[1]):\n"
        "    for command in ('run', 'plan'):\n"
        "        sys.argv = ['reluexp', command, '--', name]\n"
        "        print('code', _guarded(app), file=sys.stderr)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, repr(names)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert found.stderr.count("code 2") == 2 * len(names), found.stderr[-3000:]
    assert found.stderr.count("error: ") == 2 * len(names)
    assert "Traceback" not in found.stderr
    assert "\x1b" not in found.stderr
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").glob("[!.]*"))


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(["study", "seeds", "grid", "train", "dataset", "activation", "architecture", "init", "probe",
                         "baseline", "targets", "margins", "x"])  # fmt: skip


@given(st.dictionaries(_KEYS, _DATA, max_size=5))
@settings(max_examples=300, deadline=None)
def test_no_data_raise_anything_but_our_own_error(data: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        load_config({"study": "s", **data})


@given(st.binary(max_size=300) | st.text(alphabet="[]{}&*!|>'\"%@`#,:?- \n\tab1", max_size=200).map(str.encode))
@settings(max_examples=400, deadline=None)
def test_no_bytes_raise_anything_but_our_own_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):
        read_document(path)
        load_config(path)


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_override_raises_anything_but_our_own_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        load_config({"study": "s"}, [text])
    with contextlib.suppress(ConfigError):
        load_config({"study": "s"}, [f"train.{text}"])
