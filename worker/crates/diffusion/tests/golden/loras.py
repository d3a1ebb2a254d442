"""LoRAs for the tiny models, in every way of writing them, and what the reference draws with them: the data of ../loras.rs.

make.py calls this. Where diffusers reads a file by itself, it does; what it does not read is put in with peft's own layers or
computed from its definition, in float64.
"""

import json

import peft
import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model
from safetensors.torch import save_file

# Relative to the largest latent: the same LoRA in two ways of writing must be the same to the reference too.
WAYS_AGREE = 2e-5
CASE = {"prompt": "the red fox", "negative_prompt": "a cat", "width": 32, "height": 32, "steps": 4, "guidance_scale": 4.0, "seed": 21, "scheduler": "ddim"}


def modules(pipe, kinds):
    """Linear layers and convolutions by component, module name and weight, in a fixed order."""
    components = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    if isinstance(pipe, StableDiffusionXLPipeline):
        components["text_encoder_2"] = pipe.text_encoder_2
    found = []
    for component, model in components.items():
        for name, module in model.named_modules():
            if not isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                continue
            if component != "unet" and "layers" not in name:
                continue
            if any(kind in f"{component}.{name}" for kind in kinds):
                found.append((component, name, module))
    return found


ATTENTIONS = ("to_q", "to_k", "to_v", "to_out.0")
OUTSIDE_BLOCKS = ("conv_in", "conv_out", "time_embedding", "add_embedding")
# Every kind of layer, inside and at the ends of blocks; all of them would be too much to keep.
SD1 = ("unet.down_blocks.0", "unet.mid_block.resnets.1", "unet.up_blocks.0", "unet.up_blocks.1.attentions.1", *OUTSIDE_BLOCKS, "layers.1.")
SDXL = (
    "unet.down_blocks.0.downsamplers",
    "unet.down_blocks.1.resnets.0",
    "unet.down_blocks.1.attentions.0.transformer_blocks.1",
    "unet.mid_block.resnets.1",
    "unet.mid_block.attentions.0.proj",
    "unet.up_blocks.0.resnets.2",
    "unet.up_blocks.0.attentions.1.proj",
    "unet.up_blocks.0.upsamplers",
    "unet.up_blocks.1.resnets.1",
    *OUTSIDE_BLOCKS,
    "layers.0.self_attn",
    "layers.1.mlp",
)


class Layers:
    """The numbers of one LoRA: for every module two factors and an alpha."""

    def __init__(self, pipe, kinds, seed, noise, rank=None, alpha=None):
        """`rank` and `alpha` of all layers, or different ones."""
        self.layers, all_rank, all_alpha = {}, rank, alpha
        for index, (component, name, module) in enumerate(modules(pipe, kinds)):
            weight = module.weight
            rank = all_rank or 2 + index % 3
            alpha = all_alpha or 1.0 + 0.5 * (index % 4)
            inputs = weight.shape[1:]
            down = noise(seed, 2 * index, rank * inputs.numel()).reshape(rank, *inputs) / inputs.numel() ** 0.5
            down = down.half().float()
            up = 0.3 * noise(seed, 2 * index + 1, weight.shape[0] * rank).reshape(weight.shape[0], rank, *[1] * (weight.dim() - 2))
            up = up.half().float()
            self.layers[component, name] = (down, up, alpha, rank)

    def kohya(self, rename=lambda name: name):
        prefixes = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
        if any(component == "text_encoder_2" for component, _ in self.layers):
            prefixes["text_encoder"] = "lora_te1"
        tensors = {}
        for (component, name), (down, up, alpha, _) in self.layers.items():
            name = rename(name) if component == "unet" else f"text_model.{name.removeprefix('text_model.')}"
            place = f"{prefixes[component]}_{name.replace('.', '_')}"
            tensors[f"{place}.lora_down.weight"] = down
            tensors[f"{place}.lora_up.weight"] = up
            tensors[f"{place}.alpha"] = torch.tensor(alpha)
        return tensors, None

    def peft(self, with_config=True):
        tensors, config = {}, {}
        for (component, name), (down, up, alpha, rank) in self.layers.items():
            tensors[f"{component}.{name}.lora_A.weight"] = down
            tensors[f"{component}.{name}.lora_B.weight"] = up
            own = config.setdefault(component, LoraConfig(r=2, lora_alpha=7.5, rank_pattern={}, alpha_pattern={}, target_modules=[]).to_dict())
            own["target_modules"] = [*own["target_modules"], name]
            own["rank_pattern"][f"^{name}"] = rank
            own["alpha_pattern"][f"^{name}"] = alpha
        if not with_config:
            return tensors, None
        flat = {f"{component}.{key}": value for component, own in config.items() for key, value in own.items()}
        return tensors, {"lora_adapter_metadata": json.dumps(flat, default=lambda value: sorted(value) if isinstance(value, set) else str(value))}

    def old_diffusers(self):
        """diffusers' names before peft. Alphas do not exist there."""
        tensors = {}
        for (component, name), (down, up, _, _) in self.layers.items():
            module, _, projection = name.removesuffix(".0").rpartition(".")
            if component == "unet":
                start = f"unet.{module}.processor.{projection}_lora"
            else:
                start = f"{component}.{name}.lora_linear_layer"
            tensors[f"{start}.down.weight"] = down
            tensors[f"{start}.up.weight"] = up
        return tensors, None


