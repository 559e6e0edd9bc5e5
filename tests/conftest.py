"""Settings that every test shares: what a marked test needs, no network."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks: threads that wait for each other only cost
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported: a GPU's kernels can be tried anywhere


@pytest.fixture(scope="module")
def one_thread():
    """One thread is quickest for networks this small and where other tests run beside these."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """No C++ compiler here, nor in a process that a test starts, and no code compiled earlier."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",)}):
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("atari") and find_spec("ale_py") is None:
        pytest.skip('needs ale-py: pip install "worldsim[atari]"')
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
