"""Pose in video: what is found of joints that can be seen and of those that cannot, and whether that takes time.

A video model uses time where it finds more hidden joints (behind something, or blurred) than a model of one frame, no
fewer visible ones, and loses what it gained when its neighbours are taken away: replaced by its own frame, or by frames
of another video. Other frames of the same video must help it less than the neighbours do; they still show the same
person, so part of the gain may stay.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from posescale import stats
from posescale.report import ablation
from posescale.report.page import Block, Grid, Heading, Note, Plot, Section, listing, slug
from posescale.report.studies import PCK, Row, Study
from posescale.report.style import MUTED, PAPER, Look, canvas, export
from posescale.report.tables import Cell, Column, Table, fixed, number, text

STATES = {
    "visible": "visible", "self_occluded": "self-occluded", "blurred": "blurred", "occluder": "behind something",
    "occluded": "occluded", "hidden": "hidden",
}  # fmt: skip
CONDITIONS = {
    "as_is": "as it is", "own_frame": "own frame T times", "shuffled": "neighbours shuffled",
    "other_video": "neighbours of another video",
}  # fmt: skip
MARKERS = {"as_is": "o", "own_frame": "s", "shuffled": "^", "other_video": "v"}
ANY = ("wins", "tie", "loses", "not shown")
TIE = 2.0  # points within which two shares count as the same, when the whole interval lies there


class Gap(NamedTuple):
    """A difference with its interval, its verdict, and over how much it was taken."""

    estimate: stats.Estimate
    sequences: int
    joints: int

    @property
    def verdict(self) -> str:
        """`wins`, `loses`, `tie` or `not shown`: from the interval alone."""
        if self.estimate.low > 0:
            return "wins"
        if self.estimate.high < 0:
            return "loses"
        return "tie" if max(abs(self.estimate.low), abs(self.estimate.high)) <= TIE else "not shown"


@dataclass(frozen=True)
class Test:
    """One comparison: a model under a condition against another, on joints of one state, and what time would show."""

    state: str
    ours: Row
    condition: str
    theirs: Row
    other: str
    gap: Gap
    expected: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether it came out as for a model that uses time."""
        return self.gap.verdict in self.expected

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the records of both."""
        return self.ours.scored + self.theirs.scored


def sections(found: list[Study], looks: dict[str, Look]) -> list[Section]:
    """The page's sections on video, where there are studies of it."""
    blocks: list[Block] = []
    for study in (s for s in found if s.video):
        blocks += _blocks(study, looks)
    lead = (
        "PCK by what can be seen of a joint in its own frame; hidden is blurred and behind something together. "
        "Conditions ask whether neighbours matter: a clip as it is, its own frame T times, other frames of the video "
        "(the same person still, so part of the gain may stay), and frames of another video. Wins, loses: the 95 % "
        f"interval of the difference lies on one side of zero. Tie: all of it lies within {TIE:g} points. Not shown: "
        "neither. AP is not split by state: it counts predicted joints without annotation as misses."
    )
    time = [Section("video", "Is time used?", lead, tuple(blocks))] if blocks else []
    return time + ablation.sections(found)


def _blocks(study: Study, looks: dict[str, Look]) -> list[Block]:
    where = study.conditions
    name = slug("video", where.study or where.dataset, where.protocol, where.selection)
    states = state_table(study, f"{name}-states")
    if not states.rows:
        return []
    blocks: list[Block] = [Heading(where.title, where.words), Grid(states)]
    if study.measure is not PCK:
        return blocks
    tests = time_tests(study)
    blocks += [_verdict(row, [t for t in tests if t.ours.name == row.name]) for row in _video_models(study)]
    blocks += _figure(study, looks, f"{name}-figure")
    return blocks + ([Grid(time_table(study, tests, f"{name}-time"))] if tests else [])