def original_names(unet):
    """The names that the original implementation of SDXL's unet has for the modules of this one."""
    per_block = unet.config.layers_per_block + 1
    inner = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    outer = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}

    def rename(name):
        if name in outer:
            return outer[name]
        words = name.split(".")
        if words[0] == "mid_block":
            rest = inner.get(".".join(words[3:]), ".".join(words[3:]))
            return f"middle_block.{2 * int(words[2]) + (words[1] == 'attentions')}.{rest}"
        block, kind, layer, rest = int(words[1]), words[2], int(words[3]), ".".join(words[4:])
        if words[0] == "down_blocks":
            if kind == "downsamplers":
                return f"input_blocks.{per_block * (block + 1)}.0.op"
            return f"input_blocks.{1 + (per_block * block) + layer}.{int(kind == 'attentions')}.{inner.get(rest, rest)}"
        if kind == "upsamplers":
            return f"output_blocks.{per_block * block + per_block - 1}.2.{rest}"
        return f"output_blocks.{per_block * block + layer}.{int(kind == 'attentions')}.{inner.get(rest, rest)}"

    return rename


def merge(pipe, component, name, change):
    module = getattr(pipe, component).get_submodule(name)
    module.weight.copy_(change(module.weight.double()).float())


def by_definition(layers, scale):
    """Adds `scale alpha / rank up down` to the weights themselves."""

    def put_in(pipe):
        for (component, name), (down, up, alpha, rank) in layers.layers.items():
            product = up.double().flatten(1) @ down.double().flatten(1)
            merge(pipe, component, name, lambda weight: weight + scale * alpha / rank * product.reshape(weight.shape))

    return put_in


def injected(pipe, config, seed, noise):
    """Random weights for a kind of adapter that peft has layers for; returns them by module and the peft names."""
    inject_adapter_in_model(config, pipe.unet, adapter_name="x")
    tensors = {}
    for index, (name, parameter) in enumerate(pipe.unet.named_parameters()):
        if ".x" not in name:
            continue
        module, _, part = name.removesuffix(".weight").removesuffix(".x").rpartition(".")
        if "magnitude" in part:
            values = parameter * (1 + 0.2 * noise(seed, index, parameter.numel()).reshape(parameter.shape))
        else:
            fan_in = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 4
            values = 0.8 * noise(seed, index, parameter.numel()).reshape(parameter.shape) / fan_in**0.5
        parameter.data.copy_(values)
        tensors.setdefault(module, {})[part] = parameter.detach().clone()
    return tensors


def set_scale(pipe, scale):
    for module in pipe.unet.modules():
        if isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer):
            module.set_scale("x", scale)


