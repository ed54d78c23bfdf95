"""What the parser of recipes says about a mistake, in our words: one line, the key as it is written, the next step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

__all__ = ["explain"]

UNKNOWN = re.compile(
    r"Option '([^']+)' is not accepted|unrecognized arguments: -*([^\s=]+)|does not accept option '([^']+)'"
)
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "tuple": "a list",
    "NoneType": "null",
}
LONGEST = 80  # characters of a value that are repeated


def explain(message: str, recipe: str, keys: Sequence[str]) -> str:
    """Return the parser's message as we would say it; one that is not known is left as it is.

    Args:
        message: of jsonargparse.
        recipe: the file that was read.
        keys: every key of a recipe, dotted from the top.
    """
    if message.startswith("Problems parsing config: "):
        problem = re.sub(r'\s+in "<unicode string>",', " at", message.partition(": ")[2])
        return f"{recipe} is no YAML: {' '.join(problem.split())}"
    if message.startswith("Unexpected config: "):
        return f"{recipe} holds no keys; copy a recipe of configs/ and change that"
    if message.startswith('Parser key "config": '):
        return message.partition('": ')[2]
    if message.startswith("the following arguments are required: "):
        return f"not given in {recipe}: {message.partition(': ')[2]}"
    inside = re.findall(r"""(?:Parser key "|Group ')([\w.]+)["']""", message)
    path = ".".join(dict.fromkeys(inside))
    if unknown := UNKNOWN.search(message):
        key = next(filter(None, unknown.groups()))
        return _unknown(f"{path}.{key}" if path else key, keys)
    return _wrong_value(message, path, keys) if path else message


def _unknown(key: str, keys: Sequence[str]) -> str:
    """Name the part of a key that is not known and the nearest beside it, a namesake elsewhere, or all beside it."""
    parent, *rest = "", *key.split(".")
    while rest and _below(parent, rest[0]) in keys:
        parent = _below(parent, rest.pop(0))
    name = rest[0] if rest else ""
    beside = {known.rpartition(".")[2]: known for known in keys if known.rpartition(".")[0] == parent}
    found = [beside[match] for match in get_close_matches(name, beside, n=1)]
    found += [known for known in keys if known.rpartition(".")[2] == name]
    if found:
        return f"unknown key {_below(parent, name)!r}, did you mean {found[0]!r}?"
    return f"unknown key {_below(parent, name)!r}; the keys of {parent or 'a recipe'} are {', '.join(beside)}"


def _below(parent: str, name: str) -> str:
    return f"{parent}.{name}" if parent else name


def _wrong_value(message: str, path: str, keys: Sequence[str]) -> str:
    inner = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == path]
    if inner:
        return f"{path} is one value, expected keys below it: {', '.join(inner)}"
    value = re.search(r"(?:Got value|Given value): (.*)", message)
    kinds = [WORDS[kind] for kind in re.findall(r"Expected an? <class '(\w+)'>", message) if kind in WORDS]
    if message.count("Parser key") > 1:  # in a model's keys: the last kind is that of the whole, which may be null
        kinds.pop()
    if value is None or not kinds:
        return message
    return f"{path} is {value.group(1)[:LONGEST]}, expected {' or '.join(dict.fromkeys(kinds))}"
