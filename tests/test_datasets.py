"""The data sets: what is loaded, how it is split and normalised, and what is said when it cannot be."""

import gzip
import hashlib
import http.server
import io
import logging
import math
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets as published
from PIL import Image
from pydantic import ValidationError

from reluexp.catalogue import digits, images, loading
from reluexp.catalogue.augment import augment_batch
from reluexp.catalogue.datasets import DATASETS, Hints, hints_of, validation_count
from reluexp.catalogue.loading import Dataset, load_dataset
from reluexp.catalogue.samples import balanced_order
from reluexp.config.models import UserDataset
from reluexp.errors import ConfigError, DataError
from reluexp.seeds import generator

REAL = Path("../shared/data")
IDX = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST"}


def options(name: str, **given: Any) -> Any:
    return DATASETS.models[name](**given)


def load(name: str, **given: Any) -> Dataset:
    return load_dataset(options(name, **given))


def tiny_pixels(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def write_idx(path: Path, array: np.ndarray, pack: bool = False) -> None:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(head + array.tobytes()) if pack else head + array.tobytes())


def write_mnist(root: Path, folder: str = "MNIST", train: int = 40, test: int = 20, pack: bool = False) -> None:
    for split, count, seed in (("train", train, 1), ("t10k", test, 2)):
        end = ".gz" if pack else ""
        raw = root / folder / "raw"
        write_idx(raw / f"{split}-images-idx3-ubyte{end}", tiny_pixels(count, (28, 28), seed), pack)
        write_idx(raw / f"{split}-labels-idx1-ubyte{end}", np.arange(count, dtype=np.uint8) % 10, pack)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