def flat_names(tensors, alpha):
    """peft's parts by LyCORIS's names."""
    out = {}
    for module, parts in tensors.items():
        place = f"lora_unet_{module.replace('.', '_')}"
        for part, values in parts.items():
            part = {"lora_A": "lora_down.weight", "lora_B": "lora_up.weight", "lora_magnitude_vector": "dora_scale"}.get(part, part)
            if part == "dora_scale":
                values = values.reshape(-1, 1) if values.dim() == 1 else values.reshape(-1, 1, 1, 1)
            out[f"{place}.{part}"] = values
        out[f"{place}.alpha"] = torch.tensor(alpha)
    return out, None


def tucker(pipe, seed, noise):
    """LoCon's convolutions through a core."""
    layers = []
    for index, (_, name, module) in enumerate(modules(pipe, ("resnets.0.conv1", "resnets.1.conv2"))):
        weight = module.weight
        outputs, inputs, height, width = weight.shape
        rank = 3
        down = noise(seed, 3 * index, rank * inputs).reshape(rank, inputs, 1, 1) / inputs**0.5
        mid = noise(seed, 3 * index + 1, rank * rank * height * width).reshape(rank, rank, height, width) / 5
        up = noise(seed, 3 * index + 2, outputs * rank).reshape(outputs, rank, 1, 1) / 2
        layers.append((name, down, mid, up))

    def put_in(pipe):
        for name, down, mid, up in layers:
            parts = (up.double()[..., 0, 0], mid.double(), down.double()[..., 0, 0])
            product = torch.einsum("pi,ijkl,jq->pqkl", *parts)
            merge(pipe, "unet", name, lambda weight: weight + 0.6 * 2.0 / 3 * product)

    tensors = {}
    for name, down, mid, up in layers:
        place = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{place}.lora_down.weight": down, f"{place}.lora_mid.weight": mid, f"{place}.lora_up.weight": up, f"{place}.alpha": torch.tensor(2.0)}
    return (tensors, None), put_in


def dora_by_inputs(pipe, seed, noise):
    """DoRA as LyCORIS had it first, a length for every input."""
    layers = Layers(pipe, ("attn1.to_q", "conv1"), seed, noise)
    tensors, _ = layers.kohya()
    lengths = {}
    for (component, name), _ in layers.layers.items():
        weight = getattr(pipe, component).get_submodule(name).weight
        axes = [axis for axis in range(weight.dim()) if axis != 1]
        length = weight.square().sum(axes, keepdim=True).sqrt() * 1.1
        lengths[component, name] = length
        tensors[f"lora_unet_{name.replace('.', '_')}.dora_scale"] = length.clone()

    def put_in(pipe):
        for (component, name), (down, up, alpha, rank) in layers.layers.items():
            product = 0.8 * alpha / rank * (up.double().flatten(1) @ down.double().flatten(1))
            length = lengths[component, name].double()

            def change(weight):
                weight = weight + product.reshape(weight.shape)
                axes = [axis for axis in range(weight.dim()) if axis != 1]
                return weight * length / weight.square().sum(axes, keepdim=True).sqrt()

            merge(pipe, component, name, change)

    return (tensors, None), put_in


def whole_differences(pipe, seed, noise):
    """What a LoRA extractor writes for what has no low rank: differences of weights, biases and norms."""
    names = ("conv_norm_out", "down_blocks.0.resnets.0.norm1", "conv_out")
    tensors, changes = {}, []
    for index, name in enumerate(names):
        module = pipe.unet.get_submodule(name)
        weight = 0.2 * noise(seed, 2 * index, module.weight.numel()).reshape(module.weight.shape)
        bias = 0.2 * noise(seed, 2 * index + 1, module.bias.numel())
        place = f"lora_unet_{name.replace('.', '_')}"
        ends = ("w_norm", "b_norm") if "norm" in name else ("diff", "diff_b")
        tensors |= {f"{place}.{ends[0]}": weight, f"{place}.{ends[1]}": bias}
        changes.append((name, weight, bias))

    def put_in(pipe):
        for name, weight, bias in changes:
            module = pipe.unet.get_submodule(name)
            module.weight.add_(0.5 * weight)
            module.bias.add_(0.5 * bias)

    return (tensors, None), put_in


