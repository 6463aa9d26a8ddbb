"""Task names: what strangers call the tasks that everybody tunes on, and one name for each.

The names are those of this project's zoo and, for other tasks, those of the adapters of "What to pre-train
on?" (arXiv 2104.08247), which AdapterHub publishes as `bert-base-uncased-pf-TASK`. `-`, `_`, `/`, `:`, blanks and case
do not matter, so that `super_glue_record` and `super_glue/record` are one spelling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

#: Task -> its other names, a blank between them: ids of datasets on the Hub, AdapterHub's tags, common spellings.
_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "ag_news": "agnews fancyzhx/ag_news",
        "amazon_review": "amazon_review_full",
        "anli_r3": "anli facebook/anli",
        "arc_challenge": "allenai/ai2_arc:ARC-Challenge arc-c",
        "arc_easy": "allenai/ai2_arc:ARC-Easy arc-e",
        "arct": "",
        "art": "abductive_nli allenai/art alphanli",
        "atis_intent": "atis",
        "atis_slots": "",
        "banking77": "PolyAI/banking77",
        "boolq": "google/boolq super_glue/boolq",
        "cb": "aps/super_glue:cb commitmentbank super_glue/cb",
        "clinc150": "clinc clinc/clinc_oos clinc_oos",
        "cola": "glue/cola nyu-mll/glue:cola",
        "commonsense_qa": "commonsenseqa csqa tau/commonsense_qa",
        "comqa": "com_qa",
        "conll2000": "eriktks/conll2000",
        "conll2003_ner": "conll-2003 conll2003 eriktks/conll2003 ner/conll2003",
        "conll2003_pos": "pos/conll2003",
        "copa": "aps/super_glue:copa super_glue/copa",
        "cosmos_qa": "allenai/cosmos_qa cosmosqa",
        "cq": "complex_questions",
        "customer_reviews": "SetFit/CR cr",
        "dream": "dataset-org/dream",
        "drop": "ucinlp/drop",
        "duorc_p": "duorc_paraphrase ibm-research/duorc:ParaphraseRC",
        "duorc_s": "duorc_self ibm-research/duorc:SelfRC",
        "emo": "emocontext semeval2019_task3",
        "emotion": "dair-ai/emotion",
        "fce_error_detection": "fce ged/fce",
        "fever": "fever/fever",
        "hate_offensive": "hate_speech_offensive tdavidson/hate_speech_offensive",
        "hellaswag": "Rowan/hellaswag",
        "hotpotqa": "hotpot hotpot_qa hotpotqa/hotpot_qa",
        "imdb": "stanfordnlp/imdb",
        "liar_binary": "liar",
        "mctest": "",
        "mit_movie_ner": "mit_movie_trivia mit_movie_trivia10k13",
        "mit_restaurant_ner": "",
        "mnli": "glue/mnli multi_nli multinli nyu-mll/multi_nli",
        "movie_reviews": "cornell-movie-review-data/rotten_tomatoes mr rotten_tomatoes",
        "mpqa": "",
        "mrpc": "SetFit/mrpc glue/mrpc nyu-mll/glue:mrpc",
        "multirc": "aps/super_glue:multirc super_glue/multirc",
        "newsqa": "microsoft/newsqa",
        "piqa": "ybisk/piqa",
        "pmb_sem_tagging": "pmb semtag/pmb",
        "qnli": "SetFit/qnli glue/qnli nyu-mll/glue:qnli",
        "qqp": "glue/qqp nyu-mll/glue:qqp quora",
        "quail": "textmachinelab/quail",
        "quartz": "allenai/quartz",
        "quoref": "allenai/quoref",
        "race": "ehovy/race",
        "record": "aps/super_glue:record super_glue/record",
        "ropes": "allenai/ropes",
        "rte": "SetFit/rte glue/rte nyu-mll/glue:rte",
        "scicite": "allenai/scicite",
        "scitail": "allenai/scitail",
        "sentiment_airline": "",
        "sentiment_books": "",
        "sentiment_dvd": "",
        "sentiment_electronics": "",
        "sentiment_kitchen": "",
        "sick_entailment": "sick sick-e sicke",
        "sick_relatedness": "sick-r sickr",
        "snips_intent": "snips",
        "snips_slots": "",
        "snli": "stanfordnlp/snli",
        "socialiqa": "allenai/social_i_qa siqa social_i_qa",
        "squad": "rajpurkar/squad squad-1 squad1 squad1.1 squad_v1",
        "squad_v2": "rajpurkar/squad_v2 squad2 squad2.0 squadv2",
        "squadshifts_amazon": "squadshifts/amazon",
        "squadshifts_new_wiki": "squadshifts/new_wiki",
        "squadshifts_reddit": "squadshifts/reddit",
        "sst2": "SetFit/sst2 glue/sst-2 glue/sst2 sst-2 stanfordnlp/sst2",
        "sst5": "SetFit/sst5 sst-5",
        "stsb": "glue/sts-b glue/stsb mteb/stsbenchmark-sts sentence-transformers/stsb sts-b",
        "subj": "SetFit/subj",
        "swag": "allenai/swag",
        "trec": "CogComp/trec",
        "tweet_emoji": "cardiffnlp/tweet_eval:emoji tweet_eval/emoji",
        "tweet_emotion": "cardiffnlp/tweet_eval:emotion tweet_eval/emotion",
        "tweet_hate": "cardiffnlp/tweet_eval:hate tweet_eval/hate",
        "tweet_irony": "cardiffnlp/tweet_eval:irony tweet_eval/irony",
        "tweet_offensive": "cardiffnlp/tweet_eval:offensive tweet_eval/offensive",
        "tweet_sentiment": "cardiffnlp/tweet_eval:sentiment tweet_eval/sentiment",
        "tweet_stance": "tweet_eval/stance",
        "ud_deprel": "deprel/ud_ewt",
        "ud_parsing": "dp/ud_ewt ud_en_ewt",
        "ud_pos": "pos/ud_ewt",
        "wic": "aps/super_glue:wic super_glue/wic",
        "wikihop": "qangaroo_wikihop",
        "winogrande": "allenai/winogrande",
        "wnli": "SetFit/wnli glue/wnli nyu-mll/glue:wnli",
        "wnut17_ner": "leondz/wnut_17 wnut17 wnut_17",
        "wsc": "aps/super_glue:wsc super_glue/wsc",
        "yahoo_answers": "community-datasets/yahoo_answers_topics yahoo_answers_topics",
        "yelp_polarity": "fancyzhx/yelp_polarity yelp_review_polarity",
        "yelp_review": "Yelp/yelp_review_full yelp_review_full",
    }
)
#: Datasets that hold several tasks, by the last part of their ids: such a tag names no task.
_COLLECTIONS = frozenset({"glue", "super_glue", "tweet_eval", "ai2_arc", "universal_dependencies", "squadshifts"})
_SEPARATORS = re.compile(r"[-_/:\s]+")
#: Words of a repository's name that tell of its model and method, not of its task.
_OF_MODELS = frozenset(
    "adapter adapters albert base bert bitfit bottleneck cased classification classifier deberta distilbert dora fine "
    "finetune finetuned finetuning ft gpt2 houlsby ia3 large lora minilm model parallel peft pfeiffer prefix prompt "
    "qlora roberta rslora small t5 trained tuned tuning uncased xlm".split()
)
_NOT_PLAIN = re.compile(r"[^\w.+@-]+")
_SETTING = re.compile(r"(r|rank|alpha|seed|epochs?)\d+", re.ASCII)


def canonical(written: str) -> str:
    """The one name of a task, whichever of its names is written; what is not known stays as it is.

    >>> canonical("super_glue_record"), canonical("SST-2"), canonical("my-reviews")
    ('record', 'sst2', 'my-reviews')
    """
    return _spellings().get(_fold(written), written)


def aliases(task: str) -> tuple[str, ...]:
    """The other names of a task that is called by its one name; none where it is not known."""
    return tuple(_ALIASES.get(task, "").split())


def dashed(written: str) -> str:
    """A name with dashes for what a registry does not allow in one; "" where nothing is left."""
    return _NOT_PLAIN.sub("-", written).strip("-.")


def of_tag(tag: str) -> str:
    """The task of AdapterHub's tag `TASK/SUBTASK`: the subtask, unless the two together are known as something else.

    >>> of_tag("sentiment/sst-2"), of_tag("pos/conll2003"), of_tag("ner/conll2003")
    ('sst2', 'conll2003_pos', 'conll2003_ner')
    """
    return _spellings().get(_fold(tag)) or canonical(tag.rpartition("/")[2])


def of_dataset(dataset: str) -> str | None:
    """The task of a dataset of the Hub; None where it holds several."""
    if dataset.rpartition("/")[2] in _COLLECTIONS:
        return None
    return _spellings().get(_fold(dataset)) or canonical(dataset.rpartition("/")[2])


def single(datasets: str) -> str:
    """The dataset of a list with commas, where it is one and holds one task; else ""."""
    return datasets if datasets and "," not in datasets and of_dataset(datasets) is not None else ""


def of_repository(name: str) -> str:
    """The task in the name of a model's repository.

    It is what stands after `-pf-`, as AdapterHub writes it; or what is left without words of models and methods, where
    that is a known task; else the whole name.

    >>> of_repository("roberta-base-pf-qnli"), of_repository("bert-base-uncased-lora-ag_news"), of_repository("my-lora")
    ('qnli', 'ag_news', 'my-lora')
    """
    _, marked, task = name.rpartition("-pf-")
    if marked:
        return canonical(task)
    words = [word for word in _SEPARATORS.split(name.casefold()) if word]
    left = [word for word in words if word not in _OF_MODELS and not _SETTING.fullmatch(word)]
    return _spellings().get(_fold(" ".join(left)), name)


def _fold(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


@cache
def _spellings() -> dict[str, str]:
    """Every name, folded, with its task."""
    return {_fold(name): task for task in _ALIASES for name in (task, *aliases(task))}