class OldPickler(pickle.Pickler):
    """Writes arrays as numpy did when the CIFAR files were made: their type with align=0."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.dtype):
            return np.dtype, (value.str[1:], 0, 1), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented


def old_pickle(path: Path, value: Any) -> None:
    buffer = io.BytesIO()
    OldPickler(buffer, protocol=2).dump(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def write_cifar(monkeypatch: pytest.MonkeyPatch, root: Path, name: str = "cifar10", each: int = 20) -> None:
    kind = {"cifar10": published.CIFAR10, "cifar100": published.CIFAR100}[name]
    classes = 10 if name == "cifar10" else 100
    folder = root / kind.base_folder
    for seed, (file, _) in enumerate([*kind.train_list, *kind.test_list]):
        count = each if name == "cifar10" else 200
        labels = [(i + seed) % classes for i in range(count)]
        key = "labels" if name == "cifar10" else "fine_labels"
        old_pickle(folder / file, {"data": tiny_pixels(count, (3072,), seed), key: labels})
    old_pickle(folder / kind.meta["filename"], {kind.meta["key"]: [f"class {i}" for i in range(classes)]})
    for listed in ("train_list", "test_list"):
        monkeypatch.setattr(kind, listed, [[file, md5(folder / file)] for file, _ in getattr(kind, listed)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / kind.meta["filename"])})


def write_svhn(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    listed = dict(published.SVHN.split_list)
    for split, count in (("train", 40), ("test", 20)):
        url, file, _ = listed[split]
        y = np.arange(count, dtype=np.uint8)[:, None] % 10 + 1
        scipy.io.savemat(root / file, {"X": tiny_pixels(count, (32, 32, 3), count).transpose(1, 2, 3, 0), "y": y})
        listed[split] = [url, file, md5(root / file)]
    monkeypatch.setattr(published.SVHN, "split_list", listed)


def write_images(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 5, side: int = 8) -> Path:
    for seed, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(tiny_pixels(1, (side, side, 3), 100 * seed + index)[0]).save(root / name / f"{index}.png")
    return root


def offline(name: str, monkeypatch: pytest.MonkeyPatch, root: Path) -> Any:
    """Options of the data set of that name with small files of the real format under the root."""
    if name in IDX:
        write_mnist(root, IDX[name])
    elif name.startswith("cifar"):
        write_cifar(monkeypatch, root, name)
    elif name == "svhn":
        write_svhn(monkeypatch, root)
    elif name == "imagefolder":
        return options(name, path=str(write_images(root / "pictures")))
    else:
        return options(name)
    return options(name, root=str(root), download=False)


# every entry


@pytest.mark.parametrize("name", DATASETS.names)
def test_every_data_set_keeps_the_contract(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = offline(name, monkeypatch, tmp_path)
    data = load_dataset(chosen)
    hints = hints_of(chosen)
    assert data.input_shape == hints.shape == tuple(data.train_x.shape[1:]) == tuple(data.test_x.shape[1:])
    assert data.classes == (len(data.class_names) or None)
    assert hints.classes in (None, data.classes)
    assert hints.width in (None, data.outputs)
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert x.dtype == torch.float32
        assert len(x) == len(y) > 0
        if data.classes is None:
            assert y.dtype == torch.float32
            assert y.shape[1] == data.outputs
        else:
            assert y.dtype == torch.int64
            assert 0 <= y.min() <= y.max() < data.outputs == data.classes
    assert data.validation_x is None
    assert data.validation_y is None
    assert sorted(data.probe_order.tolist()) == list(range(len(data.train_y)))
    again = load_dataset(chosen)
    assert again.fingerprint == data.fingerprint
    assert torch.equal(again.train_x, data.train_x)


@pytest.mark.parametrize("name", DATASETS.names)
def test_every_entry_says_what_it_is(name: str) -> None:
    entry = DATASETS[name]
    assert entry.label
    assert entry.reference
    assert entry.summary
    assert len(entry.summary) < 90
    assert all(field.description for key, field in entry.options.model_fields.items())


@pytest.mark.parametrize("function", ["abs", "sine", "step", "plane"])
def test_functions_are_taken_as_they_are(function: str) -> None:
    data = load("functions", function=function, samples=300)
    assert hints_of(options("functions", function=function, samples=300)) == Hints(
        data.input_shape, None, len(data.train_y), len(data.test_y), data.outputs
    )
    x, y = data.train_x.double(), data.train_y.double()
    assert 1.5 < x.abs().max() <= 3**0.5
    expected = {
        "abs": lambda: x.abs(),
        "sine": lambda: x * (5 * x).sin(),
        "step": lambda: (x > 0) + 0.2 * (5 * x).sin(),
        "plane": lambda: torch.stack([(x[:, 0] + x[:, 1]).abs(), (x[:, 0] - x[:, 1]).abs()], 1),
    }[function]()
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)


def test_points_for_networks_at_birth() -> None:
    assert load("line").train_x.flatten().tolist() == [-1, 1]
    assert load("point", features=3).train_x.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("name", ["digits", "blobs", "spirals"])
def test_hints_are_what_loading_gives(name: str) -> None:
    hints, data = hints_of(options(name)), load(name)
    assert hints == Hints(data.input_shape, data.classes, len(data.train_y), len(data.test_y))


def test_published_hints_are_the_published_sizes() -> None:
    sizes = {name: hints_of(options(name)) for name in (*IDX, "cifar10", "cifar100", "svhn")}
    assert {(h.shape, h.classes, h.train, h.test) for name, h in sizes.items() if name in IDX} == {
        ((1, 28, 28), 10, 60_000, 10_000)
    }
    assert sizes["cifar100"] == Hints((3, 32, 32), 100, 50_000, 10_000)
    assert sizes["svhn"] == Hints((3, 32, 32), 10, 73_257, 26_032)


def test_the_catalogue_loads_without_torch_or_numpy() -> None:
    code = (
        "import sys, reluexp.catalogue.datasets as d; d.hints_of(d.DATASETS.models['blobs']()); "
        "sys.exit(', '.join({'torch', 'numpy', 'sklearn', 'torchvision', 'PIL'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("digits", {"train_size": 0}),
        ("digits", {"validation": 1.0}),
        ("digits", {"augment": "shift"}),
        ("mnist", {"augment": "flip"}),
        ("imagefolder", {}),
        ("imagefolder", {"path": "x", "channels": 2}),
        ("blobs", {"classes": 1}),
        ("spirals", {"root": "data"}),
    ],
)
def test_impossible_options_are_rejected(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(name, **wrong)


def test_where_the_files_lie_is_outside_a_trials_identity() -> None:
    assert DATASETS.models["mnist"].outside_identity == {"root", "download"}
    assert DATASETS.models["imagefolder"].outside_identity == frozenset()


# order and splits


def counts(labels: Any, classes: int) -> torch.Tensor:
    return torch.bincount(torch.as_tensor(labels), minlength=classes)


def test_every_prefix_of_the_order_is_balanced() -> None:
    labels = np.random.default_rng(0).integers(0, 7, 500)
    order = balanced_order(labels)
    assert sorted(order) == list(range(500))
    smallest = Counter(labels.tolist()).most_common()[-1][1]
    for length in range(7 * smallest + 1):
        of_class = np.bincount(labels[order[:length]], minlength=7)
        assert of_class.max() - of_class.min() <= 1


def test_the_order_lists_rare_classes_first_and_every_sample_once() -> None:
    labels = np.array([0] * 50 + [1] * 3)
    order = balanced_order(labels)
    assert sorted(labels[order[:6]]) == [0, 0, 0, 1, 1, 1]
    assert set(labels[order[6:]]) == {0}


def test_the_order_is_random_within_a_class_and_the_same_every_time() -> None:
    labels = np.zeros(100, np.int64)
    assert not np.array_equal(balanced_order(labels), np.arange(100))
    torch.manual_seed(1)
    first = balanced_order(labels)
    torch.manual_seed(2)
    assert np.array_equal(first, balanced_order(labels))


def test_loading_leaves_global_random_numbers_alone() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before, state = torch.get_rng_state(), np.random.get_state()[1].copy()
    load("blobs", validation=0.1)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(state, np.random.get_state()[1])


def test_digits_are_split_by_class() -> None:
    data = load("digits")
    assert (len(data.train_y), len(data.test_y)) == (1437, 360)
    whole = counts(data.train_y, 10) + counts(data.test_y, 10)
    assert ((counts(data.test_y, 10) - whole * 360 / 1797).abs() < 1).all()


def test_train_size_takes_the_first_of_the_order_and_larger_ones_contain_smaller() -> None:
    few, more = load("digits", train_size=50), load("digits", train_size=200)
    assert counts(few.train_y, 10).tolist() == [5] * 10
    std = [data.train_x.max() - data.train_x.min() for data in (few, more)]
    # Undo the normalisation up to shift and scale: pixels are whole numbers from 0 to 16.
    pixels = [
        ((d.train_x - d.train_x.min()) / s * 16).round().flatten(1) for d, s in zip((few, more), std, strict=True)
    ]
    assert {tuple(x.tolist()) for x in pixels[0]} <= {tuple(x.tolist()) for x in pixels[1]}


def test_test_size_is_balanced() -> None:
    data = load("digits", test_size=100)
    assert counts(data.test_y, 10).tolist() == [10] * 10


def test_validation_is_a_share_of_every_class() -> None:
    data = load("digits", train_size=1000, validation=0.25)
    assert len(data.train_y) == 750
    assert len(data.validation_y) == validation_count(1000, 0.25) == 250
    assert counts(data.validation_y, 10).tolist() == [25] * 10


def test_validation_shares_no_sample_with_training(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda: (np.arange(100.0)[:, None], np.arange(100) % 2, np.zeros((2, 1)), np.array([0, 1])))
    data = load_dataset(user(validation=0.3))
    both = torch.cat([data.train_x, data.validation_x]).flatten()
    assert len(both.unique()) == 100
    assert (both.sort().values.diff() > 0).all()


def test_a_rare_class_is_not_used_up_by_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([0] * 190 + [1] * 10)
    use(
        monkeypatch,
        lambda: (np.random.default_rng(0).normal(size=(200, 2)), labels, np.zeros((2, 2)), np.array([0, 1])),
    )
    data = load_dataset(user(validation=0.2))
    assert counts(data.train_y, 2).tolist() == [152, 8]
    assert counts(data.validation_y, 2).tolist() == [38, 2]


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.37])
def test_every_prefix_of_the_probe_order_is_balanced(validation: float) -> None:
    data = load("digits", train_size=600, validation=validation)
    labels = data.train_y[data.probe_order]
    for length in range(10 * int(counts(data.train_y, 10).min())):
        of_class = counts(labels[:length], 10)
        assert of_class.max() - of_class.min() <= 1


def test_the_probe_is_the_same_samples_whatever_the_training_size() -> None:
    # Column 1 is constant, so only column 0 tells samples apart; ranks survive the normalisation.
    small, large = load("spirals", train_size=200), load("spirals", train_size=800, validation=0.2)
    probes = [data.train_x[data.probe_order[:60]] for data in (small, large)]
    assert torch.equal(probes[0][:, 0].argsort(), probes[1][:, 0].argsort())
    assert torch.equal(*(data.train_y[data.probe_order[:60]] for data in (small, large)))


def test_the_fingerprint_follows_the_split() -> None:
    prints = [load("digits", **given).fingerprint for given in ({}, {"train_size": 1000}, {"validation": 0.1})]
    assert len(set(prints)) == 3
    assert all(len(print_) == 16 and int(print_, 16) >= 0 for print_ in prints)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"train_size": 1438}, r"train_size: 1438 is more than the 1437"),
        ({"test_size": 361}, r"test_size: 361 is more than the 360"),
        ({"train_size": 1}, "at least two are needed"),
        ({"train_size": 10, "validation": 0.01}, "must take at least one"),
        ({"train_size": 10, "validation": 0.99}, "and leave one"),
    ],
)
def test_too_few_samples_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        load("digits", **given)


# normalisation


def test_normalisation_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    train = np.array([[0, 5], [2, 5], [4, 5], [6, 5]])
    use(monkeypatch, lambda: (train, np.array([0, 1, 0, 1]), np.array([[8, 6], [3, 5]]), np.array([0, 1])))
    data = load_dataset(user())
    # mean 3, variance (9 + 1 + 1 + 9) / 4 = 5; the constant feature is only centred
    assert torch.allclose(data.train_x[:, 0], torch.tensor([-3.0, -1, 1, 3]) / 5**0.5)
    assert data.train_x[:, 1].tolist() == [0, 0, 0, 0]
    assert torch.allclose(data.test_x, torch.tensor([[5**0.5, 1], [0, 0]]))


def test_images_are_normalised_by_channel_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal([1e6, -3, 0], [1e-2, 2, 1], (64, 5, 4, 3)).transpose(0, 3, 1, 2)
    use(monkeypatch, lambda: (x, np.arange(64) % 4, x[:8], np.arange(8) % 4))
    monkeypatch.setattr(loading, "_CHUNK", 100)
    data = load_dataset(user(validation=0.25))
    assert data.input_shape == (3, 5, 4)
    assert torch.allclose(data.train_x.double().mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(data.train_x.double().std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6)
    # Statistics are the training split's alone: those of the rest differ.
    assert (data.validation_x.mean((0, 2, 3)).abs() > 1e-4).any()


def test_a_constant_that_has_no_exact_mean_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.stack([np.full(1000, 0.1), np.arange(1000.0)], 1)
    use(monkeypatch, lambda: (x, np.arange(1000) % 2, x[:2], np.array([0, 1])))
    assert load_dataset(user()).train_x[:, 0].abs().max() < 1e-12


def test_threads_do_not_change_a_bit() -> None:
    before = torch.get_num_threads()
    several = load("digits")
    torch.set_num_threads(1)
    one = load("digits")
    torch.set_num_threads(before)
    assert torch.equal(one.train_x, several.train_x)


# generated data


def test_blobs_have_the_asked_shape_and_spread() -> None:
    data = load("blobs", classes=4, features=3, samples=800, spread=0.0, test_share=0.25)
    assert data.train_x.shape == (600, 3)
    assert len(data.test_x) == 200
    assert [len(data.train_x[data.train_y == c].unique(dim=0)) for c in range(4)] == [1] * 4


def test_spirals_without_noise_lie_on_their_arms() -> None:
    raw = DATASETS["spirals"].load(options("spirals", noise=0.0, classes=3, turns=2.0), None, None)
    radius = np.hypot(*raw.train_x.T)
    turned = np.arctan2(raw.train_x[:, 1], raw.train_x[:, 0]) / (2 * np.pi) - raw.train_y / 3
    off = (turned - radius + 0.5) % 1 - 0.5
    assert np.abs(off).max() < 1e-9
    assert 1.9 < radius.max() <= 2


def test_spirals_need_more_than_a_linear_network() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    data = load("spirals")
    linear = LogisticRegression().fit(data.train_x, data.train_y).score(data.test_x, data.test_y)
    nearest = KNeighborsClassifier(9).fit(data.train_x, data.train_y).score(data.test_x, data.test_y)
    assert nearest > linear + 0.25


def test_too_few_samples_for_the_classes() -> None:
    with pytest.raises(DataError, match="too few for 10 classes"):
        load("blobs", classes=10, samples=15)


# the published sets


def test_idx_files_are_read_as_they_are(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    raw = DATASETS["mnist"].load(options("mnist", root=str(tmp_path)), None, None)
    assert np.array_equal(raw.train_x[:, 0], tiny_pixels(40, (28, 28), 1))
    assert raw.test_y.tolist() == [i % 10 for i in range(20)]
    assert raw.class_names == tuple("0123456789")


def test_class_names_are_the_published_ones(tmp_path: Path) -> None:
    write_mnist(tmp_path, "FashionMNIST")
    assert load("fashion_mnist", root=str(tmp_path)).class_names[:3] == ("T-shirt/top", "Trouser", "Pullover")


def test_cifar_is_read_in_channels_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = DATASETS["cifar10"].load(offline("cifar10", monkeypatch, tmp_path), None, None)
    assert np.array_equal(raw.train_x[:20].reshape(20, -1), tiny_pixels(20, (3072,), 0))
    assert raw.train_x.shape == (100, 3, 32, 32)
    assert raw.train_y[20:23].tolist() == [1, 2, 3]
    assert raw.class_names[9] == "class 9"


def test_svhn_has_its_zeros_at_zero(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    raw = DATASETS["svhn"].load(offline("svhn", monkeypatch, tmp_path), None, None)
    assert raw.train_y[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert np.array_equal(raw.train_x[3], tiny_pixels(40, (32, 32, 3), 40)[3].transpose(2, 0, 1))


@pytest.mark.parametrize("name", [*IDX, "cifar10", "cifar100", "svhn"])
def test_missing_files_are_listed_with_address_and_place(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="download is off") as caught:
        load(name, root=str(tmp_path / "none"), download=False)
    place = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz", "svhn": "test_32x32.mat"}
    file = place.get(name, f"{IDX.get(name)}/raw/train-images-idx3-ubyte.gz")
    line = next(line for line in str(caught.value).splitlines() if line.endswith(str(tmp_path / "none" / file)))
    assert line.split("→")[0].strip().startswith("http")
    assert line.split("→")[0].strip().endswith(Path(file).name)
    assert not (tmp_path / "none").exists()


def test_only_missing_files_are_listed(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError) as caught:
        load("mnist", root=str(tmp_path), download=False)
    assert str(caught.value).count("→") == 1
    assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)


def serve(folder: Path) -> tuple[http.server.ThreadingHTTPServer, list[str]]:
    """A web server of the folder on this machine, and the paths that were asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=folder)

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args: Any) -> None:
            """Nothing: tests are quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, asked


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Packed MNIST files on a server, and torchvision told to look there; the first mirror has nothing."""
    write_mnist(tmp_path / "web", pack=True)
    raw = tmp_path / "web/MNIST/raw"
    server, asked = serve(raw)
    address = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(published.MNIST, "mirrors", [address + "gone/", address])
    monkeypatch.setattr(published.MNIST, "resources", [(f, md5(raw / f)) for f, _ in published.MNIST.resources])
    yield SimpleNamespace(raw=raw, asked=asked, server=server)
    server.shutdown()
    server.server_close()


