"""Recipes for single files in the original layout: the data of ../loaders.rs and of src/checkpoint's tests.

    python make.py --single     # from the tiny models there

`single/<model>.json` says how a tiny model's tensors are named, stacked and turned in one file; the test makes the file by
it. Before it is written, that file is made here and diffusers' own `from_single_file` must read the very same weights from
it. `single/shapes.json` holds the names and shapes of the real models in that layout, and what their configs say.
`single/words.json` holds what transformers' tokenizer makes of texts with CLIP's own vocabulary, taken from open_clip.
"""

import gzip
import importlib.util
import json
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model", "text_encoder_2": "model"}


class Layout:
    """Collects one file's tensors: name, the tensors that it is made of, its shape, whether it is turned."""

    def __init__(self, components):
        self.components = components
        self.entries = []

    def add(self, name, component, sources, shape=None, transposed=False):
        shapes = [list(self.components[component][source].shape) for source in sources]
        made = [sum(shape[0] for shape in shapes), *shapes[0][1:]]
        if transposed:
            made.reverse()
        entry = {"name": name, "of": [f"{component}:{source}" for source in sources], "shape": shape or made}
        if transposed:
            entry["transposed"] = True
        self.entries.append(entry)

    def extra(self, name, shape, dtype="F32"):
        """What training leaves there: not of the model, and not to be read."""
        self.entries.append({"name": name, "of": [], "shape": shape, "dtype": dtype})

    def tensors(self):
        result = {}
        for entry in self.entries:
            parts = [self.components[source.split(":")[0]][source.split(":")[1]] for source in entry["of"]]
            if not parts:
                result[entry["name"]] = torch.zeros(entry["shape"], dtype={"F32": torch.float32, "I64": torch.int64}[entry["dtype"]])
                continue
            whole = torch.cat(parts)
            whole = whole.T if entry.get("transposed") else whole
            result[entry["name"]] = whole.reshape(entry["shape"]).contiguous()
        return result


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def add_unet(layout, config):
    layers = config["layers_per_block"]
    ups_attend = [name.startswith("CrossAttn") for name in config["up_block_types"]]
    roots = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    for name in layout.components["unet"]:
        parts = name.split(".")
        root = ".".join(parts[:-1])
        if root in roots:
            new = f"{roots[root]}.{parts[-1]}"
        elif parts[0] == "mid_block":
            kind, index, rest = parts[1], int(parts[2]), parts[3:]
            place = f"middle_block.{1 if kind == 'attentions' else 2 * index}"
            new = f"{place}.{inner(kind, rest)}"
        else:
            block, kind, index, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
            down = parts[0] == "down_blocks"
            number = block * (layers + 1) + index + (1 if down else 0)
            side = "input_blocks" if down else "output_blocks"
            if kind == "downsamplers":
                new = f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest[-1]}"
            elif kind == "upsamplers":
                new = f"output_blocks.{(block + 1) * (layers + 1) - 1}.{2 if ups_attend[block] else 1}.conv.{rest[-1]}"
            else:
                new = f"{side}.{number}.{1 if kind == 'attentions' else 0}.{inner(kind, rest)}"
        layout.add(f"model.diffusion_model.{new}", "unet", [name])


def inner(kind, rest):
    return ".".join(rest) if kind == "attentions" else f"{RESNET[rest[0]]}.{rest[1]}"


def add_vae(layout, levels):
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
    for name, tensor in layout.components["vae"].items():
        parts = name.split(".")
        shape = None
        if parts[0] in ("quant_conv", "post_quant_conv"):
            new = name
        elif parts[1] == "conv_norm_out":
            new = f"{parts[0]}.norm_out.{parts[-1]}"
        elif parts[1] == "mid_block" and parts[2] == "attentions":
            layer = attention[".".join(parts[4:-1])]
            new = f"{parts[0]}.mid.attn_1.{layer}.{parts[-1]}"
            # The original computes them as 1x1 convolutions.
            shape = [*tensor.shape, 1, 1] if tensor.dim() == 2 else None
        elif parts[1] == "mid_block":
            new = f"{parts[0]}.mid.block_{int(parts[3]) + 1}.{nin(parts[4])}.{parts[5]}"
        elif parts[1] in ("down_blocks", "up_blocks"):
            way = parts[1].removesuffix("_blocks")
            level = int(parts[2]) if way == "down" else levels - 1 - int(parts[2])
            if parts[3] == "resnets":
                new = f"{parts[0]}.{way}.{level}.block.{parts[4]}.{nin(parts[5])}.{parts[6]}"
            else:
                new = f"{parts[0]}.{way}.{level}.{way}sample.conv.{parts[-1]}"
        else:
            new = name
        layout.add(f"first_stage_model.{new}", "vae", [name], shape)


