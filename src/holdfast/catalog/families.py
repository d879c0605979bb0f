"""The kinds of models and datasets that are named by a prefix."""

from __future__ import annotations

from holdfast.catalog.records import Family

__all__ = ["DATASETS", "MODELS", "reads_texts"]

MODELS: dict[str, Family] = {
    family.prefix: family
    for family in (
        Family("timm", "a network of the timm library", "timm:resnet50"),
        Family("torchvision", "a network of torchvision", "torchvision:mobilenet_v3_small"),
        Family(
            "hf",
            "a network of texts that transformers or sentence-transformers saved into FOLDER, or a repository of the Hugging Face hub",
            "hf:FOLDER",
            reads="texts",
        ),
        Family(
            "demo",
            "small networks that holdfast knows by name",
            "demo:glyphnet",
            {
                "glyphnet": "residual network for 32 px, 64 features, pretrained by this project on rendered letters; weights included",
                "mobilenetv1-025": "MobileNetV1 with a quarter of the channels, 256 features; bring weights with --weights",
            },
        ),
        Family("python", "a function of your own that returns a network", "python:my_models:build"),
    )
}

_CUB = (
    "torchvision has no CUB-200; get the archive from its authors, and give the folder of its images, or a table with the columns path, "
    "label and split"
)

DATASETS: dict[str, Family] = {
    family.prefix: family
    for family in (
        Family("", "a folder: CLASS/images or train|val|test/CLASS/images", "cars/"),
        Family(
            "csv", "a table with the columns path or text, label, and where wanted split, weight, id and others of your own", "cars.csv"
        ),
        Family("jsonl", "the same as JSON lines, one object an example", "questions.jsonl"),
        Family(
            "torchvision",
            "datasets of torchvision in FOLDER, or in ./data",
            "torchvision:NAME@FOLDER",
            {
                "cifar10": "10 kinds of things, 32 px",
                "cifar100": "100 kinds of things, 32 px",
                "dtd": "Describable Textures, 47 classes, first partition",
                "fgvc-aircraft": "100 variants of aircraft",
                "flowers102": "Oxford Flowers, 102 species",
                "food101": "101 dishes",
                "oxford-iiit-pet": "37 breeds of cats and dogs",
                "stanford-cars": "196 models of cars",
            },
            {"cub": _CUB, "cub200": _CUB, "cub-200": _CUB, "cub200-2011": _CUB, "cub-200-2011": _CUB},
        ),
        Family("hf", "a dataset of the library datasets in FOLDER: what save_to_disk wrote, or Parquet files", "hf:FOLDER"),
        Family("wds", "tar shards of WebDataset, local or at a URL; {train,val}-{000..012}.tar, or a folder of them", "wds:PATTERN"),
        Family(
            "demo",
            "small real datasets that come with holdfast's dependencies",
            "demo:digits",
            {"digits": "1797 handwritten digits of 64 writers, 8 x 8 px (scikit-learn)"},
        ),
    )
}


def reads_texts(model: str) -> bool:
    """Whether a spec such as ``hf:FOLDER`` stands for a network of texts.

    Example:
        >>> reads_texts("hf:bert-base-uncased"), reads_texts("timm:resnet50")
        (True, False)
    """
    family = MODELS.get(model.partition(":")[0])
    return family is not None and family.reads == "texts"
