#!/usr/bin/env python3
"""From npm packages to a finished model folder, one resumable command.

    python3 train/run.py --work DIR [--minutes N] [--stage NAME] [--out DIR]

Stages run in order and are skipped when --work holds their outputs: data,
tokenizer, latents, train, autoencoder, export, evaluate. Everything between
the stages lives under --work; only `export` and `evaluate` write to --out, by
default the model's own folder. With a GPU the same command uses it, with
larger batches.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Threads that wait should sleep: spinning ones lose badly on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent))

STAGES = ("data", "tokenizer", "latents", "train", "autoencoder", "export", "evaluate")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--stage", choices=STAGES, action="append", help="only these stages")
    parser.add_argument("--minutes", type=float, default=70, help="training time of the denoiser")
    parser.add_argument("--codec-minutes", type=float, default=25, help="of the autoencoder")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and noise")
    parser.add_argument(
        "--codec-from",
        type=Path,
        help="an earlier --work: keep its latent space and go on from its autoencoder",
    )
    parser.add_argument("--shards", type=int, default=16, help="of 4000 pictures each")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 2)
    parser.add_argument(
        "--team",
        type=int,
        default=1,
        help="processes that train together, started one by one with --stage train",
    )
    parser.add_argument("--rank", type=int, default=0, help="number of this one in its team")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--draft", action="store_true", help="export while training still runs"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    import torch

    torch.set_num_threads(args.threads)
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    gpu = device.type == "cuda"
    batch = 1024 if gpu else 64
    args.work.mkdir(parents=True, exist_ok=True)
    wanted = args.stage or STAGES

    def due(stage: str, done: bool) -> bool:
        if stage not in wanted:
            return False
        print(f"{stage}: {'already done' if done else 'running'}", flush=True)
        return not done

    import bpe
    import data
    import latents

    if due("data", data.is_done(args.work)):
        data.prepare(args.work)
    if due("tokenizer", bpe.is_done(args.work)):
        bpe.train(args.work)
    if due("latents", latents.is_done(args.work, args.shards)):
        if args.codec_from is not None and not (args.work / "codec.pt").exists():
            shutil.copyfile(args.codec_from / "codec.pt", args.work / "codec.pt")
        latents.prepare(args.work, args.shards, args.threads)

    import diffusion

    if due("train", diffusion.is_done(args.work, args.minutes)):
        recipe = diffusion.Recipe(
            shards=args.shards,
            batch=batch,
            learning_rate=2.5e-3 if gpu else 1.2e-3,
            # Averages must not outlive the cosine: a CPU run has few steps.
            average=0.9995 if gpu else 0.999,
            minutes=args.minutes,
            seed=args.seed,
        )
        diffusion.train(args.work, recipe, device, diffusion.Team(args.rank, args.team))

    import autoencoder

    if due("autoencoder", autoencoder.is_done(args.work)):
        start = None if args.codec_from is None else args.codec_from / "autoencoder.pt"
        autoencoder.train(args.work, args.codec_minutes, device, args.seed, start)

    import card
    import evaluate
    import export

    if due("export", export.is_done(args.work)):
        export.export(args.work, args.out, args.draft)
    if due("evaluate", evaluate.is_done(args.work)):
        evaluate.evaluate(args.work, args.out, device)
        card.write(args.work, args.out, args.shards)


if __name__ == "__main__":
    main()
