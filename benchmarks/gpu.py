"""What wins on a GPU: ways to train many networks at once, ways to compute a stack's convolutions, sizes of stacks.

python benchmarks/gpu.py PART [--root FOLDER_OF_MNIST]; parts: ways, side_by_side, convolutions, pools, stacks, profile,
study, variants
"""

from __future__ import annotations

import argparse
import inspect
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from reluexp.engine.work import settle_torch
from reluexp.networks.convolution import convolve
from reluexp.networks.pooling import max_pool2d

CLASSES, SAMPLES, REPLICAS, STEPS = 10, 128, 70, 30
SHAPES = {
    "conv1.weight": (16, 1, 3, 3), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3), "conv2.bias": (32,),
    "dense.weight": (128, 1568), "dense.bias": (128,), "out.weight": (CLASSES, 128), "out.bias": (CLASSES,),
}  # fmt: skip
Parameters = dict[str, Tensor]
Conv = Callable[[Tensor, Tensor, Tensor], Tensor]


def seconds(call: Callable[[], Any], times: int = STEPS, warm: int = 5) -> float:
    """Seconds of one call on the GPU: the mean over many, between two synchronisations."""
    for _ in range(warm):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def drawn(*lead: int) -> Parameters:
    return {name: (0.05 * torch.randn(*lead, *shape, device="cuda")).requires_grad_() for name, shape in SHAPES.items()}


def alone(p: Parameters, x: Tensor) -> Tensor:
    """One network: logits [sample, class]."""
    h = F.max_pool2d(F.relu(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=1)), 2)
    h = F.max_pool2d(F.relu(F.conv2d(h, p["conv2.weight"], p["conv2.bias"], padding=1)), 2)
    return F.linear(F.relu(F.linear(h.flatten(1), p["dense.weight"], p["dense.bias"])), p["out.weight"], p["out.bias"])


def together(p: Parameters, x: Tensor, conv: Conv) -> Tensor:
    """A stack: logits [replica, sample, class]."""

    def pooled(h: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(h).flatten(0, 1), 2).unflatten(0, h.shape[:2])

    h = pooled(conv(x, p["conv1.weight"], p["conv1.bias"]))
    h = pooled(conv(h, p["conv2.weight"], p["conv2.bias"])).flatten(2)
    for layer in ("dense", "out"):
        h = torch.baddbmm(p[f"{layer}.bias"][:, None], h, p[f"{layer}.weight"].mT)
        h = F.relu(h) if layer == "dense" else h
    return h


def grouped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """All replicas as groups of one convolution, channels first."""
    out = F.conv2d(x.transpose(0, 1).flatten(1, 2), weight.flatten(0, 1), bias.flatten(), padding=1, groups=len(x))
    return out.unflatten(1, (len(x), -1)).transpose(0, 1)


