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
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'posescale' has no attribute {name!r}")
