"""The front matter of a card, read back: what `push` takes over from a card that is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.publish.frontmatter import About, front_matter, read_about
from tupate_hub.registry import Registry


@given(st.text(min_size=1, max_size=40), st.lists(st.sampled_from(["en", "de", "zh-Hant", "no"]), max_size=3))
def test_what_is_written_is_read(title: str, languages: list[str]) -> None:
    about = About(title, "me/zoo", tuple(languages))
    found = read_about(front_matter(Registry(), about, "README.md") + "\n# A card\n")
    shown = "".join(char if char.isprintable() else " " for char in title)
    assert (found.title, found.languages) == (shown, tuple(languages))


@pytest.mark.parametrize(
    "card",
    [
        "",
        "\n",
        "# No front matter\npretty_name: x\n",
        "---\nlicense: mit\n---\npretty_name: x\nlanguage:\n- en\n",
        "----\n",
    ],
)
def test_a_card_that_says_nothing_has_the_defaults(card: str) -> None:
    assert read_about(card) == About()


@pytest.mark.parametrize(
    ("lines", "title", "languages"),
    [
        ("pretty_name: Our zoo", "Our zoo", ()),
        ('pretty_name: "a: b"\ntags:\n- en\nlanguage:\n- de\n- "no"\nlicense: mit', "a: b", ("de", "no")),
        ("language:\n- en\ntags:\n- x", About().title, ("en",)),
        ("language: en", About().title, ("en",)),
        ("language: [en, 'de', \"fr\"]", About().title, ("en", "de", "fr")),
        ("language:\n    - en\n    - de\npretty_name: x", "x", ("en", "de")),
        ("language: no", About().title, ("no",)),  # which YAML reads as false
        ("pretty_name: 'It''s ours'  # ours\n\nlanguage:\n# two\n- en\n\n- de", "It's ours", ("en", "de")),
        ("pretty_name: >\n  folded\n  lines", "folded lines", ()),
        ("pretty_name: 2024\nlanguage:\n  en: English", "2024", ()),
        ("pretty_name: {a: b}\nlanguage: [1, en, [de]]", About().title, ("en",)),
        ("dataset_info:\n  pretty_name: nested\n  language: de", About().title, ()),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_card_that_someone_wrote(lines: str, title: str, languages: tuple[str, ...], ends: str) -> None:
    card = f"---\n{lines}\n---\n# Title\n\n---\nlanguage: xx\n---\n"
    assert read_about(card.replace("\n", ends)) == About(title, languages=languages)


@pytest.mark.parametrize(
    "lines",
    [
        'pretty_name: "not closed',
        "language: [en",
        "- en",
        "text",
        "1: x",
        "x: " + "[" * 5000,
        "x: !!python/object/apply:os.system [true]",
        "released: 2020-99-99",
    ],
    ids=lambda lines: lines[:12],
)
def test_front_matter_that_cannot_be_read_is_told_and_not_replaced(lines: str) -> None:
    with pytest.raises(FormatError, match=r"The front matter of README\.md is not valid") as caught:
        read_about(f"---\n{lines}\n---\n", "README.md")
    assert "YAML" in caught.value.hint


def test_front_matter_that_does_not_end_is_none() -> None:
    assert read_about("---\npretty_name: x") == About()
    assert read_about("---\npretty_name: x\n" + "# " + "y" * 5_000_000 + "\n---\n") == About()