class Maker:
    def __init__(self, out, make):
        self.out, self.make = out, make
        self.tensors, self.cases = {}, []

    def save(self, name, written):
        tensors, metadata = written
        # The numbers of `Layers` are of 16 bits.
        written = {key: value.detach().half() if torch.equal(value.half().float(), value) else value.detach() for key, value in tensors.items()}
        save_file({key: value.contiguous() for key, value in written.items()}, self.out / f"{name}.safetensors", metadata)

    def draw(self, model, put_in):
        pipe = self.make.load(self.out.parent / model)
        put_in(pipe)
        hidden = self.make.embeddings(pipe, CASE["prompt"])["hidden"]
        return self.make.draw(pipe, pipe.scheduler.config, CASE)[-1], hidden

    def case(self, name, model, loras, put_in, same_as=()):
        """`same_as`: other files that are the first LoRA, which the reference must draw alike with where it can read them."""
        latents, hidden = self.draw(model, put_in)
        assert torch.isfinite(latents).all(), name
        self.tensors[f"{name}/latents"] = latents.contiguous()
        self.tensors[f"{name}/hidden"] = hidden.contiguous()
        self.cases.append({"name": name, "model": model, "loras": loras, "same_as": list(same_as), **CASE})
        return latents

    def loaded(self, loras):
        """What diffusers itself does with files."""

        def put_in(pipe):
            for file, _ in loras:
                pipe.load_lora_weights(str(self.out), weight_name=f"{file}.safetensors", adapter_name=file)
            pipe.set_adapters([file for file, _ in loras], adapter_weights=[scale for _, scale in loras])

        return put_in

    def check(self, what, got, wanted):
        error = ((got - wanted).abs().max() / wanted.abs().max()).item()
        print(f"{what:40} {error:.1e}")
        assert error <= WAYS_AGREE, (what, error)


def make_loras(folder, make):
    """`folder` holds the tiny models; `make` is the module make.py."""
    out = folder / "loras"
    out.mkdir(exist_ok=True)
    maker = Maker(out, make)
    with torch.no_grad():
        make_sd1(maker, make.load(folder / "sd1"), make.noise)
        make_kinds(maker, make)
        make_sdxl(maker, make.load(folder / "sdxl"), make.noise)
    save_file(maker.tensors, out / "golden.safetensors")
    manifest = {"versions": {**make.versions(), "peft": peft.__version__}, "cases": maker.cases}
    (out / "golden.json").write_text(json.dumps(manifest, indent=1) + "\n")


def make_sd1(maker, pipe, noise):
    everything = Layers(pipe, SD1, 1, noise, alpha=1.5)
    maker.save("sd1-a-kohya", everything.kohya())
    maker.save("sd1-a-peft", everything.peft())
    drawn = maker.case("a", "sd1", [["sd1-a-kohya", 0.8]], by_definition(everything, 0.8), ["sd1-a-peft"])
    maker.check("kohya", maker.draw("sd1", maker.loaded([("sd1-a-kohya", 0.8)]))[0], drawn)
    maker.check("peft", maker.draw("sd1", maker.loaded([("sd1-a-peft", 0.8)]))[0], drawn)
    maker.case("a-negative", "sd1", [["sd1-a-kohya", -0.5]], maker.loaded([("sd1-a-peft", -0.5)]))

    # diffusers loses the alphas of attentions and text encoders where they differ, but not in peft's way of writing.
    own_alphas = Layers(pipe, ("attn2.to_q", "conv2", "v_proj"), 5, noise)
    maker.save("sd1-c-kohya", own_alphas.kohya())
    maker.save("sd1-c-peft", own_alphas.peft())
    drawn = maker.case("own-alphas", "sd1", [["sd1-c-kohya", 1.2]], by_definition(own_alphas, 1.2), ["sd1-c-peft"])
    maker.check("own alphas", maker.draw("sd1", maker.loaded([("sd1-c-peft", 1.2)]))[0], drawn)

    attentions = Layers(pipe, (*ATTENTIONS, "q_proj", "k_proj", "v_proj", "out_proj", "fc1"), 2, noise, rank=2, alpha=2.0)
    maker.save("sd1-b-old", attentions.old_diffusers())
    maker.save("sd1-b-peft", attentions.peft(with_config=False))
    maker.save("sd1-b-kohya", attentions.kohya())
    ways = ["sd1-b-peft", "sd1-b-kohya"]
    drawn = maker.case("b", "sd1", [["sd1-b-old", 1.0]], by_definition(attentions, 1.0), ways)
    for way in ["sd1-b-old", *ways]:
        maker.check(way, maker.draw("sd1", maker.loaded([(way, 1.0)]))[0], drawn)
    both = [("sd1-a-kohya", 0.8), ("sd1-b-peft", -0.5)]
    maker.case("both", "sd1", both, maker.loaded(both))


