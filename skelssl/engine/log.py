"""The log of a run: log.csv, TensorBoard, and a progress bar on a terminal or plain lines elsewhere."""

import csv
import sys
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


class Log:
    """Writes one row an epoch; rows from `first_epoch` on, of an interrupted run, are taken out."""

    def __init__(self, folder: Path, first_epoch: int, epochs: int):
        self.path = folder / "log.csv"
        self.rows = [row for row in read_log(folder) if int(row["epoch"]) < first_epoch]
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch)
        self.on_terminal = sys.stderr.isatty()
        self.bar = tqdm(total=epochs, initial=first_epoch, unit="epoch", disable=not self.on_terminal)
        self.epochs = epochs

    def epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Adds the row of a finished epoch."""
        self.rows.append({"epoch": str(epoch), **{name: f"{value:.9g}" for name, value in values.items()}})
        self._write()
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.bar.set_postfix(loss=f"{values['loss']:.1f}")
        self.bar.update()
        if not self.on_terminal:
            described = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            print(f"epoch {epoch + 1} of {self.epochs}: {described}", flush=True)

    def _write(self) -> None:
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            # a column stands where its first value does: not every epoch has a probe
            table = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for row in self.rows for name in row)))
            table.writeheader()
            table.writerows(self.rows)
        partial.replace(self.path)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.writer.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Rows of a run's log.csv; none where there is none."""
    path = folder / "log.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
