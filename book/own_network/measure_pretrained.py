"""Record what a network trained on ImageNet looks for: Fig. 2 of SqueezeNet v1.0 on photographs.

    python -m book.own_network.measure_pretrained WEIGHTS --data DIR

WEIGHTS is a safetensors file under torchvision's names (RGB, mean 123/117/104 subtracted, 227 px),
such as Han et al.'s 8-bit form; `torchvision.models.squeezenet1_0(weights="DEFAULT")` is trained
otherwise. Projections are recorded, photographs and weights are not.
"""

import argparse
import time
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file, save
from torch import nn

from zfrepro import data, device, gallery, plots, records
from zfrepro.data.transforms import center_crop

LAYERS = ("features.4", "features.7", "features.12")  # of stages one, two and three
IMAGES, CANDIDATES, MAPS, SIZE = 500, 10, 2, 227
MEAN = (123.0, 117.0, 104.0)


def squeezenet(weights: Path) -> nn.Module:
    """Return SqueezeNet v1.0 with weights from a file; its last convolution is padded by 1."""
    model = torchvision.models.squeezenet1_0()
    model.classifier[1] = nn.Conv2d(512, 1000, 1, padding=1)
    model.load_state_dict(load_file(weights))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("--data", help="folder that holds imagenet20")
    options = parser.parse_args()
    began, model = time.perf_counter(), squeezenet(options.weights)
    dataset = data.load("imagenet20", 224, root=options.data, parts=("val",))
    split = dataset.val.shuffled(IMAGES)
    images = center_crop(split.images, SIZE).float() - torch.tensor(MEAN)[None, :, None, None]
    tops, pictures, maps = gallery.top_units(model, images, LAYERS), {}, {}
    for layer, top in tops.items():
        strongest = top.values[:, -1].argsort(descending=True)[:CANDIDATES].tolist()
        projections = gallery.projections(model, images, top, strongest)
        alike = gallery.mean_pairwise_correlation(projections).nan_to_num(-1)
        best = alike.argsort(descending=True)[:MAPS].tolist()
        maps[layer] = [strongest[i] for i in best]
        shown = plots.enlarge(plots.display(projections[best]))
        small = nn.functional.interpolate(shown.flatten(0, 1), plots.TILE, mode="area")
        pictures[layer] = (255 * small).round().byte().unflatten(0, shown.shape[:2]).contiguous()
    folder = records.results_root() / "own_network"
    records.write_atomically(folder / "squeezenet1_0.safetensors", save(pictures))
    record = {
        "kind": "study", "chapter": "own_network",
        **records.provenance("python -m book.own_network.measure_pretrained WEIGHTS --data DIR"),
        "device": device.describe(torch.device("cpu")),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "image_size": SIZE, "networks": {"squeezenet1_0": records.sha256(options.weights)},
        "images": IMAGES, "seed": 0, "maps": maps,
        "seconds": {"all": time.perf_counter() - began},
    }  # fmt: skip
    records.write_json(folder / "squeezenet1_0.json", record)


if __name__ == "__main__":
    main()
