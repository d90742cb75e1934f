"""What must be set before torch is imported, and what workers set when they start: the conditions they run under."""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
torch.set_flush_denormal(True)
