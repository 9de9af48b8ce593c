"""Many bags on many machines, by Ray. The machines see the bags, the checkpoints and the results at the same paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla_ros.errors import ReplayError
from vla_ros.replay.one_bag import Order
from vla_ros.replay.pool import Ended, attempt

LOCAL = "local"


def perform_on_ray(address: str, orders: Sequence[Order]) -> Iterator[Ended]:
    """All orders, in the order in which they end; each takes as many CPUs as its network has threads.

    address: of a cluster, "auto" for the one of this machine, LOCAL to begin one here. Raises ReplayError.
    """
    ray = _ray()
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ReplayError(f"there is no Ray at {address!r}: {error}") from error
    try:
        remote = ray.remote(attempt)
        asked = {remote.options(num_cpus=one.subject.threads).remote(one): one for one in map(_from_anywhere, orders)}
        while asked:
            done, _ = ray.wait(list(asked))
            yield _ended(ray, done[0], asked.pop(done[0]))
    finally:
        ray.shutdown()


def _from_anywhere(order: Order) -> Order:
    """The same with paths that do not depend on where somebody stands."""
    shown = replace(order.shown, page=_absolute(order.shown.page), bag=_absolute(order.shown.bag))
    bag, folder, golden = order.bag.resolve(), order.folder.resolve(), _absolute(order.golden)
    return replace(order, bag=bag, folder=folder, golden=golden, shown=shown)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _ended(ray: Any, answer: Any, order: Order) -> Ended:
    try:
        ended = ray.get(answer)
    except ray.exceptions.RayError as error:
        return Ended(order, None, f"the machine that replayed it failed: {' '.join(str(error).split())[:400]}")
    assert isinstance(ended, Ended)
    return ended


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ReplayError(f"Ray is not installed: pip install 'vla_ros[ray]' ({error})") from error
    return ray
