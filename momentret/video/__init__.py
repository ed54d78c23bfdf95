"""Video files -> frames with their timestamps, and windows as files of their own: the only door to PyAV and decord.

The rule for time, everywhere: 0 is the start of the container, and the frame shown at time t is the last one whose
presentation timestamp is at most t (the first frame before that). Frame number over frame rate is never a time.
"""

from momentret.video.cuts import FORMATS, Cut, CutReport, suffix_for_copy
from momentret.video.cutting import cut_video
from momentret.video.decoders import DECODERS, choose_decoder, decord_faults, sample_frames
from momentret.video.isolated import IsolatedCutter, IsolatedDecoder
from momentret.video.probe import VideoInfo, probe
from momentret.video.process import Limits
from momentret.video.sampling import DecodeReport, Frame, Sampling, clip_times

__all__ = [
    "DECODERS",
    "FORMATS",
    "Cut",
    "CutReport",
    "DecodeReport",
    "Frame",
    "IsolatedCutter",
    "IsolatedDecoder",
    "Limits",
    "Sampling",
    "VideoInfo",
    "choose_decoder",
    "clip_times",
    "cut_video",
    "decord_faults",
    "probe",
    "sample_frames",
    "suffix_for_copy",
]