def fetched(web: SimpleNamespace) -> list[str]:
    """The files that were asked for and there; torchvision asks twice for each, to follow redirections first."""
    return [path.removeprefix("/") for path in web.asked if path.count("/") == 1]


def test_missing_files_are_downloaded_once(
    web: SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = load("mnist", root=str(tmp_path / "data"))
    assert len(data.train_y) == 40
    assert set(fetched(web)) == {file for file, _ in published.MNIST.resources}
    before = list(web.asked)
    assert capfd.readouterr().out == ""
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [".mnist.lock", "MNIST"]
    assert load("mnist", root=str(tmp_path / "data"), download=False).fingerprint == data.fingerprint
    assert web.asked == before


def test_processes_that_start_together_download_once(web: SimpleNamespace, tmp_path: Path) -> None:
    load("mnist", root=str(tmp_path / "alone"))
    once = Counter(web.asked)
    web.asked.clear()
    found: list[Dataset] = []
    threads = [threading.Thread(target=lambda: found.append(load("mnist", root=str(tmp_path / "d")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({data.fingerprint for data in found}) == 1
    assert len(found) == 4
    assert Counter(web.asked) == once


def test_a_broken_download_goes_on_where_it_stopped(web: SimpleNamespace, tmp_path: Path) -> None:
    last = web.raw / published.MNIST.resources[-1][0]
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(DataError, match=r"could not be fetched.*404"):
        load("mnist", root=str(tmp_path / "d"))
    assert not (tmp_path / "d/MNIST").exists()
    web.asked.clear()
    last.write_bytes(content)
    assert len(load("mnist", root=str(tmp_path / "d")).train_y) == 40
    assert set(fetched(web)) == {last.name}


def test_a_download_of_wrong_content_is_refused(web: SimpleNamespace, tmp_path: Path) -> None:
    file = web.raw / published.MNIST.resources[0][0]
    file.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(DataError, match="could not be fetched"):
        load("mnist", root=str(tmp_path / "d"))
    assert not (tmp_path / "d/MNIST").exists()


def test_without_a_network_the_message_names_every_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(published.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match="could not be fetched") as caught:
        load("mnist", root=str(tmp_path))
    assert str(caught.value).count("→") == 4
    assert str(tmp_path / "MNIST/raw/train-images-idx3-ubyte.gz") in str(caught.value)


def test_packed_files_put_in_place_are_unpacked_without_a_network(web: SimpleNamespace, tmp_path: Path) -> None:
    raw = tmp_path / "data/MNIST/raw"
    raw.parent.mkdir(parents=True)
    os.rename(web.raw, raw)
    assert len(load("mnist", root=str(tmp_path / "data"), download=False).train_y) == 40
    assert web.asked == []


def test_a_damaged_packed_file_is_pointed_out(web: SimpleNamespace, tmp_path: Path) -> None:
    raw = tmp_path / "data/MNIST/raw"
    raw.parent.mkdir(parents=True)
    os.rename(web.raw, raw)
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(b"half")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte.gz is there, but damaged"):
        load("mnist", root=str(tmp_path / "data"), download=False)


def test_a_cifar_archive_put_in_place_is_unpacked_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_cifar(monkeypatch, tmp_path / "made")
    kind = published.CIFAR10
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / kind.base_folder, kind.base_folder)
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    assert len(load("cifar10", root=str(tmp_path / "data"), download=False).train_y) == 100


def test_data_on_a_disk_that_cannot_be_written_are_read(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    load("mnist", root=str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "spoil", "words"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-1], "31375 bytes, not 31376"),
        ("train-images-idx3-ubyte", lambda b: b + b"x", "31377 bytes, not 31376"),
        ("train-images-idx3-ubyte", lambda b: b"\x1f\x8b" + b[2:], "begins with 0x1f8b0803"),
        ("t10k-images-idx3-ubyte", lambda b: b[:10], "ends within its header"),
        ("t10k-labels-idx1-ubyte", lambda b: b"", "begins with 0x,"),
        ("train-labels-idx1-ubyte", lambda b: b[:-1] + b"\x0b", "label 11"),
        ("train-labels-idx1-ubyte", lambda b: b[:4] + struct.pack(">I", 39) + b[9:], "40 images but .* 39 labels"),
        ("train-images-idx3-ubyte", lambda b: b[:8] + struct.pack(">II", 14, 56) + b[16:], r"\[14, 56\] pixels"),
    ],
)
def test_a_damaged_idx_file_is_named(file: str, spoil: Callable[[bytes], bytes], words: str, tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "MNIST/raw" / file
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=words) as caught:
        load("mnist", root=str(tmp_path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_3"),
        ("cifar100", "cifar-100-python/meta"),
        ("svhn", "test_32x32.mat"),
    ],
)
def test_a_file_that_is_not_the_original_is_named_and_not_opened(
    name: str, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chosen = offline(name, monkeypatch, tmp_path)
    (tmp_path / file).write_bytes(pickle.dumps("something else"))
    with pytest.raises(DataError, match="damaged") as caught:
        load_dataset(chosen)
    assert str(tmp_path / file) in str(caught.value)
    assert str(caught.value).count(str(tmp_path)) == 1


@pytest.mark.mnist
@pytest.mark.skipif(not REAL.is_dir(), reason="the real MNIST files are not in ../shared/data")
def test_the_real_mnist() -> None:
    data = load("mnist", root=str(REAL), download=False)
    assert hints_of(options("mnist")) == Hints(data.input_shape, data.classes, len(data.train_y), len(data.test_y))
    assert counts(data.train_y, 10).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # the pixels' well-known mean 0.1307 and deviation 0.3081, in [0, 1]: 0 is at −0.4242, 1 at 2.8215
    assert data.train_x.min().item() == pytest.approx(-0.1307 / 0.3081, abs=2e-4)
    assert data.train_x.max().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=5e-4)
    small = load("mnist", root=str(REAL), download=False, train_size=10_000, validation=0.1)
    assert counts(small.train_y, 10).tolist() == [900] * 10
    assert counts(small.validation_y, 10).tolist() == [100] * 10
    assert torch.equal(small.train_y[small.probe_order[:1875]], data.train_y[data.probe_order[:1875]])


# the user's own


def use(monkeypatch: pytest.MonkeyPatch, source: Any) -> None:
    """Makes the function importable as `own_data:make`."""
    monkeypatch.setitem(sys.modules, "own_data", SimpleNamespace(make=source))


def user(**given: Any) -> UserDataset:
    return UserDataset(name="own_data:make", **given)


def good(**changes: Any) -> tuple[np.ndarray, ...]:
    parts = {
        "train_x": np.random.default_rng(0).normal(size=(20, 3)),
        "train_y": np.arange(20) % 2,
        "test_x": np.random.default_rng(1).normal(size=(6, 3)),
        "test_y": np.arange(6) % 2,
    }
    return tuple((parts | changes).values())


def test_a_users_function_gets_its_own_options_only(monkeypatch: pytest.MonkeyPatch) -> None:
    got = {}
    use(monkeypatch, lambda **given: got.update(given) or good())
    data = load_dataset(user(train_size=10, test_size=4, validation=0.2, noise=3, kind="x"))
    assert got == {"noise": 3, "kind": "x"}
    assert (len(data.train_y), len(data.validation_y), len(data.test_y)) == (8, 2, 4)
    assert (data.name, data.class_names, data.classes) == ("own_data:make", ("0", "1"), 2)
    assert hints_of(user()) == Hints()


def test_a_users_file_in_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_rings.py").write_text(
        "import torch\n\ndef rings(size=30):\n"
        "    y = torch.arange(size) % 3\n    x = torch.stack([y + 0.5, torch.arange(size)], 1)\n"
        "    return x, y, x[:9], y[:9]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = load_dataset(UserDataset(name="my_rings:rings", size=60))
    assert data.train_x.shape == (60, 2)
    assert data.classes == 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.bool])
