"""Devices: where this computer's torch can tune."""

from __future__ import annotations


def devices() -> tuple[str, ...]:
    """The names that `device` takes here, each with what it is; why there is none where torch cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a library of another platform
        return (f"none: torch cannot be imported ({str(error)[:100]})",)
    found = [f"cpu ({torch.get_num_threads()} threads)"]
    found += [f"cuda ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps (Apple)")
    return tuple(found)
