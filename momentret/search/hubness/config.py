"""What a normaliser is: its method and parameters, and the table of methods."""

from __future__ import annotations

from dataclasses import dataclass, fields

from momentret.config import nearest
from momentret.errors import ConfigError

__all__ = ["METHODS", "HubnessConfig", "Method"]


@dataclass(frozen=True)
class Method:
    """What a method needs, and what can be done with it."""

    title: str
    query_bank: bool = False
    """Needs a query bank."""
    gallery_bank: bool = False
    """Needs a gallery bank, compared with the gallery within its modality."""
    cross_bank: bool = False
    """Needs the similarities of query bank and gallery bank."""
    transductive: bool = False
    """Needs all test queries at once: not for online use, not comparable with bank methods."""
    gated: bool = False
    """Corrects only queries whose best item is an activated one."""
    temperatures: tuple[str, ...] = ()
    """Those fields of `HubnessConfig` that are temperatures and that it uses."""


QUERY, GALLERY, TAU = ("beta_query",), ("beta_gallery",), ("tau",)
METHODS = {
    "raw": Method("no correction"),
    "is": Method("inverted softmax", query_bank=True, temperatures=QUERY),
    "dis": Method("dynamic inverted softmax (QB-Norm)", query_bank=True, gated=True, temperatures=QUERY),
    "gis": Method("inverted softmax, gallery bank", gallery_bank=True, temperatures=GALLERY),
    "dualis": Method(
        "dual-bank inverted softmax (DBNorm)", query_bank=True, gallery_bank=True, temperatures=(*QUERY, *GALLERY)
    ),
    "dualdis": Method(
        "dual-bank dynamic inverted softmax (DBNorm)",
        query_bank=True,
        gallery_bank=True,
        gated=True,
        temperatures=(*QUERY, *GALLERY),
    ),
    "nnn": Method("nearest neighbour normalisation", query_bank=True),
    "csls": Method("cross-domain similarity local scaling", query_bank=True),
    "gc": Method("globally corrected retrieval", query_bank=True),
    "bank-sinkhorn": Method("Sinkhorn over the query bank", query_bank=True, temperatures=TAU),
    "dbsn": Method("dual-bank Sinkhorn", query_bank=True, cross_bank=True, temperatures=TAU),
    "dsl": Method("dual softmax over the test queries", transductive=True, temperatures=QUERY),
    "sn": Method("Sinkhorn over the test queries", transductive=True, temperatures=TAU),
}

_PUBLISHED: dict[str, dict[str, float | int | str]] = {
    "is": {"beta_query": 20.0},
    "dis": {"beta_query": 20.0},
    "dualis": {"beta_query": 1 / 1.99, "beta_gallery": 3.0},
    "dualdis": {"beta_query": 1 / 1.99, "beta_gallery": 3.0, "rule": "product"},
    "nnn": {"alpha": 0.75, "top": 128},
    "csls": {"top": 10},
    "bank-sinkhorn": {"tau": 0.01},
    "dbsn": {"tau": 0.01},
    "dsl": {"beta_query": 100.0, "rule": "product"},
    "sn": {"tau": 0.01},
}


@dataclass(frozen=True)
class HubnessConfig:
    """Method and parameters; None chooses by the scale of the similarities."""

    method: str = "is"
    """A key of `METHODS`."""
    beta_query: float | None = None
    """Inverse temperature of the query bank (of the test queries, for dsl); None: 2.5 / standard deviation."""
    beta_gallery: float | None = None
    """Inverse temperature of the gallery bank; None: 0.25 / standard deviation."""
    shrink: float | None = None
    """Share of the bias that is subtracted, [0, 1]; None: reliability of the bank, or slope against live queries."""
    k_query: int = 1
    """A query bank row activates its so many best items (dis, dualdis)."""
    k_gallery: int = 1
    """A gallery bank row activates its so many best items (dualdis)."""
    top: int | None = None
    """Bank similarities averaged for an item; None: 64 for nnn, 10 for csls."""
    alpha: float = 1.0
    """Weight of the nnn bias."""
    tau: float | None = None
    """Sinkhorn regulariser; None: 0.3 standard deviations."""
    iterations: int = 10
    """Sinkhorn iterations."""
    units: str = "inverse"
    """``std``: temperatures count standard deviations of the bank: beta = value / sigma, tau = value * sigma."""
    rule: str = "monotone"
    """``product`` multiplies raw similarities as published (dualdis, dsl); it is not monotone below 0."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"method {self.method!r} is unknown{nearest(self.method, list(METHODS))}")
        for name in ("beta_query", "beta_gallery", "tau"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value}, expected a number above 0, or none for the automatic value")
        for name, least in (("k_query", 1), ("k_gallery", 1), ("top", 1), ("iterations", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, expected at least {least}")
        if self.shrink is not None and not 0 <= self.shrink <= 1:
            raise ConfigError(f"shrink is {self.shrink}, expected a number from 0 (raw) to 1 (the published method)")
        if not 0 <= self.alpha < float("inf"):
            raise ConfigError(f"alpha is {self.alpha}, expected a number from 0")
        if self.units not in ("inverse", "std"):
            raise ConfigError(f"units is {self.units!r}, expected 'inverse' or 'std'")
        if self.rule not in ("monotone", "product"):
            raise ConfigError(f"rule is {self.rule!r}, expected 'monotone' or 'product'")

    @classmethod
    def published(cls, method: str) -> HubnessConfig:
        """Return the values of the method's paper or code, unshrunk; they belong to the similarities used there.

        Source: QB-Norm (beta 20, on cosines), DBNorm's code (on similarities scaled by 100), NNN's README.
        """
        values = _PUBLISHED.get(method, {})
        known = {field.name for field in fields(cls)}
        assert set(values) <= known
        return cls(method=method, shrink=1.0, **values)  # type: ignore[arg-type]

    @property
    def traits(self) -> Method:
        """The method's row of `METHODS`."""
        return METHODS[self.method]

    @property
    def top_rows(self) -> int:
        """`top` with its default."""
        return self.top or (10 if self.method == "csls" else 64)
