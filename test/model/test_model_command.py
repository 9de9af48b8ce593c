"""`vla_ros model`, in this process, with a tiny network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_builders import image
from PIL import Image
from safetensors.torch import load_file

from vla_ros import cli
from vla_ros.model.checkpoint import CONFIG, load_checkpoint
from vla_ros.model.config import from_mapping

ROOT = Path(__file__).parents[2]


def exit_status(*words: str) -> int:
    try:
        return cli.main(("model", *words))
    except SystemExit as end:  # argparse's own
        return int(end.code or 0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    assert exit_status("new", str(folder), "--size", "tiny", "--decoder", "single", "--seed", "3") == 0
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "front.jpg"
    Image.fromarray(image(0, 48, 64)).save(path)
    return path


def test_help_names_the_command_and_its_actions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert re.search(r"^  model .*new, describe, explain", capsys.readouterr().out, re.MULTILINE)
    for words in ((), ("new",), ("describe",), ("explain",)):
        assert exit_status(*words, "--help") == 0
        assert f"usage: vla_ros {' '.join(('model', *words))}" in capsys.readouterr().out


def test_a_new_checkpoint_is_what_was_asked_for(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert loaded.contract.name == "sawyer_sim"
    record = json.loads((checkpoint / CONFIG).read_text())
    config = from_mapping(record["model"], "here")
    assert not record["is_trained"]
    assert (config.views, config.width, config.decoder.kind) == (("front", "wrist", "top"), 64, "single")


def test_a_new_checkpoint_is_called_untrained_and_its_seed_makes_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = torch.random.get_rng_state()
    for name, seed in (("same", "3"), ("other", "4")):
        assert exit_status("new", str(tmp_path / name), "--size", "tiny", "--decoder", "single", "--seed", seed) == 0
    assert "UNTRAINED" in capsys.readouterr().out
    assert torch.equal(torch.random.get_rng_state(), drawn)
    first, same, other = (
        load_file(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "same", tmp_path / "other")
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_describe_takes_a_checkpoint_or_a_size(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    for network, head in ((str(checkpoint), "SingleStepHead"), ("tiny", "RegressionChunkDecoder")):
        assert exit_status("describe", network, "--threads", "1", "--runs", "1") == 0
        printed = capsys.readouterr()
        for word in ("vision.backbones", "language.encoder", "fusion", head, "everything", "with 1 thread, 1 run,"):
            assert word in printed.out
        assert " ...\n" in printed.err and " ...\n" not in printed.out
    assert torch.get_num_threads() == threads


def test_explain_looks_at_pictures_that_it_is_given(
    checkpoint: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "look.png"
    words = ("--image", f"front={picture}", "--image", f"top={picture}", "--sentence", "push the puck")
    assert exit_status("explain", str(checkpoint), *words, "--output", str(output)) == 0
    assert f"{output}: what {checkpoint} looks at, told 'push the puck'" in capsys.readouterr().out
    with Image.open(output) as drawn:
        assert drawn.format == "PNG" and drawn.width == 960  # two views and how they look at each other


def test_explain_looks_at_the_simulated_robot_without_pictures(checkpoint: Path, tmp_path: Path) -> None:
    assert exit_status("explain", str(checkpoint), "--output", str(tmp_path / "look.png")) == 0
    with Image.open(tmp_path / "look.png") as drawn:
        assert drawn.width == 1280


def test_without_the_simulation_it_asks_for_pictures(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("vla_ros.sim.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("mujoco", "metaworld", "metaworld.env_dict"):
        monkeypatch.setitem(sys.modules, name, None)
    assert exit_status("explain", str(checkpoint), "--output", str(tmp_path / "look.png")) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "give some with --image view=path" in printed and "mujoco" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("paint",), "invalid choice: 'paint'"),
        (("new", "x", "--size", "huge"), "invalid choice: 'huge' (choose from"),
        (("new", "x", "--decoder", "magic"), "invalid choice: 'magic' (choose from"),
        (("new", "x", "--seed", "-1"), "'-1' is not a whole number from 0 to 2^63 - 1"),
        (("new", "x", "--contract", "no_such_robot"), "there is no config file 'no_such_robot'; choose one of"),
        (("new", "CHECKPOINT", "--size", "tiny"), "exists already; choose another folder or remove it"),
        (
            ("describe", "huge"),
            "the package's: mt10, mt50; nor is it one of the sizes tiny, small, base",
        ),
        (("describe", "tiny", "--threads", "0"), "'0' is not a whole number of at least 1"),
        (("describe", "tiny", "--runs", "few"), "'few' is not a whole number of at least 1"),
        (("describe", "CHECKPOINT", "--contract", "sawyer_sim"), "a checkpoint brings its own contract"),
        (("describe", "FRAMES"), "is not a checkpoint: it has no config.json"),
        (("explain", "FRAMES"), "is not a checkpoint: it has no config.json"),
        (("explain", "CHECKPOINT", "--image", "front"), "--image 'front' is not of the form view=path"),
        (("explain", "CHECKPOINT", "--image", "back=x.png"), "has no view 'back'; choose from front, wrist, top"),
        (("explain", "CHECKPOINT", "--image", "front=none.png"), "none.png is not a picture that can be read"),
        (("explain", "CHECKPOINT", "--image", f"front={__file__}"), "is not a picture that can be read"),
        (("explain", "CHECKPOINT", "--output", "no_folder/x.png"), "there is no folder no_folder to write x.png into"),
        (("explain", "CHECKPOINT", "--image", "PICTURE", "--sentence", ""), "an instruction without words"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    words: tuple[str, ...],
    said: str,
    checkpoint: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    meant = {"CHECKPOINT": str(checkpoint), "FRAMES": str(picture.parent), "PICTURE": f"front={picture}"}
    assert exit_status(*(meant.get(word, word) for word in words)) == 2
    printed = capsys.readouterr().err
    assert said in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


WITHOUT = """
import sys


class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Block())
from vla_ros.cli import main
sys.exit(main(["model", "describe", "tiny"]))
"""


def test_a_missing_library_is_named_with_what_installs_it() -> None:
    tried = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert tried.returncode == 2
    last = tried.stderr.splitlines()[-1]
    assert last.startswith("error: the network needs torch, which is not installed: pip install torch")
    assert "Traceback" not in tried.stderr
