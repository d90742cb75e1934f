"""The words of the report: what each means, and where the definition comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TERMS", "Term"]


@dataclass(frozen=True)
class Term:
    """A word with its definition and its source, empty where it is ours."""

    name: str
    meaning: str
    source: str = ""


_LU = "Lu, Shin, Su & Karniadakis 2019, arXiv 1903.06733"

_ENTRIES = (
    Term(
        "trial",
        "One network trained once: one point of the grid with one seed. Trials with the same seed start from the same "
        "weights, up to the gain, and see the same batches in the same order: they are paired. Across architectures "
        "or data sets the seed pairs the order of the data only.",
    ),
    Term("site", "One application of an activation in the forward pass."),
    Term("unit", "One channel of a site, seen over all probe samples and positions."),
    Term(
        "probe set",
        "A fixed, class-balanced part of the training split on which units are measured, with dropout off and "
        "normalisation by running statistics. Epoch 0 is before training.",
    ),
    Term(
        "dead",
        "The derivative of the activation is exactly 0 at every probe sample and position; for ReLU, no "
        "pre-activation is above 0. Sufficient for no gradient, not necessary. For ELU, SELU, sigmoid and tanh it can "
        "only be underflow, and is not compared. Units that init.dead switches off are dead whatever they get.",
        _LU,
    ),
    Term("born dead", "Dead before the first step.", _LU),
    Term("revived", "Measured alive after it was measured dead, at the resolution of the measurements."),
    Term(
        "confirmed dead",
        "Dead on the whole training set, checked once at the end. A probe of P samples bounds the share on which a "
        "unit named in advance responds only by 3/P.",
        "rule of three: Hanley & Lippman-Hand 1983",
    ),
    Term(
        "off",
        "No pre-activation above 0 on the probe set: the same question for every activation, so it can be compared "
        "where dead cannot.",
    ),
    Term(
        "starved",
        "The gradient of the unit's bias (with batch normalisation: of its shift), before decay and clipping, was "
        "exactly 0 at every step of the epoch, as trained.",
    ),
    Term("saturated", "The largest |f′(z)| over the probe is below 10⁻³ of the activation's largest slope on [−5, 5]."),
    Term(
        "dormant",
        "Mean |h| at most 0.025 of the layer's mean; compared within an activation only.",
        "Sokar et al. 2023",
    ),
    Term(
        "firing rate",
        "Share of samples and positions with |f′(z)| at least 10⁻³ of the reference slope.",
        "Dohare et al. 2024",
    ),
    Term(
        "zero fraction",
        "Share of a site's outputs that are exactly 0, averaged over sites by their widths.",
        "Glorot, Bordes & Bengio 2011",
    ),
    Term(
        "cause of a death",
        "How much of the fall of a unit's largest pre-activation came from its bias, its incoming weights and its "
        "input, as Shapley values over the three; the one with half or more, else mixed; below, if the whole site "
        "below is dead.",
        "Shapley 1953 for the values; ours for the use",
    ),
    Term(
        "survival",
        "Kaplan–Meier curves of lasting death; born-dead units stand apart, units that never die are censored. Units "
        "of one network are not independent: bands resample trials, and no test is made of units.",
        "Kaplan & Meier 1958; Hesterberg 2015, arXiv 1411.5279",
    ),
    Term(
        "backprop norm",
        "Root mean square over samples, positions and units of the derivative of a sample's own loss by the "
        "pre-activation.",
        "Glorot & Bengio 2010",
    ),
    Term(
        "effective rank",
        "Exponential of the entropy of the normalised singular values of the centred activations.",
        "Roy & Vetterli 2007, there uncentred",
    ),
    Term(
        "feeding layer",
        "The one linear or convolution whose output reaches a site through nothing but normalisation, dropout, "
        "reshaping or pooling.",
    ),
    Term(
        "decades of gradient lost",
        "Base-10 logarithm of the backprop norm at the last hidden site over that at the first.",
    ),
    Term(
        "stuck",
        "The final training accuracy is not above the share of the largest class plus 3 standard errors.",
        _LU,
    ),
    Term(
        "diverged",
        "A step's loss or gradient norm was not finite, or an epoch's mean loss exceeded 1,000 times the loss at "
        "birth. A diverged trial stays in every mean of the tables with its last finite value, else chance.",
    ),
    Term("failed", "The trial stopped on an error. It is counted and enters no mean."),
    Term(
        "interval",
        "Student's 95 % t interval for a mean over trials. Bands in figures are pointwise: each holds at its own x, "
        "not for the curve as a whole.",
    ),
    Term(
        "interquartile mean",
        "The mean of the middle half of all values, here of the paired differences over all seeds, data sets and "
        "architectures: a few extreme runs do not move it. Its bounds resample the seeds within each data set and "
        "architecture.",
        "Agarwal et al. 2021, arXiv 2108.13264; Hesterberg 2015, arXiv 1411.5279",
    ),
    Term(
        "chance of improvement",
        "The chance that a run is better than one of the baseline on the same data set and architecture, ties half; "
        "averaged over them.",
        "Agarwal et al. 2021; Mann & Whitney 1947",
    ),
    Term("performance profile", "The share of runs above a score, for every score.", "Agarwal et al. 2021"),
    Term(
        "critical difference",
        "How far apart two average ranks over data sets must be to differ at 5 %, whatever pair is looked at.",
        "Nemenyi 1963; Demšar 2006",
    ),
    Term(
        "significant",
        "An exact signed-rank test over paired seeds whose p, corrected by Holm's method within the metric's family "
        "of comparisons, is at most 0.05.",
        "Wilcoxon 1945; Holm 1979",
    ),
    Term(
        "verdict",
        "Better or worse: the difference lies beyond the smallest one that matters. Equal: within it, by two "
        "one-sided tests. Undecided: the seeds cannot tell.",
        "Schuirmann 1987 for TOST",
    ),
)

TERMS: dict[str, Term] = {term.name: term for term in _ENTRIES}
"""every word that the page explains, by its name"""
