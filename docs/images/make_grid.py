#!/usr/bin/env python3
"""Draws the README's picture with the binary itself: one prompt a tile, a seed each.

    python3 docs/images/make_grid.py target/release/scumble docs/images/pocket-grid.png

Needs Pillow (train/requirements.txt of the embedded model has it).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

COLUMNS = 5
GAP = 4
PROMPTS = [
    "a red apple on a blue background",
    "a panda on an orange background, flat style",
    "a rocket on a black background, flat style",
    "a castle on a green background",
    "a smiley face on a pink background, flat style",
    "a dog on a teal background, 3d style",
    "a ghost on a purple background, flat style",
    "a car on a white background, 3d style",
    "a sunflower on a blue background, flat style",
    "a snowman under a starry night sky",
    "a butterfly on a yellow background, flat style",
    "a hamburger on a red background, 3d style",
    "a cactus on a beach, flat style",
    "a robot on a yellow background, flat style",
    "a soccer ball on a green background, 3d style",
]


def main() -> None:
    binary, output = sys.argv[1:]
    tiles = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, prompt in enumerate(PROMPTS):
            path = Path(folder) / f"{seed}.png"
            subprocess.run(
                [binary, "generate", prompt, "-o", str(path), "--seed", str(seed)],
                check=True,
                capture_output=True,
            )
            tiles.append(Image.open(path).convert("RGB"))
    width, height = tiles[0].size
    rows = -(-len(tiles) // COLUMNS)
    grid = Image.new(
        "RGB",
        (COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP),
        "white",
    )
    for place, tile in enumerate(tiles):
        row, column = divmod(place, COLUMNS)
        grid.paste(tile, (column * (width + GAP), row * (height + GAP)))
    grid.save(output, optimize=True)


if __name__ == "__main__":
    main()
