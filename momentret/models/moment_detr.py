"""Moment-DETR: a transformer that reads clips and words and fills a few slots with moments.

Source: Lei, Berg, Bansal, "QVHighlights: Detecting Moments and Highlights in Videos via Natural Language Queries",
NeurIPS 2021 (arXiv 2107.09609). Parameter names and numbers are those of its released code.

What differs from it: moments of a ``ce`` model can be decoded (the released code only trains them), and a batch without
any window trains saliency and labels instead of failing.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from momentret.config import require
from momentret.errors import ConfigError, MismatchError
from momentret.inputs import Batch
from momentret.models.layers import MLP, Dropout, Group, InputProjection, MultiheadAttention, Packing, sine_positions
from momentret.models.matching import Matches, match
from momentret.spans import generalised_iou, spans_to_windows

__all__ = ["MomentDETR", "MomentDETRConfig"]

FOREGROUND, BACKGROUND = 0, 1


@dataclass(frozen=True)
class MomentDETRConfig:
    """Sizes, switches and loss weights; the defaults are the paper's for QVHighlights."""

    video_dim: int | None = None
    """Width of a prepared clip, the two temporal endpoints included. None: training takes it from the features."""
    text_dim: int | None = None
    """Width of a text token. None: training takes it from the features."""
    max_words: int = 32
    """Rows of the text position table (used with `text_positions` only, but always part of the weights)."""
    max_clips: int = 75
    """Clips that a ``ce`` span can point at; an ``l1`` model has no limit."""
    slots: int = 10
    """Moments proposed for every query."""
    encoder_layers: int = 2
    """Layers over clips and words."""
    decoder_layers: int = 2
    """Layers over the slots."""
    hidden_dim: int = 256
    """Width of the transformer."""
    heads: int = 8
    """Attention heads; divides `hidden_dim`."""
    feedforward_dim: int = 1024
    """Width between the two linear layers of a transformer layer."""
    input_projections: int = 2
    """Linear layers that bring clips, and words, to `hidden_dim`: 1 to 3."""
    dropout: float = 0.1
    """In the transformer, attention weights included."""
    input_dropout: float = 0.5
    """In the input projections."""
    pre_norm: bool = False
    """Normalise before attention and feed-forward instead of after."""
    text_positions: bool = False
    """Give words a learned position, computed from their content."""
    auxiliary_losses: bool = True
    """Train every decoder layer towards the targets, not the last alone."""
    contrastive: bool = False
    """Add heads that align matched slots with the words, and their loss."""
    contrastive_dim: int = 64
    """Width of the contrastive heads."""
    temperature: float = 0.07
    """Divides contrastive similarities."""
    span_loss: str = "l1"
    """``l1``: regress (centre, width); ``ce``: classify the first and last clip."""
    cost_span: float = 10.0
    """Weight of the span distance in matching."""
    cost_giou: float = 1.0
    """Weight of the generalised IoU in matching."""
    cost_label: float = 4.0
    """Weight of the foreground probability in matching."""
    weight_span: float = 10.0
    """Weight of the span loss."""
    weight_giou: float = 1.0
    """Weight of the generalised IoU loss."""
    weight_label: float = 4.0
    """Weight of the foreground/background loss."""
    weight_saliency: float = 1.0
    """Weight of the saliency ranking loss."""
    weight_contrastive: float = 0.0
    """Weight of the contrastive loss."""
    background_weight: float = 0.1
    """Weight of an unmatched slot in the label loss; a matched one counts 1."""
    saliency_margin: float = 0.2
    """By how much a clip inside must score above one outside."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value, kind = getattr(self, item.name), int if item.default is None else type(item.default)
            if value is None and item.default is None:
                continue
            whole = type(value) is int
            _require(
                type(value) is kind or (kind is float and whole), item.name, value, f"a value like {item.default!r}"
            )
            _require(kind is not int or value >= 1, item.name, value, "at least 1")
            _require(kind is not float or 0 <= value < math.inf, item.name, value, "a finite number, at least 0")
        for name in ("dropout", "input_dropout"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a share in [0, 1)")
        for name in ("encoder_layers", "decoder_layers"):
            _require(getattr(self, name) <= 100, name, getattr(self, name), "at most 100")
        _require(self.hidden_dim % self.heads == 0, "heads", self.heads, f"a divisor of hidden_dim {self.hidden_dim}")
        _require(self.input_projections <= 3, "input_projections", self.input_projections, "1, 2 or 3")
        _require(self.span_loss in ("l1", "ce"), "span_loss", self.span_loss, "'l1' or 'ce'")
        _require(self.temperature > 0, "temperature", self.temperature, "above 0")

    @property
    def widths(self) -> tuple[int, int]:
        """`video_dim` and `text_dim`, which a network cannot do without.

        Raises:
            ConfigError: one of them is not given.
        """
        if self.video_dim is None or self.text_dim is None:
            raise ConfigError("moment_detr.video_dim or text_dim is not given; a network is as wide as its features")
        return self.video_dim, self.text_dim


def _require(true: bool, name: str, value: object, expected: str) -> None:
    require(true, f"moment_detr.{name}", value, expected)


class MomentDETR(nn.Module):
    """The network, its loss and its decoding.

    Raises:
        ConfigError: (from the config) a combination that cannot be built.
    """

    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        self.config = config
        dim, (video_dim, text_dim) = config.hidden_dim, config.widths
        self.transformer = _Transformer(config)
        self.txt_position_embed = _TextPositions(config)
        self.span_embed = MLP(dim, dim, 2 if config.span_loss == "l1" else 2 * config.max_clips, depth=3)
        self.class_embed = nn.Linear(dim, 2)
        self.query_embed = nn.Embedding(config.slots, dim)
        self.input_txt_proj = _input_stack(text_dim, config)
        self.input_vid_proj = _input_stack(video_dim, config)
        if config.contrastive:
            self.contrastive_align_projection_query = nn.Linear(dim, config.contrastive_dim)
            self.contrastive_align_projection_txt = nn.Linear(dim, config.contrastive_dim)
            self.contrastive_align_projection_vid = nn.Linear(dim, config.contrastive_dim)
        self.saliency_proj = nn.Linear(dim, 1)
        self.pads_freely = not config.contrastive  # the contrastive loss looks at padded words as well

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return what the network says about each query.

        Args:
            batch: ``video (B, L, video_dim)``, ``text (B, T, text_dim)`` and their masks, as `inputs.collate` makes it.

        Returns:
            With K supervised decoder layers, the last one being the answer (1 without `auxiliary_losses`):
            ``logits (K, B, S, 2)`` of `FOREGROUND` and `BACKGROUND`; ``spans (K, B, S, 2)`` in (0, 1), or logits of
            first and last clip ``(K, B, S, 2 * max_clips)`` for ``ce``; ``saliency (B, L)``, unbounded, with values at
            padded clips that mean nothing. With `contrastive`: unit vectors ``slot_embedding (K, B, S, C)``,
            ``text_embedding (B, T, C)``, ``video_embedding (B, L, C)``.
        """
        video, text = self.input_vid_proj(batch["video"]), self.input_txt_proj(batch["text"])
        clips = video.shape[1]
        mask = torch.cat((batch["video_mask"], batch["text_mask"]), dim=1)  # (B, L + T)
        text_positions = self.txt_position_embed(text) if self.config.text_positions else torch.zeros_like(text)
        video_positions = sine_positions(batch["video_mask"], video.shape[-1])
        positions = torch.cat((video_positions, text_positions), dim=1)  # (B, L + T, H)
        memory, slots = self.transformer(torch.cat((video, text), dim=1), mask, positions, self.query_embed.weight)
        spans = self.span_embed(slots)
        outputs = {
            "logits": self.class_embed(slots),
            "spans": spans.sigmoid() if self.config.span_loss == "l1" else spans,
            "saliency": self.saliency_proj(memory[:, :clips])[..., 0],
        }
        if self.config.contrastive:
            outputs["slot_embedding"] = F.normalize(self.contrastive_align_projection_query(slots), dim=-1)
            outputs["text_embedding"] = F.normalize(self.contrastive_align_projection_txt(memory[:, clips:]), dim=-1)
            outputs["video_embedding"] = F.normalize(self.contrastive_align_projection_vid(memory[:, :clips]), dim=-1)
        return outputs

    def compute_loss(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms, their sum ``loss``, and ``class_error`` (percent, only to look at).

        Terms of earlier decoder layers carry the layer as a suffix: ``loss_span_0``.

        Args:
            outputs: of `forward`.
            batch: with ``spans (B, N, 2)``, ``span_counts``, ``saliency_positive`` and ``saliency_negative (B, P)``;
                and, if it is known already, what `assign` returns.
        """
        outputs = {name: value.float() for name, value in outputs.items()}
        known = batch if "matched" in batch else self.assign(outputs, batch)
        targets, matches = batch["spans"], Matches.of(known)
        terms = {
            **_span_losses(outputs["spans"], targets, matches, self.config),
            "label": _label_loss(outputs["logits"], matches, self.config.background_weight),
        }
        if self.config.contrastive:
            terms["contrastive"] = _contrastive_loss(outputs, matches, self.config.temperature)
        losses = {}
        for name, layers in terms.items():
            weight = getattr(self.config, f"weight_{name}")
            for layer, value in enumerate(layers):
                suffix = "" if layer == len(layers) - 1 else f"_{layer}"
                losses[f"loss_{name}{suffix}"] = weight * value
        saliency = _saliency_loss(outputs["saliency"], batch, self.config.saliency_margin)
        losses["loss_saliency"] = self.config.weight_saliency * saliency
        losses["loss"] = torch.stack(list(losses.values())).sum()
        losses["class_error"] = _class_error(outputs["logits"][-1], matches)
        return losses

    def assign(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return who answers for whom: ``matched_slots`` and ``matched (K, B, N)``, as in `Matches`."""
        return match(self.matching_cost(outputs, batch), batch["span_counts"]).named()

    @torch.no_grad()
    def matching_cost(self, outputs: dict[str, Tensor], batch: Batch) -> Tensor:
        """Return ``(K, B, S, N)``, lower is better, for the ``spans`` of a batch; columns of padding hold anything."""
        outputs = {name: value.float() for name, value in outputs.items()}
        return _matching_cost(outputs, batch["spans"], self.config)

    def decode(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return ``windows (B, S, 2)`` in seconds, ``scores (B, S)`` in [0, 1] and ``saliency (B, L)``, in slot order.

        Windows are neither clamped nor rounded. A ``ce`` model answers with the most probable pair of first and last
        valid clip, the first not behind the last.
        """
        spans = outputs["spans"][-1].float()
        if self.config.span_loss == "ce":
            fractions = _decode_clip_logits(spans, batch["video_mask"])
        else:
            fractions = spans_to_windows(spans)
        return {
            "windows": fractions * batch["duration"][:, None, None],
            "scores": outputs["logits"][-1].float().softmax(-1)[..., FOREGROUND],
            "saliency": outputs["saliency"].float(),
        }


# ---- losses ---------------------------------------------------------------


def _matching_cost(outputs: dict[str, Tensor], targets: Tensor, config: MomentDETRConfig) -> Tensor:
    """Return ``(K, B, S, N)`` for targets ``(B, N, 2)``."""
    spans = outputs["spans"]
    cost = -config.cost_label * outputs["logits"].softmax(-1)[..., FOREGROUND, None]
    if config.span_loss == "ce":
        first, last = spans.unflatten(-1, (2, -1)).softmax(-1).unbind(-2)  # (K, B, S, max_clips)
        chosen = _pick(first, targets[..., 0]) + _pick(last, targets[..., 1])
        return cost - config.cost_span * chosen
    distance = (spans[..., :, None, :] - targets[:, None]).abs().sum(-1)  # (K, B, S, N)
    overlap = generalised_iou(spans_to_windows(spans), spans_to_windows(targets))
    return cost + config.cost_span * distance - config.cost_giou * overlap


def _pick(probabilities: Tensor, clips: Tensor) -> Tensor:
    """Return ``(K, B, S, N)``: of ``(K, B, S, C)``, the probabilities of the target clips ``(B, N)``."""
    places = clips[None, :, None, :].expand(*probabilities.shape[:3], -1)
    return probabilities.gather(-1, places)


def _matched(values: Tensor, matches: Matches) -> Tensor:
    """Return the rows ``(K, B, N, D)`` that answer for each target, of ``(K, B, S, D)``."""
    return values.gather(2, matches.slots[..., None].expand(-1, -1, -1, values.shape[-1]))


def _marked(matches: Matches, slots: int) -> Tensor:
    """Return ``(K, B, S)``, True at matched slots."""
    places = matches.slots.masked_fill(~matches.matched, slots)  # one slot more takes what is not matched
    marks = matches.matched.new_zeros((*places.shape[:2], slots + 1))
    return marks.scatter(2, places, value=True)[..., :slots]


def _sum_matched(values: Tensor, matches: Matches) -> Tensor:
    """Return ``(K,)``: the sum of ``(K, B, N)`` where there is a match."""
    return values.masked_fill(~matches.matched, 0).sum((1, 2))


def _span_losses(spans: Tensor, targets: Tensor, matches: Matches, config: MomentDETRConfig) -> dict[str, Tensor]:
    """Return the span and generalised IoU losses ``(K,)``, means over matched pairs (0 if there are none)."""
    found, true = _matched(spans, matches), targets.expand(len(spans), -1, -1, -1)  # (K, B, N, ·), (K, B, N, 2)
    pairs = matches.matched[0].sum().clamp(min=1)
    if config.span_loss == "ce":
        logits = found.unflatten(-1, (2, -1))  # (K, B, N, 2, max_clips)
        errors = F.cross_entropy(logits.flatten(0, 3), true.flatten(), reduction="none").view(true.shape)
        return {"span": _sum_matched(errors.sum(-1), matches) / (2 * pairs), "giou": errors.new_zeros(len(errors))}
    overlap = generalised_iou(spans_to_windows(found)[..., None, :], spans_to_windows(true)[..., None, :])[..., 0, 0]
    distance = (found - true).abs().sum(-1)  # (K, B, N)
    return {
        "span": _sum_matched(distance, matches) / (2 * pairs),
        "giou": _sum_matched(1 - overlap, matches) / pairs,
    }


def _label_loss(logits: Tensor, matches: Matches, background_weight: float) -> Tensor:
    """Return the weighted cross-entropy ``(K,)``: a plain mean over all slots, not divided by the sum of weights."""
    foreground = _marked(matches, logits.shape[2])  # (K, B, S)
    labels = torch.where(foreground, FOREGROUND, BACKGROUND)
    errors = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none").view(labels.shape)
    return torch.where(foreground, errors, background_weight * errors).mean((1, 2))


def _contrastive_loss(outputs: dict[str, Tensor], matches: Matches, temperature: float) -> Tensor:
    """Return ``(K,)``: matched slots against all slots of an item, by their similarity to the sum of its words.

    Padded words take part, as in the released code. An item without targets counts 0.
    """
    words = outputs["text_embedding"].sum(1)  # (B, C)
    similarity = torch.einsum("kbsc,bc->kbs", outputs["slot_embedding"], words) / temperature
    positive = _marked(matches, similarity.shape[2])
    counts = positive.sum(-1)  # (K, B)
    pulled = similarity.masked_fill(~positive, 0).sum(-1) / counts.clamp(min=1)
    return ((counts > 0) * (similarity.logsumexp(-1) - pulled)).mean(1)


def _saliency_loss(saliency: Tensor, batch: Batch, margin: float) -> Tensor:
    """Return twice the mean hinge of ``margin + negative - positive`` over all pairs."""
    positive, negative = (saliency.gather(1, batch[f"saliency_{kind}"]) for kind in ("positive", "negative"))
    return 2 * F.relu(margin + negative - positive).mean()


@torch.no_grad()
def _class_error(logits: Tensor, matches: Matches) -> Tensor:
    """Return the percentage of matched slots of the last layer that are called background."""
    last = Matches(*(part[-1:] for part in matches))
    wrong = _matched(logits[None], last).argmax(-1) != FOREGROUND  # (1, B, N)
    return 100 * (wrong & last.matched).sum() / last.matched.sum().clamp(min=1)


def _decode_clip_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Return windows ``(B, S, 2)`` as fractions of the valid clips, from ``(B, S, 2 * C)`` and a mask ``(B, L)``."""
    count = mask.sum(1)[:, None, None]  # (B, 1, 1)
    logits = logits.unflatten(-1, (2, -1))  # (B, S, 2, C)
    clips = logits.shape[-1]
    outside = torch.arange(clips, device=logits.device) >= count
    first, last = logits.masked_fill(outside[:, :, None], -torch.inf).log_softmax(-1).unbind(-2)
    pairs = first[..., :, None] + last[..., None, :]  # (B, S, C, C)
    behind = torch.ones(clips, clips, dtype=torch.bool, device=logits.device).tril(-1)
    best = pairs.masked_fill(behind, -torch.inf).flatten(-2).argmax(-1)  # (B, S)
    return torch.stack((best // clips, best % clips + 1), dim=-1) / count


# ---- network --------------------------------------------------------------


def _input_stack(size: int, config: MomentDETRConfig) -> nn.Sequential:
    depth, dim = config.input_projections, config.hidden_dim
    sizes = [size, dim, dim][:depth]
    return nn.Sequential(
        *(InputProjection(n, dim, config.input_dropout, relu=i < depth - 1) for i, n in enumerate(sizes))
    )


class _TextPositions(nn.Module):
    """Learned positions of words, added to their content and normalised."""

    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(config.max_words, config.hidden_dim)
        self.LayerNorm = nn.LayerNorm(config.hidden_dim)
        self.dropout = Dropout(config.input_dropout)

    def forward(self, text: Tensor) -> Tensor:
        words, rows = text.shape[1], len(self.position_embeddings.weight)
        if words > rows:
            raise MismatchError(
                f"a query has {words} words, but moment_detr.max_words is {rows}; lower inputs.max_words"
            )
        normalised: Tensor = self.dropout(self.LayerNorm(text + self.position_embeddings.weight[:words]))
        return normalised


class _Transformer(nn.Module):
    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, rows: Tensor, mask: Tensor, positions: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return memory ``(B, N, H)`` and slots ``(K, B, S, H)`` for rows and positions ``(B, N, H)``."""
        memory = self.encoder(rows, mask, positions)
        return memory, self.decoder(slots.expand(len(rows), -1, -1), memory, mask, positions)


class _Encoder(nn.Module):
    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        layer = _EncoderLayer(config)
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(config.hidden_dim) if config.pre_norm else None
        self.packs = not config.contrastive  # the contrastive loss looks at padded words as well

    def forward(self, rows: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        packing = Packing(mask) if self.training and self.packs and rows.device.type == "cpu" else None
        if packing:
            rows, positions = packing.pack(rows), packing.pack(positions)
        for layer in self.layers:
            rows = layer(rows, positions, packing.groups if packing else mask)
        rows = rows if self.norm is None else self.norm(rows)
        return packing.unpack(rows) if packing else rows


class _FeedForward(nn.Module):
    """The part that encoder and decoder layers share: two linear layers, and how a residual is normalised."""

    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        self.linear1 = nn.Linear(config.hidden_dim, config.feedforward_dim)
        self.linear2 = nn.Linear(config.feedforward_dim, config.hidden_dim)
        self.dropout = Dropout(config.dropout)
        self.pre_norm = config.pre_norm

    def expand(self, rows: Tensor) -> Tensor:
        """Linear, ReLU, dropout, linear."""
        wide = F.relu(self.linear1(rows), inplace=True)
        result: Tensor = self.linear2(self.dropout(wide))
        return result

    def before(self, norm: nn.Module, rows: Tensor) -> Tensor:
        """Normalise what enters a block, in pre-norm mode."""
        return norm(rows) if self.pre_norm else rows

    def after(self, norm: nn.Module, rows: Tensor, change: Tensor) -> Tensor:
        """Add what leaves a block to what entered it, and normalise in post-norm mode."""
        rows = rows + self.dropout(change)
        return rows if self.pre_norm else norm(rows)


class _EncoderLayer(_FeedForward):
    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__(config)
        self.self_attn = MultiheadAttention(config.hidden_dim, config.heads, config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(config.hidden_dim), nn.LayerNorm(config.hidden_dim)

    def forward(self, rows: Tensor, positions: Tensor, valid: Tensor | list[Group]) -> Tensor:
        value = self.before(self.norm1, rows)
        query = value + positions
        if isinstance(valid, list):
            change = self.self_attn.forward_packed(query, value, valid)
        else:
            change = self.self_attn(query, query, value, valid)
        rows = self.after(self.norm1, rows, change)
        return self.after(self.norm2, rows, self.expand(self.before(self.norm2, rows)))


class _Decoder(nn.Module):
    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__()
        layer = _DecoderLayer(config)
        self.layers = nn.ModuleList(deepcopy(layer) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.supervised = config.decoder_layers if config.auxiliary_losses else 1

    def forward(self, slots: Tensor, memory: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """Return the supervised layers' slots ``(K, B, S, H)``; `slots` are the learned ones, content starts at 0."""
        key = memory + positions
        content, layers = torch.zeros_like(slots), []
        for layer in self.layers:
            content = layer(content, slots, key, memory, mask)
            layers.append(content)
        normalised: Tensor = self.norm(torch.stack(layers[-self.supervised :]))
        return normalised


class _DecoderLayer(_FeedForward):
    def __init__(self, config: MomentDETRConfig) -> None:
        super().__init__(config)
        self.self_attn = MultiheadAttention(config.hidden_dim, config.heads, config.dropout)
        self.multihead_attn = MultiheadAttention(config.hidden_dim, config.heads, config.dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.hidden_dim) for _ in range(3))

    def forward(self, content: Tensor, slots: Tensor, key: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        value = self.before(self.norm1, content)
        query = value + slots
        content = self.after(self.norm1, content, self.self_attn(query, query, value))
        query = self.before(self.norm2, content) + slots
        attend = self.multihead_attn.forward_few if memory.device.type == "cpu" else self.multihead_attn
        content = self.after(self.norm2, content, attend(query, key, memory, mask))
        return self.after(self.norm3, content, self.expand(self.before(self.norm3, content)))
