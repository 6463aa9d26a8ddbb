"""The front matter of a card, read back: what `push` takes over from a card that is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ('pretty_name: "not closed', '"not closed', ()),
        ("language:\n- en\ntags:\n- x", About().title, ("en",)),
    ],
)
def test_a_card_that_someone_wrote(lines: str, title: str, languages: tuple[str, ...]) -> None:
    assert read_about(f"---\n{lines}\n---\n") == About(title, languages=languages)


def test_front_matter_that_does_not_end() -> None:
    assert read_about("---\npretty_name: x") == About("x")