def test_users_tensors_of_any_real_type(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.arange(80).reshape(20, 1, 2, 2).to(dtype)
    use(monkeypatch, lambda: (x.requires_grad_(dtype.is_floating_point), torch.arange(20) % 2, x, torch.arange(20) % 2))
    data = load_dataset(user())
    assert data.train_x.dtype == torch.float32
    assert not data.train_x.requires_grad
    assert torch.equal(data.train_x, data.test_x)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3)])
def test_real_targets_make_a_regression_of_samples_as_they_are(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    train_x, _, test_x, _ = good()
    train_y, test_y = np.linspace(0, 1, math.prod(shape)).reshape(shape), np.full((6, *shape[1:]), 0.5)
    use(monkeypatch, lambda: (train_x, train_y, test_x, test_y))
    data = load_dataset(user())
    assert data.classes is None
    assert data.outputs == (shape[1] if len(shape) == 2 else 1)
    assert np.allclose(data.train_x, train_x)
    assert np.allclose(data.train_y, train_y.reshape(20, -1))
    assert np.allclose(data.test_y, 0.5)


def test_the_users_arrays_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = good()
    copies = [part.copy() for part in parts]
    use(monkeypatch, lambda: parts)
    data = load_dataset(user())
    data.train_x.zero_()
    data.train_y.zero_()
    assert all(np.array_equal(part, copy) for part, copy in zip(parts, copies, strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_x": np.zeros(20)}, r"real numbers \[sample, feature\]"),
        ({"train_x": np.zeros((20, 0))}, r"real numbers"),
        ({"train_x": np.array([["a", "b", "c"]] * 20)}, "real numbers"),
        ({"train_x": np.zeros((20, 3), complex)}, "real numbers"),
        ({"train_x": np.zeros((19, 3))}, "19 training samples but 20 labels"),
        ({"train_x": np.full((20, 3), np.nan)}, "training samples contain NaN"),
        ({"test_x": np.full((6, 3), np.inf)}, "test samples contain NaN or infinite"),
        ({"test_x": [[1, 2, 3], [4]]}, "must return dense arrays or tensors: setting an array element"),
        ({"test_x": torch.eye(6).to_sparse()}, "must return dense arrays or tensors: can't convert Sparse"),
        ({"test_x": np.zeros((6, 4))}, r"training samples are \[3\], test samples \[4\]"),
        ({"test_x": np.zeros((0, 3)), "test_y": np.zeros(0, int)}, "test_y must be a non-empty vector"),
        ({"train_y": np.arange(20) % 2 / 1.0}, "are these labels or targets"),
        ({"train_y": np.full(20, np.nan)}, "targets must be finite real numbers"),
        ({"train_y": np.full((20, 1, 1), 0.5)}, r"not float64 \[20, 1, 1\]"),
        ({"train_y": np.full((20, 2), 0.5), "test_y": np.full((6, 1), 0.5)}, r"training targets are \[20, 2\], test"),
        ({"train_y": np.eye(20, dtype=int)}, r"integer labels, not int64 \[20, 20\]"),
        ({"train_y": np.arange(20) % 2 + 1}, r"0 … C − 1 with none missing; train_y has 1, 2"),
        ({"train_y": np.arange(20) % 2 * 2}, "train_y has 0, 2"),
        ({"train_y": -(np.arange(20) % 2)}, "train_y has -1, 0"),
        ({"train_y": np.zeros(20, int), "test_y": np.zeros(6, int)}, "at least two are needed"),
        ({"test_y": np.arange(6)}, "test_y has labels that train_y lacks: 2, 3, 4, 5"),
    ],
)
def test_unfit_user_data_are_named(changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda: good(**changes))
    with pytest.raises(DataError, match=words):
        load_dataset(user())


@pytest.mark.parametrize(
    ("source", "given", "words"),
    [
        (lambda: 1 / 0, {}, "failed: ZeroDivisionError"),
        (lambda: good(), {"colour": 1}, "failed: TypeError.*colour"),
        (lambda: good()[:2], {}, "must return"),
        (lambda: None, {}, "must return .*NoneType"),
        (lambda: good(), {"train_size": 21}, "more than the 20"),
    ],
)
def test_user_functions_that_fail_are_named(
    source: Any, given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, source)
    with pytest.raises(DataError, match=words):
        load_dataset(user(**given))


def test_what_is_no_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 3)
    with pytest.raises(ConfigError, match="is an int; it must be a class or function"):
        load_dataset(user())


