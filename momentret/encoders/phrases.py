"""A query -> itself, its clauses and its noun phrases, by word lists: no parser to download, the same everywhere.

Why a query is more than its sentence: of 216 queries about photographs in films (`scripts/measure_offline.py --reels`,
seeds 0 to 2, encoder `offline`) the film was right for 65 % with phrases and for 64 % with the sentence alone, and the
best window overlapped the moment by an IoU of 0.5 for 16 % and 5 %: with one token no window ever scores better than
its best clip. Once moments grow to their borders the two do not differ (57 % and 58 %; 95 % of the difference lies
between -5 and +4 points). Token states, and open_clip's encoders, were not measured: there were no weights.
"""

from __future__ import annotations

import re

__all__ = ["split_phrases"]

MAX_PHRASES = 16
_CLAUSE = re.compile(r"[,;:.!?]+|\b(?:then|and then|while|before|after|until|when|as|because|but|who|which|that)\b")
_BREAK = re.compile(
    "in|on|at|to|from|into|onto|over|under|behind|beside|near|with|without|of|for|by|through|across|around|between|"
    "against|along|inside|outside|up|down|off|out|and|or|is|are|was|were|be|being|been|has|have|had|it|they|he|she"
)
_START = re.compile("a|an|the|his|her|its|their|my|your|our|this|these|those|some|two|three|four|five|six|many|several")


def split_phrases(query: str) -> list[str]:
    """Return the query first, then its clauses, then its noun phrases; each once, at most 16.

    A clause ends at punctuation or a conjunction, a phrase at a preposition, an auxiliary or the next article, so that
    a verb stays with the noun it stands beside.

    Example:
        >>> split_phrases("A dog catches a frisbee, then a man claps")
        ['A dog catches a frisbee, then a man claps', 'a dog catches a frisbee', 'a man claps', 'a dog catches',
         'a frisbee']
    """
    whole = " ".join(query.split())
    clauses = [" ".join(clause.split()) for clause in _CLAUSE.split(whole.lower())]
    phrases = [phrase for clause in clauses for phrase in _noun_phrases(clause)]
    found = {whole.lower(): whole}
    for part in (*clauses, *phrases):
        if part and not _BREAK.fullmatch(part) and not _START.fullmatch(part):
            found.setdefault(part, part)
    return list(found.values())[:MAX_PHRASES]


def _noun_phrases(clause: str) -> list[str]:
    phrases: list[list[str]] = [[]]
    for word in clause.split():
        if _BREAK.fullmatch(word):
            phrases.append([])
        elif _START.fullmatch(word) and phrases[-1] and not _START.fullmatch(phrases[-1][-1]):
            phrases.append([word])
        else:
            phrases[-1].append(word)
    return [" ".join(words) for words in phrases if words]
