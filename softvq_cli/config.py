"""The configuration of a run: frozen dataclasses, checked on construction. No torch here.

Each setting is defined once, in its ``setting(...)`` with default, meaning and range. :data:`SETTINGS`, the
command-line options, the TOML keys, ``config.json`` and the checks are derived from these fields. Values that
depend on the data set or the bottleneck come from :mod:`softvq_cli.presets`, which override the defaults here.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from softvq_cli.errors import Message, UsageError, param, shown, unknown_name
from softvq_cli.files import as_utf8
from softvq_cli.presets import no_network, preset, threads, unused_settings
from softvq_cli.ranges import KINDS, MOST_COUNT, MOST_SEED, as_float, in_range, is_number
from softvq_cli.sharing import shared_path
from softvq_cli.words import (
    BOTTLENECKS,
    BROKEN,
    IMAGE_SHAPES,
    Arch,
    CodebookInit,
    Folders,
    Pages,
    Precision,
    Recipe,
    SigmaForm,
    SoftGradient,
    SoftWeights,
    VectorScale,
)

BATCH = 512
"""Images per batch outside training. It affects memory and the last digits of float32 results."""

MOST_CODES = 1 << 20
"""Maximum number of codewords in a codebook."""


def setting(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, above: float | None = None
) -> Any:
    """A field with its meaning and range: ``low`` and ``high`` are inclusive bounds, ``above`` is exclusive."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "above": above})


@dataclass(frozen=True)
class DataConfig:
    """Settings of the data set."""

    data: str = setting(
        "digits",
        "A known name (see 'softvq data'), or a path: image folder, .zip, .tar, .npz, .npy, .mat, .parquet, .csv …",
    )
    data_dir: str | None = setting(
        None, "Folder of the named data sets. Default: $SOFTVQ_DATA, else the user's cache folder."
    )
    image_size: int | None = setting(None, "Resize images to this many pixels per side.", low=1, high=4096)
    test_fraction: float = setting(
        0.2, "Fraction of the images held out as the test split, for data without one.", above=0.0, high=0.9
    )
    split_seed: int = setting(0, "Seed of that split; independent of the training seed.", low=0, high=MOST_SEED)
    folders: Folders = setting(
        "auto", "What the top folders of an image folder are: classes or splits; auto: decided by their names."
    )
    pixel_range: str = setting(
        "auto",
        "Pixel values that become black and white: LOW,HIGH; full: the range of the file's type; auto: the range of "
        "the training split, for images of more than 8 bits.",
    )
    pages: Pages = setting("first", "Pages of a TIFF file or frames of a DICOM file to read.")
    image_shape: str | None = setting(
        None,
        "Shape of one image in an array: H,W,C, or C,H,W if channels come first. Needed for flat or ambiguous arrays.",
    )
    scale: VectorScale = setting(
        "rms",
        "Vectors: subtract the mean of the training split, then divide by one number (rms, over all columns) or by one "
        "number per column (columns).",
    )
    image_column: str | None = setting(None, "Table column with the images or their paths.")
    label_column: str | None = setting(
        None, "Table column, or key in a WebDataset sample, with the label; none: ignore labels."
    )
    split_column: str | None = setting(None, "Table column with the split, train or test.")
    name_encoding: str | None = setting(None, "Encoding of file names in a .zip or .tar: shift_jis, gbk, cp866 …")

    def __post_init__(self) -> None:
        """Convert paths and columns to text that means the same in every locale."""
        for name in ("data", "data_dir", "image_column", "label_column", "split_column"):
            value = getattr(self, name)
            if isinstance(value, str) and not value.isascii():
                object.__setattr__(self, name, as_utf8(value))


