"""Checks that wheel and sdist hold every file of the package: ``check_packages.py dist/*``."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

root = Path(__file__).parents[1]
listed = subprocess.run(["git", "ls-files", "lightning_debug"], cwd=root, capture_output=True, text=True, check=False)
wanted = set(listed.stdout.split()) or {
    str(path.relative_to(root))
    for path in root.glob("lightning_debug/**/*")
    if path.is_file() and "__pycache__" not in path.parts
}
assert {"lightning_debug/py.typed", "lightning_debug/README.md"} <= wanted, "py.typed or the package's README is gone"
archives = [Path(argument) for argument in sys.argv[1:]]
assert sorted(path.suffix for path in archives) == [".gz", ".whl"], archives
for path in archives:
    if path.suffix == ".whl":
        held = set(zipfile.ZipFile(path).namelist())
    else:
        with tarfile.open(path) as archive:
            held = {name.partition("/")[2] for name in archive.getnames()}
        wanted |= {"README.md", "LICENSE", "pyproject.toml", "tests/conftest.py", ".ci/constraints.txt"}
    missing = sorted(wanted - held)
    assert not missing, f"{path.name} lacks {missing}"
    print(f"{path.name}: all {len(wanted)} files")
