"""Thin Lightning around the models: recipes, data, loop, and what a run leaves behind."""

from momentret.encoders.torchvision import require_torchvision

require_torchvision()  # before lightning, which imports it