def grouped_last(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same with channels last."""
    flat = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    kernel = weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    out = F.conv2d(flat, kernel, bias.flatten(), padding=1, groups=len(x))
    return out.unflatten(1, (len(x), -1)).transpose(0, 1)


def one_by_one(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution for each replica."""
    return torch.stack([F.conv2d(*own, padding=1) for own in zip(x, weight, bias, strict=True)])


def kernels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As reluexp has it: by kernels of its own where channels are few."""
    return convolve(x, weight, bias, (1, 1), (1, 1), (1, 1))


def products(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Patches as rows of one batched product, as reluexp has it elsewhere."""
    with patch("reluexp.networks.convolution.kernels_for", return_value=None):
        return kernels(x, weight, bias)


CONVS: dict[str, Conv] = {"grouped": grouped, "grouped, channels last": grouped_last, "in a loop": one_by_one,
                          "as products": products, "by kernels": kernels}  # fmt: skip


def stepper(p: Parameters, forward: Callable[[Parameters, Tensor], Tensor], x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of SGD with momentum on fixed samples."""
    leaves = list(p.values())
    momenta = [torch.zeros_like(leaf) for leaf in leaves]

    def step() -> None:
        logits = forward(p, x)
        loss = F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction="sum") / SAMPLES
        gradients = torch.autograd.grad(loss, leaves)
        with torch.no_grad():
            torch._foreach_mul_(momenta, 0.9)
            torch._foreach_add_(momenta, gradients)
            torch._foreach_add_(leaves, momenta, alpha=-0.001)

    return step


def captured(step: Callable[[], None], stream: torch.cuda.Stream | None = None) -> torch.cuda.CUDAGraph:
    """A step as a graph; graphs that are to run side by side each need a stream, whose products have a workspace."""
    stream = stream or torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph


def batch(*lead: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(*lead, SAMPLES, 1, 28, 28, device="cuda")
    return x, torch.randint(CLASSES, (*lead, SAMPLES), device="cuda")


def _process(number: int, barrier: Any, queue: Any) -> None:
    settle_torch()
    step = stepper(drawn(), alone, *batch())
    step()
    barrier.wait()
    queue.put(seconds(step, 100))


def processes(count: int) -> float:
    """Seconds in which `count` processes take one step each, side by side."""
    context = torch.multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(count), context.SimpleQueue()
    started = [context.Process(target=_process, args=(number, barrier, queue)) for number in range(count)]
    for process in started:
        process.start()
    found = [queue.get() for _ in started]
    for process in started:
        process.join()
    return sum(found) / count


def row(name: str, value: float) -> None:
    print(f"| {name} | {1e3 * value:.1f} |", flush=True)


def side_by_side() -> None:
    """The same, several at a time: in processes, and as CUDA graphs on streams."""
    for count in (4, 8):
        row(f"one by one in {count} processes", REPLICAS / count * processes(count))
    steps = [stepper(drawn(), alone, *batch()) for _ in range(8)]  # kept, since graphs own none of their memory
    streams = [torch.cuda.Stream() for _ in steps]
    graphs = [captured(*own) for own in zip(steps, streams, strict=True)]

    def replay() -> None:
        for graph, stream in zip(graphs, streams, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()

    row("CUDA graphs on 8 streams", REPLICAS / 8 * seconds(replay, 50))


def ways() -> None:
    """One step of every network of 7 × 10 `mnist_cnn`, in every way."""
    print(f"| way to take one step of {REPLICAS} networks | ms |\n| --- | ---: |")
    single = stepper(drawn(), alone, *batch())
    row("one by one", REPLICAS * seconds(single, 100))
    row("one by one, each step a CUDA graph", REPLICAS * seconds(captured(single).replay, 100))
    for name, conv in CONVS.items():
        step = stepper(drawn(REPLICAS), lambda p, x, conv=conv: together(p, x, conv), *batch(REPLICAS))
        torch.cuda.reset_peak_memory_stats()
        row(f"stacked, convolutions {name}", seconds(step, 10, 3))
        row(f"… as a CUDA graph ({torch.cuda.max_memory_allocated() / 1e9:.1f} GB)", seconds(captured(step).replay, 10))


def _both_ways(conv: Conv, leaves: list[Tensor], x: Tensor, weight: Tensor, bias: Tensor, g: Tensor) -> None:
    out = conv(x, weight, bias)
    torch.autograd.grad(out, leaves, g.as_strided(out.shape, out.stride()))


def convolutions() -> None:
    """Forward and backward of one layer of a stack."""
    print("| replicas, samples, in, out, side | " + " | ".join(CONVS) + " |\n| --- |" + " ---: |" * len(CONVS))
    for shape in ((70, 128, 1, 16, 28), (70, 128, 16, 32, 14), (70, 128, 32, 64, 16), (16, 128, 64, 64, 32),
                  (16, 128, 128, 256, 8), (4, 128, 256, 256, 16)):  # fmt: skip
        replicas, samples, inputs, outputs, side = shape
        x = torch.randn(replicas, samples, inputs, side, side, device="cuda", requires_grad=inputs > 1)
        weight = torch.randn(replicas, outputs, inputs, 3, 3, device="cuda", requires_grad=True)
        bias = torch.randn(replicas, outputs, device="cuda", requires_grad=True)
        g = torch.randn(replicas * samples * outputs * side * side, device="cuda")
        leaves = [leaf for leaf in (x, weight, bias) if leaf.requires_grad]
        found = [f"{1e3 * seconds(partial(_both_ways, conv, leaves, x, weight, bias, g), 5, 2):.1f}"
                 for conv in CONVS.values()]  # fmt: skip
        print(f"| {', '.join(map(str, shape))} | " + " | ".join(found) + " |", flush=True)


def _pooled(way: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> None:
    torch.autograd.grad(way(x), x, g)


def pools() -> None:
    """Forward and backward of a pool of 2 × 2, channels last."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "torch's": lambda x: F.max_pool2d(x.flatten(0, 1), 2),
        "by slices": lambda x: max_pool2d(x, 2),
    }
    print("| replicas, samples, channels, side | " + " | ".join(ways) + " |\n| --- |" + " ---: |" * len(ways))
    for shape in ((70, 128, 16, 28), (70, 128, 32, 14), (16, 128, 64, 32), (70, 128, 3, 28)):
        replicas, samples, channels, side = shape
        x = torch.randn(replicas, samples, side, side, channels, device="cuda").movedim(-1, 2).requires_grad_()
        found = [f"{1e3 * seconds(partial(_pooled, way, x, torch.randn_like(way(x))), 10, 2):.2f}"
                 for way in ways.values()]  # fmt: skip
        print(f"| {', '.join(map(str, shape))} | " + " | ".join(found) + " |", flush=True)


def training(config: dict[str, Any], largest: int) -> Any:
    """A reluexp training on the GPU, after its first step."""
    from reluexp.catalogue.loading import load_dataset
    from reluexp.config import load_config
    from reluexp.planning.plan import make_plan, make_trials
    from reluexp.training.loop import Training

    loaded = load_config({"study": "s", **config})
    stack = make_plan(make_trials(loaded), device="cuda", largest=largest).stacks[0]
    data = load_dataset(stack.setting.dataset).to("cuda")
    found = Training(stack, data, "s", "cuda")
    found.run(lambda: bool(found.step), lambda *event: None)
    return found


def cnn(root: str, seeds: int) -> dict[str, Any]:
    return {"dataset": {"name": "mnist", "root": root}, "architecture": {"name": "cnn", "channels": [16, 32]},
            "train": {"epochs": 4, "batch_size": 128, "lr": 0.02}, "seeds": seeds,
            "grid": {"activation": ["relu", "leaky_relu", "prelu", "elu", "selu", "sigmoid", "tanh"]}}  # fmt: skip


def stacks(root: str) -> None:
    """A training step of reluexp against the number of trials in the stack."""
    print("| network | trials | ms of a step, launched | replayed | µs of a step and trial | GB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    grid = {"activation": ["relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "prelu"]}
    digits = {"architecture": {"depth": 4, "width": 64}, "grid": grid}
    mlp = {"dataset": {"name": "mnist", "root": root}, "architecture": {"depth": 4, "width": 128},
           "train": {"batch_size": 128}, "grid": grid}  # fmt: skip
    cases = [("digits, 4 × 64", digits, (1, 10, 100)), ("MNIST, 4 × 128", mlp, (1, 10, 100)),
             ("mnist_cnn", cnn(root, 1), (1, 4, 10, 20))]  # fmt: skip
    for name, config, count in [(name, config, count) for name, config, counts in cases for count in counts]:
        torch.cuda.empty_cache()
        own = training({**config, "seeds": count}, 7 * count)
        order = own._order()
        torch.cuda.reset_peak_memory_stats()
        replay, own.replay = own.replay, None
        launched = seconds(partial(own._step, order, 1), 20, 3)
        own.replay = replay
        with replay.here():
            value = seconds(partial(own._step, order, 1), 20, 6)
        memory = torch.cuda.max_memory_reserved() / 1e9
        each = 1e6 * value / 7 / count
        row = f"| {name} | {7 * count} | {1e3 * launched:.2f} | {1e3 * value:.2f} | {each:.0f} | {memory:.2f} |"
        print(row, flush=True)
        del own


