"""Several processes: they do what one does, they stop together, and notebooks can ask for them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning_fabric
import nbformat
import psutil
import pytest
import torch
from conftest import small_config
from test_training import LineTask
from torch import nn

from cnn2gnn import notebooks
from cnn2gnn.base.files import load_tensors, save_tensors
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.distillation import precision
from cnn2gnn.distillation.batch_norm import CPUSyncBatchNorm, synchronise
from cnn2gnn.distillation.distil import distil
from cnn2gnn.distillation.loop import Recipe, fit
from cnn2gnn.distillation.processes import make_fabric, start
from cnn2gnn.distillation.teacher import TeacherTask, new_teacher
from cnn2gnn.registry import LOSSES
from cnn2gnn.runs import Run, hardware, load_splits
from cnn2gnn.runs.epochs import EpochLog
from cnn2gnn.runs.hardware import device_kind, resolve_precision

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]),
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
RECIPES = {
    "even": Recipe(3, 8, "adamw", 0.02, 0.01),
    "uneven": Recipe(3, 7, "sgd", 0.05, 0.01, gradient_clip=0.5),
    "averaged": Recipe(3, 9, "adamw", 0.02, 0.01, gradient_clip=1.0, ema=0.8),
}
STEEP = Recipe(2, 63, "sgd", 0.1, 5e-4, gradient_clip=5.0)


def resnet(fabric: Any) -> TeacherTask:
    """The default teacher on digits."""
    config = Config.from_parameters(train_images=200, device="cpu")
    splits = load_splits(config.data)
    return TeacherTask(new_teacher(config, splits.train), splits, "crop", 0.1, fabric.device)


class NormTask(LineTask):
    """Batch norm of both kinds and no dropout: all that a single process does can be compared."""

    def __init__(self, poisoned: bool = False) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.x = torch.randn(40, 3, 4, 4) * 3 + 5
        self.y = self.x.mean((1, 2, 3))[:, None]
        self.module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 3, bias=False),  # batch norm would leave its gradient at noise
            torch.nn.BatchNorm2d(6),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(24, 5, bias=False),
            torch.nn.BatchNorm1d(5),
            torch.nn.Linear(5, 1),
        )
        self.poisoned = poisoned

    def loss(self, model: torch.nn.Module, indices: torch.Tensor, epoch: int) -> torch.Tensor:
        loss = super().loss(model, indices, epoch)
        return loss * float("nan") if self.poisoned and epoch == 1 else loss


def train(folder: Path) -> None:
    """What each of torchrun's processes does in the first test."""
    fabric = make_fabric("cpu", 2, 1, "32-true")
    rank = fabric.global_rank
    for name, recipe in RECIPES.items():
        rows: list[dict[str, float]] = []
        module = fit(NormTask(), recipe, fabric, folder / name, rows.append)
        losses = torch.tensor([row["loss"] for row in rows])
        state = module.state_dict() | {"losses": losses}
        save_tensors(folder / f"{name}-{rank}.safetensors", state)
    double = make_fabric("cpu", 2, 1, "64-true")
    module = fit(resnet(double), STEEP, double, folder / "resnet", lambda _: None)
    save_tensors(folder / f"resnet-{rank}.safetensors", module.state_dict())
    try:
        fit(NormTask(poisoned=rank == 1), RECIPES["even"], fabric, folder / "nan", lambda _: None)
    except ArithmeticError as error:
        (folder / f"stopped-{rank}").write_text(str(error))


def run_on_two_machines(*command: str) -> None:
    """As README says, but for the machines: both are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meeting = ["--rdzv-backend=c10d", "--rdzv-id=7", f"--rdzv-endpoint={endpoint}"]
    agents = [
        subprocess.Popen(
            [*torchrun, *meeting, *command], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for agent in agents:
        _, said = agent.communicate(timeout=240)
        assert agent.returncode == 0, said


def run_in_two(*command: str, timeout: int = 240) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*TORCHRUN, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_train_the_weights_of_one_and_stop_together(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib\nfrom test_processes import train\ntrain(pathlib.Path(sys.argv[1]))"
    )
    run_in_two(str(script), str(tmp_path))
    single = make_fabric("cpu", 1, 1, "32-true")
    for name, recipe in RECIPES.items():
        rows: list[dict[str, float]] = []
        one = fit(NormTask(), recipe, single, tmp_path / f"one-{name}", rows.append)
        found = [load_tensors(tmp_path / f"{name}-{rank}.safetensors")[0] for rank in (0, 1)]
        logged = found[0].pop("losses")
        assert not len(found[1].pop("losses")), "rank 1 has logged too"
        torch.testing.assert_close(logged, torch.tensor([row["loss"] for row in rows]))
        for key, expected in one.state_dict().items():
            torch.testing.assert_close(found[0][key], expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found[1][key], found[0][key], rtol=0, atol=0)
    double = make_fabric("cpu", 1, 1, "64-true")  # where rounding is too small to be amplified
    one = fit(resnet(double), STEEP, double, tmp_path / "one-resnet", lambda _: None)
    two, _ = load_tensors(tmp_path / "resnet-0.safetensors")
    for key, expected in one.state_dict().items():
        torch.testing.assert_close(two[key], expected, rtol=1e-6, atol=1e-6)
    for rank in (0, 1):
        assert "nan in step 0 of epoch 1" in (tmp_path / f"stopped-{rank}").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that differ in the graph alone share teacher and stage one here."""
    return tmp_path_factory.mktemp("torchrun")


