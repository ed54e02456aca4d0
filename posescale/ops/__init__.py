"""Selective scans: two operators, several back ends, closed-form costs beside them."""

from posescale.ops.cost import (
    dt_projection_macs,
    scan_backward_bytes,
    scan_bytes,
    scan_flops,
    selective_scan_bytes,
)
from posescale.ops.registry import backends, ran
from posescale.ops.scan import multi_scan, selective_scan

__all__ = [
    "backends",
    "dt_projection_macs",
    "multi_scan",
    "ran",
    "scan_backward_bytes",
    "scan_bytes",
    "scan_flops",
    "selective_scan",
    "selective_scan_bytes",
]
