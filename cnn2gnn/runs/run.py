"""The run folder: what a run was asked, what it measured, what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from torch import Tensor, nn

from cnn2gnn.base.files import load_tensors, sweep
from cnn2gnn.config import BEFORE, Config, ConfigError, DataConfig
from cnn2gnn.data import Splits, load
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import manifest, results
from cnn2gnn.runs.epochs import EpochLog, learned
from cnn2gnn.runs.own import Own
from cnn2gnn.runs.teachers import teacher_folder

if TYPE_CHECKING:
    from cnn2gnn.models.bank import Bank
    from cnn2gnn.models.student import Student


class RunLockedError(RuntimeError):
    """Another process is working on this run."""


def load_run(run: str | Path, runs_dir: str | Path = "runs", **own: Any) -> Run:
    """Return a run by its name in `runs_dir`, or by its folder.

    Args:
        own: the objects of your own that it was made with: data, teacher, stem, graph, loss.

    Raises:
        FileNotFoundError: there is no run of this name and none in this folder.
        ValueError: an object is another one than the run was made with.
    """
    named = Path(runs_dir) / run
    places = dict.fromkeys((named, Path(run)))
    folder = next((place for place in places if (place / manifest.FILE).is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"no run in {' or '.join(map(str, places))}")
    teacher = own.get("teacher")
    if isinstance(teacher, nn.Module) and not isinstance(teacher, Teacher):  # as `distil` takes it
        images = Run.open(folder, Own(**own | {"teacher": None})).load_splits().train
        own["teacher"] = Teacher.around(teacher, images)
    return Run.open(folder, Own(**own))


def load_splits(config: DataConfig) -> Splits:
    """Load the configured data set."""
    return load(
        config.dataset,
        data_dir=config.data_dir,
        download=config.download,
        image_size=config.image_size,
        label_column=config.label_column,
        group_column=config.group_column,
        train_images=config.train_images,
        validation=config.validation,
        split_seed=config.split_seed,
    )


class Run:
    """One run's folder, `runs/<run>/`. Create it with `Run.create`, read it with `Run.open`.

    Args:
        manifest: what it was made from.
        own: objects of the user's own that are at hand.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], own: Own | None = None) -> None:
        self.folder, self.manifest, self.own = folder, manifest, own or Own()
        try:
            self.config = Config.from_parameters(BEFORE | manifest["parameters"])
        except ConfigError as error:
            raise ConfigError(f"{folder / 'config.json'}: {error}") from error
        self._splits: Splits | None = None

    @property
    def made_with(self) -> dict[str, str]:
        """Fingerprints of the objects of the user's own that the run was made with, by name."""
        return self.manifest["own"]

    @classmethod
    def create(cls, config: Config, splits: Splits, own: Own | None = None) -> Run:
        """Return the run of this configuration and data, new or begun earlier with the same.

        A run that has not finished an epoch yet has learned nothing, and begins anew.

        Raises:
            ConfigError, DataError: a run of this name exists with other parameters, objects,
                precision or images; nothing is touched.
        """
        folder, own = Path(config.runtime.runs_dir) / config.runtime.run, own or Own()
        run = cls(folder, manifest.make(config, splits, own), own)
        run._splits = splits
        run._go_on()
        return run

    @classmethod
    def open(cls, folder: str | Path, own: Own | None = None) -> Run:
        """Return the run that lies in `folder`.

        Args:
            own: the objects it was made with, as far as they are needed.

        Raises:
            FileNotFoundError: there is no run in this folder.
            ValueError: its manifest is damaged or asks for what is not known here, or an object is
                another one than it was made with.
        """
        content, own = manifest.read(Path(folder)), own or Own()
        own.check(content["own"], Path(folder).name)
        return cls(Path(folder), content, own)

    def bind_teacher(self, fingerprint: str) -> None:
        """Remember the teacher of this run.

        Raises:
            ConfigError: it has learned from another one; both are named.
        """
        before = self.manifest["teacher"]
        if before not in (None, fingerprint):
            raise ConfigError(
                f"run {self.folder.name!r} was taught by teacher {before}, this one is "
                f"{fingerprint}; choose another run name or delete {self.folder}"
            )
        self.manifest["teacher"] = fingerprint
        self.save()

    def stage_done(self, stage: str, made_by: dict[str, Any] | None = None) -> None:
        """Remember by what code and where a stage was made; None: here and now."""
        here = manifest.environment() | {"hardware": self.manifest["hardware"]}
        self.manifest["stages"][stage] = made_by or here
        self.save()

    def save(self) -> None:
        """Write the manifest; whoever writes holds the lock."""
        manifest.write(self.folder, self.manifest)

    def lock(self) -> None:
        """Hold the run for this process, until it ends, and write its manifest.

        The lock is that of the operating system (`flock`), also between the machines that share a
        volume, as far as the volume hands it on; filelock keeps a file with the holder's name where
        there is none.

        Raises:
            RunLockedError: another process holds it.
            ConfigError, DataError: it has meanwhile begun the run with something else.
        """
        # one lock a process: a notebook's cell that starts the run may be run again
        self._lock = FileLock(self.folder / ".lock", is_singleton=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunLockedError(
                f"another process is working on {self.folder}; wait for it or choose another run"
            ) from None
        sweep(self.folder)  # what a process that was killed has left
        before = self._go_on()  # again: others may have been here before the lock was ours
        if before is not None:
            manifest.tell(before, self.manifest, self.folder)
        self.save()

    def unlock(self) -> None:
        """Let go of the run, if this process holds it."""
        FileLock(self.folder / ".lock", is_singleton=True).release(force=True)

    def load_splits(self) -> Splits:
        """Return the data of the run: your own, or the configured data set.

        Raises:
            DataError: they are no longer those that the run was made with.
        """
        if self._splits is None:
            splits = self._own("data") or load_splits(self.config.data)
            manifest.check_data(
                self.manifest["data"], manifest.data_facts(splits), self.folder.name
            )
            self._splits = splits
        return self._splits

    def load_student(self, stage: str = "student") -> Student:
        """Return the trained student, or a baseline of this name, in evaluation mode."""
        from cnn2gnn.models.student import Student

        graph = None if stage == "twin" else self._own("graph")
        path = self.stage_folder(stage) / "student.safetensors"
        return Student.restore(*self._tensors(path), path, self._own("stem"), graph)

    @property
    def modality(self) -> str:
        """What the samples are, as the trained student tells: a name in `registry.MODALITIES`."""
        _, architecture = self._tensors(self.stage_folder("student") / "student.safetensors")
        return architecture.get("modality", "image")  # older versions knew images alone

    def load_bank(self) -> Bank:
        """Return the bank saved with the student."""
        from cnn2gnn.models.bank import Bank

        path = self.folder / "bank.safetensors"
        return Bank.restore(self._tensors(path)[0], path)

    def load_nodes(self) -> dict[str, Tensor]:
        """Return the test images as nodes (protocol inductive): see `evaluation.nodes`."""
        return self._tensors(self.folder / "nodes.safetensors")[0]

    @property
    def teacher_path(self) -> Path:
        """Where the configured teacher lies, beside this run wherever that is now."""
        folder = teacher_folder(
            self.config, self.load_splits(), self.manifest["hardware"]["precision"]
        )
        return self.folder.parent / "teachers" / folder.name / "teacher.safetensors"

    def metrics(self) -> dict[str, Any]:
        """Return the final metrics, `metrics.json`. Errors as of `results.read`."""
        return results.read(self.folder, self.manifest)

    def history(self) -> list[dict[str, Any]]:
        """Return one row per stage and epoch, from `metrics.jsonl`."""
        return EpochLog.read(self.folder)

    def stage_folder(self, stage: str) -> Path:
        """Where `student`, or a baseline of this name, keeps weights, checkpoint and snapshots."""
        return self.folder if stage == "student" else self.folder / "baselines" / stage

    def snapshots(self, baseline: str | None = None) -> list[tuple[int, dict[str, Tensor]]]:
        """Return the graph over fixed validation images after each pass of stage two, from 0."""
        folder = self.stage_folder(baseline or "student") / "snapshots"
        paths = sorted(folder.glob("epoch-*.safetensors"))
        return [(int(path.stem.split("-")[1]), self._tensors(path)[0]) for path in paths]

    def _go_on(self) -> dict[str, Any] | None:
        """Compare with what the run has been so far, take over what is done, and return it all.

        What may differ is today's; what made a stage is kept with the stage.
        """
        if not learned(self.folder):
            return None  # it has learned nothing: what it was to be is of no account
        before = manifest.read(self.folder)
        manifest.compare(before, self.manifest, self.folder)
        self.manifest |= {name: before[name] for name in ("teacher", "stages")}
        return before

    def _tensors(self, path: Path) -> tuple[dict[str, Tensor], Any]:
        """Read a file of the run; of a finished one, it must be that which it was finished with."""
        return load_tensors(path, results.told_checksum(self.folder, path))

    def _own(self, name: str) -> Any:
        return self.own.needed(name, self.made_with, self.folder.name)
