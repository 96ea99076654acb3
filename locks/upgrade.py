"""Renews every lock, and says what changed since the last commit: `make upgrade`."""

from __future__ import annotations

import subprocess

from locks.lockfile import NODE, PATHS, ROOT, SOURCES, differences, versions

# One lock for every platform and for every Python from the oldest supported on.
COMPILE = (
    "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
    "--upgrade", "--no-config", "--system-certs", "--custom-compile-command", "make upgrade",
)  # fmt: skip


def main() -> None:
    for name, sources in SOURCES.items():
        print(f"locks/{name}", flush=True)
        subprocess.run([*COMPILE, *sources, "--output-file", f"locks/{name}"], check=True, cwd=ROOT)
    for folder in NODE:
        print(f"{folder}/package-lock.json", flush=True)
        (ROOT / folder / "package-lock.json").unlink(missing_ok=True)
        subprocess.run(["npm", "install", "--silent", "--package-lock-only"], check=True, cwd=ROOT / folder)
    for path in PATHS:
        changed = differences(committed(path), versions(path, (ROOT / path).read_text(encoding="utf-8")))
        print(f"\n{path}: {'' if changed else 'as it was'}")
        for line in changed:
            print(f"  {line}")


def committed(path: str) -> dict[str, str]:
    """The versions of a lock in the last commit; none when it was not there."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{path}"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    return versions(path, shown.stdout) if shown.returncode == 0 else {}


if __name__ == "__main__":
    main()
