"""Stored predictions under other protocols: how many millimetres are protocol alone. No model is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posescale.data.prepared import PreparedData
from posescale.data.scored import Question, check_fits, questions
from posescale.data.units import labels, to_mm, unit_of
from posescale.errors import ConfigError, DataError
from posescale.metrics.protocols import PROTOCOLS, Protocol
from posescale.metrics.protocols import protocol as named_protocol
from posescale.metrics.scoring import Answers, Score, score
from posescale.provenance import fingerprint
from posescale.records import Record
from posescale.train.evaluate import left_out, results
from posescale.train.predictions import load


class Incompatible(ConfigError):
    """Predictions do not hold what a protocol needs."""


def rescore(file: Path | str, protocol: str | Protocol, data_dir: Path | str | None = None) -> Record:
    """Score stored predictions under a protocol.

    Args:
        file: predictions stored by `posescale.train.evaluate.evaluate`.
        protocol: a protocol or its id.
        data_dir: the prepared data they were made from; where they were then, when not given.

    Returns:
        a record of kind `accuracy` like that of the evaluation, with `rescored_from`, the protocol it was made under,
        among its options.

    Raises:
        Incompatible: the protocol needs other 2D, other labels, a mirror image that was not asked, or windows that
            were not run.
        ConfigError: there is no such protocol, or it does not belong to the data.
        DataError: a file is missing or damaged, or the data are not those of the predictions.
    """
    rules = protocol if isinstance(protocol, Protocol) else named_protocol(protocol)
    said, meta = load(file)
    data = PreparedData(data_dir or meta["data"])
    made = meta["record"]
    if data.index.digest != made["data_digest"]:
        raise DataError(f"{data.folder}: digest {data.index.digest}; {file} was made from data {made['data_digest']}")
    check_fits(data, rules)
    unit_of(data, rules)
    _check(file, said, meta, rules)
    scores = list(_scores(file, said, meta, data, rules))
    options = made["options"] | {"rescored_from": made["protocol"]}
    kept = {"protocol": rules.id, "options": options, "fingerprint": fingerprint(), "id": ""}
    return Record.model_validate(made | kept | results(scores, rules))


def variations(file: Path | str) -> list[Protocol]:
    """The protocol that predictions were made under, its relatives, and it with one thing changed at a time.

    Raises:
        ConfigError: they were made under a protocol that is not known here.
    """
    name = load(file)[1]["record"]["protocol"]
    own = PROTOCOLS.get(name.partition("[")[0])
    if own is None:
        raise ConfigError(f"{file}: made under protocol {name}, which is not among {', '.join(PROTOCOLS)}")
    kin = ("dataset", "settings", "labels", "input_2d")
    relatives = [p for p in PROTOCOLS.values() if all(getattr(p, field) == getattr(own, field) for field in kin)]
    changes: list[dict[str, Any]] = [
        {"flip_average": not own.flip_average},
        {"zero_root": not own.zero_root},
        {"excluded": ()},
        {"overlap": "each" if own.overlap == "mean" else "mean"},
        {"aggregation": "frame_mean" if own.aggregation == "action_mean" else "action_mean"},
        {"windows": "every_frame"},
    ]
    found: dict[str, Protocol] = {}
    for p in [own, *relatives, *(own.changed(**change) for change in changes)]:
        found.setdefault(p.model_dump_json(exclude={"id", "title", "source"}), p)  # what does not change a number
    return list(found.values())


def rescore_all(
    file: Path | str, protocols: list[Protocol], data_dir: Path | str | None = None
) -> tuple[list[Record], dict[str, str]]:
    """Records under all protocols that fit; for the others, by id, why not."""
    records, refused = [], {}
    for rules in protocols:
        try:
            records.append(rescore(file, rules, data_dir))
        except ConfigError as error:
            refused[rules.id] = str(error)
    return records, refused


def _check(file: Path | str, said: dict[str, Answers], meta: dict[str, Any], rules: Protocol) -> None:
    for name, wanted in (("input_2d", rules.input_2d), ("labels", rules.labels)):
        if meta[name] != wanted:
            raise Incompatible(f"{file}: made with {name} {meta[name]}, protocol {rules.id} needs {wanted}")
    control = meta["record"]["component"] == "controls"
    if rules.flip_average and not control and any(a.mirrored is None for a in said.values()):
        raise Incompatible(f"{file}: the mirror image was not asked, protocol {rules.id} averages over it")


def _scores(
    file: Path | str, said: dict[str, Answers], meta: dict[str, Any], data: PreparedData, rules: Protocol
) -> Iterator[Score]:
    split = meta["record"]["options"]["split"]
    asked = questions(data, split, rules, meta["window"], meta["output"])
    for entry, question in zip(data.sequences(split), asked, strict=True):
        if left_out(entry.name, rules) or not len(question.told):
            continue
        if entry.name not in said:
            raise Incompatible(f"{file}: {entry.name} was not asked, protocol {rules.id} scores it")
        answers = chosen(said[entry.name], question, f"{file}: {entry.name}", rules)
        targets, mm = labels(data, entry, rules), to_mm(data, entry, rules)
        yield score(entry.name, entry.action, answers, question.counted, targets, mm, rules, entry.performance)


def chosen(said: Answers, question: Question, where: str, rules: Protocol) -> Answers:
    """The stored windows that a question asks for, in its order.

    Raises:
        Incompatible: some were not run; `where` says of which file and sequence.
    """
    place = {told.tobytes(): n for n, told in enumerate(np.ascontiguousarray(said.told, np.int32))}
    wanted = [told.tobytes() for told in np.ascontiguousarray(question.told, np.int32)]
    lacking = sum(told not in place for told in wanted)
    if lacking:
        raise Incompatible(
            f"{where}: {lacking} of the {len(wanted)} windows that protocol {rules.id} scores were not run; evaluate "
            f"under it, or with windows={rules.windows}"
        )
    rows = [place[told] for told in wanted]
    mirrored = None if said.mirrored is None else said.mirrored[rows]
    return Answers(question.told, said.plain[rows], mirrored)
