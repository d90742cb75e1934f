"""Watches a network die in a training loop of one's own: a learning rate that is too high, and no normalisation."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import reluexp

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
torch.manual_seed(0)
model = nn.Sequential(*(part for n in (64, 32, 32) for part in (nn.Linear(n, 32), nn.ReLU())), nn.Linear(32, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.9, momentum=0.9)
loss = nn.CrossEntropyLoss()

with reluexp.watch(model, probe=(x[:320], y[:320]), loss=loss) as watched:
    watched.measure(step=0)
    for step in range(1, 101):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
        if step % 20 == 0:
            watched.measure(step=step)

print(watched.frame().pivot(index="step", columns="site_name", values="dead_fraction").round(2))
print(watched.units()["cause"].value_counts())
print("\n".join(watched.warnings()))
