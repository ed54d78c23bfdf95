"""Blocks of transformer models: attention, dropout, position encodings, small stacks of linear layers.

A block comes here when a second model needs it unchanged. Masks are True where valid; nothing here knows a method.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

__all__ = [
    "MLP",
    "Dropout",
    "Group",
    "InputProjection",
    "MultiheadAttention",
    "Packing",
    "dropout",
    "sine_positions",
]

GROUP_ITEMS = 8  # more at once leave the cache
ONE_IN_BFLOAT16 = 0x3F80  # its bits
RANDOM_STEPS = 2**16  # one 16-bit random number decides on one element


def dropout(values: Tensor, probability: float) -> Tensor:
    """Set elements to zero at random and scale the others, so that the mean stays; for training only.

    On a CPU, four elements share one 64-bit random number, many times faster than drawing one each; `probability` is
    rounded to a multiple of 2**-16 there.

    Args:
        values: any shape.
        probability: of an element to become zero, in [0, 1).
    """
    if probability == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, probability)
    return values * _keep_mask(values, probability)


@torch.no_grad()
def _keep_mask(values: Tensor, probability: float) -> Tensor:
    """Return 0 or 1 / (1 - probability) for every element.

    The mask is made in place of the random bits: as 16-bit integers that are the bit patterns of bfloat16 numbers.
    """
    dropped = round(probability * RANDOM_STEPS)
    seed = int(torch.randint(2**63 - 1, ()))  # so that torch's seed governs
    words = np.random.SFC64(seed).random_raw(-(-values.numel() // 4))
    bits = torch.from_numpy(words.view(np.int16)[: values.numel()]).view(values.shape)
    keep = bits.ge_(dropped - RANDOM_STEPS // 2).mul_(ONE_IN_BFLOAT16).view(torch.bfloat16).to(values.dtype)
    return keep.mul_(RANDOM_STEPS / (RANDOM_STEPS - dropped))


class Dropout(nn.Module):
    """`dropout` in training, nothing at evaluation."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.probability) if self.training else values


class Group(NamedTuple):
    """Neighbouring packed items of one length."""

    items: int
    length: int


class Packing:
    """Where the valid rows of a padded batch lie, so that layers which treat rows singly can skip the padding.

    Items are ordered by length, so that a few of the same length can be computed as one.
    """

    def __init__(self, mask: Tensor) -> None:
        """Take a mask ``(B, L)``, True where valid."""
        self.shape = mask.shape
        lengths, order = mask.sum(1).sort(stable=True)
        items, columns = mask[order].nonzero().unbind(1)
        self.places = order[items] * mask.shape[1] + columns  # (N,)
        self.groups: list[Group] = []
        for length, many in sorted(Counter(lengths.tolist()).items()):
            sizes = [min(GROUP_ITEMS, many - start) for start in range(0, many, GROUP_ITEMS)]
            self.groups += [Group(size, length) for size in sizes]

    def pack(self, padded: Tensor) -> Tensor:
        """Return the valid rows ``(N, H)`` of ``(B, L, H)``, group after group, item after item."""
        return padded.flatten(0, 1)[self.places]

    def unpack(self, rows: Tensor) -> Tensor:
        """Return ``(B, L, H)`` with zeros in the padding for rows ``(N, H)``."""
        padded = rows.new_zeros((self.shape.numel(), rows.shape[-1]))
        return padded.index_copy(0, self.places, rows).unflatten(0, self.shape)


