"""Objects and registered names of the user's own: nothing in the package knows them beforehand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import small_config
from torch import Tensor, nn
from torch.nn import functional as F

from cnn2gnn import distil, load_run
from cnn2gnn.config import Config, ConfigError
from cnn2gnn.data import DataError, Splits, channel_statistics
from cnn2gnn.distillation.session import Session
from cnn2gnn.evaluation.bank_changes import changeable
from cnn2gnn.evaluation.nodes import BANK, Node, RunNodes
from cnn2gnn.graph import GraphLayer, GraphLearner, SoftmaxNeighbours, SparseGraph
from cnn2gnn.graph.distances import chosen_distances
from cnn2gnn.models.teacher import Teacher
from cnn2gnn.registry import LAYERS, LEARNERS, LOSSES, STEMS, TEACHERS, Registry
from cnn2gnn.runs import load_splits
from cnn2gnn.runs.hardware import resolve_precision
from cnn2gnn.runs.manifest import facts
from cnn2gnn.runs.own import Own


class EqualNeighbours(GraphLearner):
    """The k nearest, each with the same weight."""

    def forward(
        self, queries: Tensor, keys: Tensor | None = None, exclude: Tensor | None = None
    ) -> SparseGraph:
        neighbours, distances = chosen_distances(queries, keys, self.k, exclude)
        sources = None if keys is None else len(keys)
        weights = torch.full_like(distances, 1 / self.k)
        return SparseGraph(neighbours, weights, distances, sources=sources)


class Countless(EqualNeighbours):
    """Does not say how many neighbours a node has."""

    def __init__(self) -> None:
        nn.Module.__init__(self)


class Tuples(EqualNeighbours):
    """Gives no graph."""

    def forward(self, *places: Any) -> Any:
        return super().forward(*places).neighbours, None


class Deaf(EqualNeighbours):
    """Finds what is excluded, too."""

    def forward(self, queries: Tensor, keys: Any = None, exclude: Any = None) -> SparseGraph:
        return super().forward(queries, keys)


class Within(EqualNeighbours):
    """Forgets what its neighbours index."""

    def forward(self, *places: Any) -> SparseGraph:
        return replace(super().forward(*places), sources=None)


class Weighed(nn.Module):
    """A loss that would have to be trained itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, **_: Any) -> Tensor:
        return self.scale * (student - teacher).square().mean()


class Halved(GraphLayer):
    """Half of what the learner says."""

    def forward(
        self, graph: SparseGraph, queries: Tensor, keys: Tensor, looked_at: Tensor | None = None
    ) -> SparseGraph:
        assert queries.shape[1] == keys.shape[1] and looked_at is None
        return replace(graph, weights=graph.weights / 2)


class Negative(GraphLayer):
    """Gives no weights of a mean."""

    def forward(self, graph: SparseGraph, *places: Any) -> SparseGraph:
        return replace(graph, weights=-graph.weights)


class RowsStem(nn.Module):
    """Mean brightness of every row, twice."""

    def __init__(self, channels: int = 1, size: int = 8) -> None:
        super().__init__()
        self.mix = nn.Linear(channels * size, 24)

    def forward(self, images: Tensor) -> Tensor:
        return self.mix(images.mean(3).flatten(1))


def squared(student: Tensor, teacher: Tensor, labels: Tensor, **_: Any) -> Tensor:
    """Regression onto the teacher's logits (Ba and Caruana 2014)."""
    return (student - teacher).square().mean()


def a_teacher() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def a_stem() -> RowsStem:
    torch.manual_seed(4)
    return RowsStem()


def small(folder: Path, **more: Any) -> dict[str, Any]:
    config = small_config(folder, teacher_epochs=1, epochs=1, views=1, baselines="twin", k=5)
    return {**config.parameters(), **more}


