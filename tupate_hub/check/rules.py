"""The table of everything that `check` can find; `docs/check.md` is the same for people.

Its rows stand beside the functions that find them, in one module for each kind of evidence.
"""

from __future__ import annotations

from tupate_hub.check.base_rules import BASE
from tupate_hub.check.config_rules import CONFIGURATION
from tupate_hub.check.file_rules import FILES
from tupate_hub.check.module_rules import MODULES
from tupate_hub.check.rule import Rule
from tupate_hub.check.update_rules import NUMBERS

RULES: tuple[Rule, ...] = (*FILES, *CONFIGURATION, *MODULES, *NUMBERS, *BASE)

BY_ID = {rule.id: rule for rule in RULES}