class MultiheadAttention(nn.Module):
    """Multi-head attention with the parameter names of `torch.nn.MultiheadAttention`.

    Source: Vaswani et al., NeurIPS 2017, section 3.2.2.
    """

    def __init__(self, dim: int, heads: int, probability: float) -> None:
        super().__init__()
        self.heads, self.probability = heads, probability
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))  # rows of query, key, value, in this order
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Return ``(B, N, H)`` for query ``(B, N, H)``, key and value ``(B, M, H)``, key_mask ``(B, M)``."""
        if query is key:
            queries, keys = self._project(query, 0, 2).chunk(2, dim=-1)
        else:
            queries, keys = self._project(query, 0, 1), self._project(key, 1, 2)
        values = self._project(value, 2, 3)
        mixed = F.scaled_dot_product_attention(
            self._split(queries),
            self._split(keys),
            self._split(values),
            attn_mask=None if key_mask is None else key_mask[:, None, None, :],
            dropout_p=self.probability if self.training else 0.0,
        )
        merged: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, N, H)
        return merged

    def forward_packed(self, query: Tensor, value: Tensor, groups: Sequence[Group]) -> Tensor:
        """Return the self-attention ``(N, H)`` of packed items, each by itself; query ``(N, H)`` is the key too.

        On a CPU this beats the padded form: no padding, what is in work fits the cache, and dropout is `dropout`.
        """
        queries, keys = self._project(query, 0, 2).chunk(2, dim=-1)
        values = self._project(value, 2, 3)
        sizes = [group.items * group.length for group in groups]
        parts = zip(groups, *(rows.split(sizes) for rows in (queries, keys, values)), strict=True)
        merged: Tensor = self.out_proj(torch.cat([self._attend(group, *part) for group, *part in parts]))
        return merged

    def _attend(self, group: Group, *rows: Tensor) -> Tensor:
        """Attend within each item of a group; query, key, value and result are ``(items * length, H)``."""
        query, key, value = (self._split(part.unflatten(0, group)).flatten(0, 1) for part in rows)  # (items * heads, ·)
        scores = torch.bmm(query / math.sqrt(query.shape[-1]), key.transpose(1, 2))
        weights = scores.softmax(-1)
        mixed = torch.bmm(dropout(weights, self.probability) if self.training else weights, value)
        return mixed.unflatten(0, (group.items, -1)).transpose(1, 2).flatten(2).flatten(0, 1)

    def forward_few(self, query: Tensor, key: Tensor, value: Tensor, key_mask: Tensor) -> Tensor:
        """Equal `forward`, cheaper where queries are few: they go to the space of the keys, not all keys to theirs."""
        H = query.shape[-1]
        to_key, to_value = self.in_proj_weight[H:].view(2, self.heads, -1, H)
        queries = self._project(query, 0, 1).unflatten(-1, (self.heads, -1)) / math.sqrt(H // self.heads)
        queries = torch.einsum("bnhd,hdc->bhnc", queries, to_key)  # the keys' bias would add the same to every score
        scores = queries.flatten(1, 2) @ key.transpose(1, 2)  # (B, heads * N, M)
        weights = (scores + _minus_infinity(~key_mask)[:, None]).softmax(-1)
        weights = dropout(weights, self.probability) if self.training else weights
        mixed = (weights @ value).unflatten(1, (self.heads, -1))  # (B, heads, N, H)
        share = weights.sum(-1).unflatten(1, (self.heads, -1)).transpose(1, 2)[..., None]  # 1, but for dropout
        mixed = torch.einsum("bhnc,hdc->bnhd", mixed, to_value) + share * self.in_proj_bias[2 * H :].view(
            self.heads, -1
        )
        merged: Tensor = self.out_proj(mixed.flatten(2))
        return merged

    def _project(self, rows: Tensor, first: int, last: int) -> Tensor:
        """Apply the projections `first` to `last` (exclusive) of query, key, value as one matrix."""
        dim = rows.shape[-1]
        part = slice(first * dim, last * dim)
        return F.linear(rows, self.in_proj_weight[part], self.in_proj_bias[part])

    def _split(self, rows: Tensor) -> Tensor:
        """``(..., N, H)`` -> ``(..., heads, N, H / heads)``."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


def _minus_infinity(where: Tensor) -> Tensor:
    return torch.zeros(where.shape, device=where.device).masked_fill_(where, -torch.inf)


@torch.no_grad()
def sine_positions(mask: Tensor, dim: int) -> Tensor:
    """Return sine position encodings ``(B, L, dim)`` of valid positions: one turn over the valid length, any length.

    The first valid position has the angle 2π/n, the last 2π; padded ones repeat the last.

    Args:
        mask: ``(B, L)``, True where valid.
        dim: number of features, sine and cosine in turns.

    Source: Vaswani et al., NeurIPS 2017, section 3.5, normalised as in Carion et al., "DETR", ECCV 2020.
    """
    places = mask.cumsum(1, dtype=torch.float32)
    angles = 2 * math.pi * places / (places[:, -1:] + 1e-6)  # (B, L)
    channel = torch.arange(dim, device=mask.device)
    frequency = 10000 ** (2 * (channel // 2).float() / dim)
    turned = angles[..., None] / frequency  # (B, L, dim)
    return torch.where(channel % 2 == 0, turned.sin(), turned.cos())


class InputProjection(nn.Module):
    """LayerNorm, dropout, linear and, unless it is the last of its stack, ReLU."""

    def __init__(self, size: int, dim: int, probability: float, *, relu: bool) -> None:
        super().__init__()
        self.relu = relu
        self.LayerNorm = nn.LayerNorm(size)
        self.net = nn.Sequential(Dropout(probability), nn.Linear(size, dim))

    def forward(self, rows: Tensor) -> Tensor:
        rows = self.net(self.LayerNorm(rows))
        return F.relu(rows) if self.relu else rows


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, size: int, dim: int, output: int, depth: int) -> None:
        super().__init__()
        sizes = [size, *[dim] * (depth - 1), output]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, rows: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            rows = F.relu(layer(rows))
        result: Tensor = self.layers[-1](rows)
        return result
