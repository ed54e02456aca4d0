"""Building models by name."""

import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from posescale.cards import ROOT, component
from posescale.errors import ConfigError


def network_module(folder: Path) -> ModuleType:
    """Import `network.py` of a component folder; components of this repository keep their package names."""
    if folder.is_relative_to(ROOT):
        name = ".".join((*folder.relative_to(ROOT).parts, "network"))
    else:  # folders of one name may lie in several roots
        place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        name = f"posescale_component_{folder.name}_{place}.network"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, folder / "network.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Build a model by the id of its variant, with some constructor arguments replaced (timm's habit).

    Lifting models map `(B, T, J, 3)` = x, y, confidence in normalised screen units to `(B, T, J, 3)`, or to
    `(B, 1, J, 3)` when they answer for the centre frame only. Video models map `(B, T, 3, H, W)` to heat maps
    `(B, K, H / 4, W / 4)`.

    Args:
        name: variant id, as listed by `list_models()`.
        **overrides: constructor arguments, such as `frames=81`.

    Raises:
        UnavailableError: no card declares `name`.
        ConfigError: the network has no such argument.
    """
    found = component(name)
    build = getattr(network_module(found.folder), found.card.network)
    known = inspect.signature(build).parameters
    unknown = sorted(set(overrides) - set(known))
    if unknown:
        raise ConfigError(f"{name} has no argument {', '.join(unknown)}; it takes {', '.join(known)}")
    return build(**(found.parameters | overrides))