def test_a_run_takes_objects_and_asks_for_them_again(tmp_path: Path) -> None:
    data = load_splits(Config.from_parameters(small(tmp_path)).data)
    objects: dict[str, Any] = {
        "teacher": a_teacher(), "stem": a_stem(), "graph": EqualNeighbours(7), "loss": squared
    }  # fmt: skip
    run = distil(data=data, **{**small(tmp_path, run="mine"), **objects})
    student = run.load_student()
    assert isinstance(student.stem, RowsStem) and not torch.equal(
        student.stem.mix.weight, objects["stem"].mix.weight
    ), "the stem is trained, and the user's own is left as it was"
    assert run.load_nodes()["weights"].shape[1] == 7
    assert run.metrics()["teacher"]["name"] == "Sequential"

    closed = load_run(run.folder)
    with pytest.raises(
        ValueError, match=r"'mine' was made with graph of your own \(Equal\w+ \w+\)"
    ):
        closed.load_student()
    with pytest.raises(ValueError, match="made with data of your own"):
        closed.load_splits()
    again = load_run(run.folder, stem=a_stem(), graph=EqualNeighbours(7), data=data)
    images = data.test.images[:20]
    taught = load_run(run.folder, teacher=a_teacher().train(), stem=a_stem(), data=data)
    assert taught.own.teacher is not None and run.own.teacher is not None
    assert taught.own.teacher.fingerprint() == run.manifest["teacher"]
    out, expected = (r.load_student()(images, r.load_bank()).logits for r in (again, run))
    assert torch.equal(out, expected)
    with pytest.raises(ValueError, match="teacher is Teacher"):
        load_run(run.folder, teacher=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), data=data)
    with pytest.raises(ValueError, match="graph is EqualNeighbours"):
        load_run(run.folder, graph=EqualNeighbours(6))


