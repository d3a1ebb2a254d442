"""What long, weighted and broken prompts encode to: the data of ../prompts.rs and of the tokenizer's own test.

`make.py` calls it. Every case says by hand how its prompt is to be read, as chunks of (text, weight), so that nothing
here parses prompts; the states are transformers', and the formulae are those that the crate's docs state:

    chunk   = start, ids, end, padding
    w       = weights of the ids; 1 for marks and padding
    z       = states of the chunk
    z'      = w * z * mean(z) / mean(w * z)
    hidden  = the z' of all chunks, one after another
    pooled  = that of the first chunk

A shorter prompt is padded with what empty chunks encode to.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from safetensors.torch import save_file
from transformers import CLIPTokenizer

PLAIN = "the red fox and the cat on the red fox and the cat on"
CASES = {
    "empty": ("", 0, [[]]),
    "three-chunks": (
        f"{PLAIN} {PLAIN} the fox and",
        0,
        [[(PLAIN, 1)], [(PLAIN, 1)], [("the fox and", 1)]],
    ),
    "comma": (
        "the red fox and the cat on the red fox and, the cat on the fox",
        0,
        [[("the red fox and the cat on the red fox and,", 1)], [("the cat on the fox", 1)]],
    ),
    "far-comma": (
        "the red fox and the cat on the red fox, and the cat on the fox",
        0,
        [[("the red fox and the cat on the red fox, and the cat", 1)], [("on the fox", 1)]],
    ),
    "break": (
        "the red cat BREAK the fox BREAK BREAK and",
        0,
        [[("the red cat", 1)], [("the fox", 1)], [], [("and", 1)]],
    ),
    "weights": (
        r"the (red:1.5) [cat] and ((fox)) \(on\)",
        0,
        [[("the", 1), ("red", 1.5), ("cat", 1 / 1.1), ("and", 1), ("fox", 1.1 * 1.1), ("(on)", 1)]],
    ),
    "strange-weights": (
        "(the:-1) red (fox:0) and (cat:3.5",
        0,
        [[("the", -1), ("red", 1), ("fox", 0), ("and", 1), ("cat:3.5", 1.1)]],
    ),
    "weights-across-chunks": (
        f"the fox ({PLAIN}:1.3) BREAK cat",
        0,
        [
            [("the fox", 1), ("the red fox and the cat on the red fox and the", 1.3)],
            [("cat on", 1.3)],
            [("cat", 1)],
        ],
    ),
    "skip-1": ("the (red:1.4) fox", 1, [[("the", 1), ("red", 1.4), ("fox", 1)]]),
    "skip-2": (f"{PLAIN} the (fox:0.7)", 2, [[(PLAIN, 1)], [("the", 1), ("fox", 0.7)]]),
}
# Prompts, what to steer away from, and how both are read; drawn as well.
DRAWN = {
    "longer-prompt": (
        (f"{PLAIN} the (fox:1.3)", 0, [[(PLAIN, 1)], [("the", 1), ("fox", 1.3)]]),
        ("[cat]", [[("cat", 1 / 1.1)]]),
    ),
    "longer-negative": (
        ("the (red:1.2) fox", 1, [[("the", 1), ("red", 1.2), ("fox", 1)]]),
        (f"{PLAIN} BREAK cat", [[(PLAIN, 1)], [("cat", 1)]]),
    ),
}
SKIPPED_PROMPT = "a red cat and the fox"
SKIPPED_NEGATIVE = "thing"
TEXTS = [
    "",
    " ",
    "the red cat",
    "  The\tRED\r\n\ncat  ",
    "it's don't we'll they've I'm he'd you're 's 't",
    "IT'S DON'T",
    "1234 3d 4k 1920x1080 3.14 -0.5 ½ Ⅷ 𝟙𝟚 ٣٤",
    "hello! hello!! ! !hello! #1!",
    "a,b ,c , d,,e",
    "(red:1.3) [cat] {fox} \\(on\\) <lora:x:1>",
    "naïve café",
    "nai\u0308ve cafe\u0301",
    "Z\u0351\u036b\u0343a\u030a\u0323l\u0334\u0341g\u0337o\u0321",
    "\u0301\u0301 alone",
    "猫と狐 한국어 中文，。",
    "ภาษาไทย हिन्दी বাংলা",
    "שלום עולם العربيّة \u202eleft\u202c",
    "🦊 🐱‍👤 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪",
    "İstanbul ẞtraße ﬁne ǅ ΑΣ ΟΔΟΣ",
    "\x00 a\x00b \x01\x07\x1b[31m \x7f",
    "zero\u200bwidth\u200djoin\u2060er soft\u00adhyphen \ufeffbom",
    "nbsp\u00a0thin\u2009ideographic\u3000line\u2028para\u2029next\x85vt\x0bff\x0c",
    "\ufffd \U0010ffff \ue000 \U000e0041",
    "<|endoftext|> <|startoftext|>cat<|endoftext|><|endoftext|>",
    "<|ENDOFTEXT|> <|endoftext| |endoftext|>",
    "x" * 600,
    "the " * 300,
    "!" * 50,
    "ﷺ " * 20,
    "_under_score_ kebab-case a.b.c http://x.y/z?q=1&r=2",
    "``''\"\" «quotes» “curly” ‘it’s’",
]


def make(folder, load, noise):
    """Writes `prompts/` beside the tiny models in `folder`. `load` and `noise` are `make.py`'s."""
    out = folder / "prompts"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    tensors, manifest = {}, {"cases": [], "skips": [], "drawn": []}
    with torch.no_grad():
        for model in ("sd1", "sd2", "sdxl"):
            pipe = load((folder / model).resolve())
            for _, encoder in encoders(pipe):
                if not hasattr(encoder, "text_model"):
                    # Where diffusers looks for the final norm; transformers 5 has done away with that level.
                    object.__setattr__(encoder, "text_model", encoder)
            encode_cases(model, pipe, tensors, manifest["cases"])
            skip_layers(model, pipe, tensors, manifest["skips"])
            draw(model, pipe, noise, tensors, manifest["drawn"])
    save_file({key: value.contiguous() for key, value in tensors.items()}, out / "encoded.safetensors")
    (out / "encoded.json").write_text(json.dumps(manifest, indent=1) + "\n")
    lines = ",\n".join("  " + json.dumps(entry) for entry in tokenized(folder))
    (out / "tokens.json").write_text("[\n" + lines + "\n]\n")


