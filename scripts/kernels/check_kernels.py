"""Run the numeric tests and the checks of generated files as other processors would compute them.

OpenBLAS takes its kernels by OPENBLAS_CORETYPE, torch its instructions by ATEN_CPU_CAPABILITY; other libraries ignore
both. Kernels that need instructions which this processor lacks are left out and named.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parents[2]
#: What computes with BLAS or torch, and is quick enough to run once for each kernel.
TESTS = (
    "tests/compare",
    "tests/search",
    "tests/evaluation/test_evaluate.py",
    "tests/publish/test_layout.py",
    "tests/publish/test_browse.py",
    "tests/scripts/test_build_zoo.py",
    "tests/training/test_equivalences.py",
    "tests/export/test_export_adapterhub.py::test_ranks_and_scales_that_differ_become_one",
)
CHECKS = (
    ("scripts/zoo/build_zoo.py", "--check"),
    ("scripts/evaluation/measure_runs.py", "--check"),
    ("scripts/evaluation/report.py", "--check"),
    ("scripts/zoo/methods_page.py", "--check"),
)
PYTEST = ("-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", *TESTS)
PROBE = """
import numpy as np
np.linalg.eigh(np.ones((99, 99)) @ np.ones((99, 99)))
from threadpoolctl import threadpool_info
print(*{one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"})
"""


@dataclass(frozen=True)
class Machine:
    """A processor as the libraries may take this one for: OpenBLAS's kernels, torch's instructions, threads."""

    kernels: str
    instructions: str
    threads: int

    def __str__(self) -> str:
        return f"{self.kernels}, {self.instructions}, {self.threads} thread{'s' * (self.threads > 1)}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A Python command in the checkout's root, with everything it says in `stdout`."""
        environment = {
            **os.environ,
            "OPENBLAS_CORETYPE": self.kernels,
            "ATEN_CPU_CAPABILITY": self.instructions,
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self.threads)),
        }
        command = [sys.executable, *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


MACHINES = (
    Machine("Haswell", "default", 1),
    Machine("Zen", "avx2", 2),
    Machine("SkylakeX", "default", 2),
    Machine("Prescott", "avx2", 1),
)


#: Kernels under which the checks of generated files have been made: OpenBLAS may take two names for one kernel, and the
#: checks do not use torch.
_checked: set[str] = set()
_lock = Lock()


def check(machine: Machine) -> tuple[bool, str]:
    """Whether everything passes there, and what to say of it."""
    began = time.monotonic()
    probe = machine.run("-c", PROBE)
    if probe.returncode < 0:  # ended by a signal: an instruction that is not there
        return True, f"{machine}: left out, this processor cannot run it"
    with _lock:
        new = probe.stdout not in _checked
        _checked.add(probe.stdout)
    for command in (*CHECKS * new, PYTEST):
        done = machine.run(*command)
        if done.returncode:
            return False, f"{done.stdout}\n{machine}: {' '.join(command)} failed"
    return True, f"{machine}: passed in {time.monotonic() - began:.0f} s (OpenBLAS: {probe.stdout.strip() or 'none'})"


def main() -> int:
    passed = True
    with ThreadPoolExecutor(2) as pool:
        for good, said in pool.map(check, MACHINES):
            print(said, flush=True)
            passed &= good
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
