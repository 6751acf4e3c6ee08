"""Which commit the package is of."""

import contextlib
import os
import pathlib
import subprocess


def revision(package: pathlib.Path) -> str | None:
    """Returns the commit of a package's own checkout, "-dirty" with changed files."""
    root = package.parent
    if not (root / ".git").exists():
        return None
    # a hook's GIT_DIR is another repository's
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    said = []
    for command in (
        ["ls-files", "--error-unmatch", str(package / "__init__.py")],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "--untracked-files=no"],
    ):
        with contextlib.suppress(OSError):
            done = subprocess.run(
                ["git", "--no-optional-locks", "-C", str(root), *command],
                capture_output=True,
                env=theirs,
                check=False,
            )
            if done.returncode == 0:
                said.append(done.stdout.decode(errors="replace").strip())
    if len(said) < 3:  # no git here, or the package is none of its files
        return None
    return said[1] + "-dirty" * bool(said[2])
