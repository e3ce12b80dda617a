"""Prints one of README's two commands, so that CI runs what a reader would type: ``readme_command.py 1``."""

import re
import sys
from pathlib import Path

readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
section = re.search(r"^## Install and try$(.*?)(?=^## )", readme, flags=re.MULTILINE | re.DOTALL)
blocks = re.findall(r"^```bash\n(.*?)\n```$", section[1] if section else "", flags=re.MULTILINE | re.DOTALL)
if len(blocks) != 2 or any("\n" in block for block in blocks):
    sys.exit(f"README.md must have two commands of one line each under 'Install and try'; found {blocks}")
print(blocks[int(sys.argv[1]) - 1])