@contextmanager
def profiled(title: str) -> Iterator[None]:
    """Prints the kernels and operations that a block spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        start = time.perf_counter()
        yield
        torch.cuda.synchronize()
        passed = time.perf_counter() - start
    events = [event for event in found.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    events.sort(key=lambda event: -event.self_device_time_total)
    busy = sum(event.self_device_time_total for event in events) / 1e6
    kernels = sum(event.count for event in events)
    print(f"\n{title}: {passed:.3f} s, GPU busy {busy:.3f} s ({100 * busy / passed:.0f} %), {kernels} kernels\n")
    for event in events[:20]:
        print(f"    {event.self_device_time_total / 1e3:9.1f} ms {event.count:6d} × {event.key[:110]}")


def profile_study(root: str) -> None:
    """Where the time of `mnist_cnn` with 7 × 10 trials goes: steps, light and full measurements, evaluation."""
    own = training(cnn(root, 10), 70)
    with own.replay.here():
        _profile(own)


def _profile(own: Any) -> None:
    order = own._order()
    own._step(order, 1)
    plain = seconds(partial(own._step, order, 1), 20, 6)
    print(f"a step: {1e3 * plain:.1f} ms")
    with profiled("10 steps"):
        for number in range(2, 12):
            own._step(order, number)
    everyone = torch.ones_like(own.alive)
    own.network.module.eval()
    for full in (False, True):
        own.probe.measure(full, hear=own._hear)
        with profiled("a full measurement" if full else "a light measurement"):
            found = own.probe.measure(full, hear=own._hear)
    with profiled("writing a measurement down"):
        own._write(found, 1.0, everyone, everyone, scheduled=True)
    from reluexp.measuring.probe import evaluate

    with profiled("evaluating 10,000 samples"):
        evaluate(own.network, own.data.test_x, own.data.test_y)
    print(
        f"confirming deaths: {seconds(partial(own.probe.confirm, own.data.train_x, own.data.probe_order), 1, 0):.2f} s"
    )


def timed(config: dict[str, Any], **means: Any) -> tuple[Any, float, float, float]:
    """A study, its seconds from the first stack's start to the end, percent of the GPU in use, and GB of it at most."""
    from reluexp.config import load_config
    from reluexp.engine import Resources
    from reluexp.runner import run_loaded

    words = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200"]
    marks: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "usage").open("w+") as usage:
        watching = subprocess.Popen(words, stdout=usage)
        resources = Resources.model_validate({"device": "cuda", **means})
        found = run_loaded(load_config({"study": "s", **config}), Path(folder), resources,
                           listener=lambda event: marks.update({event["event"]: time.perf_counter()}
                           if event["event"] in ("plan", "done") else {}))  # fmt: skip
        watching.terminate()
        watching.wait()
        usage.seek(0)
        used = [tuple(map(float, line.split(","))) for line in usage.read().splitlines() if line.count(",") == 1]
        found.epochs, found.trials, found.timing  # noqa: B018 read while they are there
        busy = [percent for percent, memory in used if memory > 2000]
        most = max(memory for _, memory in used) / 1000
        return found, marks["done"] - marks["plan"], sum(busy) / max(len(busy), 1), most


