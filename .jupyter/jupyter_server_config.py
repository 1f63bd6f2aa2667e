"""The server of ``make lab`` and ``make explore``: saving a notebook that was not run leaves its file as it was."""

import json
from pathlib import Path

c = get_config()  # noqa: F821 - Jupyter's


def keep_kernel(model, path, contents_manager, **_):
    """Leave the description of the kernel as the file has it: JupyterLab writes this machine's Python into it."""
    file = Path(contents_manager.root_dir, path.strip("/"))
    if model["type"] != "notebook" or not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))["metadata"]
    model["content"]["metadata"] |= {name: before[name] for name in ("kernelspec", "language_info") if name in before}


c.ContentsManager.pre_save_hook = keep_kernel
