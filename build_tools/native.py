"""Compile the core of the sparse runtime into the source folder, beside its sources.

For editable installs and `make native`. Needs CMake, nanobind and a C++17 compiler.
"""

import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def compile_in_place() -> bool:
    """Compile, say what went wrong if anything did, and return whether the core is there."""
    folder = _ROOT / "build" / f"native-{sys.implementation.cache_tag}"
    try:
        cmake = _cmake()
        nanobind = _output([sys.executable, "-m", "nanobind", "--cmake_dir"])
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        settings = [
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dnanobind_DIR={nanobind}",
            "-DSKBUILD=ON",  # so that there is something to install
        ]
        for command in (
            [cmake, "-S", str(_ROOT), "-B", str(folder), *generator, *settings],
            [cmake, "--build", str(folder), "--config", "Release", "--parallel"],
            [cmake, "--install", str(folder), "--config", "Release", "--prefix", _ROOT / "src"],
        ):
            _output(command)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)  # CMake would remember that there was no compiler
        text = getattr(error, "stderr", None) or str(error)
        print(f"{text.strip()}\n\nwiry's sparse runtime was not compiled; all else works.\n{_HELP}")
        return False
    return True


_HELP = (
    "It needs a C++17 compiler (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++; "
    "macOS: xcode-select --install; Windows: Visual Studio Build Tools). "
    "Then run `make native`."
)


def _cmake() -> str:
    """Return the path of CMake, of the Python package where there is one."""
    try:
        from cmake import CMAKE_BIN_DIR
    except ImportError:
        found = shutil.which("cmake")
        if found is None:
            raise FileNotFoundError("CMake was not found: pip install cmake") from None
        return found
    return str(Path(CMAKE_BIN_DIR) / "cmake")


def _output(command: list[object]) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(0 if compile_in_place() else 1)
