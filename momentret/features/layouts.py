"""Where the community's feature packages keep their files: a table, not code.

One entry a package. A run names one (``layout: univtg``) and the families it wants; `sources` reads what the entry
says. Nothing else in momentret knows a layout's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ANY", "LAYOUTS", "PACKED", "Family", "Layout"]

ANY = "*"  # a family of any name; `{family}` in a pattern is the name that the user gave


@dataclass(frozen=True)
class Family:
    """Where the files of one family lie and what is known about their rows."""

    files: tuple[str, ...]
    """Patterns below the root, tried per item in this order. ``{vid}`` or ``{qid}`` is the item's id; with ``{k}`` the
    id is split at its last underscore: ``{vid}_{k}``. ``a + b`` joins the columns of two files. A pattern without an
    id is one file that holds all items. Folders are matched whatever their case."""
    keys: tuple[str, ...] = ()
    """Names of the array inside a file (.npz) or of the data set of an item (.hdf5); the first that is there counts."""
    encoder: str | None = None
    layer: str | None = None
    clip_length: float | None = None
    """Seconds per row where it is not the layout's."""
    normalisation: str = "none"
    """What the rows on file already are."""
    select: tuple[int, ...] = ()
    """Places on the axes between the first and the last, for files of more than two axes."""
    self_described: bool = False
    """The .npz holds ``clip_length`` and ``encoder`` beside the rows."""


Families = dict[str, tuple[Family, ...]]


@dataclass(frozen=True)
class Layout:
    """One feature package: its families by the name a user writes; of several alternatives the first on disk counts."""

    video: Families
    text: Families = field(default_factory=dict)
    clip_length: float | None = None
    """Seconds per row; None where the user has to know."""


_CLIP = "ViT-B-32/openai"
_SLOWFAST = "SlowFast-R50-8x8/kinetics400"
_RESNET = "ResNet-152/imagenet"
_TOKENS = "last_hidden_state"


def _slowfast(*files: str) -> Family:
    return Family(files, ("features",), _SLOWFAST)


def _clip(*files: str) -> Family:
    return Family(files, ("features",), _CLIP)


def _clip_text(*files: str, key: str = _TOKENS) -> Family:
    return Family(files, (key,), _CLIP, layer=_TOKENS)


def _moment_detr(text: str, clip_length: float) -> Layout:
    """Return the folders of the Moment-DETR release, which CG-DETR's packages share."""
    return Layout(
        video={
            "slowfast": (_slowfast("slowfast_features/{vid}.npz"),),
            "clip": (_clip("clip_features/{vid}.npz"),),
            # 1/6 s, written as the package does
            "vgg": (Family(("vgg_features/rgb_features/{vid}.npy",), encoder="VGG-16", clip_length=0.166666),),
            "pann": (Family(("umt_pann_features/{vid}.npy",), encoder="PANNs-CNN14"),),
        },
        # speech transcripts, for pre-training, are asked for as <video id>_<number>
        text={"clip": (_clip_text(text, "clip_sub_features/{vid}/{k}.npz"),)},
        clip_length=clip_length,
    )


def _lighthouse(text: Family, clip_length: float | None) -> Layout:
    return Layout(
        video={
            "clip": (_clip("clip/{vid}.npz"),),
            "slowfast": (_slowfast("slowfast/{vid}.npz"),),
            "resnet": (Family(("resnet/{vid}.npz",), ("features",), _RESNET),),
            "i3d": (Family(("i3d/{vid}_rgb.npy + i3d/{vid}_opt.npy",), encoder="I3D"),),
            "pann": (Family(("pann/{vid}.npy",), encoder="PANNs-CNN14"),),
        },
        text={"clip": (text,)},
        clip_length=clip_length,
    )


PACKED = Layout(
    video={ANY: (Family(("video/{family}/manifest.json",)),)},
    text={ANY: (Family(("text/{family}/manifest.json",)),)},
)