def encode_cases(model, pipe, tensors, manifest):
    for name, (prompt, clip_skip, chunks) in CASES.items():
        if clip_skip > clip_skip_max(pipe):
            continue
        key = f"{model}/{name}"
        tensors.update({f"{key}/{part}": value for part, value in encode(pipe, chunks, clip_skip).items()})
        counts = [len(ids(pipe.tokenizer, chunk)[0]) for chunk in chunks]
        manifest.append({"model": model, "key": key, "prompt": prompt, "clip_skip": clip_skip, "chunks": counts})


def skip_layers(model, pipe, tensors, manifest):
    """What diffusers itself makes of clip_skip, for every value that it takes."""
    for clip_skip in range(clip_skip_max(pipe) + 1):
        options = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
        encoded = pipe.encode_prompt(
            SKIPPED_PROMPT, negative_prompt=SKIPPED_NEGATIVE, clip_skip=clip_skip or None, **options
        )
        names = ("hidden", "negative", "pooled", "negative_pooled")
        key = f"{model}/clip-skip-{clip_skip}"
        tensors.update({f"{key}/{part}": value for part, value in zip(names, encoded)})
        manifest.append({"model": model, "key": key, "clip_skip": clip_skip, "prompt": SKIPPED_PROMPT, "negative_prompt": SKIPPED_NEGATIVE})