def nin(layer):
    return "nin_shortcut" if layer == "conv_shortcut" else layer


def add_clip(layout, component, prefix):
    for name in layout.components[component]:
        layout.add(f"{prefix}{'' if name.startswith('text_') else 'text_model.'}{name}", component, [name])
    positions = next(t for n, t in layout.components[component].items() if n.endswith("position_embedding.weight"))
    layout.extra(f"{prefix}text_model.embeddings.position_ids", [1, positions.shape[0]], "I64")


def add_open_clip(layout, component, prefix, last_layer_too):
    tensors = layout.components[component]
    start = "text_model." if any(name.startswith("text_model.") for name in tensors) else ""
    plain = {
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    for source, name in plain.items():
        layout.add(prefix + name, component, [start + source])
    hidden = tensors[start + "final_layer_norm.weight"].shape[0]
    if "text_projection.weight" in tensors:
        layout.add(prefix + "text_projection", component, ["text_projection.weight"], transposed=True)
    else:
        layout.extra(prefix + "text_projection", [hidden, hidden])
    layout.extra(prefix + "logit_scale", [])
    layers = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    count = len({name.split("layers.")[1].split(".")[0] for name in tensors if "layers." in name})
    for index in range(count):
        place, to = f"{start}encoder.layers.{index}.", f"{prefix}transformer.resblocks.{index}."
        for kind in ("weight", "bias"):
            for source, name in layers.items():
                layout.add(f"{to}{name}.{kind}", component, [f"{place}{source}.{kind}"])
            layout.add(f"{to}attn.in_proj_{kind}", component, [f"{place}self_attn.{part}_proj.{kind}" for part in "qkv"])
    if last_layer_too:
        # Stable Diffusion 2 does not use the last one, and diffusers leaves it out.
        last = [entry for entry in layout.entries if f"resblocks.{count - 1}." in entry["name"]]
        for entry in last:
            layout.extra(entry["name"].replace(f"resblocks.{count - 1}.", f"resblocks.{count}."), entry["shape"])


def build(components, unet_config, levels, family):
    layout = Layout(components)
    add_unet(layout, unet_config)
    add_vae(layout, levels)
    if family == "sd1":
        add_clip(layout, "text_encoder", "cond_stage_model.transformer.")
    elif family == "sd2":
        add_open_clip(layout, "text_encoder", "cond_stage_model.model.", last_layer_too=True)
    else:
        add_clip(layout, "text_encoder", "conditioner.embedders.0.transformer.")
        add_open_clip(layout, "text_encoder_2", "conditioner.embedders.1.model.", last_layer_too=False)
    layout.extra("alphas_cumprod", [1000])
    layout.extra("model_ema.decay", [])
    layout.extra("model_ema.diffusion_modeltime_embed0weight", [2, 2])
    return layout


def tiny(folder, out):
    name = folder.name
    components = {
        component: load_file(folder / component / f"{stem}.safetensors")
        for component, stem in STEMS.items()
        if (folder / component).is_dir()
    }
    unet_config = json.loads((folder / "unet" / "config.json").read_text())
    levels = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    layout = build(components, unet_config, levels, name)
    prove(name, folder, layout)
    lines = ",\n".join(json.dumps(entry) for entry in layout.entries)
    (out / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def prove(name, folder, layout):
    """diffusers reads the same weights from the single file as from the folder."""
    kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
    # The layer that Stable Diffusion 2 does not use: diffusers knows it by its number in the real model, which is not this.
    unused = {entry["name"] for entry in layout.entries if not entry["of"] and "resblocks." in entry["name"]}
    assert bool(unused) == (name == "sd2")
    tensors = {key: value for key, value in layout.tensors().items() if key not in unused}
    more = {"add_watermarker": False} if name == "sdxl" else {"safety_checker": None}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "model.safetensors"
        save_file(tensors, path)
        single = kind.from_single_file(str(path), config=str(folder), torch_dtype=torch.float32, local_files_only=True, **more)
        whole = kind.from_pretrained(folder, torch_dtype=torch.float32, **more)
        for component in layout.components:
            got, wanted = getattr(single, component).state_dict(), getattr(whole, component).state_dict()
            assert got.keys() == wanted.keys(), (name, component)
            for key in wanted:
                assert torch.equal(got[key], wanted[key]), (name, component, key)
    print(f"{name}: diffusers reads the same {sum(map(len, layout.components.values()))} tensors from the single file")


STABLE_1 = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
}
STABLE_2 = {**STABLE_1, "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
STABLE_XL = {
    **STABLE_1,
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "transformer_layers_per_block": [1, 2, 10],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
CLIP_L = {"vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu"}
CLIP_H = {"vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16, "hidden_act": "gelu"}
CLIP_G = {
    "vocab_size": 49408,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
REAL = {
    "sd1": {"unet": STABLE_1, "vae": VAE, "text_encoder": CLIP_L},
    "sd1-inpainting": {"unet": {**STABLE_1, "in_channels": 9}, "vae": VAE, "text_encoder": CLIP_L},
    "sd2": {"unet": STABLE_2, "vae": VAE, "text_encoder": CLIP_H},
    "sdxl": {"unet": STABLE_XL, "vae": {**VAE, "scaling_factor": 0.13025}, "text_encoder": CLIP_L, "text_encoder_2": CLIP_G},
}


def real(configs, name):
    """A real model's names and shapes, as a tree without the names' repetitions."""
    with torch.device("meta"):
        models = {"unet": UNet2DConditionModel(**configs["unet"]), "vae": AutoencoderKL(**configs["vae"])}
        models["text_encoder"] = CLIPTextModel(CLIPTextConfig(**configs["text_encoder"]))
        if "text_encoder_2" in configs:
            models["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**configs["text_encoder_2"]))
    components = {component: {n: t for n, t in model.state_dict().items() if "position_ids" not in n} for component, model in models.items()}
    layout = build(components, configs["unet"], len(configs["vae"]["block_out_channels"]), name.split("-")[0])
    tree = {}
    for entry in layout.entries:
        *places, last = entry["name"].split(".")
        node = tree
        for place in places:
            node = node.setdefault(place, {})
        node[last] = entry["shape"]
    return tree


TEXTS = [
    "a photo of an astronaut riding a horse on mars",
    "",
    "   Spaces\tand\nlines   ",
    "It's they've I'm don't WE'LL",
    "a fox! two!! (very) [much] 50% off, 1234 5.6",
    "<|startoftext|>marks<|endoftext|> <|ENDOFTEXT|>",
    "?<start_of_text> or <end_of_text>!",
    "caf\u00e9 cafe\u0301 \u00dcber \u03a3\u0391\u03a3 \u0130stanbul",
    "\u65e5\u672c\u8a9e\u306e\u6587 \U0001f98a\U0001f680 \u0634\u062c\u0631\u0629",
    "masterpiece,best quality,1girl,(solo:1.2),<lora:x:1>",
    "antidisestablishmentarianism supercalifragilisticexpialidocious zzzzqqqq",
    "\u00bd \u00b2 \u216b \u0663",
]


def words():
    """Token ids with OpenAI's vocabulary, padded with the end mark as CLIP is and with "!" as OpenCLIP is."""
    package = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    lines = gzip.open(package / "bpe_simple_vocab_16e6.txt.gz").read().decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(merge) for merge in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    assert len(vocabulary) == 49408
    cases = []
    for pad in ("<|endoftext|>", "!"):
        tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad)
        cases += [{"pad": pad, "text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids} for text in TEXTS]
    return cases


def make(golden):
    out = golden / "single"
    out.mkdir(exist_ok=True)
    for name in ("sd1", "sd2", "sdxl"):
        tiny(golden / name, out)
    shapes = {name: {"configs": configs, "tensors": real(configs, name)} for name, configs in REAL.items()}
    # The inpainting model differs by five channels, which the test adds.
    shapes["sd1-inpainting"]["tensors"] = None
    cases = ",\n".join(json.dumps(case) for case in words())
    (out / "words.json").write_text(f"[\n{cases}\n]\n")
    (out / "shapes.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
