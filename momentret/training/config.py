"""What one training run is made of: the dataclasses behind the YAML files in `configs/`, and how they are read.

A recipe is complete: no inheritance between files. The model is the one top-level key that is a name of
`momentret.models.MODELS`; everything else is the same for all models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from momentret.config import find_device, nearest, require
from momentret.datasets import DATASETS
from momentret.datasets.targets import TargetConfig
from momentret.errors import ConfigError
from momentret.features import FeatureConfig
from momentret.inputs import InputConfig
from momentret.models import MODELS
from momentret.postprocess import PostprocessConfig
from momentret.training.mistakes import explain

__all__ = ["AnnotationFiles", "DataConfig", "RunConfig", "TrainConfig", "parse_run"]

SELECTIONS = ("val", "held_out", "test")


@dataclass
class AnnotationFiles:
    """Where the ground truth lies."""

    train: Path
    val: Path | None = None
    """The split that selects the best checkpoint, if the data set has one."""
    test: Path | None = None
    """Scored once, with the selected checkpoint, when the run is over."""
    durations: list[Path] = field(default_factory=list)
    """Video durations, for formats that lack them (Charades-STA text files)."""


@dataclass
class DataConfig:
    """Annotations, features, and how both become inputs and targets."""

    dataset: str
    """A name of `momentret.datasets.DATASETS`."""
    annotations: AnnotationFiles
    features: FeatureConfig
    inputs: InputConfig = field(default_factory=InputConfig)
    targets: TargetConfig = field(default_factory=TargetConfig)
    clip_length: float = 2.0
    """Seconds per feature row; a run whose features are of another length is refused."""
    text_dropout: float = 0.0
    """Share of a training query's tokens set to zero, in [0, 1)."""
    train_share: float = 1.0
    """First fraction of the training annotations that is used, in (0, 1]."""
    select_on: str = "val"
    """``val``; ``held_out``: a tenth of the training videos, for sets without a validation split; ``test``: what the
    literature often does, needs `allow_test_selection` and is stamped on the report."""
    held_out_share: float = 0.1
    """Share of the training videos kept out with ``select_on: held_out``."""
    allow_test_selection: bool = False
    """Say yes to choosing the checkpoint on the split that is reported."""

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ConfigError(f"data.dataset {self.dataset!r} is unknown{nearest(self.dataset, list(DATASETS))}")
        if self.select_on not in SELECTIONS:
            raise ConfigError(f"data.select_on is {self.select_on!r}, expected one of {', '.join(SELECTIONS)}")
        if self.select_on == "test" and not self.allow_test_selection:
            raise ConfigError(
                "data.select_on is 'test': choosing a checkpoint on the test split makes its number meaningless; use "
                "'held_out', or set data.allow_test_selection: true and the report will say so"
            )
        if self.select_on != "held_out" and getattr(self.annotations, self.select_on) is None:
            raise ConfigError(
                f"data.select_on is {self.select_on!r} but data.annotations.{self.select_on} is not given"
            )
        if self.features.text is None:
            raise ConfigError(
                "data.features.text is null, but a model needs the token features of its queries; set it to "
                "their family, such as clip"
            )
        length, held_out = self.clip_length, self.held_out_share
        require(0 < length < float("inf"), "data.clip_length", length, "seconds above 0")
        require(0 <= self.text_dropout < 1, "data.text_dropout", self.text_dropout, "a share in [0, 1)")
        require(0 < self.train_share <= 1, "data.train_share", self.train_share, "a share in (0, 1]")
        require(0 < held_out < 1, "data.held_out_share", held_out, "a share in (0, 1)")


