"""Make small diffusion models with random weights: `python scripts/small_models.py FOLDER [--kind KIND]...`

Each is FOLDER/KIND in diffusers' layout and FOLDER/KIND.safetensors, the same weights as a single file with the names
that checkpoints carry outside diffusers. They are built from the real classes and run as real ones do, at 64 × 64
pixels and some milliseconds a step; what they paint is noise. The same weights each time.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROMPTS = "a photo of an old brick wall, green grass in the sun, wooden table and grey stone, sky over the sea"
START, END = "<|startoftext|>", "<|endoftext|>"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


class Kind(NamedTuple):
    """What a kind is made of: channels that the UNet takes, widths of its text encoders, and what differs.

    *low_res*: settings of the sampler that adds noise to the small picture, of one that enlarges.
    """

    pipeline: str
    channels: int
    widths: tuple[int, ...]
    vae: dict[str, Any]
    scheduler: tuple[str, dict[str, Any]]
    seed: int
    unet: dict[str, Any] = {}  # noqa: RUF012 - never changed
    low_res: dict[str, Any] | None = None

    @property
    def xl(self) -> bool:
        return len(self.widths) == 2


_PNDM = ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1})
_EULER = ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1})
_V = ("DDIMScheduler", {"set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "v_prediction"})
_NARROW = {"block_out_channels": (8, 8, 8, 8), "scaling_factor": 0.18215}
_WIDE = {"block_out_channels": (8, 8, 16, 16), "scaling_factor": 0.13025}
#: what sets models that enlarge apart: a quarter of the size in latents, a level of noise as a class
UPSCALER = "StableDiffusionUpscalePipeline"
LOW_RES = {"beta_start": 0.0001, "beta_end": 0.02}
_ENLARGING = {
    "sample_size": 32,
    "num_class_embeds": 1000,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "only_cross_attention": (True, False),
}

KINDS = {
    "sd-inpaint": Kind("StableDiffusionInpaintPipeline", 9, (32,), _NARROW, _PNDM, 1),
    "sd": Kind("StableDiffusionPipeline", 4, (32,), _NARROW, _PNDM, 2),
    "sd2": Kind("StableDiffusionPipeline", 4, (48,), _WIDE, _V, 3),
    "xl-inpaint": Kind("StableDiffusionXLInpaintPipeline", 9, (32, 40), _WIDE, _EULER, 4),
    "xl": Kind("StableDiffusionXLPipeline", 4, (32, 40), _WIDE, _EULER, 5),
    "x4-upscaler": Kind(
        UPSCALER,
        7,
        (48,),
        {"block_out_channels": (8, 8, 16), "scaling_factor": 0.08333},
        ("DDIMScheduler", {**_V[1], **LOW_RES}),
        6,
        _ENLARGING,
        LOW_RES,
    ),
}


def make(folder: Path, kinds: Iterable[str] = KINDS) -> None:
    """Write the models of *kinds* into *folder*, each as a folder and as a single file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        _make(folder / name, KINDS[name])


def _make(folder: Path, kind: Kind) -> None:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(kind.seed)
        unet = UNet2DConditionModel(**_unet(kind))
        vae = AutoencoderKL(**_vae(kind))
        texts = [
            (CLIPTextModelWithProjection if number else CLIPTextModel)(text_config(width, projected=bool(number)))
            for number, width in enumerate(kind.widths)
        ]
        with torch.no_grad():  # as initialised the decoder has little contrast, and what a step changes is hard to see
            vae.decoder.conv_out.weight *= 1.5
    save(folder, kind.pipeline, unet, vae, texts, kind.scheduler, kind.low_res)

    tensors = {f"model.diffusion_model.{_ldm_unet(key, unet)}": value for key, value in unet.state_dict().items()}
    levels = len(kind.vae["block_out_channels"])
    tensors |= {
        f"first_stage_model.{_ldm_vae(key, levels)}": _conv(key, value) for key, value in vae.state_dict().items()
    }
    for text, prefix, is_open in zip(texts, _prefixes(kind), _open(kind), strict=False):
        tensors |= {prefix + key: value for key, value in (_open_clip(text) if is_open else _clip(text)).items()}
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, folder.with_suffix(".safetensors"))


def save(
    folder: Path,
    pipeline: str,
    unet: Any,
    vae: Any,
    texts: Sequence[Any],
    scheduler: tuple[str, dict[str, Any]],
    low_res: dict[str, Any] | None = None,
) -> None:
    """Write a model in diffusers' layout: *pipeline* and *scheduler* are names of classes, the latter with settings.

    *low_res*: as of a kind.
    """
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.30.0"}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    for ending, text in zip(("", "_2"), texts, strict=False):
        text.save_pretrained(folder / f"text_encoder{ending}")
        tokenizer(folder / f"tokenizer{ending}", padding="!" if ending or text.config.hidden_size == 48 else END)
        index |= {f"text_encoder{ending}": ["transformers", type(text).__name__]}
        index |= {f"tokenizer{ending}": ["transformers", "CLIPTokenizer"]}
    name, settings = scheduler
    _json(folder / "scheduler" / "scheduler_config.json", {"_class_name": name, **BETAS, **settings})
    index |= {"scheduler": ["diffusers", name]}
    if low_res is not None:
        lower = {"_class_name": "DDPMScheduler", **BETAS, **low_res}
        _json(folder / "low_res_scheduler" / "scheduler_config.json", lower)
        index |= {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 350}
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "watermarker": [None, None]}
    elif len(texts) == 2:
        index |= {"force_zeros_for_empty_prompt": True, "requires_aesthetics_score": False}
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    _json(folder / "model_index.json", index)


