"""Trains a ResNet-18 and exports it; runs in the environment with PyTorch. bench/make-teacher-files starts it."""

import argparse
import json
import time
import warnings
from pathlib import Path

import torch
import torchvision
from safetensors import torch as safetensors
from torch.nn.functional import cross_entropy

from teacher_files import pictures

BATCHES = [1, 7, 64]
FIXED_BATCH = 16
LARGEST_BATCH = 1024
TRAINING_BATCH = 64
LEARNING_RATE = 0.05


def main():
    arguments = parse()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    model = torchvision.models.resnet18(num_classes=len(pictures.CLASSES))
    train(model, *pictures.load("train", arguments.pictures))
    model.eval()
    pixels, labels = pictures.load("t10k", arguments.test_pictures)
    accuracy = evaluate(model, pixels, labels)
    print(f"accuracy on {len(labels)} test pictures: {accuracy:.4f}", flush=True)
    export(model, arguments.folder)
    expect(model, pixels[: max(BATCHES)], arguments.folder / "expected.safetensors")
    about = {
        "network": "torchvision resnet18",
        "data": f"Fashion-MNIST, {arguments.pictures} training pictures, enlarged to 3 x 64 x 64",
        "seed": arguments.seed,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "test_accuracy": accuracy,
        "input_shape": [3, pictures.SIZE, pictures.SIZE],
        "mean": pictures.MEAN,
        "std": pictures.STD,
        "class_names": pictures.CLASSES,
    }
    (arguments.folder / "about.json").write_text(json.dumps(about, indent=2) + "\n")


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--test-pictures", type=int, required=True)
    return parser.parse_args()


def train(model, pixels, labels):
    """One epoch of SGD with a one-cycle schedule."""
    batches = torch.randperm(len(labels)).split(TRAINING_BATCH)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=len(batches))
    start = time.monotonic()
    for number, batch in enumerate(batches, 1):
        loss = cross_entropy(model(pictures.normalize(pixels[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if number % 20 == 0 or number == len(batches):
            print(f"step {number} of {len(batches)}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)


@torch.no_grad()
def evaluate(model, pixels, labels):
    """The share of pictures whose class is found."""
    batches = zip(pixels.split(250), labels.split(250))
    found = sum((model(pictures.normalize(x)).argmax(1) == y).sum().item() for x, y in batches)
    return found / len(labels)


def export(model, folder):
    """Writes the model in every format."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    image = torch.zeros(2, 3, pictures.SIZE, pictures.SIZE)
    fixed = torch.zeros(FIXED_BATCH, 3, pictures.SIZE, pictures.SIZE)
    open_batch = ({0: batch},)

    torch.export.save(torch.export.export(model, (image,), dynamic_shapes=open_batch), folder / "resnet18.pt2")
    torch.export.save(torch.export.export(model, (fixed,)), folder / f"resnet18-batch{FIXED_BATCH}.pt2")
    torch.jit.script(model).save(folder / "resnet18.pt")
    torch.save(model.state_dict(), folder / "resnet18.pth")
    (folder / "resnet18.safetensors").write_bytes(safetensors.save(model.state_dict()))
    (folder / "onnx").mkdir()
    for path, external in [(folder / "onnx/model.onnx", True), (folder / "resnet18.onnx", False)]:
        torch.onnx.export(
            model,
            (image,),
            path,
            dynamo=True,
            dynamic_shapes=open_batch,
            input_names=["input"],
            output_names=["logits"],
            external_data=external,
            verbose=False,
        )


@torch.no_grad()
def expect(model, pixels, path):
    """Writes pixels (u8), the network's input (f32), and PyTorch's logits for batches of the first samples."""
    images = pictures.normalize(pixels)
    logits = {f"logits.{count}": model(images[:count]) for count in BATCHES}
    path.write_bytes(safetensors.save({"pixels": pixels, "input": images, **logits}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # TorchScript's deprecation, among others
    main()
