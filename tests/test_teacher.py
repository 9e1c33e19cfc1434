"""Teachers: architectures, any module, trained once and shared."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from conftest import small_config
from torch import nn

from cnn2gnn.base.files import BrokenFileError, load_tensors, save_tensors
from cnn2gnn.base.values import ConfigError
from cnn2gnn.distillation.processes import make_fabric
from cnn2gnn.distillation.teacher import obtain_teacher
from cnn2gnn.models.networks import build_network
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.runs import load_splits
from cnn2gnn.runs.teachers import teacher_folder


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet20", 0.27), ("resnet56", 0.85), ("resnet110", 1.7)]
)
def test_small_networks_have_the_published_sizes(name: str, millions: float) -> None:
    network = build_network(name, 3, 32, 10)
    count = sum(p.numel() for p in network.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.03)  # He et al. 2016, table 6
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (64, 1), (84, 2)])
def test_small_images_get_a_small_stem(size: int, stride: int) -> None:
    network = build_network("resnet18", 1, size, 7)
    assert network.conv1.stride == (stride, stride) and network.conv1.in_channels == 1  # type: ignore[union-attr]
    assert network.eval()(torch.zeros(1, 1, size, size)).shape == (1, 7)


def test_pretrained_weights_are_kept_where_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    source = torchvision.models.resnet18()
    asked: list[str] = []

    def get_model(name: str, weights: str | None) -> nn.Module:
        asked.append(f"{name} {weights}")
        return source

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    deep, stem = source.layer4[1].conv2.weight.clone(), source.conv1.weight.sum((1, 2, 3))
    network = build_network("resnet18", 1, 84, 5, "imagenet")
    assert asked == ["resnet18 DEFAULT"]
    assert torch.equal(network.layer4[1].conv2.weight, deep)  # type: ignore[union-attr, index]
    grey = network.conv1.weight.sum((1, 2, 3))  # type: ignore[union-attr, operator]
    torch.testing.assert_close(grey, stem)  # a grey image excites it as three equal channels
    with pytest.raises(ValueError, match="not to be had for resnet20; choose resnet18"):
        build_network("resnet20", 3, 32, 5, "imagenet")


def test_any_module_is_a_teacher() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    teacher = Teacher(network, [0.0] * 3, [1.0] * 3, "mine")
    images = torch.randint(0, 256, (4, 3, 2, 2), dtype=torch.uint8)
    assert torch.equal(teacher(images), network(images / 255))


def test_a_teacher_of_ones_own_network_comes_back_into_such_a_network(tmp_path: Path) -> None:
    def network(width: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, width))

    path, images = tmp_path / "t.safetensors", torch.randint(0, 256, (4, 3, 2, 2)).byte()
    teacher = Teacher(network(3), [0.3, 0.4, 0.5], [0.2] * 3, "mine").eval()
    teacher.save(path)
    given = network(3)
    found = Teacher.load(path, given)
    assert found.network is given and found.name == "mine" and not found.training
    assert torch.equal(found(images), teacher(images))
    assert found.fingerprint() == teacher.fingerprint()
    with pytest.raises(
        ConfigError, match="^network=None: .* holds teacher 'mine' around a network"
    ):
        Teacher.load(path)
    wrong = network(4)
    before = wrong[2].weight.clone()  # type: ignore[index]
    with pytest.raises(ValueError, match=r"t\.safetensors does not fit .*: network\.2\.weight has"):
        Teacher.load(path, wrong)
    assert torch.equal(wrong[2].weight, before) and wrong.training  # type: ignore[index]


@pytest.mark.parametrize("claim", ["classes", "channels"])
def test_a_file_that_claims_more_than_memory_holds_is_refused_at_once(
    tmp_path: Path, claim: str
) -> None:
    path = tmp_path / "t.safetensors"
    statistics = {"mean": [0.5], "std": [0.5]}
    Teacher.build("resnet20", channels=1, size=8, classes=3, **statistics).save(path)
    tensors, facts = load_tensors(path)
    facts["shape"][claim] = 10**11
    save_tensors(path, tensors, facts)
    with pytest.raises(BrokenFileError, match="holds no teacher: what it holds does not fit"):
        Teacher.load(path)


def test_one_weight_more_is_another_teacher() -> None:
    teachers = []
    for _ in range(3):
        torch.manual_seed(0)
        teachers.append(Teacher(nn.Linear(2, 2), [0.5], [0.5], "t"))
    with torch.no_grad():
        teachers[2].network.weight[0, 0] += 1e-6  # type: ignore[index, operator, union-attr]
    prints = [teacher.fingerprint() for teacher in teachers]
    assert prints[0] == prints[1] != prints[2]
    assert teachers[0].bfloat16().fingerprint() not in prints


def test_a_teacher_of_other_samples_is_refused(tmp_path: Path) -> None:
    config = small_config(tmp_path, teacher="text-cnn")
    with pytest.raises(ConfigError, match="teacher='text-cnn' is not for image: choose"):
        obtain_teacher(config, load_splits(config.data), make_fabric("cpu", 1, 1, "32-true"))
    assert not (tmp_path / "runs").exists()


def test_a_teacher_is_trained_once_and_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, teacher_epochs=1, run="first")
    splits, fabric = load_splits(config.data), make_fabric("cpu", 1, 1, "32-true")
    first = obtain_teacher(config, splits, fabric)
    monkeypatch.setattr(
        "cnn2gnn.distillation.teacher.fit", lambda *_, **__: pytest.fail("trained again")
    )
    second = obtain_teacher(small_config(tmp_path, teacher_epochs=1, run="second"), splits, fabric)
    assert first.fingerprint() == second.fingerprint() and not second.training
    longer = small_config(tmp_path, teacher_epochs=2)
    assert teacher_folder(longer, splits) != teacher_folder(config, splits)
    path = teacher_folder(config, splits) / "teacher.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BrokenFileError, match=r"teacher\.safetensors is damaged"):
        obtain_teacher(config, splits, fabric)
