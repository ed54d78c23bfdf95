"""One video per codec, container and oddity; every file is rendered once for all tests."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from .rendering import steady

_X264 = "keyint=10:min-keyint=10:bframes=3:b-adapt=0:scenecut=0"
H264 = {"preset": "ultrafast", "x264-params": _X264}
OPEN = {"preset": "ultrafast", "x264-params": f"{_X264}:open-gop=1"}
_X265 = "keyint=10:min-keyint=10:open-gop=1:bframes=4:b-adapt=0:scenecut=0:log-level=none"
HEVC = {"preset": "ultrafast", "x265-params": _X265}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "10"}
AV1 = {"preset": "12", "g": "10"}
UNEVEN = list(accumulate([17, 33, 40, 250, 1000, 2000, 33] * 6, initial=0))  # ms: variable frame rate

CASES = {
    "h264.mp4": ("libx264", {"options": H264}),
    "h264 open gop.mp4": ("libx264", {"options": OPEN}),
    "h264 open gop.mkv": ("libx264", {"options": OPEN}),
    "h264 one gop.mp4": ("libx264", {"options": {"preset": "ultrafast", "bf": "2", "g": "1000"}}),
    "h264.ts": ("libx264", {"options": H264}),
    "h264 444 odd.mp4": ("libx264", {"options": H264, "pixels": "yuv444p", "size": (193, 109)}),
    "uneven.mp4": ("libx264", {"options": H264, "stamps": UNEVEN}),
    "uneven.mkv": ("libx264", {"options": H264, "stamps": UNEVEN}),
    "hevc.mp4": ("libx265", {"options": HEVC}),
    "hevc.mkv": ("libx265", {"options": HEVC}),
    "hevc.ts": ("libx265", {"options": HEVC}),
    "hevc 10 bit.mp4": ("libx265", {"options": HEVC, "pixels": "yuv420p10le"}),
    "vp9.webm": ("libvpx-vp9", {"options": VP9}),
    "av1.mp4": ("libsvtav1", {"options": AV1}),
    "av1.mkv": ("libsvtav1", {"options": AV1}),
    "mpeg4.mp4": ("mpeg4", {"options": {"bf": "2", "g": "10"}}),
    "animation.gif": ("gif", {"pixels": "rgb8", "stamps": steady(20, 100)}),
    "starts at 5.mkv": ("libx264", {"options": H264, "stamps": steady(50, start=5000)}),
    "starts at 5.mp4": ("libx264", {"options": H264, "stamps": steady(50, start=5000)}),
    "late behind sound.mp4": ("libx264", {"options": H264, "stamps": steady(50, start=1000), "audio": 3.0}),
    "late behind sound.mkv": ("libx264", {"options": H264, "stamps": steady(50, start=1000), "audio": 3.0}),
    "turned 90.mp4": ("libx264", {"options": H264, "rotation": 90}),
    "turned 180.mp4": ("libx264", {"options": H264, "rotation": 180}),
    "turned 270.mp4": ("libx264", {"options": H264, "rotation": 270}),
}


def starts_of(name: str) -> np.ndarray:
    """Return when every picture comes on screen, in seconds from the start of the container."""
    stamps = CASES[name][1].get("stamps") or steady(50)
    return (np.array(stamps) - (0 if name.startswith("late") else stamps[0])) / 1000
