"""The quickstart against what a person would write by hand: a plain loop, and plain tensors of the saved weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import reluexp
from reluexp.catalogue.loading import Dataset, load_dataset
from reluexp.config import load_config
from reluexp.report import UNREAD, write_report
from reluexp.study import Study


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset(load_config("quickstart").config.dataset)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("results")
    return reluexp.run("quickstart", folder, overrides=["grid={activation: [relu]}"])


def by_hand(data: Dataset, seed: int) -> tuple[float, float]:
    """Test accuracy and dead fraction of one net of the quickstart, as a script would have them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (64, 64, 64, 64):
        linear = nn.Linear(inputs, 64)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU()]
    output = nn.Linear(64, 10)
    nn.init.normal_(output.weight, 0, 64**-0.5)
    nn.init.zeros_(output.bias)
    model = nn.Sequential(*layers, output)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        for index in torch.randperm(len(data.train_x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.train_x[index]), data.train_y[index]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (model(data.test_x).argmax(1) == data.test_y).double().mean()
        x, dead = data.train_x[data.probe_order[:320]].flatten(1), []
        for module in model:
            x = module(x)
            if isinstance(module, nn.ReLU):
                dead.append((x == 0).all(0))
    return float(accuracy), float(torch.cat(dead).double().mean())


def test_relu_is_as_accurate_and_as_dead_as_in_a_plain_loop(study: Study, data: Dataset) -> None:
    plain = np.array([by_hand(data, seed) for seed in range(10)])
    last = study.epochs[study.epochs["epoch"] == 20]
    assert len(last) == 10
    assert last["test_accuracy"].mean() == pytest.approx(plain[:, 0].mean(), abs=0.01)
    dead = study.trials["dead_fraction"]
    assert dead.mean() == pytest.approx(plain[:, 1].mean(), abs=3 * max(dead.std(), plain[:, 1].std()))


def test_dead_units_are_those_of_the_saved_weights(study: Study, data: Dataset) -> None:
    x = data.train_x[data.probe_order[:320]]
    for trial in study.trials["trial"]:
        model, found = study.model(trial), {}
        z = x.flatten(1)
        with torch.no_grad():
            for site in range(4):
                z = model.get_submodule(f"dense{site + 1}.linear")(z)
                found[site] = (z <= 0).all(0).tolist()
                z = z.relu()
        units = study.units[study.units["trial"] == trial]
        for site, own in units.groupby("site"):
            assert own["dead_at_end"].astype(bool).tolist() == found[int(str(site))]


@pytest.mark.usefixtures("inline")
def test_the_studys_config_runs_again(study: Study, tmp_path: Path) -> None:
    again = reluexp.run(study.config | {"seeds": [3]}, tmp_path)
    first = study.epochs.merge(study.trials[["trial", "seed"]]).query("seed == 3")
    np.testing.assert_array_equal(first["test_accuracy"], again.epochs["test_accuracy"])


def test_a_report_needs_none_of_the_columns_that_it_leaves_unread(study: Study, tmp_path: Path) -> None:
    lean = reluexp.load(study.path, UNREAD)
    assert not any(set(columns) & set(getattr(lean, table)) for table, columns in UNREAD.items())
    whole, less = (write_report(own, tmp_path / name, ("csv",)) / "tables" for own, name in ((study, "a"), (lean, "b")))
    names = sorted(path.name for path in whole.iterdir())
    assert {"causes.csv", "curves.csv", "fates.csv"} <= set(names)
    assert all((whole / name).read_bytes() == (less / name).read_bytes() for name in names)
