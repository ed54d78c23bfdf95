"""Fixtures for all tests; one thread, so that results do not depend on the machine."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