@dataclass(frozen=True)
class ModelConfig:
    """Settings of the network and its bottleneck."""

    arch: Arch = setting(
        "mlp",
        "Network: mlp (fully connected), cnn (convolutional, for images of at least 16x16 pixels), none (z_e is the "
        "input; with rvq this is residual K-means), or own (modules given in Python).",
    )
    bottleneck: str = setting("soft-vq", f"Bottleneck: {', '.join(BOTTLENECKS)}.")
    latent_dim: int = setting(64, "Dimension d of z_e.", low=1, high=65536)
    K: int = setting(128, "Number of codewords in the codebook.", low=1, high=MOST_CODES)
    grid: int = setting(
        0, "Make z_e a grid of this many positions per side, one code per position; 0: one vector.", low=0, high=256
    )
    stages: int = setting(3, "rvq: number of residual stages, each with a codebook of K.", low=1, high=64)
    recipe: Recipe = setting(
        "paper",
        "Which defaults to use: those of the paper, of its authors' notebook, or those that were tuned on held-out "
        "training images (mnist).",
    )
    codebook_init: CodebookInit = setting(
        "uniform",
        "Initial codebook: uniform; kmeans (K-means of the untrained encoder's outputs); or notebook (normal with "
        "variance 1/d, truncated at two standard deviations, as in the authors' SVHN notebook).",
    )
    cosine: bool = setting(False, "vq, soft-vq, ema-vq, rotation-vq: normalise z_e and the codewords to unit length.")
    soft_weights: SoftWeights = setting(
        "posterior",
        "soft-vq: weights of the codewords: the posterior, or sigma_k times the posterior as in the SVHN notebook.",
    )
    sigma_form: SigmaForm = setting(
        "input", "soft-vq: predict log sigma_k from each input, learn one value per codeword, or fix sigma_k at 1."
    )
    soft_gradient: SoftGradient = setting(
        "copied",
        "soft-vq: copy the decoder's gradient to z_e, or let it pass through the softmax (attention), which trains "
        "the codebook as well.",
    )
    sigma_power: str = setting(
        "1", "soft-vq: exponent a of sigma_k^a in the posterior: 1 (as in the notebooks), -d (Gaussian density), 0, …"
    )
    noise_std: float = setting(
        0.0,
        "vq, soft-vq: standard deviation sigma_eps of the noise added to z_e in training; 0: no noise.",
        low=0.0,
    )
    alpha_max: float = setting(0.7, "info-dropout: largest noise scale alpha.", above=0.0)
    decay: float = setting(
        0.99,
        "ema-vq, rotation-vq, rvq, fsq: decay rate gamma of the moving averages.",
        low=0.0,
        high=1.0,
    )
    revive: float = setting(
        0.1,
        "ema-vq, rotation-vq, rvq: reset a codeword to a random encoding when its usage drops below this fraction of "
        "uniform usage; 0: never.",
        low=0.0,
        high=1.0,
    )
    levels: str = setting("5,5,5", "fsq: number of levels of each dimension of the code; their product is K.")
    temperature: float = setting(1.0, "sq-vae, gumbel-vq: initial temperature tau of the relaxed sampling.", above=0.0)
    temperature_decay: float = setting(
        1e-4, "sq-vae, gumbel-vq: tau is multiplied by exp(-this) at every step.", low=0.0
    )
    temperature_min: float = setting(0.5, "sq-vae, gumbel-vq: lowest temperature tau.", above=0.0)
    kl_start: float = setting(1.0, "gumbel-vq: initial weight of the KL term, as a multiple of beta.", low=1.0)
    kl_decay: float = setting(
        500.0, "gumbel-vq: number of steps in which that multiple falls to 1/e of itself; it stops at 1.", above=0.0
    )