@pytest.mark.parametrize(
    ("scope", "torchrun"), [("bank", run_in_two), ("batch", run_on_two_machines)]
)
def test_torchrun_gives_the_run_of_one_process(
    folder: Path, scope: str, torchrun: Callable[..., object]
) -> None:
    size = {"train_images": 400, "teacher_epochs": 3, "epochs": 5, "scope": scope}
    config = small_config(folder / "two", run=scope, precision="32-true", **size)
    file = folder / "parameters.json"
    file.write_text(json.dumps(config.parameters()))
    torchrun("-m", "cnn2gnn.distillation", str(file))
    two = Run.open(folder / "two" / scope)
    one = distil(Config.from_parameters(config.parameters() | {"runs_dir": str(folder / "one")}))
    for stage in ("student", "student-graph"):
        assert two.manifest["stages"][stage]["hardware"]["world_size"] == 2
    # no dropout in the teacher: rounding alone, which a peak learning rate of 0.1 amplifies
    losses = [
        EpochLog.read(next(folder.glob(f"{name}/teachers/*/")))[0]["loss"]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    found, expected = (run.metrics()["student"]["accuracy"] for run in (two, one))
    for protocol in ("no_graph", "inductive"):
        assert found[protocol] == pytest.approx(expected[protocol], abs=0.04), protocol
    assert found["batch"]["mean"] == pytest.approx(expected["batch"]["mean"], abs=0.04)
    passes = [(row["stage"], row["epoch"]) for row in two.history()]
    assert passes == [("student", n) for n in range(5)] + [("student-graph", n) for n in range(4)]
    assert [epoch for epoch, _ in two.snapshots()] == list(range(4))


def test_within_a_job_of_slurm_a_script_starts_its_processes_itself(tmp_path: Path) -> None:
    """Lightning takes such a job's variables for a launcher, which has started one of two."""
    script = tmp_path / "script.py"
    script.write_text(
        "from cnn2gnn.distillation.processes import make_fabric\n"
        "print('world', make_fabric('cpu', 2, 1, '32-true').world_size, flush=True)\n"
    )
    job = {"ID": "1", "NAME": "job", "NODELIST": "localhost"}
    slurm = {f"SLURM_JOB_{name}": value for name, value in job.items()}
    slurm |= {f"SLURM_{name}": "0" for name in ("PROCID", "LOCALID", "NODEID")}
    slurm |= {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=ENVIRONMENT | slurm,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("world 2") == 2


def test_norms_that_are_frozen_or_shared_stay_so() -> None:
    norm = nn.BatchNorm2d(4)
    frozen = nn.BatchNorm2d(4).requires_grad_(False).eval()
    stem = nn.Sequential(nn.Conv2d(3, 4, 1), norm, nn.Sequential(norm, frozen))
    names = [*stem.state_dict()]
    synchronise(stem, torch.device("cpu"))
    assert isinstance(stem[1], CPUSyncBatchNorm) and stem[1] is stem[2][0]
    assert stem[1].weight is norm.weight and not stem[2][1].weight.requires_grad
    assert stem[1].training and not stem[2][1].training
    assert [*stem.state_dict()] == names and len([*stem.parameters()]) == 6


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_takes_the_other_with_it(tmp_path: Path, killed: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import os, time
from cnn2gnn.distillation.processes import make_fabric
fabric = make_fabric("cpu", 2, 1, "32-true")
open(r"{tmp_path}" + f"/pid-{{fabric.global_rank}}", "w").write(str(os.getpid()))
fabric.barrier()
if fabric.global_rank == {killed}:
    os.kill(os.getpid(), 9)
time.sleep(300)  # busy with what needs no other process
""")
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(script)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    assert process.wait(100) != 0
    other = psutil.Process  # rank 1 ends a moment after rank 0
    pid = int((tmp_path / "pid-1").read_text())
    while psutil.pid_exists(pid) and other(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - began < 100, "rank 1 goes on alone"
        time.sleep(0.1)


def test_a_notebook_with_two_devices_trains_in_processes_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    register = "from cnn2gnn.registry import LOSSES\nLOSSES.register('mine', LOSSES['kd'])\n"
    (tmp_path / "loss_for_two.py").write_text(register)
    LOSSES.register("mine", LOSSES["kd"])  # as the module does in the kernel and its processes
    asked = {"train_images": 200, "teacher_epochs": 2, "epochs": 2, "devices": 2, "loss": "mine"}
    config = small_config(tmp_path, **asked, run="two")
    cells = f"""
import json
from dataclasses import replace
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.distillation.session import Session
from cnn2gnn.runs.own import Own
config = Config.from_parameters(json.loads({json.dumps(json.dumps(config.parameters()))}))
session = Session.start(config)
session = Session.start(config)  # a cell may be run twice
assert (session.run.folder / "student.safetensors").exists()
session.finish(session.student(), session.baselines())
many = replace(config, runtime=replace(config.runtime, run="many", num_nodes=2))
for asked, own in ((many, None), (replace(config, runtime=replace(config.runtime, run="mine")),
                                  Own(stem=session.student().stem))):
    try:
        Session.start(asked, own)
    except ConfigError as error:
        assert "a notebook cannot start 2 processes with" in str(error), error
    else:
        raise AssertionError("not refused")
"""
    parameters = nbformat.v4.new_code_cell("a: int = 1", metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[parameters, nbformat.v4.new_code_cell(cells)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "x", "language": "python"}
    nbformat.write(book, tmp_path / "n.ipynb")
    notebooks.execute(tmp_path / "n.ipynb", modules=["loss_for_two"])
    run = Run.open(tmp_path / "two")
    assert [row["epoch"] for row in run.history() if row["stage"] == "student"] == [0, 1]
    assert run.metrics()["student"]["accuracy"]["inductive"] > 0.2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"devices": 65}, "batch_size=64 must be at least 1 for each of 65 processes"),
        ({"num_nodes": 33, "devices": 2}, "batch_size=64 must be .* each of 66 processes"),
    ],
)
def test_shares_that_are_too_small_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        start(Config.from_parameters(device="cpu", **wrong), "teacher")


def test_another_number_of_processes_than_torchruns_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="devices=3 .* torchrun has started 2 processes on 1"):
        start(Config.from_parameters(device="cpu", devices=3), "teacher")
    monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    with pytest.raises(ConfigError, match="a notebook cannot be one of torchrun's processes"):
        start(Config.from_parameters(device="cpu", devices=2), "teacher")


def test_what_fails_in_a_process_of_its_own_is_told_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnn2gnn.distillation", '{"epoch": 3}']
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("cnn2gnn: ConfigError: unknown parameter 'ep")


def test_two_processes_learn_from_labels_alone(tmp_path: Path) -> None:
    """One of them holds the run."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pathlib\n"
        "from conftest import small_config\n"
        "from cnn2gnn.distillation.on_labels import learn_from_labels\n"
        "from cnn2gnn.runs import load_splits\n"
        "few = {'train_images': 100, 'epochs': 1, 'graph_epochs': 1}\n"
        "config = small_config(pathlib.Path(sys.argv[1]), run='labels', **few)\n"
        "learn_from_labels(config, load_splits(config.data))\n"
    )
    run_in_two(str(script), str(tmp_path))
    stages = Run.open(tmp_path / "labels").manifest["stages"]
    assert {by["hardware"]["world_size"] for by in stages.values()} == {2}
    assert [*stages] == ["student", "student-graph"]


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for amx, avx, expected in (
        (True, True, "bf16-mixed"),
        (False, True, "bf16-mixed"),  # AMD since Zen 4
        (False, False, "32-true"),
    ):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        assert resolve_precision("auto") == resolve_precision("cpu") == expected
        assert resolve_precision("mps") == "32-true"


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device='cuda'.*no CUDA GPU"):
        make_fabric("cuda", 1, 1, "auto")
    with pytest.raises(ValueError, match="device='mps'.*no Apple GPU"):
        make_fabric("mps", 1, 1, "auto")


def test_mixed_precision_is_that_of_the_device_that_auto_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for cuda, mps, kind in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        monkeypatch.setattr(hardware, "computes_in_bf16", lambda: True)
        assert device_kind("auto") == kind
        assert device_kind("cpu") == "cpu"
        # on an Apple GPU only where it is asked for
        assert resolve_precision("auto") == ("32-true" if kind == "mps" else "bf16-mixed")
        taken: list[str] = []
        monkeypatch.setattr(precision, "Autocast", lambda _, device, to=taken: to.append(device))
        monkeypatch.setattr(lightning_fabric, "Fabric", SimpleNamespace)
        with pytest.raises(AttributeError, match="launch"):
            make_fabric("auto", 1, 1, "bf16-mixed")
        assert taken == [kind]
