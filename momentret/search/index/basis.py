"""The axes in which a large segment keeps its pooled vectors: principal ones, so that the first dimensions say most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from momentret.search.index.codes import up_to_float16
from momentret.search.index.columns import Columns, decode_pools, encode_pools
from momentret.search.index.segment import POOL_COLUMNS, Segment, live, one_video

__all__ = ["join_pools", "single_video"]

BASIS_POOLS = 60_000
"""Pooled vectors from which on a segment gets axes of its own: fewer are scored whole in 20 ms."""
_SAMPLE = 20_000
_CHUNK = 8_192


def join_pools(parts: Sequence[Segment]) -> Columns:
    """Return the pooled columns, and the basis if there is one, of the videos of `parts` that are not removed.

    Vectors that keep their axes keep their codes. Where the axes change, the radius grows by how far the vector moved,
    so that it still reaches every clip.
    """
    counts = [len(live(part, "pool_weight")) for part in parts]
    largest = parts[int(np.argmax(counts))]
    basis = _basis_of(largest)
    if sum(counts) < BASIS_POOLS:
        basis = None
    elif basis is None or 4 * max(counts) < sum(counts):
        basis = _train(parts)
    joined = [_in_basis(part, basis) for part in parts]
    columns = {name: np.concatenate([part[name] for part in joined]) for name in POOL_COLUMNS}
    return columns if basis is None else columns | {"basis_mean": basis[0], "basis_rotation": basis[1]}


Basis = tuple[np.ndarray, np.ndarray]


def _basis_of(segment: Segment) -> Basis | None:
    if not segment.basis_names:
        return None
    return segment.pools["basis_mean"], segment.pools["basis_rotation"]


def _train(parts: Sequence[Segment]) -> Basis:
    """Principal axes of an even sample of the pooled vectors: mean ``(D,)`` and rotation ``(D, D)``, columns = axes."""
    step = max(1, sum(len(part.pools["pool_weight"]) for part in parts) // _SAMPLE)
    rows = np.concatenate([_originals(_rows(part.pools, slice(None, None, step)), _basis_of(part)) for part in parts])
    mean = rows.mean(0)
    axes = np.linalg.eigh(np.cov(rows - mean, rowvar=False).astype(np.float64))[1][:, ::-1]
    return mean.astype("<f4"), np.ascontiguousarray(axes, dtype="<f4")


def _originals(pools: Columns, basis: Basis | None) -> np.ndarray:
    """Return pooled vectors in the axes of the encoder."""
    vectors = decode_pools(pools)
    return vectors if basis is None else vectors @ basis[1].T + basis[0]


def _rows(pools: Columns, rows: slice) -> Columns:
    return {name: pools[name][rows] for name in POOL_COLUMNS}


def _change(pools: Columns, own: Basis | None, basis: Basis | None) -> Columns:
    """Return pooled columns in other axes."""
    vectors = _originals(pools, own)
    if basis is not None:
        vectors = (vectors - basis[0]) @ basis[1]
    codes = encode_pools(vectors)
    moved = np.linalg.norm(vectors - decode_pools(codes), axis=1)
    radius = up_to_float16((pools["pool_radius"].astype(np.float32) + moved) * np.float32(1 + 1e-5))
    return codes | {"pool_radius": radius, "pool_weight": pools["pool_weight"]}


def _in_basis(segment: Segment, basis: Basis | None) -> Columns:
    """Return the pooled columns of the videos that are not removed, in the axes of `basis`."""
    own = _basis_of(segment)
    if own is basis or (own is not None and basis is not None and own[1] is basis[1]):
        return {name: live(segment, name) for name in POOL_COLUMNS}
    pools = segment.pools
    starts = range(0, len(pools["pool_weight"]), _CHUNK)
    parts = [_change(_rows(pools, slice(begin, begin + _CHUNK)), own, basis) for begin in starts]
    keep = np.repeat(~segment.removed, segment.columns["pool_count"])
    return {name: np.concatenate([part[name] for part in parts])[keep] for name in POOL_COLUMNS}


def single_video(segment: Segment, row: int) -> Columns:
    """Return the columns of one video, its pooled vectors in the axes of the encoder."""
    columns, own = one_video(segment, row), _basis_of(segment)
    return columns if own is None else columns | _change(columns, own, None)
