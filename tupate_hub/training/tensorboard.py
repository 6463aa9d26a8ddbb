"""TensorBoard: a run's loss and held-out score as torch's own writer writes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tupate_hub.errors import TupateHubError
from tupate_hub.extras import is_installed
from tupate_hub.training.run import Pulse


@contextmanager
def events(folder: Path) -> Iterator[Pulse]:
    """What takes note of each step in a folder that TensorBoard reads, inside the block.

    Raises
    ------
    TupateHubError
        When TensorBoard is not installed.
    """
    if not is_installed("tensorboard"):
        raise TupateHubError("This needs tensorboard, which is not installed.", hint="pip install tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        said: list[float] = []

        def pulse(step: int, loss: float, held_out: float | None) -> None:
            writer.add_scalar("loss", loss, step)
            if held_out is not None and said[-1:] != [held_out]:
                said.append(held_out)
                writer.add_scalar("held-out score", held_out, step)

        yield pulse
