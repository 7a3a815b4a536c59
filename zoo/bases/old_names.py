"""Names that timm once had for its models, and what it calls them now. timm's own table is what is asked."""


def current_name(name: str) -> str | None:
    """timm's present name (`legacy_xception`, `tf_efficientnet_b0.ns_jft_in1k`) of a model with an old one (`xception`,
    `tf_efficientnet_b0_ns`); None where the name is no old one. `timm/` before it is allowed."""
    from timm.models._registry import get_deprecated_models

    return get_deprecated_models().get(name.removeprefix("timm/")) or None


def current_architecture(name: str) -> str:
    """The same without the tag, and the name itself where it is no old one."""
    return (current_name(name) or name).partition(".")[0]
