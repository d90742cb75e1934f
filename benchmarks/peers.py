"""The same studies as researchers train them: a plain loop, Lightning's Trainer, skorch. One network at a time.

Each returns the seconds of training, evaluating and measuring; data are in memory and modules imported before. Only the
tutorial reads MNIST as PyTorch's own example does: each image is decoded and normalised anew whenever it is used.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from studies import ACTIVATIONS, Study, build, measure
from thorough import Gauges, confirm, measure_all
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.data import Dataset as Samples
from torchvision import datasets, transforms

from reluexp.catalogue.loading import Dataset
from reluexp.planning.plan import probe_size
from reluexp.planning.schedule import full_epochs

__all__ = ["PEERS"]


def _probe(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = data.probe_order[: probe_size("auto", len(data.train_x))]
    return data.train_x[chosen], data.train_y[chosen]


def _accuracy(model: nn.Module, loader: DataLoader, device: str) -> tuple[float, float]:
    model.eval()
    loss = right = count = 0
    with torch.no_grad():
        for x, y in loader:
            x, y = x.to(device), y.to(device)
            logits = model(x)
            loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            count += len(y)
    return loss / count, right / count


Splits = tuple[Samples[Any], Samples[Any]]


def plain(
    study: Study, data: Dataset, everything: bool = False, device: str = "cpu", splits: Splits | None = None
) -> float:
    """DataLoader, loop, hooks, metrics after every epoch: those that one usually writes, or all that reluexp has."""
    start = time.perf_counter()
    train, test = splits or (TensorDataset(data.train_x, data.train_y), TensorDataset(data.test_x, data.test_y))
    probe = tuple(own.to(device) for own in _probe(data))
    kinds, full = tuple(ACTIVATIONS.values()), full_epochs("log", study.epochs)

    def measured(model: nn.Module, epoch: int) -> dict[str, Any]:
        found = measure_all(model, kinds, *probe, epoch in full) if everything else measure(model, *probe)
        return {"layers": found} | ({"test": _accuracy(model, test_loader, device)} if epoch or everything else {})

    for activation in ACTIVATIONS:
        for seed in range(study.seeds):
            torch.manual_seed(seed)
            model = build(study, activation, data).to(device)
            optimizer = torch.optim.SGD(model.parameters(), study.lr, momentum=0.9)
            loader = DataLoader(train, study.batch_size, shuffle=True)
            test_loader = DataLoader(test, 512)
            rows = [measured(model, 0)]
            for epoch in range(1, study.epochs + 1):
                model.train()
                norms, losses, right = [], [], 0
                gauges = Gauges(model) if everything else None
                for x, y in loader:
                    x, y = x.to(device), y.to(device)
                    optimizer.zero_grad()
                    logits = model(x)
                    loss = nn.functional.cross_entropy(logits, y)
                    loss.backward()
                    norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())
                    if gauges:
                        gauges.before(epoch in full and len(loader) - len(losses) <= 16)
                    optimizer.step()
                    if gauges:
                        gauges.after()
                    losses.append(loss.item())
                    right += (logits.argmax(1) == y).sum().item()
                rows.append(measured(model, epoch) | {"norm": norms, "loss": losses, "gauges": gauges})
            if everything:
                rows.append({"confirmed": confirm(model, kinds, data.train_x)})
    return time.perf_counter() - start


def thorough(study: Study, data: Dataset) -> float:
    """The plain loop with every metric that reluexp has, at the same epochs."""
    return plain(study, data, everything=True)


def tutorial(study: Study, data: Dataset, root: str) -> float:
    """The plain loop on torchvision's MNIST with ToTensor and Normalize, as the example of PyTorch has it."""
    shape = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, test = (datasets.MNIST(root, train=first, transform=shape) for first in (True, False))
    return plain(study, data, splits=(Subset(train, range(len(data.train_x))), test))


def lightning(study: Study, data: Dataset) -> float:
    """The same in a LightningModule and its Trainer, logger and checkpoints off."""
    import lightning as L

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    probe = _probe(data)

    class Module(L.LightningModule):
        def __init__(self, activation: str) -> None:
            super().__init__()
            self.model, self.rows = build(study, activation, data), []

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            logits = self.model(batch[0])
            loss = nn.functional.cross_entropy(logits, batch[1])
            self.log_dict({"loss": loss, "accuracy": (logits.argmax(1) == batch[1]).float().mean()}, on_epoch=True)
            return loss

        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            self.log("norm", nn.utils.get_total_norm([p.grad for p in self.parameters()]), on_epoch=True)

        def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
            logits = self.model(batch[0])
            self.log("test_loss", nn.functional.cross_entropy(logits, batch[1]))
            self.log("test_accuracy", (logits.argmax(1) == batch[1]).float().mean())

        def on_train_epoch_end(self) -> None:
            self.rows.append(measure(self.model, *probe))
            self.model.train()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), study.lr, momentum=0.9)

    start = time.perf_counter()
    train, test = TensorDataset(data.train_x, data.train_y), TensorDataset(data.test_x, data.test_y)
    for activation in ACTIVATIONS:
        for seed in range(study.seeds):
            L.seed_everything(seed, verbose=False)
            quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
            trainer = L.Trainer(max_epochs=study.epochs, accelerator="cpu", enable_model_summary=False, **quiet)
            loaders = DataLoader(train, study.batch_size, shuffle=True), DataLoader(test, 512)
            trainer.fit(Module(activation), *loaders)
    return time.perf_counter() - start


def skorch(study: Study, data: Dataset) -> float:
    """The same through skorch's NeuralNetClassifier and a callback."""
    from skorch import NeuralNetClassifier
    from skorch.callbacks import Callback
    from skorch.helper import predefined_split

    probe = _probe(data)

    class Measure(Callback):
        def on_grad_computed(self, net: NeuralNetClassifier, **kwargs: object) -> None:
            net.history.record_batch("norm", float(nn.utils.get_total_norm([p.grad for p in net.module_.parameters()])))

        def on_epoch_end(self, net: NeuralNetClassifier, **kwargs: object) -> None:
            for name, values in measure(net.module_, *probe).items():
                net.history.record(name, values)

    start = time.perf_counter()
    test = TensorDataset(data.test_x, data.test_y)
    for activation in ACTIVATIONS:
        for seed in range(study.seeds):
            torch.manual_seed(seed)
            net = NeuralNetClassifier(
                build(study, activation, data),
                criterion=nn.CrossEntropyLoss,
                optimizer=torch.optim.SGD,
                optimizer__momentum=0.9,
                lr=study.lr,
                max_epochs=study.epochs,
                batch_size=study.batch_size,
                iterator_train__shuffle=True,
                train_split=predefined_split(test),
                callbacks=[Measure()],
                verbose=0,
            )
            net.fit(data.train_x, data.train_y)
    return time.perf_counter() - start


PEERS: dict[str, Callable[[Study, Dataset, str], float]] = {
    "plain": lambda study, data, root: plain(study, data),
    "tutorial": tutorial,
    "thorough": lambda study, data, root: thorough(study, data),
    "lightning": lambda study, data, root: lightning(study, data),
    "skorch": lambda study, data, root: skorch(study, data),
}
