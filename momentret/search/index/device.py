"""The first stage on a GPU: every chapter is scored whole, from pooled vectors that stay in the GPU's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from momentret.errors import ConfigError
from momentret.search.index.codes import peak_scale
from momentret.search.index.segment import Segment

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceTable", "device_scores"]

_INT8 = np.dtype("int8")


def device_scores(
    queries: Sequence[np.ndarray], segment: Segment, level: Literal["moment", "video"], device: str
) -> list[np.ndarray]:
    """Return, for each query ``(T, D)``, the score of every chapter of a segment, which is moved to the device once.

    Raises:
        ConfigError: the device is not there.
    """
    key = f"table on {device}"
    if key not in segment.neighbours:
        segment.neighbours[key] = DeviceTable(segment, _checked(device))
    table = segment.neighbours[key]
    return [table.scores(query, level) for query in queries]  # one by one: so the same bits in any batch


def _checked(device: str) -> Any:
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(f"device {device!r} cannot be used ({reason}); search with device 'cpu'") from error
    return torch.device(device)


class DeviceTable:
    """The pooled vectors of a segment ``(P, D)``, 16-bit on a GPU."""

    def __init__(self, segment: Segment, device: Any) -> None:
        import torch

        pools = segment.pools
        self._device, parts = device, []
        for i, name in enumerate(("pool_head", "pool_tail")):
            scale = torch.from_numpy(peak_scale(pools["pool_peaks"][:, i], _INT8)).to(device)
            parts.append((torch.from_numpy(pools[name]).to(device) * scale[:, None]).half())
        self._table = torch.cat(parts, 1)
        counts = segment.chapters.pools
        self._longest = int(counts.max(initial=1))
        self._counts = torch.from_numpy(counts.astype(np.int64)).to(device)
        room = np.repeat(np.cumsum(counts), counts) - np.arange(len(self._table))
        self._room = torch.from_numpy(room.astype(np.int32)).to(device)
        self._weight = torch.from_numpy(pools["pool_weight"].astype(np.float32)).to(device)
        self._basis = [
            torch.from_numpy(pools[name]).to(device) for name in ("basis_mean", "basis_rotation") if name in pools
        ]

    def scores(self, query: np.ndarray, level: Literal["moment", "video"]) -> np.ndarray:
        """Return the score of each chapter: of its best run of pooled vectors, or of all of them."""
        import torch

        with torch.inference_mode():
            product = self._products(torch.from_numpy(query).to(self._device))
            found = self._best_runs(product) if level == "moment" else self._wholes(product)
            return found.cpu().numpy()

    def _products(self, tokens: torch.Tensor) -> torch.Tensor:
        if not self._basis:
            return (self._table @ tokens.T.to(self._table.dtype)).float().T
        mean, rotation = self._basis
        rotated = (tokens @ rotation).T.to(self._table.dtype)
        return (self._table @ rotated).float().T + (tokens @ mean)[:, None]  # (T, P)

    def _best_runs(self, product: torch.Tensor) -> torch.Tensor:
        import torch

        nearest = self._nearest(product)
        running, mass, total = product, self._weight, nearest
        best = running.mean(0) + total / mass
        for length in range(2, self._longest + 1):
            running = torch.maximum(running[:, :-1], product[:, length - 1 :])
            mass, total = mass[:-1] + self._weight[length - 1 :], total[:-1] + nearest[length - 1 :]
            score = running.mean(0) + total / mass
            part = best[: len(score)]
            part.copy_(torch.where(self._room[: len(score)] >= length, torch.maximum(part, score), part))
        return torch.segment_reduce(best, "max", lengths=self._counts)

    def _nearest(self, product: torch.Tensor) -> torch.Tensor:
        return product.amax(0) * self._weight

    def _wholes(self, product: torch.Tensor) -> torch.Tensor:
        import torch

        to_video = torch.segment_reduce(product.T.contiguous(), "max", lengths=self._counts).mean(1)
        total, mass = (
            torch.segment_reduce(values, "sum", lengths=self._counts)
            for values in (self._nearest(product), self._weight)
        )
        return to_video + total / mass