@pytest.mark.parametrize(
    "own, message",
    [
        (Own(loss=F.mse_loss), "loss.*fails: .*unexpected keyword"),
        (Own(loss=lambda s, t, y, *, temperature, weight: s - t), "loss must give a scalar"),
        (Own(stem=nn.Conv2d(1, 4, 3)), r"stem Conv2d gives \(1, 4, 6, 6\)"),
        (Own(stem=nn.Conv2d(3, 4, 3)), r"stem Conv2d fails on one image \(1, 1, 8, 8\)"),
        (Own(loss=nn.CosineSimilarity()), "loss.*fails"),
        (Own(loss=Weighed()), "loss Weighed has parameters, and nothing trains them"),
        (Own(graph=Countless()), "graph Countless: k=None must be a whole number"),
        (Own(graph=Tuples(5)), "Tuples.* must give a SparseGraph, not tuple"),
        (Own(graph=Deaf(5)), "Deaf.* must give no query the key that `exclude` names"),
        (Own(graph=Within(5)), "Within.* sources=18, not 3 rows and sources=None"),
    ],
)
def test_an_object_that_does_not_fit_is_refused_before_anything_is_made(
    own: Own, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        Session.start(Config.from_parameters(small(tmp_path, run="refused")), own)
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    "name, thing, message",
    [
        ("graph", nn.Identity(), "graph must be a GraphLearner, not Identity"),
        ("stem", nn.Flatten, "stem must be a Module, not the class Flatten"),
        ("teacher", nn.Flatten, "teacher must be a Teacher, not the class Flatten"),
        ("data", (1, 2, 3), "data must be a Splits, not tuple"),
        ("config", {"epochs": 1}, "config must be a Config, not dict"),
    ],
)
def test_a_thing_of_another_kind_is_refused(name: str, thing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distil(**{name: thing})


@pytest.mark.parametrize(
    "registry, thing, message",
    [
        (LOSSES, F.mse_loss, "loss.*fails: .*unexpected keyword"),
        (LEARNERS, lambda k: nn.Identity(), "graph must be a GraphLearner, not Identity"),
        (LEARNERS, lambda: None, "graph='wrong' cannot be built: .* 0 positional arguments"),
        (LEARNERS, lambda k: Deaf(k), "must give no query the key"),
        (LAYERS, lambda width, heads: nn.Identity(), "layer must be a GraphLayer, not Identity"),
        (LAYERS, lambda width: None, "layer='wrong' cannot be built: .* positional arg"),
        (LAYERS, lambda width, heads: Negative(width), "layer Negative.* must give finite weights"),
        (LAYERS, lambda width, heads: GraphLayer(width), "layer GraphLayer.* fails"),
        (STEMS, lambda channels, size: nn.Conv2d(1, 4, 3), r"stem Conv2d gives \(1, 4, 6, 6\)"),
        (TEACHERS, lambda c, size, classes: None, "teacher='wrong' cannot be built"),
        (
            TEACHERS,
            lambda channels, size, classes, weights: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
            r"teacher wrong gives logits of shape \(1, 3\)",
        ),
    ],
)
def test_what_is_registered_is_tried_before_anything_is_made(
    registries: None, registry: Registry, thing: Any, message: str, tmp_path: Path
) -> None:
    registry.register("wrong", thing)
    with pytest.raises(ValueError, match=message):
        distil(**small(tmp_path, **{registry.parameter: "wrong"}))
    assert [*tmp_path.iterdir()] == []


def test_no_graph_has_no_place_for_a_learner(tmp_path: Path) -> None:
    config = Config.from_parameters(small(tmp_path, graph="none"))
    with pytest.raises(ConfigError, match="graph='none' leaves no place for a graph learner"):
        distil(config, graph=EqualNeighbours(5))


def test_a_learner_handed_over_is_no_other_than_one_that_is_named(tmp_path: Path) -> None:
    """Student, baselines and the user's own have weights of their own."""
    more: dict[str, Any] = {"graph_learning_rate": 0.05, "baselines": "twin,undistilled"}
    mine = SoftmaxNeighbours(5)
    handed = distil(**small(tmp_path, run="handed", graph=mine, **more))
    named = distil(**small(tmp_path, run="named", graph="softmax", **more))
    assert mine.log_temperature.item() == 0, "it is left as it was"
    for which in ("student", "undistilled"):
        one, other = (
            run.load_student(which).network.learner
            for run in (load_run(handed.folder, graph=mine), named)
        )
        assert isinstance(one, SoftmaxNeighbours) and isinstance(other, SoftmaxNeighbours)
        assert one.log_temperature.item() == other.log_temperature.item() != 0
    torch.testing.assert_close(handed.load_nodes()["logits"], named.load_nodes()["logits"])
    again = distil(**small(tmp_path, run="handed", graph=mine, **more))
    assert again.metrics() == handed.metrics()


def test_parts_of_ones_own_are_called_by_their_class(tmp_path: Path) -> None:
    run = distil(**small(tmp_path, stem=a_stem(), graph=EqualNeighbours(5)))
    assert run.metrics()["student"]["name"] == "RowsStem"
    assert run.load_student().graph_name == "EqualNeighbours"
    with pytest.raises(ValueError, match="graph='EqualNeighbours' finds no nearest nodes, or does"):
        changeable(run.load_student(), run.load_bank())


def test_config_and_parameters_together_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"give config or parameters \(epochs\), not both"):
        distil(Config(), epochs=2)


def test_names_registered_outside_the_package_are_parameters(
    registries: None, tmp_path: Path
) -> None:
    for registry, name, thing in (
        (LEARNERS, "equal", EqualNeighbours),
        (LAYERS, "halved", Halved),
        (STEMS, "rows", RowsStem),
        (LOSSES, "squared", squared),
    ):
        registry.register(name, thing)
        with pytest.raises(ValueError, match=f"{name!r} is registered already"):
            registry.register(name, thing)
    run = distil(**small(tmp_path, graph="equal", stem="rows", loss="squared", layer="halved"))
    student = load_run(run.folder).load_student()
    assert isinstance(student.stem, RowsStem) and isinstance(
        student.network.learner, EqualNeighbours
    )
    assert (run.load_nodes()["weights"] == 0.1).all()  # half of a fifth