def test_an_unknown_user_module_is_named() -> None:
    with pytest.raises(ConfigError, match="no_such_module:make"):
        load_dataset(UserDataset(name="no_such_module:make"))


# image folders


def folder(root: Path, **given: Any) -> Any:
    return options("imagefolder", path=str(root), **{"size": 8, **given})


def read(
    root: Path,
    size: int = 8,
    channels: int = 3,
    skip: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> images.Images:
    return images.read_folder(root, size, channels, skip, cache, progress)


FORMATS = {
    "png": ("RGB", {}),
    "PNG": ("RGB", {}),
    "jpg": ("RGB", {"quality": 95}),
    "jpeg": ("L", {"quality": 95}),
    "bmp": ("RGB", {}),
    "gif": ("P", {}),
    "webp": ("RGB", {"lossless": True}),
    "tif": ("CMYK", {}),
    "tiff": ("RGBA", {}),
    "ppm": ("RGB", {}),
}


def test_every_format_gives_the_same_colour(tmp_path: Path) -> None:
    colour = (200, 60, 20)
    grey = Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for suffix, (mode, given) in FORMATS.items():
            plain = Image.new("RGB", (12, 10), colour)
            image = plain.quantize(4) if mode == "P" else plain.convert(mode)
            image.save(tmp_path / name / f"{suffix}_.{suffix}", **given)
    found = read(tmp_path, 6)
    assert found.x.shape == (2 * len(FORMATS), 3, 6, 6)
    for index, path in enumerate(sorted(f"{suffix}_.{suffix}" for suffix in FORMATS)):
        expected = (grey,) * 3 if "jpeg" in path else colour
        assert np.abs(found.x[index].astype(int) - np.array(expected)[:, None, None]).max() <= 8, path


@pytest.mark.parametrize(
    ("make", "suffix", "expected"),
    [
        (lambda: Image.fromarray(np.full((4, 4), 257 * 100, np.uint16)), "png", (100, 100, 100)),
        (lambda: Image.fromarray(np.full((4, 4), 257 * 100, np.int32)), "tif", (100, 100, 100)),
        (lambda: Image.new("1", (4, 4), 1), "png", (255, 255, 255)),
        (lambda: Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "png", (255, 255, 255)),
        (lambda: Image.new("LA", (4, 4), (40, 255)), "png", (40, 40, 40)),
        (lambda: Image.new("RGB", (4, 4), (1, 250, 3)).quantize(2), "png", (1, 250, 3)),
    ],
)
def test_pixels_of_other_kinds_become_eight_bits(
    make: Callable[..., Any], suffix: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / f"x.{suffix}"
    make().save(path)
    assert images.read_image(path, 2, 3)[:, 0, 0].tolist() == list(expected)


@pytest.mark.parametrize("values", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 70_000, np.int32)])
def test_pixels_without_a_known_range_are_unreadable(values: np.ndarray, tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.fromarray(values).save(tmp_path / "cat/odd.tif")
    with pytest.raises(DataError, match=r"1 of 11 images .*odd.tif \((floating-point|pixels of more)"):
        read(tmp_path)


def test_a_transparent_palette_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.save(tmp_path / "x.gif", transparency=0)
    assert images.read_image(tmp_path / "x.gif", 2, 3)[:, 0, 0].tolist() == [255, 255, 255]


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    for suffix in ("gif", "tif", "png"):
        frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
        assert images.read_image(tmp_path / f"x.{suffix}", 2, 3)[:, 0, 0].tolist() == [250, 0, 0]


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter: what is on top comes to the right
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    turned = images.read_image(tmp_path / "x.png", 8, 1)[0]
    assert turned[:, 6:].min() == 255
    assert turned[:, :2].max() == 0


def test_the_central_square_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert (images.read_image(tmp_path / "x.png", 5, 1) == 200).all()


def test_a_photograph_decoded_small_is_close_to_one_decoded_whole(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (512, 1)), np.tile(ramp[:, None], (1, 512)), np.full((512, 512), 90, np.uint8)], 2)
    Image.fromarray(pixels).save(tmp_path / "x.jpg", quality=95)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    small, whole = (images.read_image(tmp_path / f"x.{suffix}", 32, 3).astype(int) for suffix in ("jpg", "png"))
    assert np.abs(small - whole).max() < 12


