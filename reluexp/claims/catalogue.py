"""The claims: what is said of ReLU and its rivals, by whom, and how a study decides it. Adding one is one entry."""

from __future__ import annotations

from reluexp.catalogue.registry import Registry
from reluexp.claims import deaths, learning, price, signals
from reluexp.claims.claim import Claim

__all__ = ["CLAIMS"]

CLAIMS: Registry[Claim] = Registry(
    "claim",
    [
        Claim(
            "cost",
            "ReLU is cheaper to compute than sigmoid or tanh",
            "Glorot et al. 2011; Krizhevsky et al. 2012",
            "`cost: true` with relu, sigmoid and tanh",
            None,
            price.cost,
            at_birth=True,
        ),
        Claim(
            "nonlinear",
            "a ReLU net learns what a linear net cannot",
            "Cybenko 1989; Leshno et al. 1993",
            "relu and identity in the base setting and on spirals",
            "final_accuracy",
            learning.nonlinear,
        ),
        Claim(
            "sparsity",
            "ReLU's activations become sparse",
            "Glorot et al. 2011",
            "relu in the base setting",
            "zero_fraction",
            signals.sparsity,
        ),
        Claim(
            "gradient",
            "ReLU avoids vanishing gradients where sigmoid and tanh do not",
            "Hochreiter 1991; Glorot & Bengio 2010; Glorot et al. 2011",
            "relu, sigmoid and tanh at depth 16, with init.gain auto and a number",
            "backprop_by_depth",
            signals.gradient,
            at_birth=True,
        ),
        Claim(
            "convergence",
            "ReLU converges faster than sigmoid and tanh",
            "Krizhevsky et al. 2012",
            "relu, sigmoid and tanh in the base setting",
            "loss",
            learning.convergence,
        ),
        Claim(
            "dying",
            "ReLU units die in training, and dead ones do not recover",
            "Maas et al. 2013; Lu et al. 2019, arXiv 1903.06733",
            "relu at the base rate, ten times it, and in deep narrow nets with sgd and adam",
            "dead_fraction",
            deaths.dying,
        ),
        Claim(
            "unbounded",
            "ReLU's unbounded outputs grow, make training unstable and overfit",
            "Krizhevsky 2010 (ReLU6); Sandler et al. 2018, arXiv 1801.04381",
            "relu and relu6 in the base setting, at four rates or more, and at 1,000 samples for 100 epochs",
            "spread_by_depth",
            signals.unbounded,
        ),
        Claim(
            "leaky",
            "a leak helps where ReLU dies, and does no harm elsewhere",
            "Maas et al. 2013; Xu et al. 2015, arXiv 1505.00853",
            "relu and leaky_relu in deep narrow nets and in the base setting",
            "off_and_accuracy",
            learning.leaky,
        ),
        Claim(
            "prelu",
            "PReLU learns its slopes, and that pays",
            "He et al. 2015, arXiv 1502.01852",
            "prelu and leaky_relu with negative_slope 0.25 in the base setting",
            "learned_slopes",
            learning.prelu,
        ),
        Claim(
            "elu",
            "ELU's means are nearer zero, and it converges faster than ReLU",
            "Clevert et al. 2015, arXiv 1511.07289",
            "relu and elu in the base setting",
            "loss",
            learning.elu,
        ),
        Claim(
            "selu",
            "SELU nets normalise themselves",
            "Klambauer et al. 2017, arXiv 1706.02515",
            "selu with lecun_normal at depth 16",
            "spread_by_depth",
            signals.selu,
            at_birth=True,
        ),
        Claim(
            "depth",
            "with ReLU deeper nets become trainable",
            "Glorot et al. 2011; He et al. 2015, arXiv 1502.01852",
            "relu, sigmoid and tanh at three depths or more up to 32, 10 epochs",
            "axis_sensitivity",
            learning.depth,
        ),
        Claim(
            "accuracy",
            "dead units cost accuracy",
            "Lu et al. 2019, arXiv 1903.06733; Dohare et al. 2024",
            "relu with init.dead 0.5 and 0, and half the width beside it",
            "final_accuracy",
            learning.accuracy,
        ),
    ],
)
