"""The packages of peers, and what to type to get them: for `largeds bench`, and for the end of `make bench`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True)
class Peer:
    name: str
    module: str
    command: str

    def is_installed(self) -> bool:
        try:
            return find_spec(self.module) is not None
        except (ImportError, ValueError):  # of the package that it is in, which is missing or broken
            return False


PEERS = (
    Peer("torchvision", "torchvision", "pip install torchvision"),
    Peer("torchcodec", "torchcodec", "pip install torchcodec"),
    Peer("DALI", "nvidia.dali", "pip install nvidia-dali-cuda130"),
    Peer("SPDL", "spdl.io", "pip install spdl"),
    Peer("OpenCV", "cv2", "pip install opencv-python-headless"),
    Peer("FFCV", "ffcv", "apt-get install g++ pkg-config libopencv-dev libturbojpeg0-dev, and: pip install ffcv"),
    Peer("LitData", "litdata", "pip install litdata"),
    Peer("Mosaic Streaming", "streaming", "pip install mosaicml-streaming (which takes numpy and transformers back)"),
    Peer("WebDataset", "webdataset", "pip install webdataset"),
    Peer("h5py", "h5py", "pip install h5py"),
    Peer("Accelerate", "accelerate", "pip install accelerate"),
    Peer("Lightning", "lightning", "pip install lightning"),
    Peer("kornia", "kornia", "pip install kornia"),
    Peer("Ray", "ray", "pip install 'largeds-native[ray]'"),
    Peer("s3fs", "s3fs", "pip install 'largeds-native[s3]'"),
    Peer("timm", "timm", "pip install timm"),
    Peer("Hugging Face datasets", "datasets", "pip install datasets"),
    Peer("Hugging Face transformers", "transformers", "pip install transformers"),
)


def missing() -> list[Peer]:
    """Those that are not installed."""
    return [peer for peer in PEERS if not peer.is_installed()]


def command_for(module: str) -> str:
    """What to type to get the package of a module."""
    package = module.partition(".")[0]
    return next((peer.command for peer in PEERS if peer.module.partition(".")[0] == package), f"pip install {package}")
