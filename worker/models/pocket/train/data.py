"""Stage `data`: fetches the icon packages and rasterises what is wanted."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import compose
from captions import caption, random_spec
from vocabulary import OBJECTS, STYLES

HERE = Path(__file__).resolve().parent


def prepare(work: Path) -> None:
    """Installs the pinned npm packages and writes `WORK/sprites` and `words.json`."""
    packages = work / "npm"
    packages.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(HERE / name, packages / name)
    if not (packages / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=packages, check=True)
    wanted = {
        "size": compose.RASTER_SIZE,
        "labels": [item.label for item in OBJECTS],
        "sets": STYLES,
    }
    (work / "wanted.json").write_text(json.dumps(wanted))
    subprocess.run(["node", str(HERE / "rasterise.mjs"), str(work)], check=True)

    rng = random.Random(1)
    specs = [random_spec(rng) for _ in range(96)]
    pictures = compose.render(compose.Sprites(work), specs, rng)
    compose.contact_sheet(pictures, 12).save(work / "samples.png")
    lines = [caption(rng, spec) for spec in specs]
    (work / "samples.txt").write_text("\n".join(lines) + "\n")


def is_done(work: Path) -> bool:
    return (work / "samples.txt").exists() and (work / "words.json").exists()