LAYOUTS: dict[str, Layout] = {
    "moment_detr": _moment_detr("clip_text_features/qid{qid}.npz", 2.0),
    "cg_detr_qvhighlights": _moment_detr("clip_text_features/qid{qid}.npz", 2.0),
    "cg_detr_charades": _moment_detr("clip_text_features/qid{qid}.npz", 1.0),
    "cg_detr_tacos": _moment_detr("clip_text_features/{qid}.npz", 2.0),
    "cg_detr_tvsum": Layout(
        video={
            "i3d": (Family(("video_features/{vid}_rgb.npy + video_features/{vid}_opt.npy",), encoder="I3D"),),
            "audio": (Family(("audio_features/{vid}.npy",), encoder="PANNs-CNN14"),),
        },
        text={"clip": (Family(("query_features/{qid}.npz",), ("token",), _CLIP),)},
        clip_length=2.0,
    ),
    "cg_detr_youtube": Layout(
        video={
            "slowfast": (_slowfast("vid_slowfast/{vid}.npz", "vid_slowfast/{vid}.npy"),),
            "clip": (_clip("vid_clip/{vid}.npz", "vid_clip/{vid}.npy"),),
        },
        text={"clip": (_clip_text("txt_clip/{qid}.npz"),)},
    ),
    "univtg": Layout(
        video={
            "slowfast": (
                _slowfast("vid_slowfast/{vid}.npz"),
                Family(("h5py/vid_slowfast.hdf5",), ("{vid}",), _SLOWFAST, normalisation="l2"),
            ),
            "clip": (
                _clip("vid_clip/{vid}.npz"),
                Family(("h5py/vid_clip.hdf5",), ("{vid}",), _CLIP, normalisation="l2"),
            ),
        },
        text={
            "clip": (
                _clip_text("txt_clip/{qid}.npz", "txt_clip/qid{qid}.npz"),
                Family(("h5py/txt_clip.hdf5",), ("{qid}",), _CLIP, _TOKENS, normalisation="l2"),
            )
        },
    ),
    "lighthouse": _lighthouse(_clip_text("clip_text/qid{qid}.npz"), None),
    "lighthouse_qvhighlights": _lighthouse(_clip_text("clip_text/qid{qid}.npz"), 2.0),
    "lighthouse_charades": _lighthouse(_clip_text("clip_text/qid{qid}.npz"), 1.0),
    "lighthouse_activitynet": _lighthouse(_clip_text("clip_text/qid{qid}.npz"), 2.0),
    "lighthouse_tacos": _lighthouse(_clip_text("clip_text/{qid}.npz"), 2.0),
    "lighthouse_tvsum": _lighthouse(Family(("clip_text/{qid}.npz",), ("token",), _CLIP), 2.0),
    "lighthouse_youtube": _lighthouse(_clip_text("clip_text/{qid}.npz"), None),
    "r2_tuning": Layout(  # the class token of the last of four layers
        video={
            "clip": (
                Family(
                    ("clip_b32_vid_k4/{vid}.npy", "clip_b32_vid_k4/{vid}-cam-002.npy"),
                    encoder=_CLIP,
                    layer="transformer, class token",
                    select=(-1, 0),
                ),
            )
        },
        text={"clip": (Family(("clip_b32_txt_k4/{qid}.npy",), encoder=_CLIP, layer="transformer", select=(-1,)),)},
    ),
    "hirest": Layout(
        video={
            "eva_clip": (
                Family(
                    ("eva_clip_features/{vid}.mp4.pt", "eva_clip_features/{vid}.pt"),
                    encoder="EVA-CLIP-g-14",
                    clip_length=1.0,
                    normalisation="l2",
                ),
            ),
            "eva_clip_32_frames": (
                Family(
                    ("eva_clip_features_32_frame/{vid}.mp4.pt", "eva_clip_features_32_frame/{vid}.pt"),
                    encoder="EVA-CLIP-g-14",
                    normalisation="l2",
                ),
            ),
            "speech": (Family(("ASR_feats_all-MiniLM-L6-v2/{vid}.pt",), encoder="all-MiniLM-L6-v2"),),
        },
    ),
    # 256 frames spread over each video: a clip is duration / 256
    "vid_morp": Layout(video={"clip": (Family(("data/charades/feat/{vid}.npy",), encoder="ViT-L-14/openai"),)}),
    "hdf5": Layout(  # one file a family, or the root is the file
        video={
            ANY: (
                Family(
                    ("{family}", "{family}.hdf5", "{family}.h5", "."),
                    ("{vid}/c3d_features", "{vid}"),
                ),
            )
        },
        text={ANY: (Family(("{family}", "{family}.hdf5", "{family}.h5"), ("{qid}",)),)},
    ),
    "npz": Layout(
        video={ANY: (Family(("{family}/{vid}.npz",), ("features",), self_described=True),)},
        text={ANY: (Family(("{family}/{qid}.npz",), ("tokens",), self_described=True),)},
    ),
    "packed": PACKED,
}
"""Feature packages by the name a run gives as ``data.features.layout``."""