def _video_models(study: Study) -> list[Row]:
    """Models of several frames; rows of an ablation are compared with their whole model, elsewhere."""
    return [r for r in study.models if r.frames > 1 and r.scored and not r.entries[0].record.label]


def _image_models(study: Study) -> list[Row]:
    return [row for row in study.models if row.frames == 1 and row.scored]


def _conditioned(study: Study, row: Row) -> dict[str, Row]:
    """A model under every condition it was scored under."""
    altered = {c: rows[row.name] for c, rows in study.altered.items() if row.name in rows}
    return {c: found for c in CONDITIONS if (found := row if c == "as_is" else altered.get(c))}


def state_table(study: Study, name: str) -> Table:
    """A row per model and condition; PCK by state, of all joints, and AP."""
    known = {group for row in study.rows for metric, group in row.values if metric == "pck_by_state"}
    states = [state for state in STATES if state in known]
    columns = [Column("model", "model", numeric=False), Column("condition", "condition", numeric=False)]
    columns += [Column("frames", "T"), Column("seeds", "n")]
    columns += [Column(f"pck_{s}", f"PCK, {STATES[s]}", "%") for s in states]
    measures = [m for m in ("pck", "ap") if any((m, "") in row.values for row in study.rows)]
    columns += [Column(m, "PCK, all" if m == "pck" else "AP", "%") for m in measures]
    rows = []
    for model in study.rows:
        for condition, row in _conditioned(study, model).items():
            tone = "quiet" if row.control else ""
            keys = [e.key for e in row.entries]
            cells = {"model": text(model.name, keys, tone=tone), "frames": text(row.frames or "", keys, tone=tone)}
            cells["condition"] = text("" if row.control or row.frames == 1 else CONDITIONS[condition], keys, tone=tone)
            cells["seeds"] = number(len(row.scored), 0, keys, tone=tone)
            cells |= {f"pck_{s}": _share(row, "pck_by_state", s, tone) for s in states}
            rows.append(cells | {m: _share(row, m, "", tone) for m in measures})
    counts = _joints(study, states)
    caption = "Mean over seeds with Student's 95 % interval. " + (f"Joints scored: {counts}." if counts else "")
    title = "Found by what can be seen" if states else "Found by condition"
    return Table(name, title, tuple(columns), tuple(rows), caption, conditions=study.conditions.full)


def _joints(study: Study, states: list[str]) -> str:
    """How many joints of each state were scored."""
    row = next((r for r in study.rows if r.scored), None)
    if row is None:
        return ""
    found = {s: list(row.values.get(("joints_by_state", s), {}).values()) for s in states}
    return ", ".join(f"{STATES[s]} {int(numbers[0]):,}" for s, numbers in found.items() if numbers)


def _share(row: Row, metric: str, group: str, tone: str) -> Cell:
    estimate = row.estimate(metric, group)
    if estimate is None:
        lost = [e.record for e in row.entries if e.record.status not in {"ok", "unstable"}]
        if lost:
            why = "; ".join(sorted({r.reason for r in lost}))
            return text(listing(sorted({r.status for r in lost})), [e.key for e in row.entries], tone="bad", detail=why)
        return number(None, 1, [e.key for e in row.entries])
    return number(estimate.value, 1, row.keys(metric, group), estimate[1:], tone)


def time_tests(study: Study) -> list[Test]:
    """The comparisons that say whether time is used, for every video model."""
    tests = []
    for row in _video_models(study):
        found = _conditioned(study, row)
        for image in _image_models(study):
            tests += [_test("hidden", row, "as_is", image, "", ("wins",)),
                      _test("visible", row, "as_is", image, "", ("tie", "wins"))]  # fmt: skip
        for condition in ("own_frame", "shuffled", "other_video"):
            if other := found.get(condition):
                tests += [_test("hidden", row, "as_is", other, condition, ("wins",))]
        for condition in ("own_frame", "shuffled", "other_video"):
            for image in _image_models(study) if condition in found else ():
                lost = ANY if condition == "shuffled" else ANY[1:]
                tests += [_test("hidden", found[condition], condition, image, "", lost)]
    return [test for test in tests if test]


