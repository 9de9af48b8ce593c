"""ROS parameters, declared once: one table per node gives the declaration, the checks and the `--help`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vla_ros.errors import VlaRosError

WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number", tuple: "a list of texts"}


class ParameterError(VlaRosError):
    """A ROS parameter is missing, of the wrong type or out of range. The text says how to pass a right one."""


@dataclass(frozen=True)
class Parameter:
    """One parameter. default: str, bool, int, float or a tuple of str; a *type* in its place makes it required.

    minimum, maximum: inclusive, for numbers. choices: for texts. read_only: cannot be set while the node runs.
    read: raises VlaRosError for a value that cannot be read.
    """

    name: str
    default: str | bool | int | float | tuple[str, ...] | type[str] | type[bool] | type[int] | type[float]
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    read_only: bool = True
    read: Callable[[Any], object] | None = None

    @property
    def required(self) -> bool:
        """True if there is no default."""
        return isinstance(self.default, type)

    @property
    def type(self) -> type:
        """The Python type of the values."""
        return self.default if isinstance(self.default, type) else type(self.default)

    @property
    def valid(self) -> str:
        """What may be passed, in words: "a number from 0.01 to 100"."""
        if self.choices is not None:
            return "one of " + ", ".join(self.choices)
        bounds = ((" from ", self.minimum), (" to ", self.maximum))
        return WORDS[self.type] + "".join(f"{word}{bound:g}" for word, bound in bounds if bound is not None)


def check(parameter: Parameter, value: Any) -> Any:
    """The value in the parameter's own type (a whole number will do for a number). Raises ParameterError."""
    if value is None:
        raise ParameterError(
            f"parameter '{parameter.name}' ({parameter.description}) is required: "
            f"pass it as --ros-args -p {parameter.name}:={parameter.type.__name__.upper()}"
        )
    typed = _typed(parameter.type, value)
    if typed is None or not _in_range(parameter, typed):
        raise ParameterError(f"parameter '{parameter.name}' must be {parameter.valid}, not {value!r}")
    if parameter.read is not None:
        try:
            parameter.read(typed)
        except VlaRosError as error:
            raise ParameterError(f"parameter '{parameter.name}': {error}") from error
    return typed


def _typed(wanted: type, value: Any) -> Any:
    if wanted is tuple:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return tuple(value) if is_list else None
    if wanted is float and type(value) is int:
        return float(value)
    return value if type(value) is wanted else None


def _in_range(parameter: Parameter, value: Any) -> bool:
    """Written so that NaN is outside every range."""
    return (
        (parameter.minimum is None or value >= parameter.minimum)
        and (parameter.maximum is None or value <= parameter.maximum)
        and (parameter.choices is None or value in parameter.choices)
    )


def declare(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Declare all parameters of a node and return their values by name. Call once. Raises ParameterError.

    A parameter that is not read-only is checked again, and refused with the reason, whenever somebody sets it.
    """
    values = {parameter.name: _declare_one(node, parameter) for parameter in table}
    _warn_of_unknown(node, values)
    settable = {parameter.name: parameter for parameter in table if not parameter.read_only}
    if settable:
        node.add_on_set_parameters_callback(lambda changed: _accept(settable, changed))
    return values


def _declare_one(node: Node, parameter: Parameter) -> Any:
    """Check the override first and declare what is checked, since ROS itself refuses `rate:=2` for a number."""
    override = _overrides(node).get(parameter.name)
    default = None if parameter.required else parameter.default
    value = check(parameter, default if override is None else override.value)
    node.declare_parameter(parameter.name, value, descriptor(parameter), ignore_override=True)
    return value


def _overrides(node: Node) -> Mapping[str, RosParameter]:
    return node._parameter_overrides  # rclpy has no public name for it


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What ROS tells of a parameter. A range has two ends there: one that is not given is the type's own."""
    told = ParameterDescriptor(
        description=parameter.description,
        additional_constraints=parameter.valid,
        read_only=parameter.read_only,
        dynamic_typing=parameter.type is tuple,  # rclpy takes an empty list for a list of bytes
    )
    low, high = parameter.minimum, parameter.maximum
    if low is None and high is None:
        return told
    if parameter.type is int:
        least, most = (-(2**63) if low is None else int(low)), (2**63 - 1 if high is None else int(high))
        told.integer_range = [IntegerRange(from_value=least, to_value=most, step=1)]
    else:
        largest = sys.float_info.max
        ends = (-largest if low is None else float(low)), (largest if high is None else float(high))
        told.floating_point_range = [FloatingPointRange(from_value=ends[0], to_value=ends[1])]
    return told


def _accept(settable: Mapping[str, Parameter], changed: Iterable[RosParameter]) -> SetParametersResult:
    try:
        for change in changed:
            if change.name in settable:
                check(settable[change.name], change.value)
    except ParameterError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def _warn_of_unknown(node: Node, known: Iterable[str]) -> None:
    """ROS drops a misspelt parameter silently. A warning only: a file for `/**` may speak to other nodes as well."""
    for name in _overrides(node):
        if not node.has_parameter(name) and not name.startswith("qos_overrides."):
            node.get_logger().warning(f"parameter '{name}' is not known here and ignored; known: {', '.join(known)}")


def help_text(name: str, summary: str, table: Sequence[Parameter], interfaces: Mapping[str, str]) -> str:
    """The `--help` of a node. interfaces: a topic or service with its type -> what it is for."""
    parameters = {
        f"{parameter.name} ({'required' if parameter.required else f'default {_shown(parameter.default)}'})": (
            f"{parameter.description}; {parameter.valid}"
        )
        for parameter in table
    }
    return "\n".join(
        [
            f"usage: {name} [--ros-args -p PARAMETER:=VALUE ... --params-file FILE -r FROM:=TO -r __ns:=/NAMESPACE]",
            "",
            summary.strip(),
            "",
            "parameters:",
            *_entries(parameters),
            "",
            "topics and services:",
            *_entries(interfaces),
        ]
    )


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return f"[{', '.join(default)}]"
    return f"{default}" if default != "" else "''"


def _entries(entries: Mapping[str, str]) -> list[str]:
    return [line for title, text in entries.items() for line in (f"  {title}", f"      {text}")]