def test_labels_follow_the_sorted_class_names(tmp_path: Path) -> None:
    found = read(write_images(tmp_path, ("zebra", "ant", "Bee"), 2))
    assert found.class_names == ("Bee", "ant", "zebra")
    assert found.y.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.is_test is None


def test_train_and_test_folders_are_the_split(tmp_path: Path) -> None:
    write_images(tmp_path / "train", count=6)
    write_images(tmp_path / "test", count=2)
    data = load_dataset(folder(tmp_path))
    assert counts(data.train_y, 2).tolist() == [6, 6]
    assert counts(data.test_y, 2).tolist() == [2, 2]
    assert data.class_names == ("cat", "dog")


def test_without_them_a_share_of_every_class_is_for_testing(tmp_path: Path) -> None:
    data = load_dataset(folder(write_images(tmp_path, count=10), test_share=0.3, channels=1))
    assert data.train_x.shape == (14, 1, 8, 8)
    assert counts(data.test_y, 2).tolist() == [3, 3]


def test_hidden_files_other_files_and_loose_images_are_left_alone(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat/.hidden.png").write_bytes(b"")
    (tmp_path / "cat/notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat/.thumbnails").mkdir()
    (tmp_path / "cat/.thumbnails/x.png").write_bytes(b"")
    (tmp_path / "loose.png").write_bytes(b"")
    assert read(tmp_path).y.tolist() == [0] * 5 + [1] * 5


def test_folders_within_a_class_belong_to_it_and_loops_end(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat/more").mkdir()
    os.rename(tmp_path / "cat/4.png", tmp_path / "cat/more/4.png")
    (tmp_path / "cat/more/up").symlink_to(tmp_path / "cat")
    (tmp_path / "dog/all").symlink_to(tmp_path)
    assert read(tmp_path).y.tolist() == [0] * 5 + [1] * 5


def test_classes_may_be_links(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere")
    (tmp_path / "set").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere" / name)
    assert len(read(tmp_path / "set").y) == 10


def spoil(root: Path) -> None:
    (root / "cat/empty.png").write_bytes(b"")
    (root / "cat/link.png").symlink_to(root / "nowhere.png")
    (root / "dog/text.jpg").write_text("this is no image")
    whole = (root / "dog/0.png").read_bytes()
    (root / "dog/half.png").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(whole)
    flipped[60] ^= 1
    (root / "dog/bit.png").write_bytes(bytes(flipped))
    # Of another format than its name says, and one whose reader runs programs.
    Image.new("RGB", (4, 4)).save(root / "dog/script.eps")
    os.rename(root / "dog/script.eps", root / "dog/script.png")


def test_unreadable_images_are_named_together(tmp_path: Path) -> None:
    spoil(write_images(tmp_path))
    with pytest.raises(DataError, match="6 of 16 images") as caught:
        read(tmp_path)
    for name in ("cat/empty.png", "cat/link.png", "dog/text.jpg", "dog/half.png", "dog/bit.png", "dog/script.png"):
        assert name in str(caught.value)
    assert "on_error: skip" in str(caught.value)


def test_of_many_unreadable_images_ten_are_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    for index in range(12):
        (tmp_path / f"cat/bad{index:02}.png").write_bytes(b"?")
    with pytest.raises(DataError, match="12 of 22 images") as caught:
        read(tmp_path)
    assert str(caught.value).count("bad") == 10


def test_unreadable_images_are_left_out_with_a_warning_every_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_images(tmp_path / "set")
    whole = read(root)
    spoil(root)
    for _ in range(2):
        caplog.clear()
        found = read(root, skip=True, cache=tmp_path / "cache")
        assert np.array_equal(found.x, whole.x)
        assert np.array_equal(found.y, whole.y)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "6 of 16 images" in caplog.text
    assert len(load_dataset(folder(root, on_error="skip")).train_y) == 8


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    Image.new("1", (100, 100)).save(tmp_path / "cat/bomb.png")
    for limit in (9_000, 4_000):  # over the limit, at which PIL warns, and over twice the limit, at which it stops
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"1 of 11 .*bomb.png \(.*decompression bomb"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, "there is no folder"),
        (lambda root: root.mkdir(), "has 0 class folders"),
        (lambda root: write_images(root, ("cat",)), "has 1 class folders"),
        (lambda root: (write_images(root), (root / "empty").mkdir()), "no image .*of class empty"),
        (lambda root: write_images(root, count=0), "of class cat, dog"),
        (lambda root: write_images(root / "train"), "only one of the folders train and test"),
        (lambda root: (write_images(root / "train"), write_images(root / "test", ("cow",))), "lacks: cow"),
        (lambda root: (write_images(root / "train"), (root / "test/cat").mkdir(parents=True)), "no test samples"),
        (lambda root: write_images(root, count=1), "no test samples"),
    ],
)
def test_a_folder_that_is_no_data_set_is_explained(make: Callable[..., Any], words: str, tmp_path: Path) -> None:
    make(tmp_path / "set")
    with pytest.raises(DataError, match=words):
        load_dataset(folder(tmp_path / "set"))


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    write_images(tmp_path)
    monkeypatch.setattr(images, "_walk", lambda folder, above: refuse(folder))  # root may list anything
    with pytest.raises(DataError, match=r"cannot be listed: .*cat"):
        read(tmp_path)


