"""The official tables of MPI-INF-3DHP from stored predictions: by sequence, setting and activity."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posescale.data.mpi_inf_3dhp.recording import ACTIVITIES, SETTINGS
from posescale.data.prepared import PreparedData
from posescale.data.scored import check_fits, questions
from posescale.data.units import labels, to_mm
from posescale.errors import ConfigError, DataError
from posescale.metrics.pck import ThreeDhpTable, threedhp_tables
from posescale.metrics.protocols import protocol as named_protocol
from posescale.metrics.scoring import scored_poses
from posescale.train.predictions import load
from posescale.train.rescore import chosen


@dataclass(frozen=True)
class Scored:
    """The scored frames of one sequence: pred and true (N, 17, 3) in mm, activity (N,) names, empty where unknown."""

    name: str
    pred: np.ndarray
    true: np.ndarray
    activity: list[str]


def official_tables(file: Path | str, data_dir: Path | str | None = None) -> list[dict[str, Any]]:
    """One flat row per sequence, per setting, per activity (where the data have them), and over all frames.

    Args:
        file: predictions stored by `posescale evaluate --predictions` under a protocol of MPI-INF-3DHP.
        data_dir: the prepared data they were made from; where they were then, when not given.

    Returns:
        rows with `table`, `row`, `frames`, `mpjpe_<joint>` in mm and `pck_<group>`, `auc_<group>` in percent, as the
        official MATLAB evaluation prints them.

    Raises:
        ConfigError: the predictions were made under another kind of protocol.
        DataError: a file is missing or damaged, or the data are not those of the predictions.
    """
    found = list(_scored(file, data_dir))
    pred, true = (np.concatenate([getattr(s, name) for s in found]) for name in ("pred", "true"))
    by = {
        "sequence": [s.name for s in found for _ in s.pred],
        "setting": [SETTINGS[s.name] for s in found for _ in s.pred],
        "activity": [name for s in found for name in s.activity],
    }
    rows: list[dict[str, Any]] = []
    for table, names in by.items():
        if all(names):
            tables = threedhp_tables(pred, true, names)
            whole = tables.pop("all")
            order = [name for name in (*SETTINGS, *dict.fromkeys(SETTINGS.values()), *ACTIVITIES) if name in tables]
            rows += [_row(table, name, tables[name]) for name in order]
    return [*rows, _row("all", "All", whole)]


def _scored(file: Path | str, data_dir: Path | str | None) -> Iterator[Scored]:
    said, meta = load(file)
    made = meta["record"]
    rules = named_protocol(made["protocol"])
    if rules.measures != "3dhp":
        raise ConfigError(f"{file}: made under protocol {rules.id}; the tables of MPI-INF-3DHP need one of its own")
    data = PreparedData(data_dir or meta["data"])
    if data.index.digest != made["data_digest"]:
        raise DataError(f"{data.folder}: digest {data.index.digest}; {file} was made from data {made['data_digest']}")
    check_fits(data, rules)
    split = made["options"]["split"]
    asked = questions(data, split, rules, meta["window"], meta["output"])
    for sequence, question in zip(data.sequences(split), asked, strict=True):
        if sequence.action not in SETTINGS:
            raise ConfigError(f"{file}: {sequence.name} is no test sequence; evaluate split test")
        if sequence.name not in said:
            raise DataError(f"{file}: has no answers for {sequence.name}")
        answers = chosen(said[sequence.name], question, f"{file}: {sequence.name}", rules)
        target, mm = labels(data, sequence, rules), to_mm(data, sequence, rules)
        told, pred, true = scored_poses(sequence.name, answers, question.counted, target, mm, rules)
        numbers = np.zeros(len(told), int) if data.activity is None else data.activity[sequence.rows][told]
        yield Scored(sequence.action, pred, true, [ACTIVITIES[n - 1] if n else "" for n in numbers.tolist()])


def _row(table: str, name: str, values: ThreeDhpTable) -> dict[str, Any]:
    return (
        {"table": table, "row": name, "frames": values.frames}
        | {f"mpjpe_{joint}": value for joint, value in values.mpjpe.items()}
        | {f"pck_{group}": 100 * value for group, value in values.pck.items()}
        | {f"auc_{group}": 100 * value for group, value in values.auc.items()}
    )
