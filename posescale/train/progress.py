"""A progress bar on the terminal; nothing where there is none, so that logs stay readable."""

import os
import sys
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_callbacks() -> list[L.Callback]:
    """The bar when standard error is a terminal and no CI system is at work, else nothing."""
    return [EpochBar()] if sys.stderr.isatty() and "CI" not in os.environ else []


class EpochBar(L.Callback):
    """Batches done of all, with the newest loss and validation error."""

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Draw the bar, at the place where a resumed run goes on."""
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        per_epoch = trainer.num_training_batches
        self.task = self.bar.add_task(
            "training", total=per_epoch * trainer.max_epochs, completed=per_epoch * trainer.current_epoch
        )
        self.bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """One batch further."""
        self.bar.update(self.task, advance=1)

    def on_validation_end(self, trainer: L.Trainer, module: Any) -> None:
        """Show the epoch's figures."""
        self.bar.update(self.task, description=f"epoch {trainer.current_epoch + 1}, {module.figures()}")

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Remove the bar."""
        self.bar.stop()

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """Give the terminal back."""
        if hasattr(self, "bar"):
            self.bar.stop()
