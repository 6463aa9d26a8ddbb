"""The verbs of the command line, each with its module, which is imported when the verb is called."""

from __future__ import annotations

from importlib import import_module

import click

#: Verb -> (module, first sentence of its help). The sentence stands here so that --help imports no verb.
VERBS = {
    "similar": ("rank", "Rank tasks by similarity to a task or an adapter."),
    "explain": ("rank", "Show what each block adds to the similarity of two tasks."),
    "map": ("map", "Draw a task and its neighbours, near where they are similar."),
    "inspect": ("collect", "Say what a file or folder of tuned parameters holds."),
    "check": ("check", "Say whether adapters will do anything, and on which base model."),
    "add": ("collect", "Read tuned parameters into a registry of your own."),
    "import": ("import_hub", "Read what the Hub lists for a base model into a registry of your own."),
    "stats": ("measure", "Measure a base model's inputs, for --similarity effect."),
    "evaluate": ("measure", "Judge rankings by measured transfer, beside the baselines."),
    "train": ("tune", "Tune a task of your own and add its embedding to a registry."),
    "predict": ("predict", "Answer with a tuned task: labels, amounts, spans, tags, choices."),
    "score": ("score", "Judge a tuned task on labelled data of your own."),
    "recommend": ("recommend", "Say which task to start from, for data of your own."),
    "transfer": ("transfer", "Measure what starting from a source adds on data of your own."),
    "subspace": ("subspace", "Find and use the few numbers that describe a task (IPT)."),
    "merge-check": ("merge_check", "Say what merging adapters would do to each of them, and make one of them."),
    "pull": ("fetch", "Fetch a task's embedding, or weights ready to load."),
    "verify": ("fetch", "Check every file of a registry against its hash and its entry."),
    "index": ("index", "Make the files by which the neighbours of a large registry are found."),
    "duplicates": ("duplicates", "Find embeddings that are near-duplicates of one another."),
    "init": ("publish", "Make an empty registry."),
    "merge": ("publish", "Make one registry of two."),
    "card": ("publish", "Write a registry's dataset card, pictures and browsable table."),
    "site": ("site", "Make a page on which people search a registry and drop adapters."),
    "push": ("publish", "Publish a registry as a dataset repository of the Hub."),
    "list": ("browse", "List the tasks that a registry holds."),
    "show": ("browse", "Show everything that is known of one embedding."),
    "spaces": ("browse", "List the spaces: base model and method."),
    "doctor": ("doctor", "Say what this installation has, and what is missing for which command."),
}


def command_of(verb: str) -> click.Command | None:
    """Import a verb's module and return its command; None for a word that is no verb."""
    if verb not in VERBS:
        return None
    module = import_module(f".{VERBS[verb][0]}", __package__)
    command = getattr(module, f"{verb.replace('-', '_')}_command")
    return command if isinstance(command, click.Command) else None
