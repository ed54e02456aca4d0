"""The report: tables, figures and one static page, from records alone. No torch, no GPU, no network."""

from posescale.report.site import build

__all__ = ["build"]
