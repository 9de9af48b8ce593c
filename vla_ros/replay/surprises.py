"""How surprised a policy is at recorded bags: what its alarm can be calibrated by where nothing went wrong in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.contract_file import load_contract
from vla_ros.replay.decision_log import read_log
from vla_ros.replay.one_bag import Order
from vla_ros.replay.results import LOG
from vla_ros.types import NS_PER_S, FloatArray


def surprises_in(orders: Sequence[Order]) -> tuple[FloatArray, float]:
    """Of bags that have been replayed. -> (N,), and the median time from one look to the next [s], NaN without two"""
    surprises: list[float] = []
    gaps_s: list[float] = []
    for order in orders:
        replayed = read_log(order.folder / LOG, load_contract(order.subject.contract))
        chunks = [reply.chunk for decision in replayed.policy for reply in decision.replies]
        told = [chunk for chunk in chunks if chunk is not None and chunk.surprise is not None]
        surprises += [chunk.surprise for chunk in told if chunk.surprise is not None]
        gaps_s += (np.diff([chunk.t_obs_ns for chunk in told]) / NS_PER_S).tolist()
    return np.array(surprises), float(np.median(gaps_s)) if gaps_s else float("nan")
