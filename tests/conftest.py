"""What must be set before torch is imported: the conditions that workers run under, but for their flushed denormals.

(hypothesis refuses to draw numbers where these are flushed.)
"""

import os

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