def test_a_class_whose_images_are_all_unreadable_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"?")
    with pytest.raises(DataError, match=r"no image that can be read .*of class cat"):
        read(tmp_path, skip=True)


def test_progress_counts_every_image(tmp_path: Path) -> None:
    seen = []
    load_dataset(folder(write_images(tmp_path)), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 10) for done in range(1, 11)]


def only(cache: Path) -> Path:
    (file,) = cache.iterdir()
    return file


def test_decoded_images_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = write_images(tmp_path / "set"), tmp_path / "cache"
    first = load_dataset(folder(root), cache)
    assert only(cache).suffix == ".safetensors"
    monkeypatch.setattr(images, "read_image", lambda *given: pytest.fail("decoded again"))
    again = load_dataset(folder(root), cache)
    assert again.fingerprint == first.fingerprint
    assert torch.equal(again.test_x, first.test_x)


def test_a_changed_image_or_option_is_decoded_anew(tmp_path: Path) -> None:
    root, cache = write_images(tmp_path / "set"), tmp_path / "cache"
    prints = [load_dataset(folder(root), cache).fingerprint]
    Image.new("RGB", (8, 8), "red").save(root / "cat/0.png")
    prints.append(load_dataset(folder(root), cache).fingerprint)
    os.utime(root / "cat/0.png", ns=(1, 1))
    assert load_dataset(folder(root), cache).fingerprint == prints[1]
    prints.append(load_dataset(folder(root, size=4), cache).fingerprint)
    prints.append(load_dataset(folder(root, channels=1), cache).fingerprint)
    assert len(set(prints)) == 4
    assert len(list(cache.iterdir())) == 5


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"\xff" * 100]
)
def test_a_damaged_cache_is_made_anew(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = write_images(tmp_path / "set"), tmp_path / "cache"
    first = read(root, cache=cache)
    whole = only(cache).read_bytes()
    only(cache).write_bytes(damage(whole))
    assert np.array_equal(read(root, cache=cache).x, first.x)
    assert "damaged" in caplog.text
    assert len(only(cache).read_bytes()) == len(whole)
    caplog.clear()
    assert np.array_equal(read(root, cache=cache).x, first.x)
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(read(write_images(tmp_path / "set"), cache=tmp_path / "cache").y) == 10
    assert "cannot be written" in caplog.text


# the tensors


def test_a_data_set_moves_as_a_whole() -> None:
    data = load("digits", validation=0.1)
    moved = data.to("meta")
    assert isinstance(moved, Dataset)
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 7
    assert moved.fingerprint == data.fingerprint
    assert data.train_x.device.type == "cpu"


# augmentation


def shifted(image: torch.Tensor, dy: int, dx: int, pad: int) -> torch.Tensor:
    """Slow and obvious: the window that begins at (dy, dx) of the image with a frame of zeros."""
    _, height, width = image.shape
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + dy - pad, column + dx - pad
            if 0 <= y < height and 0 <= x < width:
                out[:, row, column] = image[:, y, x]
    return out


@pytest.mark.parametrize(("shape", "pad"), [((1, 28, 28), 2), ((3, 32, 32), 4), ((1, 8, 8), 1)])
def test_shifts_are_crops_of_the_padded_image(shape: tuple[int, ...], pad: int) -> None:
    x = torch.randn(6, *shape, generator=generator(0, "test"))
    moved = augment_batch(x, "shift", generator(0, "augment", 1))
    dy, dx = torch.randint(0, 2 * pad + 1, (2, 6, 1), generator=generator(0, "augment", 1)).flatten(1).tolist()
    for index in range(6):
        assert torch.equal(moved[index], shifted(x[index], dy[index], dx[index], pad))


def test_all_shifts_occur_and_half_of_the_images_are_mirrored() -> None:
    x = torch.zeros(4000, 1, 28, 28)
    x[:, :, 14, 10] = 1
    moved = augment_batch(x, "flip_shift", generator(0, "augment", 1))
    at = moved.flatten(1).argmax(1)
    rows, columns = at // 28, at % 28
    assert rows.unique().tolist() == [12, 13, 14, 15, 16]
    assert columns.unique().tolist() == [8, 9, 10, 11, 12, 15, 16, 17, 18, 19]
    mirrored = (columns > 13).double().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.04)


