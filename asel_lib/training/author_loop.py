"""ASEL's training loop as its authors' notebooks have it, rebuilt from what the paper states: files decoded by Pillow
in every epoch, in worker processes, float32, all tokens in the blocks multiplied by the straight-through mask, Adam
with one kernel a tensor. Nothing is trained with it: it is what `training.bench_training` is measured against."""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from asel_lib.configs import StageSettings
from asel_lib.reproducibility import generator
from asel_lib.training import objectives


class Files(Dataset):
    """(image float32 (3, S, S), label) of image files.

    Args:
        files: of any format that Pillow reads.
        labels: of each.
        image_size: S, pixels.
    """

    def __init__(self, files: Sequence[Path], labels: Sequence[int], image_size: int):
        self.files, self.labels = list(files), [int(label) for label in labels]
        self.transform = transforms.Compose(
            [
                transforms.Resize((image_size, image_size), transforms.InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int):
        return self.transform(Image.open(self.files[index]).convert("RGB")), self.labels[index]


class AuthorLoop:
    """The authors' loop.

    Args:
        model: a SelectiveViT with a learned selector, on `device`.
        files: what it is trained on.
        settings: batch size, learning rates, keep ratios.
        workers: processes that decode, 0: none; they are started in the first epoch and stay.
        device: where the model computes.
        seed: of the order and of the draws.
    """

    def __init__(self, model, files: Files, settings: StageSettings, workers: int, device: torch.device, seed: int = 0):
        self.model, self.settings, self.device, self.seed = model, settings, device, seed
        self.loader = DataLoader(
            files,
            settings.batch_size,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(seed),
            pin_memory=device.type == "cuda",
        )
        groups = {"selector": [], "head": [], "backbone": []}
        for name, parameter in model.named_parameters():
            part = "selector" if name.startswith("patch_drop.") else "head" if name.startswith("head.") else "backbone"
            groups[part].append(parameter)
        rates = {part: getattr(settings, f"lr_{part}") for part in groups}
        self.optimizer = torch.optim.Adam(
            [{"params": parameters, "lr": rates[part]} for part, parameters in groups.items()],
            foreach=False,
            fused=False,
        )
        self.step = 0

    def epoch(self) -> float:
        """Train on every image once -> images a second."""
        self.model.train()
        started = time.perf_counter()
        for images, labels in self.loader:
            self._train(images.to(self.device), labels.to(self.device))
        return len(self.loader.dataset) / (time.perf_counter() - started)

    def _train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        ratio = objectives.keep_ratio(self.settings, self.seed, self.settings.full_epochs, self.step)
        loss, _ = objectives.loss(
            self.model,
            images,
            labels,
            mode="mask",
            ratio=ratio,
            sparsity=self.settings.sparsity,
            noise=generator(self.seed, "noise", self.step),
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()
        self.step += 1