def _test(
    state: str, ours: Row, condition: str, theirs: Row, other: str, expected: tuple[str, ...]
) -> Test | None:  # fmt: skip
    gap = state_gap(ours, theirs, state, paired=ours.name == theirs.name)
    return Test(state, ours, condition, theirs, other, gap, expected) if gap else None


def state_gap(ours: Row, theirs: Row, state: str, paired: bool) -> Gap | None:
    """PCK of joints in a state, ours minus theirs, over the videos that have some; every joint counts alike."""
    joints = _by_seed(ours, f"{state}_joints_by_sequence")
    tables = [_by_seed(row, f"{state}_pck_by_sequence") for row in (ours, theirs)]
    if paired:
        seeds = sorted(set.intersection(*map(set, tables)), key=str)
        tables = [{seed: table[seed] for seed in seeds} for table in tables]
    if not joints or not all(tables):
        return None
    weights = next(iter(joints.values()))
    everyone = [table for found in tables for table in found.values()]
    common = [n for n in weights if weights[n] > 0 and all(np.isfinite(t.get(n, np.nan)) for t in everyone)]
    if len(common) < 2:
        return None
    values = [[[table[n] for n in common] for table in found.values()] for found in tables]
    mass = [weights[n] for n in common]
    return Gap(stats.crossed_bootstrap(*values, mass, paired=paired), len(common), int(sum(mass)))


def _by_seed(row: Row, name: str) -> dict[object, dict[str, float]]:
    found = {}
    for entry in row.entries:
        values, names = entry.record.samples.get(name, []), entry.record.labels.get(name, [])
        if entry.key in row.scored and values and len(values) == len(names):
            found[entry.record.seed] = dict(zip(names, values, strict=True))
    return found


def _verdict(row: Row, tests: list[Test]) -> Note:
    """What the comparisons say of one model, in a sentence."""
    asked = [t for t in tests if t.condition == "as_is"]
    kinds = {(t.state, t.other) for t in asked}
    wanted = {("visible", ""), *(("hidden", other) for other in ("", "own_frame", "shuffled", "other_video"))}
    told = "; ".join(_words(t) for t in asked)
    if not asked:
        return Note(f"{row.name}: nothing to compare it with here: no model of one frame, and no other condition.")
    if failed := [t for t in tests if not t.holds]:
        asked += [t for t in failed if t not in asked]
        why = listing(f"{_under(t)}{STATES[t.state]} against {_other(t)}" for t in failed)
        head = f"Not shown that {row.name} uses time ({why} did not come out that way)."
    elif kinds != wanted:
        head = f"What was compared speaks for {row.name} using time, but not everything was."
    else:
        head = f"{row.name} uses time."
    seeds = len(row.scored)
    tail = " One seed: the intervals speak of videos alone." if seeds == 1 else ""
    return Note(
        f"{head} {told[:1].upper()}{told[1:]}.{tail}", records=tuple(dict.fromkeys(k for t in asked for k in t.keys))
    )


def _under(test: Test) -> str:
    return "" if test.condition == "as_is" else f"with {CONDITIONS[test.condition]}, "


def _other(test: Test) -> str:
    return CONDITIONS[test.other] if test.other else test.theirs.name


def _words(test: Test) -> str:
    low, high = (fixed(x, 1) for x in test.gap.estimate[1:])
    sign = "+" if test.gap.estimate.value > 0 else ""
    value = f"{sign}{fixed(test.gap.estimate.value, 1)} points [{low}, {high}]"
    return f"{_under(test)}{STATES[test.state]} joints against {_other(test)}: {test.gap.verdict}, {value}"