def make_kinds(maker, make):
    def kind(name, config, alpha, scale):
        pipe = make.load(maker.out.parent / "sd1")
        tensors = injected(pipe, config, 30, make.noise)

        def put_in(other):
            injected(other, config, 30, make.noise)
            set_scale(other, scale)

        maker.save(f"sd1-{name}", flat_names(tensors, alpha))
        return tensors, put_in

    targets = {"target_modules": ["attn2.to_q", "resnets.0.conv1", "conv_shortcut", "ff.net.2"]}
    loha = LoHaConfig(r=2, alpha=3, use_effective_conv2d=True, **targets)
    lokr = LoKrConfig(r=1, alpha=3, use_effective_conv2d=True, decompose_both=True, **targets)
    dora = LoraConfig(r=2, lora_alpha=3, use_dora=True, **targets)
    for name, config in {"loha": loha, "lokr": lokr}.items():
        _, put_in = kind(name, config, 3.0, 0.7)
        maker.case(name, "sd1", [[f"sd1-{name}", 0.7]], put_in)
    tensors, put_in = kind("dora", dora, 3.0, 0.7)
    named = {f"unet.{module}.{part}{'' if 'magnitude' in part else '.weight'}": values for module, parts in tensors.items() for part, values in parts.items()}
    maker.save("sd1-dora-peft", (named, {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 3, "unet.use_dora": True, "unet.target_modules": targets["target_modules"]})}))
    drawn = maker.case("dora", "sd1", [["sd1-dora", 0.7]], put_in, ["sd1-dora-peft"])
    maker.check("dora as diffusers reads it", maker.draw("sd1", maker.loaded([("sd1-dora-peft", 0.7)]))[0], drawn)
    both = [("sd1-b-peft", 0.5), ("sd1-dora-peft", 0.7)]
    maker.case("dora-after-another", "sd1", both, maker.loaded(both))

    pipe = make.load(maker.out.parent / "sd1")
    for name, scale, written_and_put_in in [
        ("tucker", 0.6, tucker(pipe, 31, make.noise)),
        ("dora-inputs", 0.8, dora_by_inputs(pipe, 32, make.noise)),
        ("differences", 0.5, whole_differences(pipe, 33, make.noise)),
    ]:
        written, put_in = written_and_put_in
        maker.save(f"sd1-{name}", written)
        maker.case(name, "sd1", [[f"sd1-{name}", scale]], put_in)


def make_sdxl(maker, pipe, noise):
    everything = Layers(pipe, SDXL, 3, noise, alpha=1.5)
    maker.save("sdxl-a-kohya", everything.kohya(original_names(pipe.unet)))
    maker.save("sdxl-a-diffusers-kohya", everything.kohya())
    maker.save("sdxl-a-peft", everything.peft())
    ways = ["sdxl-a-diffusers-kohya", "sdxl-a-peft"]
    drawn = maker.case("sdxl", "sdxl", [["sdxl-a-kohya", 0.8]], by_definition(everything, 0.8), ways)
    # diffusers leaves add_embedding out where a file in kohya's style has diffusers' names.
    for way in ["sdxl-a-kohya", "sdxl-a-peft"]:
        maker.check(way, maker.draw("sdxl", maker.loaded([(way, 0.8)]))[0], drawn)
    attentions = Layers(pipe, ATTENTIONS, 4, noise, rank=2, alpha=2.0)
    maker.save("sdxl-b-peft", attentions.peft(with_config=False))
    both = [("sdxl-a-kohya", -0.5), ("sdxl-b-peft", 0.8)]
    maker.case("sdxl-both", "sdxl", both, maker.loaded(both))
