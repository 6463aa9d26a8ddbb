"""Base models of many architectures on disk, small enough to tune in a second: random weights and a tokenizer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from toys import BAD, FILLERS, GOOD, NUMBERS, VOCABULARY, filler

WIDTH, LAYERS, HEADS, INNER, LONGEST = 16, 2, 2, 24, 64
_BERT: Mapping[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.2,
}
_SEQ2SEQ = {
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
    "max_position_embeddings": LONGEST,
    "init_std": 0.2,
}
_LLAMA = {**_BERT, "num_key_value_heads": HEADS}


def wordpiece(folder: Path) -> Any:
    """The toys' tokenizer."""
    from transformers import BertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=LONGEST)


def distil_wordpiece(folder: Path) -> Any:
    """The same without token types, as DistilBERT's is."""
    from transformers import DistilBertTokenizerFast

    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return DistilBertTokenizerFast(str(folder / "vocab.txt"), model_max_length=LONGEST)


def byte_level(name: str) -> Callable[[Path], Any]:
    """Byte-level BPE as GPT-2, RoBERTa and BART have it, learned from the toys' words."""

    def make(folder: Path) -> Any:
        import transformers
        from tokenizers import ByteLevelBPETokenizer

        specials = [] if name == "GPT2" else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        learned = ByteLevelBPETokenizer()
        learned.train_from_iterator(corpus(), 400, 2, show_progress=False, special_tokens=[*specials, "<|endoftext|>"])
        learned.save_model(str(folder))
        made = getattr(transformers, f"{name}TokenizerFast")
        return made(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LONGEST)

    return make


def unigram(folder: Path) -> Any:
    """Pieces as T5 has them: an end mark behind each text, none before it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import T5TokenizerFast

    learned = Tokenizer(models.Unigram())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=specials, unk_token="<unk>", show_progress=False)
    learned.train_from_iterator(corpus(), trainer)
    learned.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", learned.token_to_id("</s>"))]
    )
    return T5TokenizerFast(tokenizer_object=learned, extra_ids=0, model_max_length=LONGEST)


def corpus() -> list[str]:
    """Sentences of the toys' words."""
    rng = random.Random("corpus")
    words = [*GOOD, *BAD, *NUMBERS, *FILLERS, "how", "many", "is", "it", "?"]
    return [" ".join([*filler(rng), *rng.sample(words, 4)]) for _ in range(400)]


#: Model type -> (class, its configuration's fields, its tokenizer).
BASES: Mapping[str, tuple[str, Mapping[str, Any], Callable[[Path], Any]]] = {
    "bert": ("Bert", _BERT, wordpiece),
    "electra": ("Electra", {**_BERT, "embedding_size": 8}, wordpiece),
    "albert": ("Albert", {**_BERT, "embedding_size": 8}, wordpiece),
    "roberta": ("Roberta", {**_BERT, "max_position_embeddings": LONGEST + 4}, byte_level("Roberta")),
    "xlm-roberta": ("XLMRoberta", {**_BERT, "max_position_embeddings": LONGEST + 4}, byte_level("Roberta")),
    "deberta": ("Deberta", _BERT, wordpiece),
    "deberta-v2": ("DebertaV2", {**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, wordpiece),
    "mpnet": ("MPNet", {**_BERT, "max_position_embeddings": LONGEST + 4}, wordpiece),
    "distilbert": (
        "DistilBert",
        {
            "dim": WIDTH,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "hidden_dim": INNER,
            "max_position_embeddings": LONGEST,
            "initializer_range": 0.2,
        },
        distil_wordpiece,
    ),
    "gpt2": (
        "GPT2",
        {
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_inner": INNER,
            "n_positions": LONGEST,
            "initializer_range": 0.2,
        },
        byte_level("GPT2"),
    ),
    "gptj": (
        "GPTJ",
        {
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_inner": INNER,
            "n_positions": LONGEST,
            "rotary_dim": 4,
            "initializer_range": 0.2,
        },
        byte_level("GPT2"),
    ),
    "llama": ("Llama", _LLAMA, byte_level("GPT2")),
    "mistral": ("Mistral", _LLAMA, byte_level("GPT2")),
    "t5": (
        "T5",
        {"d_model": WIDTH, "d_kv": 8, "d_ff": INNER, "num_layers": LAYERS, "num_heads": HEADS, "initializer_factor": 4},
        unigram,
    ),
    "mt5": (
        "MT5",
        {"d_model": WIDTH, "d_kv": 8, "d_ff": INNER, "num_layers": LAYERS, "num_heads": HEADS, "initializer_factor": 4},
        unigram,
    ),
    "bart": ("Bart", _SEQ2SEQ, byte_level("Bart")),
    "mbart": ("MBart", _SEQ2SEQ, byte_level("Bart")),
    "plbart": ("PLBart", _SEQ2SEQ, byte_level("Bart")),
}


def make_tiny_base(folder: Path, kind: str) -> Path:
    """Write a base model of that type, of random weights, with its tokenizer."""
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    name, fields, make_tokenizer = BASES[kind]
    tokenizer = make_tokenizer(folder)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(11)
    marks = {f"{mark}_token_id": getattr(tokenizer, f"{mark}_token_id") for mark in ("pad", "eos", "bos")}
    if kind in ("t5", "mt5"):
        marks["decoder_start_token_id"] = marks["pad_token_id"]
    known = {mark: number for mark, number in marks.items() if number is not None}
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **{**known, **fields})
    getattr(transformers, f"{name}Model")(config).save_pretrained(str(folder))
    return folder
