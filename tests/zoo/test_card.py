"""The model card: what it says, what the Hub reads from it, and that no name can break it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tests.made_run import FRUIT, Made, made_run
from tests.zoo.made_published import made_finished
from zoo.bases.licences import forbids_commercial_use
from zoo.contract import bundle, rejection, rundir
from zoo.contract.finished_run import FinishedRun
from zoo.publish import card
from zoo.publish.destination import Destination
from zoo.publish.front_matter import metadata

ROOT = Path(__file__).parents[2]
HOSTILE = (
    "--- license: mit",
    "<script>alert(1)</script>",
    "a|b",
    "`code`",
    "``",
    "# title",
    "two\n\nparagraphs",
    "",
    "[link](http://x.example)",
    "{config}",
    "\u202egnp",
    "key: [value",
    "'\"",
    "- item",
    "{{ card_data }}",
    "___",
)


def made_card(folder: Path, **how: Any) -> str:
    """The card of a made-up run, as it is written to disk."""
    run, _ = made_run(folder, pictures=2, **how)
    rundir.write_text(run / rundir.CARD, card.text(run))
    return (run / rundir.CARD).read_text(encoding="utf-8")


def test_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    head = json.loads((made_run(tmp_path / "same", pictures=2)[0] / rundir.REPORT).read_text())[
        "headline"
    ]
    data = ModelCard(made_card(tmp_path)).data
    assert {key: value for key, value in data.to_dict().items() if key != "model-index"} == {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "license": "apache-2.0",
        "base_model": "timm/tf_efficientnet_lite0.in1k",
        "base_model_relation": "finetune",
        "metrics": ["accuracy", "f1"],
        "tags": ["image-classification", "timm", "transformers"],
    }
    assert data.model_name == "fruit-efficientnet_lite0"
    results = {
        one.metric_type: (one.metric_value, one.dataset_split, one.task_type)
        for one in data.eval_results
    }
    assert results == {
        "accuracy": (round(head["top1"], 4), "test", "image-classification"),
        "f1": (round(head["macro_f1"], 4), "test", "image-classification"),
    }


def test_the_card_tells_the_numbers_of_the_run(tmp_path: Path) -> None:
    weak = str(rejection.warning({"noise": 0.07}))
    text = made_card(
        tmp_path,
        made=Made(
            counts={"fig": 7}, findings=("3 files ignored: not <pictures>",), warnings=(weak,)
        ),
    )
    report = json.loads((tmp_path / "fruit-efficientnet_lite0" / rundir.REPORT).read_text())
    head, plain = report["headline"], report["headline"]["plain"]
    low, high = head["top1_interval"]
    assert (
        f"**{head['top1']:.2%} of 20 test pictures are right** (95 % interval {low:.1%} to "
        f"{high:.1%};" in text
    )
    assert (
        f"| as deployed: views flip, temperature 1.50 | {head['top1']:.2%} | {low:.1%} to "
        f"{high:.1%} |" in text
    )
    assert f"| one view, temperature 1 (timm, transformers) | {plain['top1']:.2%} |" in text
    assert f"macro F1 {head['macro_f1']:.3f}" in text
    for row in report["per_class"]:
        assert f"| `{row['class']}` | {row['pictures']} |" in text
    assert "Input: RGB, 96 px, the whole picture squeezed into a square." in text
    assert "| train | 61 | 10 | 6 | 7 |" in text
    assert "- 3 files ignored: not &lt;pictures&gt;" in text
    assert "10 of 10 classes have fewer than 20 training pictures: " in text
    noise = report["unknown"]["foreign"]["noise"]
    assert f"noise {noise['auroc']:.2f} ({noise['rejected']:.0%} called unknown)" in text
    assert (
        "- the unknown answer is weak: only 7% of the foreign pictures 'noise' are called unknown"
        in text
    )
    assert "| lr | `0.003` | interpolated between the anchors |" in text
    assert all(f"`{name}`" in text for name in FRUIT)
    assert "No commercial use" not in text


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        ("cc-by-nc-4.0", {"license": "cc-by-nc-4.0"}),
        ("apache-2.0", {"license": "apache-2.0"}),
        (
            "seer-license",
            {
                "license": "other",
                "license_name": "seer-license",
                "license_link": "https://huggingface.co/timm/tf_efficientnet_lite0.in1k",
            },
        ),
        (
            None,
            {
                "license": "other",
                "license_name": "see-base-model",
                "license_link": "https://huggingface.co/timm/tf_efficientnet_lite0.in1k",
            },
        ),
    ],
)
def test_the_licence_is_the_bases(
    tmp_path: Path, licence: str | None, said: dict[str, str]
) -> None:
    text = made_card(tmp_path, made=Made(licence=licence))
    data = ModelCard(text).data.to_dict()
    assert {key: value for key, value in data.items() if key.startswith("license")} == said
    warned = forbids_commercial_use(licence)
    assert (
        text.find("> **No commercial use.**") in range(text.index("\n# "), text.index("Tells "))
    ) == warned


def test_hostile_names_cannot_break_it(tmp_path: Path) -> None:
    text = made_card(tmp_path, classes=HOSTILE, made=Made(counts={name: 3 for name in HOSTILE}))
    [named] = re.findall(r"^Tells 16 kinds of picture apart: (.*)\.$", text, re.MULTILINE)
    assert named.startswith(
        "`--- license: mit`, `<script>alert(1)</script>`, `a\\|b`, `'code'`, `''`, `# title`, "
        "`two paragraphs`, (empty), `[link](http://x.example)`, `{config}`, `\\u202egnp`"
    )
    assert "<script>" not in re.sub(r"`[^`\n]*`", "", text)
    assert len(re.findall(r"^---$", text, re.MULTILINE)) == 2
    assert "`{{ card_data }}`" in named  # a name is not a template


def test_hostile_names_in_the_front_matter_come_back(tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    folder = run / bundle.BUNDLES / "onnx"
    for name in HOSTILE:
        rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, {"1.png": {"label": name}})
        bundle.finish(folder)
        place = Destination(
            "alice/x", {f"bundles/onnx/examples/{file}": run for file in ("1.png", "expected.json")}
        )
        facts = FinishedRun(run)
        made = metadata(facts, place, [bundle.open_bundle(folder, verify=False)])
        read = ModelCard(f"---\n{made.to_yaml()}\n---\n# text\n").data.to_dict()
        assert read == made.to_dict()
        assert read["widget"] == [
            {
                "src": "https://huggingface.co/alice/x/resolve/main/bundles/onnx/examples/1.png",
                "example_title": name,
            }
        ]


def test_only_the_first_of_many_classes_are_listed(tmp_path: Path) -> None:
    text = made_card(tmp_path, classes=[f"class {i:02}" for i in range(60)])
    assert "Tells 60 kinds of picture apart: `class 00`, " in text
    assert "`class 49`, and 10 more." in text
    assert "The 50 classes with the lowest F1 of 60." in text


def test_an_architecture_of_our_own_says_how_to_open_it(tmp_path: Path) -> None:
    assert "import zoo.network.build" not in made_card(tmp_path / "timms")
    run, _ = made_run(tmp_path / "own", pictures=2)
    config = rundir.read_json(run / rundir.CONFIG)
    rundir.write_json(run / rundir.CONFIG, config | {"architecture": "wide_resnet40_10"})
    said = (
        "import timm\nimport zoo.network.build  # of zootune: registers the architecture with "
        "timm\nfrom PIL"
    )
    assert said in card.text(run)


def test_bundles_tell_size_latency_and_accuracy(tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    text = card.text(
        run,
        Destination(
            "alice/x",
            {
                "bundles/onnx/bundle.json": run / "bundles/onnx/bundle.json",
                "bundles/onnx/model.onnx": run / "bundles/onnx/model.onnx",
            },
        ),
    )
    top1 = rundir.read_json(run / rundir.REPORT)["headline"]["top1"]
    same = f"{top1:.2%}, as trained: the same class for all 27 compared pictures"
    assert f"| `onnx` | {same} | cpu | 0.0 | 3.2 | ok |" in text
    assert "measured on cpu, 2 threads, x86_64, picture 400 x 300." in text
    assert 'timm.create_model("hf-hub:alice/x"' in text
    assert "python -m serve hf-hub:alice/x" in text
    assert "There is no `preprocessor_config.json`: crop_mode `squash` has no equivalent" in text


def test_a_bundle_with_losses_tells_its_points(tmp_path: Path) -> None:
    run = made_finished(tmp_path)
    int8 = shutil.copytree(run / "bundles/onnx", run / "bundles/int8")
    content = rundir.read_json(int8 / bundle.BUNDLE) | {"target": "int8"}
    rungs = [
        {
            "name": "accuracy",
            "limit": 1.0,
            "worst": 0.27,
            "picture": None,
            "pictures": 27,
            "verdict": "passed",
        }
    ]
    (int8 / bundle.FINISHED).unlink()
    bundle.write_description(int8, content)
    rundir.write_json(int8 / bundle.PARITY, {"rungs": rungs})
    bundle.finish(int8)
    text = card.text(
        run, Destination("alice/x", {"bundles/int8/bundle.json": int8 / "bundle.json"})
    )
    assert re.search(
        r"\| `int8` \| [\d.]+% as trained; -0.27 points on 27 compared pictures \|", text
    )
    assert "| `onnx` (not here) |" in text


@pytest.mark.parametrize("name", ["digits-efficientnet_lite0", "emoji-efficientnet_lite0"])
def test_reference_cards_agree_with_their_reports(name: str) -> None:
    folder = ROOT / "model_cards" / name
    text = (folder / rundir.CARD).read_text(encoding="utf-8")
    assert text == card.text(folder), "run python -m tests.bench.reference_cards again"
    report = rundir.read_json(folder / rundir.REPORT)
    assert (
        f"**{report['headline']['top1']:.2%} of {report['headline']['pictures']} test pictures are "
        "right**" in text
    )
    assert ModelCard(text).data.eval_results[0].metric_value == round(report["headline"]["top1"], 4)
