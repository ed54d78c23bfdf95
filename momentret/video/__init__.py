"""Video files -> frames with their timestamps: the only door to PyAV and decord.

The rule for time, everywhere: 0 is the start of the container, and the frame shown at time t is the last one whose
presentation timestamp is at most t (the first frame before that). Frame number over frame rate is never a time.
"""

from momentret.video.decoders import DECODERS, choose_decoder, decord_faults, sample_frames
from momentret.video.isolated import IsolatedDecoder, Limits
from momentret.video.probe import VideoInfo, probe
from momentret.video.sampling import DecodeReport, Frame, Sampling, clip_times

__all__ = [
    "DECODERS",
    "DecodeReport",
    "Frame",
    "IsolatedDecoder",
    "Limits",
    "Sampling",
    "VideoInfo",
    "choose_decoder",
    "clip_times",
    "decord_faults",
    "probe",
    "sample_frames",
]
