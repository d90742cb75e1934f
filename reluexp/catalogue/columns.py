"""The columns of the result tables, in order, and what each means; without torch, for lists."""

from __future__ import annotations

from reluexp.catalogue.metrics import METRICS

__all__ = ["EPOCH_COLUMNS", "LAYER_COLUMNS", "TABLES", "described"]

_TRIAL = {"trial": "the trial's name: a hash of everything that decides its numbers"}
_MOMENT = {"epoch": "epochs trained by then, a fraction within the first", "step": "steps taken by then"}


def _of(*metrics: str) -> dict[str, str]:
    return {name: METRICS[name].meaning for name in metrics}


TABLES: dict[str, dict[str, str]] = {
    "trials": {
        **_TRIAL,
        "study": "the study's name",
        "seed": "trials of one seed are pairs: the same data order, initial weights equal but for their gain",
        "dataset": "label of the data set",
        **{part: f"label of the {part}" for part in ("architecture", "activation", "init")},
        "gain": "gain of the initial weights",
        "normalization": "normalization of the architecture, null for models of your own",
        "optimizer": "name of the optimizer",
        "lr": "base learning rate",
        "batch_size": "samples per step",
        "parameters": "number of parameters, biases and learned slopes included",
        "classes": "number of classes, null for a regression",
        "outcome": "finished, diverged or failed",
        "failure": "why it failed; only in stacks that did",
        "diverged_at_step": "the step whose loss or gradient was not finite, or the end of the epoch whose mean loss "
        "was above 1,000 times the loss before training; null if neither came",
        **_of("stuck"),
        "born_collapsed": "whether every output ranged over less than 0.001 on the probe before training",
        "collapsed_at_end": "the same at the end",
        **_of("dead_layers_at_end"),
        "dead_fraction": "units of all sites that are dead on the probe at the end",
        "confirmed_dead_fraction": "units of all sites that are dead on the whole training set at the end",
        "can_die": "whether units can be dead exactly: the activation, or another of the model, is 0 far below 0",
    },
    "epochs": {
        **_TRIAL,
        "epoch": "0 is before training",
        "step": _MOMENT["step"],
        **_of("train_loss", "train_accuracy", "probe_loss", "probe_accuracy"),
        **_of("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"),
        **_of("grad_norm", "grad_norm_max", "output_range"),
        "lr": "learning rate of the epoch's last step",
    },
    "layers": {
        **_TRIAL,
        **_MOMENT,
        "site": "number of the site in the order of execution; null for the row of the output layer",
        "site_name": "path of the module that applies the activation; `output` for the output layer",
        "kind": "what feeds it: dense, conv, token, sum or concat",
        "width": "number of units",
        **_of("dead_fraction", "off_fraction", "always_on_fraction", "saturated_fraction", "starved_fraction"),
        **_of("dormant_fraction", "rare_fraction", "zero_fraction", "zero_fraction_live", "hoyer_sparsity"),
        **_of("pre_mean", "pre_std", "post_mean", "post_std", "post_absmax", "post_q999", "mean_shift"),
        **_of("effective_rank", "slope_mean", "backprop_norm", "weight_norm", "weight_grad_norm", "update_ratio"),
        **_of("learned_slope_mean", "learned_slope_min", "learned_slope_max"),
    },
    "units": {
        **_TRIAL,
        "site": "number of the site",
        "unit": "number of the unit in it, a channel",
        "born_dead": "dead before training",
        "died_at_step": "step of the first measurement that found it dead after one that had not; null if none did",
        "revived": "how often it was dead at a measurement and alive at the next",
        "dead_since_step": "step of the measurement at which its last spell of death began; null if it is alive",
        "dead_at_end": "dead on the probe at the last measurement",
        "confirmed_dead": "dead on the whole training set at the end",
        "off_at_end": "max z ≤ 0 at the last measurement",
        "starved_at_end": "its shift had a gradient of exactly 0 at every step of the last epoch",
        "firing_rate": "share of samples and positions with |f'(z)| ≥ 10⁻³ s_f, at the last measurement",
        "sample_rate": "share of samples with such a position",
        "cause": "bias, weights, input, mixed or below, for its last death; see docs/measurements.md",
        **{
            f"cause_{part}": f"share of the {part} in the fall of its largest z"
            for part in ("bias", "weights", "input")
        },
        "spike": "whether a gradient norm since the measurement before exceeded 10 × the median of the 100 before, "
        "or of all before if they are 20 at least",
        "slope_ratio": "max |f'(z)| / s_f, at the last measurement: for other thresholds of saturation",
        "activity": "mean |h| over the layer's mean of it: for other thresholds of dormancy",
        "responds_after": "samples of the training set until the first with f'(z) ≠ 0; null where there is none",
    },
    "timing": {
        "stack": "the stack's name",
        "epoch": "the epoch",
        "phase": "train, measure, evaluate or checkpoint",
        "replicas": "number of trials in the stack",
        "seconds": "seconds that the whole stack took for it",
    },
    "cost": {
        "kind": "alone: the activation on so many numbers; step: a whole training step; inside: its activations alone",
        "activation": "label of the activation",
        "elements": "numbers that it is applied to",
        "block": "activations take turns within a block",
        "seconds": "seconds of one pass forward and backward, on one thread",
    },
}
"""for each table its columns and their meaning; `trials` has one more for each axis of the grid, by its dotted name"""

EPOCH_COLUMNS = tuple(TABLES["epochs"])[1:]
LAYER_COLUMNS = tuple(TABLES["layers"])[1:]

_INTRO = """\
# The tables

Made from the code by `reluexp schema --tables`. Each stack of trials writes these files in `results/STUDY/stacks/*/`,
`cost` stands in `results/STUDY/extra/` where the config asks for it;
`reluexp.load(...)` gives them as frames of pandas: `study.trials`, `study.epochs`, and so on. Symbols and definitions
are those of [measurements.md](measurements.md). Columns of a full measurement (gradients and spectra) are null in light
ones. `trials` has one more column for each axis of the grid, by its dotted name.
"""


def described() -> str:
    """The columns of every table as a page in Markdown."""
    parts = [_INTRO]
    for table, columns in TABLES.items():
        rows = [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in columns.items()]
        parts.append("\n".join([f"## {table}.parquet\n", "| column | meaning |", "| --- | --- |", *rows]) + "\n")
    return "\n".join(parts)