def _unet(kind: Kind) -> dict[str, Any]:
    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": kind.channels,
        "out_channels": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": sum(kind.widths),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "use_linear_projection": kind.widths != (32,),
    }
    if kind.xl:
        config |= {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
        config |= {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "transformer_layers_per_block": (1, 2)}
        config |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
        config |= {"projection_class_embeddings_input_dim": kind.widths[1] + 6 * 8}
    return config | kind.unet


def _vae(kind: Kind) -> dict[str, Any]:
    levels = len(kind.vae["block_out_channels"])
    return {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 64,
        **kind.vae,
    }


def text_config(width: int, *, projected: bool, **other: Any) -> Any:
    """Return the configuration of a CLIP text encoder for the small vocabulary; *other*: what is set besides."""
    from transformers import CLIPTextConfig

    tokens = _vocabulary()[0]
    config = {
        "vocab_size": len(tokens),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "projection_dim": width,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "hidden_act": "gelu" if projected else "quick_gelu",
        "bos_token_id": tokens[START],
        "eos_token_id": tokens[END],
        "pad_token_id": tokens[END],
    }
    return CLIPTextConfig(**{**config, **other})


def tokenizer(folder: Path, padding: str) -> None:
    """Write a CLIP tokenizer with the small vocabulary; prompts are filled up with *padding*."""
    tokens, merges = _vocabulary()
    _json(folder / "vocab.json", tokens)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges)]) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": padding}
    _json(folder / "special_tokens_map.json", special)
    _json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **special},
    )


def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return a vocabulary as CLIP's is laid out: bytes, bytes that end a word, merged pairs, the special tokens."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + number) for number in range(len(rest))]
    merges: list[tuple[str, str]] = []
    for word in sorted(set(re.findall(r"[a-z]+", PROMPTS))):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
    merges = list(dict.fromkeys(merges))
    merged = dict.fromkeys(a + b for a, b in merges)
    words = [*letters, *(letter + "</w>" for letter in letters), *merged, START, END]
    return {word: number for number, word in enumerate(words)}, merges


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


_IN_BLOCK = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
_AROUND = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "class_embedding.": "label_emb.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}


def _ldm_unet(key: str, unet: Any) -> str:
    """Return the name of one of the UNet's tensors outside diffusers: blocks are numbered through all levels there."""
    layers = unet.config.layers_per_block + 1
    attended = [hasattr(block, "attentions") for block in unet.up_blocks]
    for ours, theirs in _AROUND.items():
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
    found = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.", key)
    if found:
        way, level, what, number = found[1], int(found[2]), found[3], int(found[4])
        if way == "down":
            block = f"input_blocks.{level * layers + (layers if what == 'downsamplers' else 1 + number)}."
        else:
            block = f"output_blocks.{level * layers + (layers - 1 if what == 'upsamplers' else number)}."
        part = {"resnets": "0.", "attentions": "1.", "downsamplers": "0.", "upsamplers": f"{1 + attended[level]}."}[
            what
        ]
        rest = key[found.end() :]
        key = block + part + (rest.replace("conv.", "op.", 1) if what == "downsamplers" else rest)
    if "transformer_blocks" not in key:
        for ours, theirs in _IN_BLOCK.items():
            key = re.sub(rf"(?<=\.){re.escape(ours)}", theirs, key)
    return key


def _ldm_vae(key: str, levels: int) -> str:
    """Return the name of one of the VAE's tensors outside diffusers; its decoder counts the levels from below."""
    key = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", key)
    key = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", key)
    key = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", key)
    key = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", key)
    key = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", key)
    key = key.replace("mid_block.attentions.0.", "mid.attn_1.").replace("conv_norm_out.", "norm_out.")
    for ours, theirs in {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v."}.items():
        key = key.replace(f"attn_1.{ours}", f"attn_1.{theirs}")
    return key.replace("to_out.0.", "proj_out.").replace("conv_shortcut.", "nin_shortcut.")


def _conv(key: str, value: Any) -> Any:
    """Return the weights of the VAE's attention as the 1 × 1 convolutions that they are outside diffusers."""
    return value[:, :, None, None] if re.search(r"\.to_(q|k|v|out\.0)\.weight$", key) else value


def _prefixes(kind: Kind) -> tuple[str, ...]:
    if kind.xl:
        return "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
    return ("cond_stage_model.model." if _open(kind)[0] else "cond_stage_model.transformer.text_model.",)


def _open(kind: Kind) -> tuple[bool, ...]:
    """Say which text encoders are laid out as OpenCLIP's: that of SD 2, and the second one of XL."""
    return (False, True) if kind.xl else (kind.widths == (48,),)


def _clip(text: Any) -> dict[str, Any]:
    return {key.removeprefix("text_model."): value for key, value in text.state_dict().items()}


def _open_clip(text: Any) -> dict[str, Any]:
    import torch

    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    parts |= {"self_attn.out_proj": "attn.out_proj"}
    given = _clip(text)
    made = {theirs: given[ours] for ours, theirs in names.items()}
    if "text_projection.weight" in given:
        made["text_projection"] = given["text_projection.weight"].T
    for layer in range(text.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            made |= {f"{theirs}{new}.{end}": given[f"{ours}{old}.{end}"] for old, new in parts.items()}
            merged = torch.cat([given[f"{ours}self_attn.{part}_proj.{end}"] for part in "qkv"])
            made[f"{theirs}attn.in_proj_{end}"] = merged
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this one; may be given several times")
    given = parser.parse_args()
    make(given.folder, given.kind or KINDS)


if __name__ == "__main__":
    main()