@dataclass(frozen=True)
class LossConfig:
    """L = reconstruction_scale * nMSE + latent_weight * (extra loss of the bottleneck, which includes beta)."""

    reconstruction_scale: float = setting(
        1.0,
        "Weight of the reconstruction loss nMSE: squared error / pixel variance (sq-vae: of its logarithm).",
        above=0.0,
    )
    latent_weight: float = setting(1.0, "Weight of the loss terms of the bottleneck.", low=0.0)
    beta: float = setting(
        1.0, "Weight of the commitment term (codebooks) or of the KL divergence (vae, beta-vae, gumbel-vq).", low=0.0
    )


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the optimiser and the training length."""

    iterations: int = setting(40_000, "Number of optimiser steps.", low=1, high=MOST_COUNT)
    epochs: float | None = setting(None, "Number of passes over the training images, instead of iterations.", above=0.0)
    batch_size: int = setting(32, "Number of images per step.", low=1, high=MOST_COUNT)
    lr: float = setting(3e-4, "Learning rate of Adam.", above=0.0)
    seed: int = setting(0, "Random seed of the weights, batches and noise.", low=0, high=MOST_SEED)
    precision: Precision = setting(
        "float32", "Precision of matrix products; auto: bfloat16 if the processor supports it."
    )
    threads: int = setting(
        1,
        "CPU threads in training; the last digits of the results depend on it. Default in reproduce and sweep: 1.",
        low=1,
        high=1024,
    )
    compile: bool = setting(
        False, "Use torch.compile: slower start, faster steps for mlp; says so if it is not available."
    )
    log_every: int = setting(250, "Number of iterations between two lines of metrics.jsonl.", low=1, high=100_000)
    checkpoint_every: int = setting(1000, "Number of iterations between two checkpoints.", low=1, high=MOST_COUNT)
    keep: str | None = setting(
        None,
        "Also keep the checkpoints after these iterations, for example 2000,5000, as ckpt-N.pt; reproduce and sweep "
        "evaluate them too.",
    )

    @property
    def kept(self) -> tuple[int, ...]:
        """The iterations in ``keep`` that this training reaches, in increasing order."""
        return tuple(step for step in parse_keep(self.keep or "") if step <= self.iterations)


@dataclass(frozen=True)
class RunConfig:
    """All settings that determine the result of a run, with no value left open."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, value in self.flat().items():
            check(name, value)

    def flat(self) -> dict[str, Any]:
        """All settings by option name; no two sections share a name."""
        return {
            f.name: getattr(getattr(self, section.name), f.name)
            for section in dataclasses.fields(self)
            for f in dataclasses.fields(getattr(self, section.name))
        }

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The nested form in ``config.json`` and in checkpoints."""
        return dataclasses.asdict(self)

    def shared(self) -> RunConfig:
        """A copy without private paths, see :mod:`softvq_cli.sharing`; full paths stay in the folder of the run."""
        name = self.data.data if self.data.data in IMAGE_SHAPES else shared_path(self.data.data)
        return dataclasses.replace(self, data=dataclasses.replace(self.data, data=name, data_dir=None))

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> RunConfig:
        """Build from settings by name; missing ones get their default (UsageError: a wrong name or value)."""
        for name in values:
            if name not in SETTINGS:
                raise UsageError(unknown_name("setting", name, SETTINGS))
        checked = {name: check(name, value) for name, value in values.items()}
        parts = {}
        for section, kind in SECTIONS.items():
            parts[section] = kind(**{f.name: checked[f.name] for f in dataclasses.fields(kind) if f.name in checked})
        return cls(**parts)

    @classmethod
    def from_dict(cls, value: Any) -> RunConfig:
        """The inverse of :meth:`as_dict`; missing settings get their default (UsageError: not such a dictionary)."""
        if not isinstance(value, dict) or set(value) != set(SECTIONS):
            raise UsageError(f"a configuration has the sections {', '.join(SECTIONS)}")
        flat: dict[str, Any] = {}
        for section, kind in SECTIONS.items():
            names = sorted(f.name for f in dataclasses.fields(kind))
            if not isinstance(value[section], dict) or not set(value[section]) <= set(names):
                raise UsageError(f"a configuration's section {section!r} has the settings {', '.join(names)}")
            flat |= value[section]
        return cls.from_flat(flat)


def resolve(data: str, image_shape: tuple[int, ...], chosen: Mapping[str, Any], images: int | None = None) -> RunConfig:
    """Combine the defaults, the preset of the data set and bottleneck, and the chosen settings.

    Args:
        data: as in :class:`DataConfig`; a known name selects its preset, a path does not.
        image_shape: (H, W, C) of its images.
        chosen: settings by name, from options and files; they take precedence.
        images: number of images in the training split; limits the default batch, and is needed for ``epochs``.

    Raises:
        UsageError: an unknown name, a wrong type or a value out of range.
    """
    bottleneck = check("bottleneck", chosen.get("bottleneck", ModelConfig.bottleneck))
    recipe = check("recipe", chosen.get("recipe", ModelConfig.recipe))
    complete = is_complete(chosen)
    if data not in IMAGE_SHAPES and complete:  # a run with the recipe of the set for which its data stand
        recipe = ModelConfig.recipe
    settings = preset(data, image_shape, bottleneck, recipe)
    if check("arch", chosen.get("arch", ModelConfig.arch)) == "none":
        settings |= no_network(image_shape, bottleneck)
    if images is not None:  # a default fits the data; a chosen batch that does not is refused
        settings["batch_size"] = min(settings.get("batch_size", TrainConfig.batch_size), max(1, images))
    config = RunConfig.from_flat({**settings, **chosen})
    if config.train.epochs is not None and not complete:
        if "iterations" in chosen or images is None:
            raise UsageError(Message("{epochs} cannot be combined with {iterations}"))
        iterations = max(1, math.ceil(config.train.epochs * images / config.train.batch_size))
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, iterations=iterations))
    if "threads" in chosen:
        return config
    fitting = threads(config.model.arch, config.train.batch_size)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, threads=fitting))


SECTIONS: dict[str, type] = {"data": DataConfig, "model": ModelConfig, "loss": LossConfig, "train": TrainConfig}


@dataclass(frozen=True)
class Setting:
    """One setting, derived from its field."""

    name: str
    section: str
    kind: Any
    """The annotated type, resolved: ``int``, ``float | None``, a ``Literal``…"""
    default: Any
    doc: str
    low: float | None
    high: float | None
    above: float | None

    @property
    def types(self) -> tuple[Any, ...]:
        """The plain types that it accepts, or the words of a ``Literal``."""
        return typing.get_args(self.kind) or (self.kind,)

    @property
    def words(self) -> tuple[str, ...]:
        """The allowed words, if the type is a list of words."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()


