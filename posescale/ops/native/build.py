"""Compile the C files beside this one once per machine with the system's C compiler; the user's cache keeps them.

A library has no dependency on torch's binary interface, only on the C library and OpenMP (torch's own copy when torch
brings one of the same name). A cached file is loaded only if its digest equals the one written beside it after it was
complete, so a torn file is rebuilt, never loaded; files appear by rename, so several processes may build at once.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from posescale.errors import UnavailableError

_HERE = Path(__file__).parent
_COMMON = [
    "-std=c99",
    "-O3",
    "-fopenmp-simd",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
]
_MARCH = f"-march={os.environ.get('POSESCALE_MARCH', 'native')}"  # another instruction set, to measure it
# Tried in order, the first that compiles and loads is kept: full vectors and threads first, plain C last.
_VARIANTS = (
    [_MARCH, "-mprefer-vector-width=512", "-fopenmp"],
    [_MARCH, "-fopenmp"],
    ["-fopenmp"],
    [_MARCH],
    [],
)
_TOGETHER = ("scan_forward", "tokens")  # a PoseMamba forward needs both, so a first use compiles them side by side
_log = logging.getLogger("posescale.ops")


@cache
def library(double: bool, name: str) -> ctypes.CDLL:
    """The compiled kernels of `name`.c for float32, or for float64, built now if the cache has none for this machine.

    Raises:
        UnavailableError: there is no C compiler, or it could not build the file; says what was tried.
    """
    compiler, defines = _compiler(), ["-DPOSESCALE_DOUBLE"] if double else []
    how = repr((compiler, defines, _COMMON, _VARIANTS, _machine())).encode()
    headers = [header.read_bytes() for header in sorted(_HERE.glob("*.h"))]
    names = _TOGETHER if name in _TOGETHER else (name,)
    sources = {each: _HERE / f"{each}.c" for each in names}
    keys = {each: _digest(sources[each].read_bytes(), *headers, how)[:16] for each in names}
    paths = {each: _folder() / f"{each}-{'f64' if double else 'f32'}-{keys[each]}.so" for each in names}
    if not _intact(paths[name]):
        missing = [each for each in names if not _intact(paths[each])]
        with ThreadPoolExecutor(len(missing)) as pool:
            builds = {each: pool.submit(_build, compiler, sources[each], defines, paths[each]) for each in missing}
        builds[name].result()  # a failure of another file is reported when that is asked for
    return ctypes.CDLL(str(paths[name]))


@cache
def unavailable(name: str = "scan_forward") -> str | None:
    """None if the kernels of `name`.c can be used (compiling them if need be), else why not."""
    try:
        library(False, name)
    except UnavailableError as error:
        return str(error)
    return None


def _compiler() -> tuple[str, ...]:
    """The compiler's command and its version line."""
    chosen = shlex.split(os.environ.get("CC", ""))
    for command in [chosen] if chosen else [["cc"], ["gcc"], ["clang"]]:
        program = shutil.which(command[0])
        if program is None:
            continue
        version = _run([program, *command[1:], "--version"])
        if version.returncode == 0:
            return (program, *command[1:], version.stdout.partition("\n")[0])
    raise UnavailableError("no C compiler found (looked for $CC, cc, gcc and clang on PATH)")


def _build(compiler: tuple[str, ...], source: Path, defines: list[str], path: Path) -> None:
    """Compile into a private name beside `path`, then rename; the digest is written last."""
    command = list(compiler[:-1])
    failures = []
    for variant in _VARIANTS:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".so")
        os.close(descriptor)
        try:
            start = time.monotonic()
            done = _run([*command, *_COMMON, *variant, *defines, str(source), "-o", temporary, "-lm"])
            failure = done.stderr.strip() if done.returncode else _load_failure(temporary)
            if failure is None:
                _publish(Path(temporary), path)
                flags = " ".join([*variant, *defines]) or "no flags"
                seconds = time.monotonic() - start
                _log.info("compiled %s with %s (%s) in %.1f s: %s", source.name, command[0], flags, seconds, path)
                return
            failures.append(f"{' '.join(variant) or 'plain'}: {failure.splitlines()[0] if failure else 'failed'}")
        finally:
            Path(temporary).unlink(missing_ok=True)
    raise UnavailableError(f"{command[0]} could not compile {source.name}: {'; '.join(failures)}")


def _publish(temporary: Path, path: Path) -> None:
    content = temporary.read_bytes()
    os.replace(temporary, path)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(_digest(content))
    os.replace(name, path.with_suffix(".sha256"))


def _intact(path: Path) -> bool:
    try:
        return path.with_suffix(".sha256").read_text(encoding="ascii") == _digest(path.read_bytes())
    except (OSError, UnicodeDecodeError):
        return False


def _load_failure(path: str) -> str | None:
    """Why a fresh library cannot be loaded (a missing OpenMP runtime, say), or None."""
    try:
        ctypes.CDLL(path)
    except OSError as error:
        return str(error)
    return None


@cache
def _folder() -> Path:
    """The user's cache folder, or one for this process alone where that cannot be written."""
    folder = user_cache_path("posescale") / "native"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        private = Path(tempfile.mkdtemp(prefix="posescale-native-"))
        _log.warning("%s cannot be written (%s); kernels are compiled into %s for this process", folder, error, private)
        return private


def _machine() -> tuple[str, ...]:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    wanted = ("model name", "flags", "Features", "CPU part")
    facts = {line for line in lines if line.startswith(wanted)}
    return (platform.system(), platform.machine(), platform.processor(), *sorted(facts))


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
