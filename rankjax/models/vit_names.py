"""How files name the weights of vision transformers."""

from collections.abc import Callable, Mapping

from rankjax.models.names import Layout, Names, replacing

_QKV = ".attn.qkv."


def _separate(
    *parts: str, key_bias: bool = True
) -> Callable[[str, Callable[[str], str]], Names]:
    """Renames one map to queries, keys and values by the names of three."""

    def split(name: str, rename: Callable[[str], str]) -> Names:
        without = not key_bias and name.endswith(".bias")
        return tuple(
            None if without and i == 1 else rename(name.replace("qkv", part))
            for i, part in enumerate(parts)
        )

    return split


def _names(
    *pairs: tuple[str, str],
    qkv: Callable[[str, Callable[[str], str]], Names] | None = None,
) -> Callable[[str], Names]:
    rename = replacing(*pairs)

    def names(name: str) -> Names:
        if qkv is not None and _QKV in name:
            return qkv(name, rename)
        return rename(name)

    return names


def _timm(name: str) -> Names:
    if name.startswith("attn_pool.qkv."):
        return tuple(name.replace("qkv", part) for part in ("q", "kv"))
    if name.startswith("proj."):
        return f"patch_embed.{name}"
    return name.replace("projection.", "head.")


_PATCHES = (r"^proj\.", "embeddings.patch_embeddings.projection.")
_TOWER = (
    (r"^proj\.", "embeddings.patch_embedding."),
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^norm_pre\.", "pre_layrnorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"\.attn\.", ".self_attn."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^norm\.", "post_layernorm."),
    (r"^attn_pool\.latent$", "head.probe"),
    (r"^attn_pool\.qkv\.", "head.attention.in_proj_"),
    (r"^attn_pool\.proj\.", "head.attention.out_proj."),
    (r"^attn_pool\.norm\.", "head.layernorm."),
    (r"^attn_pool\.", "head."),
)
_MODEL = ((r"^(?!projection)", "vision_model."), (r"^projection", "visual_projection"))
_FACEBOOK = ((r"^proj\.", "patch_embed.proj."), (r"^reg_token$", "register_tokens"))


def vit_layouts(scale: str | None) -> Mapping[str, Layout]:
    """Layouts of files; `scale` is that of the family, None where its files differ.

    timm's weights of ImageNet-21k were trained on images scaled to [-1, 1], DINO's on
    ones by ImageNet's mean; the names do not tell.
    """
    q_k_v = _separate("q_proj", "k_proj", "v_proj")
    return {
        "timm": Layout(_timm, scale, r"(head|pre_logits|fc_norm)\."),
        "timm, Eva": Layout(
            _names(
                (r"^proj\.", "patch_embed.proj."),
                (r"\.ls(\d)\.gamma$", r".gamma_\1"),
                (r"\.attn\.(q|k|v)\.bias$", r".attn.\1_bias"),
                qkv=lambda name, rename: (
                    _separate("q", "k", "v", key_bias=False)(name, rename)
                    if name.endswith(".bias")
                    else name
                ),
            ),
            scale,
            r"head\.",
        ),
        "torchvision": Layout(
            _names(
                (r"^blocks\.", "encoder.layers.encoder_layer_"),
                (r"attn\.qkv\.", "self_attention.in_proj_"),
                (r"attn\.proj\.", "self_attention.out_proj."),
                (r"\.norm(\d)\.", r".ln_\1."),
                (r"mlp\.fc1\.", "mlp.0."),
                (r"mlp\.fc2\.", "mlp.3."),
                (r"^cls_token$", "class_token"),
                (r"^pos_embed$", "encoder.pos_embedding"),
                (r"^proj\.", "conv_proj."),
                (r"^norm\.", "encoder.ln."),
            ),
            scale or "imagenet",
            r"heads\.",
        ),
        "DINOv2": Layout(_names(*_FACEBOOK), scale, r"(mask_token$|head\.)"),
        "DINOv3": Layout(
            _names((r"^reg_token$", "storage_tokens"), *_FACEBOOK),
            scale,
            r"(mask_token$|rope_embed\.|.*\.bias_mask$|local_cls_norm\.)",
        ),
        "OpenAI": Layout(
            _names(
                (r"^proj\.", "conv1."),
                (r"^cls_token$", "class_embedding"),
                (r"^pos_embed$", "positional_embedding"),
                (r"^norm_pre\.", "ln_pre."),
                (r"^norm\.", "ln_post."),
                (r"^blocks\.", "transformer.resblocks."),
                (r"\.norm(\d)\.", r".ln_\1."),
                (r"\.attn\.qkv\.", ".attn.in_proj_"),
                (r"\.attn\.proj\.", ".attn.out_proj."),
                (r"\.mlp\.fc1\.", ".mlp.c_fc."),
                (r"\.mlp\.fc2\.", ".mlp.c_proj."),
                (r"^projection\.weight$", "proj"),
            ),
            scale,
            r"$^",
            plain=r"proj$",
        ),
        "transformers, CLIP": Layout(
            _names(*_TOWER, *_MODEL, qkv=q_k_v),
            scale,
            r"(text_model|text_projection|logit_scale|.*position_ids$)",
        ),
        "transformers, SigLIP": Layout(
            _names(*_TOWER, qkv=q_k_v), scale, r".*position_ids$"
        ),
        "transformers, DINOv2": Layout(
            _names(
                _PATCHES,
                (r"^cls_token$", "embeddings.cls_token"),
                (r"^reg_token$", "embeddings.register_tokens"),
                (r"^pos_embed$", "embeddings.position_embeddings"),
                (r"^blocks\.", "encoder.layer."),
                (r"\.attn\.proj\.", ".attention.output.dense."),
                (r"\.attn\.", ".attention.attention."),
                (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
                (r"^norm\.", "layernorm."),
                qkv=_separate("query", "key", "value"),
            ),
            scale,
            r"(embeddings\.mask_token$|classifier\.)",
        ),
        "transformers, ViT": Layout(
            _names(
                _PATCHES,
                (r"^cls_token$", "embeddings.cls_token"),
                (r"^pos_embed$", "embeddings.position_embeddings"),
                (r"^blocks\.", "encoder.layer."),
                (r"\.attn\.proj\.", ".attention.output.dense."),
                (r"\.attn\.", ".attention.attention."),
                (r"\.norm1\.", ".layernorm_before."),
                (r"\.norm2\.", ".layernorm_after."),
                (r"\.mlp\.fc1\.", ".intermediate.dense."),
                (r"\.mlp\.fc2\.", ".output.dense."),
                (r"^norm\.", "layernorm."),
                qkv=_separate("query", "key", "value"),
            ),
            scale,
            r"(pooler|classifier)\.",
        ),
        "transformers, DINOv3": Layout(
            _names(
                (r"^proj\.", "embeddings.patch_embeddings."),
                (r"^cls_token$", "embeddings.cls_token"),
                (r"^reg_token$", "embeddings.register_tokens"),
                (r"^blocks\.", "layer."),
                (r"\.attn\.proj\.", ".attention.o_proj."),
                (r"\.attn\.", ".attention."),
                (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"),
                (r"\.mlp\.fc1\.", ".mlp.up_proj."),
                (r"\.mlp\.fc2\.", ".mlp.down_proj."),
                qkv=_separate("q_proj", "k_proj", "v_proj", key_bias=False),
            ),
            scale,
            r"embeddings\.mask_token$",
        ),
    }
