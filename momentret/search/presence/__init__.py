"""How sure: the probability that what was asked for is in the corpus at all, learnt without labels.

calibration   from scores of background queries to a probability; numbers only
background    what background queries are, and what is noted about every query
fitting       both together for a corpus, and kept beside it
"""

from momentret.search.presence.background import Query, phrase_bank
from momentret.search.presence.calibration import Calibration
from momentret.search.presence.fitting import Presence

__all__ = ["Calibration", "Presence", "Query", "phrase_bank"]
