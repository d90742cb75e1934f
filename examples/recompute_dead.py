"""Counts the dead units of a ReLU net of the quickstart anew, from its saved weights, with torch alone."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

import reluexp

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/quickstart")
study = reluexp.load(folder)  # the table to compare with, and the samples of the probe
weights = {name: w for path in folder.glob("stacks/*/weights.safetensors") for name, w in load_file(path).items()}
trial = study.trials.query("activation == 'relu'")["trial"].iloc[0]
h = study.probe(trial)[0].flatten(1)
for site, units in study.units[study.units["trial"] == trial].groupby("site"):
    layer = f"{trial}/dense{site + 1}.linear"
    z = torch.nn.functional.linear(h, weights[f"{layer}.weight"], weights[f"{layer}.bias"])
    dead = (z <= 0).all(0).tolist()
    assert dead == units["dead_at_end"].tolist(), f"layer {site + 1}: the table says otherwise"
    print(f"layer {site + 1}: {sum(dead)} of {len(dead)} units are dead, as the table says")
    h = z.relu()