def draw(model, pipe, noise, tensors, manifest):
    """What diffusers draws of encodings made here."""
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    size, scale = pipe.unet.config.sample_size, pipe.vae_scale_factor
    for name, ((prompt, clip_skip, chunks), (negative_prompt, negative_chunks)) in DRAWN.items():
        count = max(len(chunks), len(negative_chunks))
        encoded = encode(pipe, chunks, clip_skip, count)
        negative = encode(pipe, negative_chunks, 0, count)
        embeddings = {"prompt_embeds": encoded["hidden"], "negative_prompt_embeds": negative["hidden"]}
        if "pooled" in encoded:
            embeddings["pooled_prompt_embeds"] = encoded["pooled"]
            embeddings["negative_pooled_prompt_embeds"] = negative["pooled"]
        case = {
            "model": model,
            "key": f"{model}/{name}",
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "clip_skip": clip_skip,
            "side": size * scale,
            "steps": 4,
            "guidance_scale": 4.0,
            "seed": 21,
        }
        shape = (1, pipe.unet.config.in_channels, size, size)
        tensors[f"{case['key']}/latents"] = pipe(
            **embeddings,
            width=case["side"],
            height=case["side"],
            num_inference_steps=case["steps"],
            guidance_scale=case["guidance_scale"],
            latents=noise(case["seed"], 0, 4 * size * size).reshape(shape),
            output_type="latent",
        ).images
        manifest.append(case)


def encoders(pipe):
    pairs = [(pipe.tokenizer, pipe.text_encoder)]
    if isinstance(pipe, StableDiffusionXLPipeline):
        pairs.append((pipe.tokenizer_2, pipe.text_encoder_2))
    return pairs


def clip_skip_max(pipe):
    layers = min(encoder.config.num_hidden_layers for _, encoder in encoders(pipe))
    return layers - isinstance(pipe, StableDiffusionXLPipeline)


def encode(pipe, chunks, clip_skip, count=0):
    """`hidden`, and for SDXL `pooled`, of chunks and of empty ones up to `count`."""
    is_xl = isinstance(pipe, StableDiffusionXLPipeline)
    chunks = chunks + [[]] * (count - len(chunks))
    side_by_side = []
    for tokenizer, encoder in encoders(pipe):
        one_after_another = []
        for index, chunk in enumerate(chunks):
            chunk_ids, weights = ids(tokenizer, chunk)
            padding = tokenizer.model_max_length - len(chunk_ids) - 2
            framed = [tokenizer.bos_token_id, *chunk_ids, tokenizer.eos_token_id] + [tokenizer.pad_token_id] * padding
            assert padding >= 0, chunk
            weights = torch.tensor([1.0, *weights] + [1.0] * (padding + 1)).reshape(1, -1, 1)
            output = encoder(torch.tensor([framed]), output_hidden_states=True)
            states = output.hidden_states[-(clip_skip + 1 + is_xl)]
            if not is_xl:
                states = encoder.text_model.final_layer_norm(states)
            weighted = states * weights
            one_after_another.append(weighted * (states.double().mean() / weighted.double().mean()).float())
            if index == 0:
                pooled = output[0]
        side_by_side.append(torch.cat(one_after_another, dim=1))
    hidden = torch.cat(side_by_side, dim=2)
    return {"hidden": hidden, "pooled": pooled} if is_xl else {"hidden": hidden}


def ids(tokenizer, chunk):
    """The ids of a chunk's texts, and the weight of each."""
    read = [(tokenizer(text, add_special_tokens=False).input_ids, weight) for text, weight in chunk]
    return [id for span, _ in read for id in span], [float(weight) for span, weight in read for _ in span]


def tokenized(folder):
    """The ids of strange texts, for tokenizers read from either kind of file and for one that pads with a letter."""
    pocket = folder / "../../../../models/pocket/tokenizer"
    with tempfile.TemporaryDirectory() as padded:
        for file in ("vocab.json", "merges.txt"):
            shutil.copy(folder / "sd1/tokenizer" / file, padded)
        settings = json.loads((folder / "sd1/tokenizer/tokenizer_config.json").read_text())
        (Path(padded) / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": "!"}))
        sources = {"sd1": folder / "sd1/tokenizer", "sd2": folder / "sd2/tokenizer", "pocket": pocket, "padded": padded}
        for name, source in sources.items():
            tokenizer = CLIPTokenizer.from_pretrained(source)
            for text in TEXTS:
                yield {"tokenizer": name, "text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids}
