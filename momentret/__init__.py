"""Find moments in video: train, evaluate and search with text.

The public names, loaded on first use, so that `import momentret` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momentret.errors import MomentretError as MomentretError
    from momentret.features import FeatureConfig as FeatureConfig
    from momentret.features import FeatureStore as FeatureStore
    from momentret.features import open_store as open_store
    from momentret.predict import Predictor as Predictor
    from momentret.records import Annotation as Annotation
    from momentret.records import Moment as Moment
    from momentret.records import Prediction as Prediction
    from momentret.search.answers import Answer as Answer
    from momentret.search.engine import SearchEngine as SearchEngine

_HOMES = {
    "Annotation": "records",
    "Answer": "search.answers",
    "FeatureConfig": "features",
    "FeatureStore": "features",
    "Moment": "records",
    "MomentretError": "errors",
    "Prediction": "records",
    "Predictor": "predict",
    "SearchEngine": "search.engine",
    "open_store": "features",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'momentret' has no attribute {name!r}")
    return getattr(import_module(f"momentret.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