def test_augmentation_is_a_function_of_its_generator_and_leaves_its_input() -> None:
    x = torch.randn(8, 3, 32, 32, generator=generator(0, "test"))
    copy = x.clone()
    first = augment_batch(x, "flip_shift", generator(1, "augment", 2))
    assert torch.equal(first, augment_batch(x, "flip_shift", generator(1, "augment", 2)))
    assert not torch.equal(first, augment_batch(x, "flip_shift", generator(1, "augment", 3)))
    assert torch.equal(x, copy)
    assert first.is_contiguous()


def test_without_augmentation_nothing_is_drawn() -> None:
    random = generator(0, "augment", 1)
    before = random.get_state()
    x = torch.randn(2, 1, 28, 28, generator=generator(0, "test"))
    assert torch.equal(augment_batch(x, "none", random), x)
    assert torch.equal(random.get_state(), before)


@pytest.mark.parametrize("file", [digits._FILE, "datasets/elsewhere.csv.gz"])
def test_digits_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    from sklearn.datasets import load_digits

    monkeypatch.setattr(digits, "_FILE", file)
    (x, y), known = digits.read_digits(), load_digits()
    np.testing.assert_array_equal(x, known.images[:, None])
    np.testing.assert_array_equal(y, known.target)
    assert (x.dtype, y.dtype) == (known.images.dtype, known.target.dtype)


def test_the_digits_are_read_without_scikit_learn() -> None:
    code = (
        "import sys; from reluexp.catalogue.digits import read_digits; read_digits(); print('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
