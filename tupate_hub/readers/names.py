"""One name for one place in a model, however the library that saved it spelled the way there."""

from __future__ import annotations

import re

#: What libraries put in front of a module's own name: wrappers first, then the attribute under which a model with a
#: head keeps its backbone. `transformer.` is GPT-2's backbone but part of DistilBERT's own names, hence the lookahead.
ROOTS = re.compile(
    r"(?:base_model\.(?:model\.)?|_orig_mod\.|module\.|0\.auto_model\.|auto_model\.|model\.|language_model\."
    r"|(?:bert|roberta|distilbert|deberta|electra|albert|mpnet|longformer|mobilebert|xlm|vit|beit|deit|bart|plbart"
    r"|led|xmod|esm|funnel|convbert|ernie|rembert|roformer|layoutlm|nezha|fnet|luke|swin|dinov2|wav2vec2|hubert|mbart|clip|whisper|gpt_neox|backbone|pretrained_model)\.(?=[A-Za-z])"
    r"|transformer\.(?=h\.|wte\.|wpe\.|ln_f\.|blocks\.|encoder\.|decoder\.|word_embeddings))*"
)

#: The first parts of the canonical names of heads.
HEADS = frozenset(
    {
        "classifier",
        "pre_classifier",
        "score",
        "qa_outputs",
        "lm_head",
        "cls",
        "heads",
        "head",
        "classification_head",
        "predictions",
        "vocab_transform",
        "vocab_projector",
        "vocab_layer_norm",
        "generator_predictions",
        "discriminator_predictions",
        "summary",
        "v_head",
    }
)


#: Heads whose shape is that of the vocabulary, the same for every task: an adapter of one is compared like any other.
LANGUAGE_HEADS = frozenset({"lm_head", "cls", "predictions", "vocab_transform", "vocab_projector", "vocab_layer_norm"})

#: GPT-2's layers, whose weights transformers keeps as (in, out).
CONV1D = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})


def block_name(module: str) -> str:
    """The canonical name of a module: wrappers and the backbone's attribute taken off.

    >>> block_name("base_model.model.bert.encoder.layer.0.attention.self.query")
    'encoder.layer.0.attention.self.query'
    >>> block_name("model.layers.3.self_attn.q_proj.base_layer")
    'layers.3.self_attn.q_proj'
    """
    match = ROOTS.match(module)
    name = module[match.end() :] if match else module
    return name.replace(".base_layer", "").replace(".original_module", "")


def encoder_of(module: str) -> str:
    """The attribute under which the model that was saved has its encoder, nothing where it has none.

    >>> encoder_of("base_model.model.bert.encoder.layer.0.attention.self.query")
    'bert'
    >>> encoder_of("base_model.model.encoder.layer.0.attention.self.query")
    ''
    """
    inside = module.removeprefix("base_model.model.")
    root = inside.removesuffix(block_name(inside))
    return root.rstrip(".") if root != inside else ""


def is_task_head(key: str) -> bool:
    """Whether a tensor belongs to a head whose shape depends on the task: a head, but no language model's."""
    return block_name(key).partition(".")[0] in HEADS - LANGUAGE_HEADS


def is_head(key: str) -> bool:
    """Whether a tensor belongs to a head, by the first part of its canonical name."""
    return block_name(key).partition(".")[0] in HEADS
