"""`finetune.compare --vary`: what is varied, what is refused before anything is trained, and the
files of a comparison with seeds."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from finetune import compare, pipeline
from finetune.compare import Comparison
from finetune.figures import learning
from finetune.recipe.fields import ROWS
from finetune.report import run_files
from finetune.studies import cell_check, comparison_curves
from finetune.studies.paired import pair_of_seeds
from finetune.studies.variation import Cell, factor_of, value_changes
from tests.finetune.report_page import Seen, svg_texts
from tests.made_recipe import made_recipe
from zoo.contract import rundir
from zoo.files import tables
from zoo.host.errors import UserError

SMALL = {"image_size": 32, "threads": 1, "epochs": 2, "probe": "off", "batch_size": 25}


def cells(*vary: str, given: dict[str, Any] | None = None, **fields: Any) -> list[Cell]:
    return Comparison("data", vary=vary, **fields).cells(given or {})


def test_one_factor_is_a_row_for_each_value() -> None:
    found = cells("optimizer=sgd,adamw,sam,sgd+sam", given={"epochs": 3})
    assert [cell.label for cell in found] == [
        "optimizer=sgd",
        "optimizer=adamw",
        "optimizer=sam",
        "optimizer=sgd+sam",
    ]
    assert [cell.given for cell in found] == [
        {"epochs": 3, "optimizer": "sgd"},
        {"epochs": 3, "optimizer": "adamw"},
        {"epochs": 3, "sam_rho": 0.05},
        {"epochs": 3, "optimizer": "sgd", "sam_rho": 0.05},
    ]
    assert [bool(cell.meaning) for cell in found] == [False, False, True, True]
    assert "--sam-rho 0.05, published (Foret et al., 2021)" in found[2].meaning
    assert {cell.base for cell in found} == {"efficientnet_lite0"}


def test_several_factors_are_varied_one_at_a_time_or_all_with_all() -> None:
    vary = ("schedule=cosine,constant", "lr=auto,1e-3,3e-3")
    assert [cell.label for cell in cells(*vary)] == [
        "schedule=cosine, lr=auto",
        "schedule=constant",
        "lr=1e-3",
        "lr=3e-3",
    ]
    assert cells(*vary)[0].given == {"schedule": "cosine"}
    grid = cells(*vary, grid=True)
    assert len({cell.name for cell in grid}) == len(grid) == 6
    assert grid[-1].given == {"schedule": "constant", "lr": 3e-3}
    bases = cells("flip=0,0.5", bases=("a", "b"), seeds=(3,), given={"epochs": 3})
    assert [(cell.base, cell.given["flip"], cell.seed) for cell in bases] == [
        (base, flip, seed)
        for base, flip in (("a", 0.0), ("b", 0.0), ("a", 0.5))
        for seed in (0, 1, 2)
    ]
    assert {cell.given["seed"] for cell in cells("flip=0,1", seeds=(7, 9))} == {7, 9}


def test_runs_keep_their_folders_whatever_else_is_compared() -> None:
    order = Comparison("data", vary=("lr=1e+3,1e-3",))
    folders = {order.run(cell).folder for cell in order.cells({})}
    assert len(folders) == 2  # file names have no +
    # those of bases alone are called as before
    order = Comparison("data", ("a", "b"))
    assert [order.run(cell).folder for cell in order.cells({})] == [
        Path("runs/data-compare/data-a"),
        Path("runs/data-compare/data-b"),
    ]


def test_a_setting_by_hand_holds_where_it_has_an_effect() -> None:
    cosine, step = cells("schedule=cosine,step", given={"decay_at": "50%", "flip": 0.0})
    assert "decay_at" not in cosine.given
    assert step.given["decay_at"] == "50%"
    assert cosine.given["flip"] == step.given["flip"] == 0
    with pytest.raises(UserError, match="--decay-at has no effect in any of the rows"):
        cells("schedule=cosine,constant", given={"decay_at": "50%"})


def test_any_flag_can_be_varied_with_its_own_parser() -> None:
    assert value_changes("lr", "find") == {"lr": "find"}
    assert value_changes("from_scratch", "on") == {"from_scratch": True}
    assert value_changes("from_scratch", "off") == value_changes("dropout", "auto") == {}
    assert value_changes("balance", "auto") == {"balance": "auto"}
    assert value_changes("recipe", "auto") == {"recipe": "auto"}
    assert [value.text for value in factor_of("decay-at=50%,75%; 80%")] == ["50%,75%", "80%"]
    assert set(ROWS) >= {factor_of("image_size=32,64")[0].field}


@pytest.mark.parametrize(
    ("vary", "words"),
    [
        ("lr", "expected a flag and its values"),
        ("lr=1e-3", "two different values or more"),
        ("lr=1e-3,1e-3", "two different values or more"),
        ("lr=-1,1e-3", "--lr -1.0: expected a value from"),
        ("lrr=1,2", "did you mean lr"),
        ("imgsz=32,64", "--imgsz is --image-size here"),
        ("seed=1,2", "--seeds 3"),
        ("zero-gamma=1,0", "it is a switch"),
        ("policy=,augmix", "seen an empty one"),
        ("flip=0,1", "--flip 0.5 and --vary flip exclude each other"),
    ],
)
def test_what_a_flag_would_not_take_is_refused(vary: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        cells(vary, given={"flip": 0.5})


def test_a_choice_that_is_none_is_refused_in_the_words_of_its_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cells("optimizer=sdg,adamw")
    assert "invalid choice 'sdg' for argument '--optimizer'" in capsys.readouterr().err


def test_factors_and_seeds_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="--sam-rho is varied twice"):
        cells("optimizer=sgd,sam", "sam-rho=0.05,0.1")
    with pytest.raises(UserError, match="--base is varied twice"):
        cells("base=a,b", bases=("a", "c"))
    with pytest.raises(UserError, match="--seed 3 and --seeds exclude each other"):
        cells("flip=0,1", seeds=(2,), given={"seed": 3})
    with pytest.raises(UserError, match="expected different seeds"):
        cells("flip=0,1", seeds=(2, 2))
    with pytest.raises(UserError, match="--grid has no effect"):
        cells("flip=0,1", grid=True)
    with pytest.raises(UserError, match="at most 1,000"):
        cells("flip=0,1", "dropout=0,0.1,0.2,0.3", "erasing=0,0.1", seeds=(100,), grid=True)


def test_a_row_that_would_be_refused_stops_all_before_the_first_is_trained(
    digits: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "start", lambda *_: pytest.fail("trained"))
    common: dict[str, Any] = {"bases": (str(tiny_base),), "out": tmp_path / "out", "device": "cpu"}
    for vary, words in (
        # by the recipe, by the base's network, by the number of steps
        ("schedule=cosine,step", "schedule=step: --schedule step needs --decay-at"),
        ("batch-size=10,1", "batch-size=1: "),
        ("warmup=10%,500 steps", "warmup=500 steps: .* is 500 steps: expected 0 to 8"),
        ("teacher=auto,nowhere", "teacher=nowhere: .*nowhere"),
    ):
        given = {**SMALL, "batch_norm": "train"}
        if vary.startswith("batch-size"):
            del given["batch_size"]
        with pytest.raises(UserError, match=words):
            compare.compare(Comparison(str(digits), vary=(vary,), **common), given)
    assert not (tmp_path / "out").exists()


def test_seeds_are_compared_picture_by_picture() -> None:
    random = np.random.default_rng(0)
    first = random.random((3, 400)) < 0.7
    found = pair_of_seeds(first, first)
    assert (found["difference"], found["p_value"]) == (0.0, 1.0)
    better = first | (random.random((3, 400)) < 0.3)
    found = pair_of_seeds(first, better)
    low, high = found["interval"]
    assert found["difference"] == pytest.approx(better.mean() - first.mean())
    assert 0 < low < found["difference"] < high
    assert found["p_value"] < 1e-6
    assert (found["pictures"], found["seeds"]) == (400, 3)
    # seeds that disagree make the difference less sure
    unsteady = better.copy()
    unsteady[0] = first[0] & (random.random(400) < 0.5)
    spread = pair_of_seeds(first, unsteady)["interval"]
    assert spread[1] - spread[0] > 3 * (high - low)
    # equally good settings differ by chance in about one of twenty
    pairs = random.random((300, 2, 3, 400)) < 0.7
    alarms = sum(pair_of_seeds(one, other)["p_value"] < 0.05 for one, other in pairs)
    assert 3 <= alarms <= 36


def test_schedules_stand_in_one_picture(tmp_path: Path) -> None:
    def drawn(**peaks: float) -> str:
        rates = {name: [(0.0, peak), (1.0, peak / 2), (2.0, 0.0)] for name, peak in peaks.items()}
        return learning.schedules(rates).svg

    near, apart = drawn(cosine=1e-3, step=2e-3), drawn(adamw=1e-3, sgd=0.1)
    assert near.count('id="schedule') == 2
    (tmp_path / "near.svg").write_text(near)
    (tmp_path / "apart.svg").write_text(apart)
    assert {"cosine", "step", "Learning rate"} <= set(svg_texts(tmp_path / "near.svg"))
    # 0 is on the axis, or below it where rates that are far apart need a logarithmic one
    assert any("1e" in text for text in svg_texts(tmp_path / "apart.svg"))


@pytest.mark.usefixtures("quick_end")
def test_a_killed_comparison_goes_on_and_tabulates_its_seeds(
    digits: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "compared"
    order = Comparison(
        str(digits),
        (str(tiny_base),),
        vary=("schedule=cosine,step",),
        seeds=(2,),
        out=out,
        device="cpu",
    )
    given = {**SMALL, "decay_at": "50%"}
    start, started = pipeline.start, itertools.count()

    def killed(*words: Any) -> None:
        if next(started) == 2:
            raise KeyboardInterrupt
        start(*words)

    monkeypatch.setattr(pipeline, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        compare.compare(order, given)
    monkeypatch.setattr(pipeline, "start", start)
    capsys.readouterr()
    compare.compare(order, given)
    printed = capsys.readouterr().out
    assert printed.count("already finished") == 2
    assert printed.splitlines().count(f"tensorboard --logdir {out}") == 1
    numbers = rundir.read_json(out / "compare.json")
    assert [row["label"] for row in numbers["runs"]] == [
        f"schedule={kind}, seed {seed}" for kind in ("cosine", "step") for seed in (0, 1)
    ]
    cosine, step = numbers["rows"]
    runs = numbers["runs"]
    assert step["top1"] == pytest.approx((runs[2]["top1"] + runs[3]["top1"]) / 2)
    assert step["top1_spread"] == pytest.approx(abs(runs[2]["top1"] - runs[3]["top1"]) / 2**0.5)
    low, high = step["top1_interval"]
    assert low < step["top1"] < high
    assert cosine["against_first"] is None
    against = step["against_first"]
    assert against["difference"] == pytest.approx(step["top1"] - cosine["top1"])
    assert cosine["parameters"] == step["parameters"] > 100_000
    assert numbers["recipe"].keys() == {"schedule", "decay_at"}
    assert numbers["pairs"] == []
    rows = list(tables.rows(out / "compare.csv", ("setting", "p_value", "seconds")))
    assert [row["setting"] for row in rows] == ["schedule=cosine", "schedule=step"]
    assert float(rows[1]["difference"]) == against["difference"]
    header, rule, *lines = (out / "compare.md").read_text().splitlines()
    assert header.startswith("| Setting | Top-1, test | spread over seeds |")
    assert rule.count("|") == header.count("|") == lines[1].count("|")
    drawn = svg_texts(out / "figures" / "schedules.svg")
    assert {"schedule=cosine", "schedule=step", "Learning rate"} <= set(drawn)
    page = Seen((out / "compare.html").read_text())
    assert "schedule=step (2)" in page.text
    assert len([tag for tag, _ in page.tags if tag == "a"]) == 4
    # the picture shows what training did: 4 steps an epoch
    run = run_files.read_run(out / step["folders"][0])
    rates = {round(4 * epoch): rate for epoch, rate in comparison_curves.rates(run)}
    for after, rate in run.series["train/lr"]:
        assert rates[after - 1] == pytest.approx(rate)


def test_the_command_line_hands_over_what_is_varied(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Any] = []
    monkeypatch.setattr(compare, "compare", lambda *words: orders.extend(words))
    words = "--data x --vary optimizer=sgd,adamw --vary flip=0,1 --seeds 3 5 --epochs 2"
    tyro.cli(compare.main, args=words.split(), config=(tyro.conf.FlagCreatePairsOff,))
    order, given = orders
    assert order == Comparison(
        "x", vary=("optimizer=sgd,adamw", "flip=0,1"), seeds=(3, 5), bases=()
    )
    assert given == {"epochs": 2}
    assert made_recipe().sam_rho == 0  # SAM is off unless it is asked for
    with pytest.raises(UserError, match="row: no"), cell_check.labelled("row"):
        raise UserError("no")