def _settings() -> Iterator[tuple[str, Setting]]:
    for section, kind in SECTIONS.items():
        types = typing.get_type_hints(kind)
        for f in dataclasses.fields(kind):
            yield f.name, Setting(f.name, section, types[f.name], f.default, **f.metadata)


SETTINGS: Mapping[str, Setting] = dict(_settings())
"""All settings by name, in the order of the sections."""


def is_complete(chosen: Mapping[str, Any]) -> bool:
    """Whether ``chosen`` has all settings that its bottleneck uses, as the configuration of a run has."""
    needed = {name: setting for name, setting in SETTINGS.items() if setting.default is not None}
    unused = unused_settings(chosen.get("bottleneck", ModelConfig.bottleneck), needed)
    return chosen.keys() >= needed.keys() - {*unused}


def numeric_settings() -> list[str]:
    """Numeric settings that define a model. Excluded are seeds (repetitions), threads (the machine) and the data
    settings (they change the comparison)."""
    return [
        name
        for name, setting in SETTINGS.items()
        if {int, float} & set(setting.types) and setting.section != "data" and name not in ("seed", "threads")
    ]


def check(name: str, value: Any) -> Any:
    """Check the type and range of ``value`` and convert it to the setting's type (UsageError)."""
    spec = SETTINGS[name]
    value = _as_type(spec, value)
    if value is None:
        return None
    if name == "bottleneck" and value not in BOTTLENECKS:
        if value in BROKEN:
            raise UsageError(f"the bottleneck {value} comes from another package, and {BROKEN[value]}")
        labels = {entry.label.replace(" ", "-"): known for known, entry in BOTTLENECKS.items()}
        raise UsageError(unknown_name("bottleneck", value, BOTTLENECKS, labels))
    if name in _PARSERS:
        _PARSERS[name](value)
    return in_range(name, value, low=spec.low, above=spec.above, high=spec.high) if is_number(value) else value


