"""Reading training clips: memory-mapped windows against one pickle per clip, as published code bases keep them.

    python benchmarks/loading.py                  a generated set of 200,000 frames in a temporary folder, then deleted
    python benchmarks/loading.py --frames 50000 --rounds 2 --seconds 0.5

Both ways draw the same clips at random through the same kind of loader, batch 32, from a warm file cache. A cell is
a way, a clip length T and a number of reading processes; all cells are interleaved in rounds, each in a fresh process,
which prints clips per second and the memory (proportional set size) that it and its readers gained by reading.
"""

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from posescale.commands.output import show
from posescale.data.prepared import Clip, PreparedData, write_prepared
from posescale.data.skeleton import JOINTS, LEFT, PARENTS, RIGHT
from posescale.data.windows import ClipWindows, collate
from posescale.stats import bootstrap_median

BATCH, LENGTH = 32, 2400  # clips per batch; frames per video
LENGTHS, WORKERS, WAYS = (27, 81, 243), (0, 2), ("memory-mapped", "pickles")


class Pickles(Dataset):
    """One file per clip."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.pkl"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with self.files[index].open("rb") as stream:
            clip = pickle.load(stream)
        return torch.from_numpy(clip["data_input"]), torch.from_numpy(clip["data_label"])


def generate(folder: Path, frames: int) -> None:
    """Prepared data of at least so many frames, and its clips as pickles for each T."""
    rng = np.random.default_rng(0)

    def clips():
        for n in range(-(-frames // LENGTH)):
            poses = np.cumsum(rng.normal(scale=0.01, size=(LENGTH, 17, 3)), axis=0).astype(np.float32)
            exact = (500 + 100 * poses[..., :2]).astype(np.float32)
            detections = np.concatenate([exact, np.ones((LENGTH, 17, 1), np.float32)], axis=-1)
            yield Clip(f"video{n}", "S1", "walk", "c", "train", 1000, 1000, poses, exact, detections)

    write_prepared(
        folder / "prepared", clips(), dataset="generated", protocol="cmu_cam", settings={}, fps=50.0,
        joints=JOINTS, parents=PARENTS, left=LEFT, right=RIGHT,
    )  # fmt: skip
    for t in LENGTHS:
        (folder / f"pickles-{t}").mkdir()
        windows = ClipWindows(PreparedData(folder / "prepared"), "train", t, t // 3)
        for number in range(len(windows)):
            inputs, targets = windows[number]
            content = pickle.dumps({"data_input": inputs.numpy(), "data_label": targets.numpy()})
            (folder / f"pickles-{t}" / f"{number:08d}.pkl").write_bytes(content)


def loader(folder: Path, way: str, frames: int, workers: int, seed: int) -> DataLoader:
    """Batches of random clips without end, read the one way or the other."""
    if way == "pickles":
        clips: Dataset = Pickles(folder / f"pickles-{frames}")
        how = {}
    else:
        clips = ClipWindows(PreparedData(folder / "prepared"), "train", frames, frames // 3)
        how = {"collate_fn": collate}
    order = RandomSampler(clips, replacement=True, num_samples=10**6, generator=torch.Generator().manual_seed(seed))
    return DataLoader(clips, BATCH, sampler=order, num_workers=workers, **how)


def memory() -> int:
    """Bytes that this process and its readers hold, shared pages divided among them."""
    own = psutil.Process()
    return sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])


def measure(folder: Path, way: str, frames: int, workers: int, seed: int, seconds: float) -> dict[str, float]:
    """Clips per second after the first batches, and the memory gained."""
    torch.set_num_threads(1)
    before, count, start = memory(), 0, 0.0
    for number, (inputs, _) in enumerate(loader(folder, way, frames, workers, seed)):
        count += len(inputs)
        if number == 8:  # the readers are up and their queues full
            start, count = time.perf_counter(), 0
        elif number > 8 and time.perf_counter() - start > seconds:
            return {"rate": count / (time.perf_counter() - start), "memory": (memory() - before) / 2**20}
    raise AssertionError("unreachable: the loader has no end")


def main() -> None:
    """Generate the data, compare both ways in fresh processes, print the table; `--cell` is one such process."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--frames", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--json", action="store_true")
    options.add_argument("--cell", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.cell:
        sys.stdout.write(json.dumps(measure(*map(_cast, json.loads(chosen.cell)))))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        generate(folder, chosen.frames)
        show(rows(compare(folder, chosen.rounds, chosen.seconds)), chosen.json, f"{chosen.frames:,} frames")


def _cast(value: object) -> object:
    return Path(value) if isinstance(value, str) and "/" in value else value


def compare(folder: Path, rounds: int, seconds: float) -> dict[tuple[str, int, int], list[dict[str, float]]]:
    """Every cell in every round, in a new order each time."""
    cells = [(way, t, workers) for t in LENGTHS for workers in WORKERS for way in WAYS]
    found, random = defaultdict(list), np.random.default_rng(0)
    for number in range(rounds):
        for place in random.permutation(len(cells)):
            cell = [str(folder), *cells[place], number, seconds]
            command = [sys.executable, __file__, "--cell", json.dumps(cell)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[cells[place]].append(json.loads(done.stdout))
    return found


def rows(found: dict[tuple[str, int, int], list[dict[str, float]]]) -> list[dict[str, object]]:
    """One row per T and number of readers: both ways and their ratio."""
    table = []
    for t in LENGTHS:
        for workers in WORKERS:
            row: dict[str, object] = {"frames": t, "readers": workers}
            rates = {way: np.array([m["rate"] for m in found[way, t, workers]]) for way in WAYS}
            for way in WAYS:
                rate = bootstrap_median(rates[way][:, None])
                row[f"{way} clips/s"] = f"{rate.value:,.0f} [{rate.low:,.0f}, {rate.high:,.0f}]"
                row[f"{way} MB"] = round(float(np.median([m["memory"] for m in found[way, t, workers]])))
            ratio = bootstrap_median((rates[WAYS[0]] / rates[WAYS[1]])[:, None])  # rounds are paired
            row["ratio"] = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
            table.append(row)
    return table


if __name__ == "__main__":
    main()
