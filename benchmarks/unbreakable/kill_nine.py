"""`kill -9` at random moments of a run and of its report: what is there when it was started again?

    python benchmarks/unbreakable/kill_nine.py --kills 50 --seed 0

Each trial begins in an empty folder, is killed once and started again with the same words. The end
must be that of a run nobody disturbed: the same files, every tensor and every figure of the metrics
bit for bit, and no temporary file anywhere. Half of the moments are chosen by the clock; half are
writes, in which a clock seldom hits: the file half written, whole but without its name, just named.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import kill_nine_child
import pandas
import psutil
import torch
from small_run import write_photos

from cnn2gnn.base.files import load_tensors

# A server that has imported everything forks each child: those would do little else.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["kill_nine_child"])
# Until Python 3.13 the server does not look beside this file (gh-117378), and imports nothing then.
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
PHASES = ("half written", "not yet named", "just named")
# A report takes ten times a small run: one kill in so many is of a report.
REPORT_EVERY = 20
# What a machine measures of itself is never the same twice.
TIMES = ("measured", "images_per_second", "seconds")


@dataclass(frozen=True)
class Moment:
    """When a child is killed: after `seconds` of computing, or in its `write`-th write."""

    step: str  # "run" or "report"
    seconds: float = 0.0
    write: int | None = None
    phase: str = ""

    def __str__(self) -> str:
        when = f"{self.seconds:6.2f} s" if self.write is None else f"write {self.write}"
        return f"{self.step} {when} {self.phase}".rstrip()


@dataclass(frozen=True)
class Outcome:
    """What came of a kill; `wrong` is empty where nothing was lost."""

    moment: Moment
    stage: str
    left: int  # temporary files that the killed process left
    wrong: str


class Place:
    """A folder of one trial: data, decoded store, runs, reports, and what is temporary."""

    def __init__(self, folder: Path, photos: Path) -> None:
        self.folder, self.photos = folder, photos
        (folder / "tmp").mkdir(parents=True)

    def killed(self, moment: Moment) -> bool:
        """Start, and kill at that moment; False where it had ended before."""
        process, told = self._start(moment.step, moment.write, moment.phase)
        clock = psutil.Process(process.pid)
        with suppress(psutil.NoSuchProcess):  # it has ended, one way or the other
            while moment.write is None and process.is_alive() and not told.poll():
                times = clock.cpu_times()
                if times.user + times.system >= moment.seconds:
                    process.kill()
                    break
                time.sleep(0.005)
        process.join()
        return process.exitcode == -signal.SIGKILL

    def finished(self, step: str) -> tuple[float, int]:
        """Run to the end; return the seconds of computing and the number of writes.

        Raises:
            RuntimeError: it fails, with what it said.
        """
        process, told = self._start(step)
        clock, spent = psutil.Process(process.pid), 0.0
        while process.is_alive() and not told.poll(0.05):
            times = clock.cpu_times()
            spent = times.user + times.system
        said = told.recv()
        process.join()
        if not isinstance(said, int):
            raise RuntimeError(f"{step} failed: {said}")
        return spent, said

    def _start(
        self, step: str, write: int | None = None, phase: str = ""
    ) -> tuple[BaseProcess, Connection]:
        """Start the run, or the report, in a process of its own."""
        told, tell = PROCESSES.Pipe(duplex=False)
        arguments = (self.folder, self.photos, step, write, phase, tell)
        process = PROCESSES.Process(target=kill_nine_child.work, args=arguments)
        process.start()
        tell.close()
        return process, told

    def temporaries(self) -> list[Path]:
        """Files and folders that nobody is to find here after the end."""
        hidden = [path for path in self.folder.rglob(".*") if path.name != ".lock"]
        return hidden + list((self.folder / "tmp").iterdir())

    def stage(self) -> str:
        """What was being done, by what is there."""
        runs = self.folder / "runs"
        if not list((self.folder / "cache").rglob("*.safetensors")):
            return "data"
        if not list(runs.glob("teachers/*/teacher.json")):
            return "teacher"
        if not (runs / "r" / "metrics.jsonl").exists():
            # the log begins with the first epoch of the student, after the cache
            views = len(list(runs.glob("teachers/*/cache/*/view-*.safetensors")))
            return "cache" if views < 2 else "student"
        if (runs / "r" / "metrics.json").exists():
            return "report"
        done = json.loads((runs / "r" / "config.json").read_text())["stages"]
        order = ("student", "student-graph", "twin-graph", "undistilled", "undistilled-graph")
        return next((stage for stage in order if stage not in done), "evaluation")


def differences(expected: Path, found: Path) -> list[str]:
    """Return what is not the same in two folders: files, tensors, metrics."""
    names = [
        {str(p.relative_to(f)) for p in f.rglob("*") if p.is_file() and ".lock" not in p.name}
        for f in (expected, found)
    ]
    wrong = [f"{name}: only in one" for name in sorted(names[0] ^ names[1])]
    for name in sorted(names[0] & names[1]):
        if not _same(expected / name, found / name):
            wrong.append(f"{name}: differs")
    return wrong


def _same(expected: Path, found: Path) -> bool:
    if expected.suffix == ".safetensors":
        (one, facts), (two, others) = load_tensors(expected), load_tensors(found)
        same = one.keys() == two.keys() and all(torch.equal(t, two[n]) for n, t in one.items())
        # the decoded store names its files by the place they lie in
        return same and ("state" in (facts or {}) or facts == others)
    if expected.name == "metrics.json":
        one, two = (json.loads(path.read_text()) for path in (expected, found))
        return _untimed(one) == _untimed(two)
    if expected.suffix == ".jsonl":
        rows = [
            [json.loads(line) for line in p.read_text().splitlines()] for p in (expected, found)
        ]
        return _untimed(rows[0]) == _untimed(rows[1])
    if expected.suffix == ".csv" and expected.stem not in ("cost", "pareto_points", "runs"):
        return pandas.read_csv(expected).equals(pandas.read_csv(found))
    if expected.name == "config.json":  # the rest is of a place and a time
        one, two = (json.loads(path.read_text()) for path in (expected, found))
        return all(one[n] == two[n] for n in ("data", "teacher")) and [*one["stages"]] == [
            *two["stages"]
        ]
    return True  # figures and pages hold times


def _untimed(content: object) -> object:
    """Metrics without what a clock has said."""
    if isinstance(content, dict):
        return {n: _untimed(v) for n, v in content.items() if n not in (*TIMES, "checksum")}
    return [_untimed(v) for v in content] if isinstance(content, list) else content


def trial(moment: Moment, unbroken: Place, folder: Path) -> Outcome:
    """Kill at `moment`, start again, compare with what was not disturbed."""
    place = Place(folder, unbroken.photos)
    try:
        if moment.step == "report":  # of a run that is whole
            for name in ("runs", "cache"):
                shutil.copytree(unbroken.folder / name, folder / name)
            shutil.rmtree(folder / "runs" / "r" / "explore", ignore_errors=True)
        if not place.killed(moment):
            return Outcome(moment, "ended before it", 0, "")
        stage, left = place.stage(), len(place.temporaries())
        place.finished(moment.step)
        wrong = [f"temporary: {path.relative_to(folder)}" for path in place.temporaries()]
        for part in ("runs", "cache", *(["report"] if moment.step == "report" else [])):
            expected = unbroken.folder / part
            wrong += differences(expected, folder / part)
        if moment.step == "run":  # the unbroken run has a report's map beside it
            wrong = [what for what in wrong if "explore/umap" not in what]
        return Outcome(moment, stage, left, "; ".join(wrong[:3]))
    except RuntimeError as error:
        return Outcome(moment, place.stage(), 0, str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def moments(kills: int, spent: dict[str, tuple[float, int]], chance: random.Random) -> list[Moment]:
    """Draw moments: by the clock and by the write in turn, of a report one in `REPORT_EVERY`."""
    drawn = []
    for number in range(kills):
        step = "report" if "report" in spent and number % REPORT_EVERY == 7 else "run"
        seconds, writes = spent[step]
        if (number // REPORT_EVERY if step == "report" else number) % 2:
            write, phase = chance.randrange(writes), PHASES[chance.randrange(len(PHASES))]
            drawn.append(Moment(step, write=write, phase=phase))
        else:
            drawn.append(Moment(step, seconds=chance.uniform(0, 0.95 * seconds)))
    return drawn


def measure(
    kills: int, seed: int, jobs: int, images: int, folder: Path, steps: Sequence[str]
) -> list[Outcome]:
    """Run undisturbed, then `kills` trials; print a line for each."""
    write_photos(folder / "photos", images)
    unbroken = Place(folder / "unbroken", folder / "photos")
    spent = {step: unbroken.finished(step) for step in steps}
    for step, (seconds, writes) in spent.items():
        print(f"undisturbed {step}: {seconds:.1f} s, {writes} writes", flush=True)
    drawn = moments(kills, spent, random.Random(seed))

    def one(numbered: tuple[int, Moment]) -> Outcome:
        number, moment = numbered
        outcome = trial(moment, unbroken, folder / f"trial-{number}")
        verdict = outcome.wrong or "same bits, nothing left"
        print(
            f"{number:3d}  {moment!s:32s} {outcome.stage:18s} {outcome.left:2d} left  {verdict}",
            flush=True,
        )
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, enumerate(drawn)))


def main() -> int:
    """Print every kill and what came of it; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="trials beside one another")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--no-report", action="store_true", help="kill runs only")
    options = parser.parse_args()
    steps = ("run",) if options.no_report else ("run", "report")
    with tempfile.TemporaryDirectory(prefix="kill-nine-") as folder:
        outcomes = measure(
            options.kills, options.seed, options.jobs, options.images, Path(folder), steps
        )
    by_stage = pandas.DataFrame(
        [(o.stage, o.left, not o.wrong, bool(o.wrong)) for o in outcomes],
        columns=["stage", "temporaries left by the kill", "same in the end", "lost"],
    )
    table = by_stage.groupby("stage", sort=False).sum()
    table.insert(0, "kills", by_stage.groupby("stage", sort=False).size())
    print(f"\n{table.to_string()}\nlost: {int(table['lost'].sum())} of {len(outcomes)}")
    return int(table["lost"].any())


if __name__ == "__main__":
    sys.exit(main())
