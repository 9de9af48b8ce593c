"""Read a robot contract from YAML. What is wrong with it is said all at once, each fault with its key's path."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vla_ros.contract import Contract
from vla_ros.contract_rules import broken_rules
from vla_ros.errors import ContractError
from vla_ros.strict import BROKEN, Problem, build_fields
from vla_ros.strict_yaml import read_mapping


def load_contract(path: str | Path) -> Contract:
    """The contract in a YAML file.

    Raises ContractError: one line per fault, `file: key.path: what is wrong; choices: ...`.
    """
    file = Path(path)
    return parse_contract(read_mapping(file), str(path))


def parse_contract(mapping: Mapping[Any, Any], source: str) -> Contract:
    """The contract in a mapping as YAML gives it. source: what errors call it.

    Raises ContractError as load_contract does.
    """
    problems: list[Problem] = []
    fields = build_fields(Contract, mapping, "", problems)
    if fields is BROKEN:
        raise ContractError(f"{source}: must be a mapping of keys to values")
    known = cast("dict[str, Any]", fields)
    problems.extend(broken_rules(known))
    if problems:
        raise ContractError("\n".join(f"{source}: {problem.path}: {problem.text}" for problem in problems))
    return Contract(**known)


def contract_digest(contract: Contract) -> str:
    """64 hex digits (SHA-256) that name the contract's content: comments, order and 1 against 1.0 do not count."""
    content = json.dumps(dataclasses.asdict(contract), sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()
