"""posescale: how video human-pose models scale.

Nothing heavy is imported here: the report, the statistics and the workflow use this package without torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "list_models": "posescale.cards",
    "create_model": "posescale.models",
    "load_checkpoint": "posescale.checkpoints",
    "lift": "posescale.inference",
    "LiftStream": "posescale.inference",
}
_MODULES = ("metrics", "ops", "records")  # `import posescale` is enough to reach these
__all__ = ["__version__", *_LAZY, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _MODULES:
        return import_module(f"posescale.{name}")
    raise AttributeError(f"module 'posescale' has no attribute {name!r}")