def time_table(study: Study, tests: list[Test], name: str) -> Table:
    """The comparisons, with what a model that uses time would show."""
    columns = (
        Column("model", "model", numeric=False), Column("condition", "condition", numeric=False),
        Column("other", "against", numeric=False), Column("state", "joints", numeric=False),
        Column("joints", "number"), Column("sequences", "videos"), Column("difference", "PCK difference", "points"),
        Column("verdict", "verdict", numeric=False), Column("expected", "if time is used", numeric=False),
    )  # fmt: skip
    rows = [
        {
            "model": text(t.ours.name, t.ours.scored),
            "condition": text(CONDITIONS[t.condition], t.ours.scored),
            "other": text(f"itself, {_other(t)}" if t.other else t.theirs.name, t.theirs.scored),
            "state": text(STATES[t.state], t.keys),
            "joints": number(t.gap.joints, 0, t.keys),
            "sequences": number(t.gap.sequences, 0, t.keys),
            "difference": number(t.gap.estimate.value, 1, t.keys, t.gap.estimate[1:]),
            "verdict": text(t.gap.verdict, t.keys, tone="" if t.holds else "bad"),
            "expected": text(_expected(t), t.keys),
        }
        for t in tests
    ]
    caption = (
        "Row minus “against”. Seeds and videos are both redrawn (2,000 times); joints weigh alike. The same trained "
        "models under two conditions are redrawn together."
    )
    return Table(name, "The proof that time is used", columns, tuple(rows), caption, conditions=study.conditions.full)


def _expected(test: Test) -> str:
    if test.expected == ANY:
        return "any"
    return "does not win" if "not shown" in test.expected else " or ".join(test.expected)


def _figure(study: Study, looks: dict[str, Look], name: str) -> list[Plot]:
    """PCK by state: one panel per video model, beside the models of one frame."""
    models, images = _video_models(study), _image_models(study)
    known = {group for row in models for metric, group in row.values if metric == "pck_by_state"}
    states = [state for state in STATES if state in known]
    if not models or not states:
        return []
    columns = min(2, len(models))
    lines = -(-len(models) // columns)
    with canvas(lines, columns, 1.0 + (0.5 + 0.42 * len(states)) * lines, sharex=True, sharey=True) as (figure, panels):
        for axes in panels[len(models) :]:
            axes.set_visible(False)
        for axes, row in zip(panels, models, strict=False):
            series = [(image.name, image, "D", MUTED, True) for image in images]
            series += [
                (CONDITIONS[c], found, MARKERS[c], looks[row.look].color,
                 c == "as_is")
                for c, found in _conditioned(study, row).items()
            ]  # fmt: skip
            _panel(axes, row.name, series, states)
        panels[0].set_ylim(len(states) - 0.4, -0.6)
        figure.supxlabel("PCK (%)", fontsize=9.5, color=MUTED)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=8.5)
        svg, png = export(figure)
    alt = "PCK by visibility state of " + listing(row.name for row in models)
    caption = "Bars: Student's 95 % intervals over seeds, where there are several. Open: time taken away."
    return [Plot(name, "PCK by what can be seen of a joint", caption, alt, svg, png)]


def _panel(
    axes: Axes, title: str, series: list[tuple[str, Row, str, str, bool]], states: list[str]
) -> None:  # fmt: skip
    for place, (label, row, marker, color, filled) in enumerate(series):
        shift = 0.16 * (place - (len(series) - 1) / 2)
        found = {i: e for i, state in enumerate(states) if (e := row.estimate("pck_by_state", state))}
        for i, e in found.items():
            if np.isfinite(e.low):
                axes.plot([e.low, e.high], [i + shift] * 2, color=color, linewidth=1.4, alpha=0.6)
        axes.plot(
            [e.value for e in found.values()], [i + shift for i in found], marker, color=color, label=label,
            mfc=color if filled else PAPER, mec=color, zorder=3,
        )  # fmt: skip
    axes.set_yticks(range(len(states)), [STATES[s] for s in states])
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
