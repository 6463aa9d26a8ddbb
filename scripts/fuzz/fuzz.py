"""Feed changed files to every reader of the project, and stop at the first that does anything but read or refuse.

    python scripts/fuzz/fuzz.py --count 100000 --seed 0 [--extra DIR] [--target NAME]

Each case gives a valid result or a TupateHubError in one clean sentence, within a second of processor time and 4 times
its bytes plus 64 MB of memory, and runs nothing: an audit hook refuses programs, sockets, writing and foreign imports.
A case that fails is saved with its traceback, and the exit code is 1. Case i of seed s is the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from fuzz_inputs import Files, Seed, extra_seeds, make_seeds, mutate  # noqa: E402

from tupate_hub.check.basemodel import BaseModel  # noqa: E402
from tupate_hub.check.checking import Place, check_adapters, document  # noqa: E402
from tupate_hub.embedding import Adapter, TaskEmbedding, embed, parse_embedding  # noqa: E402
from tupate_hub.errors import TupateHubError  # noqa: E402
from tupate_hub.readers import detect, read_adapter  # noqa: E402
from tupate_hub.readers.checkpoint import INDEX  # noqa: E402
from tupate_hub.readers.finetuned import open_finetuned, read_finetuned  # noqa: E402
from tupate_hub.readers.formats.gguffile import parse_gguf_file  # noqa: E402
from tupate_hub.readers.formats.torchfile import parse_torch_file  # noqa: E402
from tupate_hub.storage.safetensors import parse_tensorfile  # noqa: E402

MOST_SECONDS = 1.0
MOST_BYTES_TIMES, MOST_BYTES_MORE = 4, 64_000_000
#: A case that still runs after this many seconds of processor time hangs (the clock says nothing on a busy machine).
PATIENCE = 10

_FORBIDDEN_EVENTS = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill", "os.putenv", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "code.__new__",
    "subprocess.Popen", "pickle.find_class", "marshal.load", "webbrowser.open",
}  # fmt: skip
_FORBIDDEN_FAMILIES = ("socket.", "ctypes.", "shutil.", "urllib.", "http.", "ftplib.", "smtplib.")
_WRITING = 0o3 | 0o100 | 0o1000 | 0o2000
_KNOWN_MODULES = sys.stdlib_module_names | {"numpy", "tupate_hub"}


class Forbidden(BaseException):
    """A reader did what no reader does. No Exception, so that nothing in between swallows it."""


# ---- what is fed, and what counts as a result -----------------------------------------------------------------------


def _check_array(array: Any) -> None:
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise Forbidden(f"not an array of numbers: {array!r:.200}")


def _feed_tensorfile(files: Files, folder: Path) -> None:
    for array in parse_tensorfile(files["file"], "file").tensors.values():
        _check_array(array)


def _feed_torchfile(files: Files, folder: Path) -> None:
    read = parse_torch_file(files["file"], "file")
    for array in read.values() if isinstance(read, dict) else [read]:
        _check_array(array)
        np.ascontiguousarray(array)


def _feed_embedding(files: Files, folder: Path) -> None:
    _check_embedding(parse_embedding(files["file"], "file"))


def _feed_adapter(files: Files, folder: Path) -> None:
    path = folder if len(files) > 1 else folder / next(iter(files))
    detect(path)
    adapter = read_adapter(path, base="bert-base-uncased", task="task")
    if not isinstance(adapter, Adapter) or not adapter.blocks:
        raise Forbidden("no adapter")
    _check_embedding(embed(adapter, "task"))


def _feed_gguffile(files: Files, folder: Path) -> None:
    for array in parse_gguf_file(files["file"], "file")[0].values():
        _check_array(array)


def _feed_finetuned(files: Files, folder: Path) -> None:
    model = folder if INDEX in files else folder / "model.safetensors"
    pair = open_finetuned(model, folder / "base.safetensors")
    _check_embedding(embed(read_finetuned(pair, pair.names, rank=2, base="bert-base-uncased"), "task"))


def _feed_check(files: Files, folder: Path) -> None:
    path = folder if len(files) > 1 else folder / next(iter(files))
    found = check_adapters([Place("adapter", path)], BASE)
    json.dumps(document(found), allow_nan=False)
    if found[0].facts["method"] is None and all(one.rule.severity == "note" for one in found[0].findings):
        raise Forbidden("not read, and nothing is said of it")


def _check_embedding(embedding: TaskEmbedding) -> None:
    for block in embedding.blocks:
        for part in block.parts.values():
            _check_array(part)
            if part.dtype != np.float32 or not np.isfinite(part).all():
                raise Forbidden(f"{block.name!r} holds NaN, or is no float32")
    embedding.to_bytes("float32")


#: What adapters are checked against: a model whose names and shapes its configuration tells.
BASE = BaseModel("base", {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 50})

Target = Callable[[Files, Path], None]

TARGETS: Mapping[str, Target] = {
    "adapter": _feed_adapter,
    "check": _feed_check,
    "tensorfile": _feed_tensorfile,
    "torchfile": _feed_torchfile,
    "gguffile": _feed_gguffile,
    "finetuned": _feed_finetuned,
    "embedding": _feed_embedding,
}

# ---- the guards -----------------------------------------------------------------------------------------------------

_guarded = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarded:
        return
    refused = event in _FORBIDDEN_EVENTS or event.startswith(_FORBIDDEN_FAMILIES)
    if event == "open":
        refused = isinstance(arguments[2], int) and bool(arguments[2] & _WRITING)
    elif event == "import":
        refused = str(arguments[0]).partition(".")[0] not in _KNOWN_MODULES
    elif event == "marshal.loads":  # the standard library imports its encodings as they are needed
        refused = not sys._getframe(1).f_code.co_filename.startswith("<frozen importlib")
    elif event == "exec":
        refused = getattr(arguments[0], "co_filename", "<none>").startswith("<string")
    if refused:
        raise Forbidden(f"{event} {arguments!r:.300}")


def _hang(number: int, frame: Any) -> None:
    raise Forbidden(f"still running after {PATIENCE} seconds")


@contextmanager
def _guard() -> Iterator[None]:
    global _guarded
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    _guarded = True
    try:
        yield
    finally:
        _guarded = False
        signal.setitimer(signal.ITIMER_PROF, 0)


@dataclass
class Tally:
    """What came of the cases so far."""

    results: Counter[str] = field(default_factory=Counter)
    sentences: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    #: The most memory of a case beyond 4 times its bytes.
    largest: tuple[float, str] = (-1e9, "")

    def summary(self) -> str:
        """The counts as text."""
        lines = [f"{count:8} {name}" for name, count in sorted(self.results.items())]
        lines += [f"{len(self.sentences):8} different sentences"]
        lines += [f"slowest {self.slowest[0]:.3f} s: {self.slowest[1]}"]
        lines += [f"largest, beyond 4 times its bytes, {self.largest[0] / 1e6:.1f} MB: {self.largest[1]}"]
        return "\n".join(lines)


def try_case(target: Target, files: Files, folder: Path, name: str, tally: Tally) -> str | None:
    """Feed one case to one target; returns what is wrong, or None."""
    for file, data in files.items():
        (folder / file).write_bytes(data)
    size = sum(map(len, files.values()))
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    wrong, outcome = None, "read"
    try:
        with _guard():
            target(files, folder)
    except TupateHubError as error:
        outcome, wrong = "refused", _wrong_with(error, folder)
        tally.sentences[re.sub(r"(['\"]).*\1|/\S+|\d+", "#", error.message)] += 1
    except BaseException as error:  # the fuzzer's purpose is to see all of them
        if isinstance(error, KeyboardInterrupt):
            raise
        wrong = "".join(traceback.format_exception(error, limit=-8))
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1] - before
    for file in files:
        (folder / file).unlink()
    tally.results[f"{name.partition(':')[0]} {outcome}"] += 1
    tally.slowest = max(tally.slowest, (seconds, name))
    tally.largest = max(tally.largest, (peak - MOST_BYTES_TIMES * size, name))
    if wrong is None and seconds > MOST_SECONDS:
        wrong = f"took {seconds:.2f} s"
    if wrong is None and peak > MOST_BYTES_TIMES * size + MOST_BYTES_MORE:
        wrong = f"took {peak / 1e6:.0f} MB for {size} bytes"
    return wrong


def _wrong_with(error: TupateHubError, folder: Path) -> str | None:
    """What keeps a refusal from being a sentence that can be printed."""
    try:
        told = f"{error.message} {error.hint}".encode().decode()
    except UnicodeEncodeError:
        return f"a message that cannot be printed: {error.message!r}"
    if not told.replace(str(folder), "").isprintable():
        return f"a message with control characters: {error.message!r}"
    if not 10 < len(error.message) < 1000 or not error.message.endswith((".", ")", "?")):
        return f"no sentence, or too long a one: {error.message!r}"
    return None


def run(
    targets: Mapping[str, Target], seeds: Sequence[Seed], count: int, seed: int, failures: Path, start: int = 0
) -> tuple[Tally, list[Path]]:
    """Try `count` cases; returns the tally and the folders in which those that failed were saved."""
    tally, failed = Tally(), []
    seeds = [one for one in seeds if one.target in targets]
    # Small files are changed more often: they take less time, and more of their bytes matter.
    weights = list(accumulate(1 / (1 + sum(map(len, one.files.values())) / 50_000) for one in seeds))
    previous = signal.signal(signal.SIGPROF, _hang)
    tracemalloc.start()
    try:
        with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
            warnings.simplefilter("error")
            for index in range(start, start + count):
                rng = random.Random(f"{seed}:{index}")
                chosen = rng.choices(seeds, cum_weights=weights)[0]
                files = mutate(chosen, list(seeds), rng)
                label = f"{chosen.target}: case {index} of {chosen.name}"
                wrong = try_case(targets[chosen.target], files, Path(name), label, tally)
                if wrong is not None:
                    failed.append(_save(failures / f"{seed}-{index}", files, f"{label}\n{wrong}\n"))
                    print(f"FAILED {label}\n{wrong[:2000]}", file=sys.stderr)
                if (index + 1) % 5000 == 0:
                    print(f"{index + 1 - start} of {count}, {len(failed)} failed", file=sys.stderr, flush=True)
    finally:
        tracemalloc.stop()
        signal.signal(signal.SIGPROF, previous)
    return tally, failed


def warm_up(targets: Mapping[str, Target], seeds: Sequence[Seed]) -> None:
    """Read every seed unchanged, so that all lazy imports have happened."""
    with tempfile.TemporaryDirectory() as name:
        for seed in seeds:
            tally = Tally()
            if seed.target in targets:
                wrong = try_case(targets[seed.target], dict(seed.files), Path(name), seed.name, tally)
                if wrong is not None:
                    print(f"the seed {seed.name!r} of {seed.target} fails unchanged:\n{wrong}", file=sys.stderr)


def _save(folder: Path, files: Files, report: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "REPORT.txt").write_text(report, errors="backslashreplace")
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzer; 0 when every case was read or refused."""
    parser = argparse.ArgumentParser(description="Feed changed files to every reader.")
    parser.add_argument("--count", type=int, default=10_000, help="cases to try")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    parser.add_argument("--start", type=int, default=0, help="number of the first case, to repeat one")
    parser.add_argument("--extra", type=Path, help="a folder of adapters to change as well")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this reader")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="where cases that fail are saved")
    options = parser.parse_args(arguments)
    targets = {name: TARGETS[name] for name in options.target or TARGETS}
    seeds = make_seeds() + (extra_seeds(options.extra) if options.extra else [])
    seeds += [replace(one, target="check") for one in seeds if one.target == "adapter"]
    warm_up(targets, seeds)
    began = time.perf_counter()
    tally, failed = run(targets, seeds, options.count, options.seed, options.failures, options.start)
    print(tally.summary())
    print(f"{options.count} cases in {time.perf_counter() - began:.0f} s, {len(failed)} failed")
    return 1 if failed else 0


sys.addaudithook(_audit)

if __name__ == "__main__":
    sys.exit(main())