def study(root: str) -> None:
    """`mnist_cnn` with 7 × 10 trials and 4 epochs against the plain script, of which 7 trials stand for 70."""
    sys.path.insert(0, str(Path(__file__).parent))
    from peers import plain
    from studies import Study

    seconds_of_run = []
    for _ in range(2):  # the first run on a machine compiles kernels
        found, own, busy, most = timed(cnn(root, 10))
        seconds_of_run.append(own)
        print(f"reluexp: {own:.1f} s; GPU in use {busy:.0f} % of the time, {most:.1f} GB at most")
        print(found.timing.groupby("phase")["seconds"].sum().round(2).to_dict())
    last = found.epochs.groupby("trial").tail(1).set_index("trial")["test_accuracy"]
    trials = found.trials.set_index("trial").join(last)
    print(trials.groupby("activation")[["test_accuracy", "dead_fraction", "confirmed_dead_fraction"]]
          .agg(["mean", "std"]).round(4).to_string())  # fmt: skip
    few = Study("mnist_cnn", {"name": "mnist"}, {"name": "cnn", "channels": [16, 32]}, 1, 4, 128, 0.02)
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # as it is where nobody sets anything
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
    seven = plain(few, few.data(root), device="cuda")
    ratios = ", ".join(f"{10 * seven / own:.1f} ×" for own in seconds_of_run)
    print(f"plain: {seven:.1f} s for 7 trials, {10 * seven:.0f} s for 70: {ratios}")


def variants(root: str) -> None:
    """The same study in other precisions, and in two processes."""
    print("| variant | seconds | GPU in use, % | GB | test accuracy of relu |\n| --- | ---: | ---: | ---: | ---: |")
    config = cnn(root, 10)
    for name, train, means in (
        ("float32", {}, {}), ("tf32", {"precision": "tf32"}, {}), ("bfloat16", {"precision": "bfloat16"}, {}),
        ("float32, two processes", {}, {"per_gpu": 2}),
        ("bfloat16, two processes", {"precision": "bfloat16"}, {"per_gpu": 2}),
    ):  # fmt: skip
        found, own, busy, most = timed({**config, "train": {**config["train"], **train}}, **means)
        relu = found.trials.loc[found.trials["activation"] == "relu", "trial"]
        last = found.epochs[found.epochs["trial"].isin(relu)].groupby("trial").tail(1)["test_accuracy"].mean()
        phases = found.timing.groupby("phase")["seconds"].sum().round(1).to_dict()
        print(f"| {name} | {own:.1f} | {busy:.0f} | {most:.1f} | {last:.4f} | {phases}", flush=True)


PARTS: dict[str, Callable[..., None]] = {
    **{"ways": ways, "side_by_side": side_by_side, "convolutions": convolutions, "pools": pools, "stacks": stacks},
    **{"profile": profile_study, "study": study, "variants": variants},
}


def main() -> None:
    """One part, on the GPU that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--root", default="data")
    given = parser.parse_args()
    settle_torch()
    print(f"\n{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {sys.version.split()[0]}\n")
    part = PARTS[given.part]
    part(*([given.root] if "root" in inspect.signature(part).parameters else []))


if __name__ == "__main__":
    main()
