"""What Pillow, diffusers' image processor and OpenCV make of small pictures: images/*, the data of ../images.rs.

    python images.py        # or through make.py

Needs diffusers, pillow and opencv-python-headless; their versions are written into the manifest.
"""

import json
from pathlib import Path

import cv2
import diffusers
import numpy as np
import PIL
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageFilter, ImageOps
from safetensors.numpy import save_file

HERE = Path(__file__).parent
SIZES = [(1, 1), (2, 3), (17, 23), (48, 40), (61, 8), (1, 97)]
TARGETS = [(1, 1), (8, 8), (16, 24), (40, 24), (64, 8), (90, 3)]
SIGMAS = [0.3, 1.0, 4.0, 7.5, 12.0]


def picture(rng, width, height, channels):
    """Smooth colours with hard edges and noise, so that filters over- and undershoot."""
    y, x = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(channels):
        a, b, phase = rng.uniform(-0.5, 0.5, 3)
        wave = 127.5 + 127.5 * np.sin(a * x + b * y + 6 * phase)
        checks = ((x // 5 + y // 3) % 2) * 255
        noise = rng.integers(0, 256, (height, width))
        layers.append(np.where(x + y < (width + height) // 3, checks, np.where(y % 4 == 0, noise, wave)))
    pixels = np.stack(layers, -1).astype(np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def blob(rng, width, height):
    """A mask of a soft box on black."""
    mask = np.zeros((height, width), np.uint8)
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    box = mask[y : y + 1 + int(rng.integers(0, height)), x : x + 1 + int(rng.integers(0, width))]
    box[:] = rng.choice([255, 255, 90, 1])
    return mask


def blurred(mask, sigma):
    """mask_blur as the web UI applies it, one direction after the other, but in floats.

    There it runs over bytes, for which OpenCV cuts its kernel to 8 fractional bits: up to 8 of 255 away from this.
    """
    size = 2 * int(2.5 * sigma + 0.5) + 1
    for kernel in ((size, 1), (1, size)):
        mask = np.floor(cv2.GaussianBlur(mask.astype(np.float64), kernel, sigma) + 0.5)
    return mask.astype(np.uint8)


def a1111_fill(image, mask):
    """"fill" as the web UI applies it: Pillow's blurs of what is kept, over each other from wide to narrow."""
    transparent = Image.new("RGBa", image.size)
    transparent.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    canvas = Image.new("RGBA", image.size)
    for radius, repeats in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        layer = transparent.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(repeats):
            canvas.alpha_composite(layer)
    return np.array(canvas)


def golden_images(folder):
    rng = np.random.default_rng(1)
    processor = VaeImageProcessor(vae_scale_factor=1)
    masks = VaeImageProcessor(vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    tensors, cases = {}, {"fit": [], "blur": [], "smear": [], "region": [], "overlay": [], "latent_mask": []}

    def keep(name, array):
        tensors[name] = np.ascontiguousarray(array)
        return name

    for index, (width, height) in enumerate(SIZES):
        for channels in (3, 1):
            pixels = picture(rng, width, height, channels)
            source = keep(f"picture/{index}/{channels}", pixels)
            for target in TARGETS:
                for fit in ("default", "fill", "crop"):
                    try:
                        resized = processor.resize(Image.fromarray(pixels), target[1], target[0], resize_mode=fit)
                    except ValueError:
                        continue  # a side rounded down to zero, which Pillow refuses
                    resized = np.array(resized)
                    if channels == 1 and resized.ndim == 3:
                        resized = resized[..., 0]
                    name = keep(f"{source}/{fit}/{target[0]}x{target[1]}", resized)
                    cases["fit"].append({"source": source, "fit": fit, "result": name})
    values = keep("values", np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3))
    keep("values/tensor", processor.preprocess(Image.fromarray(tensors[values])).numpy())

    for index, (width, height) in enumerate([(1, 1), (2, 1), (40, 33), (64, 9)]):
        for sigma in SIGMAS:
            mask = blob(rng, width, height)
            name = keep(f"blur/{index}/{sigma}", mask)
            cases["blur"].append(
                {"source": name, "sigma": sigma, "result": keep(f"{name}/result", blurred(mask, sigma))}
            )

    for index, (width, height) in enumerate([(48, 40), (33, 64), (90, 20)]):
        pixels, mask = picture(rng, width, height, 3), blurred(blob(rng, width, height), 2.0)
        name = f"smear/{index}"
        keep(f"{name}/image", pixels), keep(f"{name}/mask", mask)
        keep(f"{name}/result", a1111_fill(Image.fromarray(pixels), Image.fromarray(mask)))
        cases["smear"].append(name)

    for index in range(200):
        width, height = (int(value) for value in rng.integers(1, 200, 2))
        mask = blob(rng, width, height)
        rows, columns = np.any(mask, 1).nonzero()[0], np.any(mask, 0).nonzero()[0]
        target = [int(value) for value in rng.integers(1, 100, 2) * 8]
        padding = int(rng.choice([0, 1, 7, 32, 500]))
        region = VaeImageProcessor.get_crop_region(Image.fromarray(mask), *target, pad=padding)
        cases["region"].append(
            {
                "mask": [width, height],
                "white": [int(value) for value in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)],
                "padding": padding,
                "target": target,
                "region": [int(value) for value in region],
            }
        )

    for index in range(6):
        box = np.zeros((44, 60), np.uint8)
        x, y = (int(value) for value in rng.integers(0, 30, 2))
        box[y : y + 14, x : x + 25] = 255
        original, mask = picture(rng, 60, 44, 3), blurred(box, 3.0)
        drawn = picture(rng, 64, 64, 3)
        region = VaeImageProcessor.get_crop_region(Image.fromarray(mask), 64, 64, pad=4)
        result = processor.apply_overlay(
            Image.fromarray(mask), Image.fromarray(original), Image.fromarray(drawn), region
        )
        name = f"overlay/{index}"
        keep(f"{name}/original", original), keep(f"{name}/mask", mask), keep(f"{name}/drawn", drawn)
        keep(f"{name}/result", np.array(result))
        cases["overlay"].append({"name": name, "region": [int(value) for value in region]})

    for index, (width, height) in enumerate([(40, 48), (64, 32)]):
        mask = picture(rng, width, height, 1)
        name = keep(f"latent_mask/{index}", mask)
        binary = masks.preprocess(Image.fromarray(mask))
        keep(f"{name}/binary", binary.numpy())
        keep(f"{name}/latents", torch.nn.functional.interpolate(binary, size=(height // 8, width // 8)).numpy())
        cases["latent_mask"].append(name)

    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "images.safetensors")
    manifest = {
        "versions": {
            "diffusers": diffusers.__version__,
            "pillow": PIL.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        },
        **cases,
    }
    lines = json.dumps(manifest, indent=1)
    (folder / "images.json").write_text(lines + "\n")


if __name__ == "__main__":
    golden_images(HERE / "images")