def pixel_range(text: str) -> tuple[float, float] | None:
    """Parse ``LOW,HIGH``; None for ``auto`` or ``full`` (UsageError: anything else)."""
    if text in ("auto", "full"):
        return None
    parts = text.split(",")
    if len(parts) == 2 and all(map(_is_finite_number, parts)) and float(parts[0]) < float(parts[1]):
        return float(parts[0]), float(parts[1])
    raise UsageError("{pixel_range} must be auto, full or LOW,HIGH with LOW below HIGH, not {!r}", text[:80])


def image_shape(text: str) -> tuple[int, int, int]:
    """Parse ``H,W``, ``H,W,C`` or ``C,H,W``, keeping the order; ``H,W`` has one channel (UsageError)."""
    parts = [part.strip() for part in text.split(",")]
    if all(part.isdecimal() and len(part) < 6 and 0 < int(part) < 1 << 16 for part in parts):
        numbers = [int(part) for part in parts]
        shape = (*numbers, 1) if len(numbers) == 2 else tuple(numbers)
        if len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
            return shape[0], shape[1], shape[2]
    raise UsageError("{image_shape} must be H,W,C (28,28,1) or C,H,W (3,32,32) with C 1 or 3, not {!r}", text[:80])


def _check_sigma_power(text: str) -> None:
    if text != "-d" and not _is_finite_number(text):
        raise UsageError("{sigma_power} must be -d or a number, not {}", shown(text))


def parse_levels(text: str) -> tuple[int, ...]:
    """Parse ``5,5,5`` (UsageError: not integers of at least 3, or their product is too large)."""
    # With two levels, every number would stay on its initial level.
    numbers = _whole_numbers("levels", text, least=3)
    if math.prod(numbers) > MOST_CODES:
        raise UsageError("{levels} {} gives {} codes: at most {} are allowed", text, math.prod(numbers), MOST_CODES)
    return numbers


def parse_keep(text: str) -> tuple[int, ...]:
    """Parse ``2000,5000`` to distinct numbers in increasing order; empty for an empty text (UsageError)."""
    return tuple(sorted(set(_whole_numbers("keep", text, least=1)))) if text.strip() else ()


def _whole_numbers(name: str, text: str, least: int) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    numbers = tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 17)
    if len(numbers) < len(words) or not all(least <= number <= MOST_COUNT for number in numbers):
        raise UsageError(
            "{} takes whole numbers of at least {} separated by commas, not {}", param(name), least, shown(text)
        )
    return numbers


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "pixel_range": pixel_range,
    "image_shape": image_shape,
    "sigma_power": _check_sigma_power,
    "levels": parse_levels,
    "keep": parse_keep,
}
"""Settings whose text contains numbers → their parser, which raises UsageError for other text."""


def _as_type(spec: Setting, value: Any) -> Any:
    """Accept exactly the annotated type, and an int for a float; a bool is never a number."""
    name = spec.name
    if spec.words:
        if value not in spec.words:
            given = value if isinstance(value, str) else shown(value)
            raise UsageError(unknown_name(Message("value of {}", param(name)), given, spec.words))
        return value
    if value is None and type(None) in spec.types:
        return None
    kind = next(c for c in spec.types if c is not type(None))
    if kind is float and type(value) is int:
        return as_float(name, value)
    if name == "sigma_power" and is_number(value):  # TOML files may give it without quotes
        as_float(name, value)
        return str(value)
    if type(value) is not kind:
        raise UsageError("{} takes {}, not {}", param(name), KINDS[kind], shown(value))
    return value


def _is_finite_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
