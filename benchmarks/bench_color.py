"""How fast is ColorAugment on a batch, against torchvision's v2 functions?

Colour jitter (p 0.8), grayscale (0.2) and blur (0.5, a kernel of 23) of 3x224x224 uint8, each sample with its own
draws; on CUDA too, where there is a device. torchvision does the same with the same numbers, one image after another:
on the CPU in a thread each, and in torch's threads. "one draw for all" is torchvision's v2 on the whole batch, which
augments every image alike. kornia, if installed, draws for each sample. The limits are a copy of the batch, and a
multiplication of it as floats.

python benchmarks/bench_color.py [--rounds 5] [--threads N] [--batch 64]
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from harness import console, options_parser, report
from torch import Tensor

import largeds_native as lds
from largeds_native._internal.measure import Contender, take_turns
from largeds_native.profile.bench.candidates import reason

SIDE, KERNEL = 224, 23
COLOR = lds.ColorAugment(0.8, 0.8, 0.8, 0.2, p=0.8, grayscale=0.2, blur=0.5, blur_kernel=KERNEL)
OURS, ONE_BY_ONE = "ColorAugment", "torchvision, one by one"


def photos(n: int) -> Tensor:
    """Smooth images, with values over the whole range."""
    small = torch.rand(n, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bicubic")
    return large.mul_(255).clamp_(0, 255).to(torch.uint8)


def augmented(image: Tensor, draws: Any, i: int) -> Tensor:
    """By torchvision, with the numbers of sample i."""
    from torchvision.transforms.v2 import functional as F

    jitter = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
    if draws.jitter[i]:
        for operation in draws.order[i]:
            image = jitter[operation](image, float(draws.factors[i, operation]))
    if draws.grayscale[i]:
        image = F.rgb_to_grayscale(image, 3)
    if draws.blur[i]:
        image = F.gaussian_blur(image, [KERNEL, KERNEL], [float(draws.sigma[i])] * 2)
    return image


def ours(images: Tensor, threads: int) -> Callable[[], int]:
    out = torch.empty_like(images)
    epoch = 0

    def run() -> int:
        nonlocal epoch
        torch.set_num_threads(threads)
        epoch += 1
        COLOR(images, epoch=epoch, out=out)
        return finished(images)

    return run


def one_by_one(images: Tensor, threads: int, pool: ThreadPoolExecutor | None) -> Callable[[], int]:
    """In torch's threads, or in a thread for each image of those that the pool works on."""
    epoch = 0

    def run() -> int:
        nonlocal epoch
        epoch += 1
        draws = COLOR.draw(np.arange(len(images)), (SIDE, SIDE), epoch=epoch)
        if pool is None:
            torch.set_num_threads(threads)
            torch.stack([augmented(image, draws, i) for i, image in enumerate(images)])
        else:
            torch.stack(list(pool.map(lambda i: augmented(images[i], draws, i), range(len(images)))))
        return finished(images)

    return run


def whole_batch(images: Tensor, threads: int) -> Callable[[], int]:
    """torchvision's v2 transforms on the batch, where all images have the same draws."""
    from torchvision.transforms import v2

    jitter = v2.RandomApply([v2.ColorJitter(COLOR.brightness, COLOR.contrast, COLOR.saturation, COLOR.hue)], COLOR.p)
    blur = v2.RandomApply([v2.GaussianBlur(KERNEL, COLOR.blur_sigma)], COLOR.blur)
    transform = v2.Compose([jitter, v2.RandomGrayscale(COLOR.grayscale), blur])
    parts = torch.split(images, max(len(images) // 8, 1))  # so that the draws of a round are not all or nothing

    def run() -> int:
        torch.set_num_threads(threads)
        for part in parts:
            transform(part)
        return finished(images)

    return run


def kornia_peer(images: Tensor, threads: int) -> Callable[[], int] | None:
    try:
        from kornia import augmentation as K
    except ImportError as error:
        console.print(f"not measured: kornia: {reason(error)}")
        return None
    transform = K.AugmentationSequential(
        K.ColorJitter(COLOR.brightness, COLOR.contrast, COLOR.saturation, COLOR.hue, p=COLOR.p),
        K.RandomGrayscale(p=COLOR.grayscale),
        K.RandomGaussianBlur((KERNEL, KERNEL), COLOR.blur_sigma, p=COLOR.blur),
    )

    def run() -> int:
        torch.set_num_threads(threads)
        transform(images.float().div_(255)).mul_(255).to(torch.uint8)
        return finished(images)

    return run


def limit(images: Tensor, threads: int, floats: bool) -> Callable[[], int]:
    out = torch.empty_like(images)

    def run() -> int:
        torch.set_num_threads(threads)
        out.copy_(images.float().mul_(0.9) if floats else images)
        return finished(images)

    return run


def finished(images: Tensor) -> int:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return len(images)


def contenders(images: Tensor, threads: int) -> list[Contender]:
    runs = [
        Contender("limit: a copy of the batch", limit(images, threads, floats=False), "limit"),
        Contender("limit: to floats, times a number, and back", limit(images, threads, floats=True), "limit"),
        Contender(OURS, ours(images, threads), "ours"),
    ]
    if images.device.type == "cpu":
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        runs.append(Contender(ONE_BY_ONE, one_by_one(images, threads, pool)))
        runs.append(Contender(f"{ONE_BY_ONE}, torch's threads", one_by_one(images, threads, None)))
    else:
        runs.append(Contender(ONE_BY_ONE, one_by_one(images, threads, None)))
    runs.append(Contender("torchvision, one draw for all", whole_batch(images, threads)))
    peer = kornia_peer(images, threads)
    return [*runs, Contender("kornia", peer)] if peer else runs


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--batch", type=int, default=64, help="images per batch (64); four times as many on CUDA")
    options = parser.parse_args()
    question = f"Jitter, grayscale and blur of 3x{SIDE}x{SIDE} uint8, {options.threads} threads"
    results = take_turns(contenders(photos(options.batch), options.threads), rounds=options.rounds)
    report("color", question, results, relative_to=ONE_BY_ONE, of=OURS, target=3.0)
    if torch.cuda.is_available():
        images = photos(4 * options.batch).cuda()
        results = take_turns(contenders(images, options.threads), rounds=options.rounds)
        question = f"The same on {torch.cuda.get_device_name()}, batches of {len(images)}"
        report("color_cuda", question, results, relative_to=ONE_BY_ONE, of=OURS, target=20.0)


if __name__ == "__main__":
    main()
