"""Training curves: small multiples, one panel per model, one line per seed."""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Heading, Plot, Section, count, listing, slug
from posescale.report.style import MUTED, Look, canvas, export

_AXES = ("epoch", "epochs", "step", "steps", "lr", "learning_rate", "seconds")  # samples that are no quality


class Conditions(NamedTuple):
    """What the curves of one figure share."""

    study: str
    dataset: str
    frames: int
    machine: str
    called: str = ""

    @property
    def title(self) -> str:
        """Short heading."""
        return ", ".join(
            filter(None, [self.called or self.study or self.dataset, f"T = {self.frames}" if self.frames else ""])
        )


def section(evidence: Evidence, looks: dict[str, Look]) -> Section:
    """The page's section on training."""
    groups: dict[Conditions, list[Entry]] = {}
    for entry in evidence.current("training"):
        r = entry.record
        if any(_finite(curve) for name, curve in r.samples.items() if name not in _AXES):
            groups.setdefault(
                Conditions(r.study, r.dataset or "", r.frames or 0, entry.machine, entry.study), []
            ).append(entry)
    blocks: list[Block] = []
    for where, entries in sorted(groups.items()):
        words = " · ".join(filter(None, [where.dataset, where.machine]))
        blocks += [Heading(where.title, words), *(_figure(where, name, entries, looks) for name in _chosen(entries))]
    lead = "One thin line per seed, on shared axes. The test split is never looked at during training."
    return Section("training", "Training", lead if blocks else "No training records with curves.", tuple(blocks))


def _finite(curve: list[float]) -> bool:
    return len(curve) > 1 and any(map(math.isfinite, curve))


def _chosen(entries: list[Entry]) -> list[str]:
    """The curves worth a figure: the training loss and what was watched on the validation split."""
    names = sorted({n for e in entries for n, c in e.record.samples.items() if n not in _AXES and _finite(c)})
    validation = [n for n in names if n.startswith("val")]
    loss = [n for n in names if n in {"loss", "train_loss"}]
    return list(dict.fromkeys([*(validation or names)[:1], *loss[:1]]))


def _figure(where: Conditions, name: str, entries: list[Entry], looks: dict[str, Look]) -> Plot:
    with_curve = [e for e in entries if _finite(e.record.samples.get(name, []))]
    rows = sorted({e.row for e in with_curve})
    columns = min(3, len(rows))
    lines = math.ceil(len(rows) / columns)
    words = _words(name, with_curve)
    with canvas(lines, columns, 0.5 + 2.0 * lines, sharex=True, sharey=True) as (figure, panels):
        for axes in panels[len(rows) :]:
            axes.set_visible(False)
        for axes, row in zip(panels, rows, strict=False):
            for entry in (e for e in with_curve if e.row == row):
                curve = np.asarray(entry.record.samples[name], dtype=float)
                axes.plot(np.arange(1, len(curve) + 1), curve, color=looks[row].color, linewidth=1.1, alpha=0.85)
            axes.set_title(row, color=looks[row].color)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        figure.supxlabel("epoch", fontsize=9.5, color=MUTED)
        figure.supylabel(words, fontsize=9.5, color=MUTED)
        svg, png = export(figure)
    seeds = count(len(with_curve), "run")
    alt = f"{words} by epoch for {listing(rows)}"
    stem = slug("training", where.study or where.dataset, f"T{where.frames}", name)
    return Plot(stem, f"{words[:1].upper()}{words[1:]} by epoch", f"{seeds}.", alt, svg, png)


def _words(name: str, entries: list[Entry]) -> str:
    """A curve's name, with the unit that its records give."""
    known = {"val_mpjpe": "validation MPJPE", "val_pck": "validation PCK", "train_loss": "training loss",
             "loss": "training loss", "val_loss": "validation loss"}  # fmt: skip
    units = sorted({v.unit for e in entries for v in e.record.values if v.name == name and v.unit})
    return known.get(name, name.replace("_", " ")) + (f" ({', '.join(units)})" if units else "")