@dataclass
class TrainConfig:
    """Optimisation, validation and what is kept."""

    epochs: int = 200
    batch_size: int = 32
    lr: float = 1e-4
    weight_decay: float = 1e-4
    lr_drop: int = 400
    """Epochs after which the learning rate is divided by ten, again and again."""
    grad_clip: float = 0.1
    """Largest L2 norm of the whole gradient; ``.inf``: no clipping."""
    precision: str = "32-true"
    """``32-true``, or ``bf16-mixed``: for GPUs and CPUs with bfloat16 instructions, far slower on others."""
    seed: int = 2018
    eval_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    eval_batch_size: int = 100
    patience: int | None = None
    """Stop after so many validations without a better one. None: never."""
    keep_every: int | None = None
    """Epochs between extra checkpoints that are kept."""
    init_from: Path | None = None
    """A checkpoint whose weights training starts from (fine-tuning): optimiser and epochs start afresh."""
    workers: int | None = None
    """Processes that read ahead; None: up to 8 beside a GPU, with a core left free, and none on a CPU, which reads a
    packed store in no time."""
    cuda_graphs: bool = True
    """Record a step and replay it, on a GPU: the same numbers, several times faster."""
    device: str = "auto"
    """``auto``, ``cpu`` or ``cuda``."""
    threads: int | None = None
    """CPU threads of one operation; None leaves torch's choice. More than one changes the last bits of a result."""
    loggers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Any of ``tensorboard``, ``wandb`` (if installed). ``history.csv`` is always written."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_every", "eval_batch_size", "lr_drop"):
            require(getattr(self, name) >= 1, f"train.{name}", getattr(self, name), "at least 1")
        for name, least in (("workers", 0), ("patience", 0), ("keep_every", 1), ("threads", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"train.{name}", value, f"at least {least}, or null")
        require(0 < self.lr < float("inf"), "train.lr", self.lr, "a finite number above 0")
        require(0 <= self.weight_decay < float("inf"), "train.weight_decay", self.weight_decay, "0 or above, finite")
        require(self.grad_clip > 0, "train.grad_clip", self.grad_clip, "above 0 (.inf: no clipping)")
        require(self.seed >= 0, "train.seed", self.seed, "at least 0")
        require(self.device in ("auto", "cpu", "cuda"), "train.device", self.device, "auto, cpu or cuda")
        precisions = ("32-true", "bf16-mixed")
        require(self.precision in precisions, "train.precision", self.precision, "'32-true' or 'bf16-mixed'")
        for name in self.loggers:
            if name not in ("tensorboard", "wandb"):
                raise ConfigError(f"train.loggers names {name!r}{nearest(name, ['tensorboard', 'wandb'])}")

    @property
    def on_gpu(self) -> bool:
        """Return whether the run will use a GPU.

        Raises:
            ConfigError: there is no such device.
        """
        return find_device(self.device) == "cuda"


@dataclass
class RunConfig:
    """One complete run."""

    output: Path
    """The run's folder."""
    model_name: str
    model: Any
    """The config dataclass of `MODELS[model_name]`."""
    data: DataConfig
    train: TrainConfig
    postprocess: PostprocessConfig
    text: str
    """The resolved YAML, as saved beside the checkpoints."""

    def to_dict(self) -> dict[str, Any]:
        """Return the values that make up the run, for comparison and for the checkpoint."""
        values = {"data": asdict(self.data), "train": asdict(self.train), "postprocess": asdict(self.postprocess)}
        return {self.model_name: asdict(self.model), **values}


class _Keys(yaml.BaseLoader):
    """Reads YAML to find keys that are given twice: of those, PyYAML keeps the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                where = f"line {key.start_mark.line + 1} of {self.name}"
                raise ConfigError(f"key {key.value!r} is given a second time in {where}; keep one of them")
            seen.add(key.value)
        return mapping


def _load(text: str, path: str = "") -> Any:
    """Read YAML as jsonargparse does, but no key twice."""
    value = _load_yaml(text)
    keys = _Keys(text)
    keys.name = path or "an option"
    keys.get_single_data()
    return value


_load_yaml = get_loader("yaml")
set_loader("recipe", _load, exceptions=(yaml.YAMLError,))


class _Parser(ArgumentParser):
    """jsonargparse's parser with our errors in place of an exit."""

    recipe: str | None = None
    """The file that is read; the parsers that this one makes for the keys of a model have none."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(explain(message, self.recipe, _known_keys()) if self.recipe else message) from ex


def _known_keys() -> list[str]:
    """Return every key of a recipe, dotted from the top."""
    roots = {name: config for name, (config, _) in MODELS.items()}
    roots.update({"data": DataConfig, "train": TrainConfig, "postprocess": PostprocessConfig})
    inner = [f"{name}.{key}" for name, config in roots.items() for key in _field_names(config)]
    return ["output", *roots, *inner]


def _field_names(config: Any) -> Iterator[str]:
    for name, kind in get_type_hints(config).items():
        yield name
        if is_dataclass(kind):
            yield from (f"{name}.{inner}" for inner in _field_names(kind))


def _parser() -> _Parser:
    parser = _Parser(prog="momentret train", exit_on_error=False, allow_abbrev=False, parser_mode="recipe")
    parser.add_argument("--config", action="config", help="a recipe: configs/<dataset>/<model>.yaml")
    parser.add_argument("--output", type=Path, help="the run's folder")
    for name, (config, _) in MODELS.items():
        parser.add_argument(f"--{name}", type=config | None, default=None, help=f"train {name}, with these options")
    parser.add_argument("--data", type=DataConfig)
    parser.add_argument("--train", type=TrainConfig, default=TrainConfig())
    parser.add_argument("--postprocess", type=PostprocessConfig, default=PostprocessConfig())
    return parser


def _instantiate(parser: ArgumentParser, values: Namespace) -> Namespace:
    """Build the config dataclasses; what one of them refuses is told as it says it, not as the parser wraps it."""
    try:
        return parser.instantiate(values)
    except ValueError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        raise


def parse_run(arguments: Sequence[str]) -> RunConfig:
    """Read a run from ``--config FILE`` and dotted overrides.

    Args:
        arguments: as on the command line; ``--print_config`` prints the resolved YAML of a run that can be carried out,
            and exits.

    Raises:
        ConfigError: an unknown key (the nearest known one is named), a value of the wrong type, a missing one, or a
            combination that cannot be carried out.
    """
    parser = _parser()
    parser.recipe = recipe = next(
        (after for name, after in pairwise(arguments) if name == "--config"), "the command line"
    )
    plain = [argument for argument in arguments if argument.partition("=")[0] != "--print_config"]
    try:
        values: Namespace = parser.parse_args(plain)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{recipe} is not UTF-8 text ({error.reason}); a recipe is a YAML file") from error
    run = _instantiate(parser, values)
    chosen = [name for name in MODELS if run[name] is not None]
    if len(chosen) != 1:
        raise ConfigError(f"a run trains one model: give exactly one of the keys {', '.join(MODELS)}")
    if run.output is None:
        raise ConfigError("the run's folder is not given: set output in the recipe or pass --output DIR")
    if plain != list(arguments):
        parser.parse_args(list(arguments))  # prints the recipe, now that nothing is wrong with it, and exits
    return RunConfig(
        output=run.output,
        model_name=chosen[0],
        model=run[chosen[0]],
        data=run.data,
        train=run.train,
        postprocess=run.postprocess,
        text=parser.dump(values.clone(with_meta=False), skip_unset=False),
    )
