"""(video features, query) -> Prediction: the only inference path."""

from momentret.predict.predictor import Predictor

__all__ = ["Predictor"]
