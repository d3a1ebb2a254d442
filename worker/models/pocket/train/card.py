"""Writes the measured parts of the model card: figures, curve, sizes.

The card's prose is in README.md itself; everything between
`<!-- NAME -->` and `<!-- /NAME -->` is replaced by what was measured.
"""

import json
import re
from pathlib import Path

import export
import latents
from vocabulary import OBJECTS


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figures(report: dict) -> str:
    """The evaluation as tables."""
    keys = ("object_top1", "object_top5", "style", "background")
    rows = []
    for title, part in (
        ("DDIM, 20 steps", report["ddim_20"]),
        ("DPM++ 2M Karras, 20 steps", report["dpmpp_2m_karras_20"]),
        ("DPM++ 2M Karras, 12 steps", report["dpmpp_2m_karras_12"]),
        ("DPM++ 2M Karras, 8 steps", report["dpmpp_2m_karras_8"]),
        ("scenes, DDIM, 20 steps", report["scenes"]),
        ("ceiling: true composites", report["ceiling"]["singles"]),
        ("labels rolled", report["labels_rolled"]),
    ):
        values = [percent(part.get(key, part.get("scene"))) for key in keys]
        rows.append([title, str(part["pictures"]), *values])
    header = ["prompts", "pictures", "object top-1", "object top-5", "style", "background"]
    singles = table(header, rows)
    rows = [
        [title, str(part["pictures"]), *(percent(part[key]) for key in
         ("in_order", "both_found", "one_found", "background"))]
        for title, part in (
            ("pairs, DDIM, 20 steps", report["pairs"]),
            ("ceiling: true composites", report["ceiling"]["pairs"]),
        )
    ]
    header = ["pairs", "pictures", "both, in order", "both", "at least one", "background"]
    by_style = ", ".join(
        f"{name} {percent(report['ddim_20'][f'object_top1_{name}'])}"
        for name in ("flat", "3d", "cartoon")
    )
    return f"{singles}\n\n{table(header, rows)}\n\nObject top-1 by style (DDIM): {by_style}."


def curve(log: list[dict]) -> str:
    points = [entry for entry in log if "right_850" in entry]
    keep = points[:: max(1, len(points) // 12)]
    if points[-1] not in keep:
        keep.append(points[-1])
    keys = [f"{name}_{step}" for step in (850, 500, 200) for name in ("right", "shuffled")]
    rows = [
        [str(point["step"]), f"{point['minutes']:.0f}", *(f"{point[key]:.3f}" for key in keys)]
        for point in keep
    ]
    header = ["step", "minutes"]
    header += [f"{name}, t {step}" for step in (850, 500, 200) for name in ("right", "shuffled")]
    return table(header, rows)


def editing(report: dict) -> str:
    """How it edits, each test with its ceiling in brackets."""
    rows = []
    for title, name in (
        ("image to image, strength 0.6", "image_to_image"),
        ("the same, small objects", "image_to_image_small"),
        ("inpaint, a hole over the object", "inpaint_object"),
        ("inpaint, one half of a pair", "inpaint_half_of_pair"),
    ):
        part = report["editing"][name]
        best = part["ceiling"]
        cells = [
            f"{percent(part[key])} ({percent(best[key])})" if key in part else ""
            for key in ("object", "background", "composition", "other_kept", "continued")
        ]
        error = "outside_rmse_of_255"
        cells.append(f"{part[error]} ({best[error]})" if error in part else "")
        rows.append([title, str(part["pictures"]), *cells])
    header = ["test", "pictures", "object asked for", "background", "composition"]
    header += ["other object kept", "background goes on", "error outside, of 255"]
    return table(header, rows)


def run_facts(log: list[dict], shards: int) -> str:
    last = [entry for entry in log if "right_850" in entry][-1]
    return (
        f"{shards * latents.SHARD_PICTURES:,} pictures; {last['step']:,} steps, "
        f"{last['samples']:,} samples, {last['minutes']:.0f} minutes."
    )


def fill(text: str, name: str, content: str) -> str:
    pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: match[1] + content + "\n" + match[2], text)
    if count != 1:
        raise SystemExit(f"the card has {count} places for {name}, wanted 1")
    return filled


def write(work: Path, out: Path, shards: int) -> None:
    """Fills the card in `out`, if there is one."""
    card = out / "README.md"
    if not card.exists():
        return
    report = json.loads((out / "evaluation.json").read_text("utf-8"))
    log = json.loads((work / "checkpoints" / "log.json").read_text())
    codec = json.loads((work / "autoencoder.json").read_text())
    text = card.read_text("utf-8")
    text = fill(text, "SIZE", f"{export.size_of(out):,} bytes in all, {len(OBJECTS)} objects.")
    text = fill(text, "FIGURES", figures(report))
    text = fill(text, "EDITING", editing(report))
    text = fill(text, "RUN", run_facts(log, shards))
    text = fill(
        text,
        "CODEC",
        f"{codec['step']:,} steps. On pictures not trained on: linear codec "
        f"{codec['linear_codec']} dB, decoder on the same latents {codec['decoder']} dB, "
        f"encoder and decoder {codec['round_trip']} dB.",
    )
    card.write_text(fill(text, "CURVE", curve(log)), "utf-8")