def test_data_of_ones_own_are_checked_before_anything_is_trained(tmp_path: Path) -> None:
    whole = load_splits(small_config(tmp_path).data)
    one = whole.train.subset((whole.train.labels == 1).nonzero().flatten())
    rest = whole.train.subset((whole.train.labels != 1).nonzero().flatten())
    double = replace(whole.test, images=whole.test.images.repeat(1, 3, 1, 1))
    none = whole.test.subset(torch.arange(0))
    wrong = {
        "one class only, '1'": Splits(one, one, one),
        "no training image is of the class '1'": Splits(rest, whole.validation, whole.test),
        "channels of the test part are 3, but of train 1": whole._replace(test=double),
        "the validation part of digits has no image": whole._replace(validation=none),
        "modality of the test part are audio, but of train image": whole._replace(
            test=replace(whole.test, modality="audio")
        ),
        "the test part of digits was decoded by another codec": whole._replace(
            test=replace(whole.test, codec="another vocabulary")
        ),
    }
    for message, data in wrong.items():
        with pytest.raises(DataError, match=message):
            distil(small_config(tmp_path, run="x"), data=data)
    assert [*tmp_path.iterdir()] == []


class ColourNet(nn.Module):
    """Sees colours only."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.look = nn.Conv2d(channels, 8, 3)
        self.decide = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.decide(self.look(images).relu().amax((2, 3)))


def test_a_colour_teacher_sees_grey_images_as_rgb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load_splits(small_config(tmp_path).data)
    data = Splits(*(replace(part, name="mine") for part in loaded))
    run = distil(small_config(tmp_path, run="bare", epochs=1), ColourNet(), data=data)
    mean, std = channel_statistics(data.train.images)
    rgb = (data.test.images.repeat(1, 3, 1, 1) / 255 - mean) / std
    expected = ColourNet()(rgb)
    torch.testing.assert_close(run.load_nodes()["teacher_logits"], expected, rtol=1e-4, atol=1e-4)
    nodes = RunNodes.load(load_run(run.folder, teacher=ColourNet(), data=data))
    said = nodes.teacher_logits_of(Node(BANK, 3))
    rgb = (data.train.images[3:4].repeat(1, 3, 1, 1) / 255 - mean) / std
    torch.testing.assert_close(said, ColourNet()(rgb)[0], rtol=1e-4, atol=1e-4)
    assert nodes.teacher is not None and not nodes.teacher.training
    known = Teacher(ColourNet(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], "imagenet")
    Session.start(small_config(tmp_path, run="known", epochs=1), Own(data, known))
    # of nobody's data it is known whether they may be mirrored
    assert "mine: augmentation=auto is crop" in caplog.messages
    assert run.manifest["augmentation"] == "crop" and facts(run.manifest)["augmentation"] == "crop"


def test_a_grey_teacher_of_colour_images_is_one_error_and_nothing_is_made(tmp_path: Path) -> None:
    grey = load_splits(small_config(tmp_path).data)
    data = Splits(*(replace(p, images=p.images.repeat(1, 3, 1, 1)) for p in grey))
    for teacher in (ColourNet(1), Teacher(ColourNet(1), [0.5], [0.3], "grey")):
        with pytest.raises(ValueError, match=r"teacher .* fails on one image \(1, 3, 8, 8\)"):
            distil(small_config(tmp_path, run="x"), teacher, data=data)
    assert [*tmp_path.iterdir()] == []


def test_a_teacher_without_parameters_teaches(tmp_path: Path) -> None:
    class Rule(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :10]

    run = distil(small_config(tmp_path, epochs=1), Teacher(Rule(), [0.3], [0.4], "a rule"))
    assert run.metrics()["teacher"]["parameters"] == 0
    (folder,) = (tmp_path / "teachers").iterdir()
    precision = resolve_precision("cpu")
    assert folder.name.endswith(f"-{precision}"), (
        "its answers lie under its fingerprint and precision"
    )
