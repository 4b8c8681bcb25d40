"""From words to what the UNet attends to: the embeddings of one or two CLIP text encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from imgedit.backends.diffusion._load import Loaded
from imgedit.jobs import Sampling

Translated = Callable[[str], Sequence[Any]]

#: prompts whose embeddings are kept
_MOST = 64


class Said(NamedTuple):
    """One prompt: (1, tokens, width) embeddings, (1, width) pooled ones for XL, and how many tokens did not fit."""

    tokens: Any
    pooled: Any
    cut: int


def embed(encoders: Sequence[tuple[Any, Any]], text: str, *, xl: bool) -> tuple[list[Any], Any, int]:
    """Return the embeddings of *text* by each encoder, (1, tokens, width), the pooled ones, and tokens left out.

    SD 1 and 2 take the last layer, normalised; XL the last but one of both encoders, and the second one's projection.
    """
    import torch

    found, pooled, cut = [], None, 0
    for encoder, tokenizer in encoders:
        # a tokenizer without a configuration takes any number
        most = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        given = tokenizer([text], truncation=True, padding="max_length", max_length=most, return_tensors="pt")
        cut = max(cut, len(tokenizer(text).input_ids) - most)
        mask = given.attention_mask.to(encoder.device) if getattr(encoder.config, "use_attention_mask", False) else None
        with torch.inference_mode():
            out = encoder(given.input_ids.to(encoder.device), attention_mask=mask, output_hidden_states=xl)
        found.append(out.hidden_states[-2] if xl else out[0])
        if xl and out[0].ndim == 2:
            pooled = out[0]
    return found, pooled, cut


def said(model: Loaded, sampling: Sampling, translated: Translated) -> tuple[Said, Said]:
    """Return the prompt and the negative prompt as the UNet takes them; each text is computed once.

    An XL model may want zeros where there is no negative prompt. With *sampling.consistency*, *translated* gives the
    embeddings of a text for each encoder: all but the pooled ones.
    """
    import torch

    def once(text: str) -> Said:
        made: Said = model.once("prompts", (text, sampling.consistency), lambda: make(text), _MOST)
        return made

    def make(text: str) -> Said:
        parts, pooled, cut = embed(model.encoders, text, xl=model.xl)
        if sampling.consistency is not None:
            parts = [torch.from_numpy(part) for part in translated(text)]
        tokens = torch.cat([part.to(model.device, model.dtype) for part in parts], dim=-1)
        return Said(tokens, None if pooled is None else pooled.to(model.device, model.dtype), max(0, cut))

    positive = once(sampling.prompt)
    if model.xl and not sampling.negative_prompt and model.layout.index.get("force_zeros_for_empty_prompt", True):
        return positive, Said(torch.zeros_like(positive.tokens), torch.zeros_like(positive.pooled), 0)
    return positive, once(sampling.negative_prompt)
