"""What a file is called in the account and in quarantine."""

import os
from pathlib import Path


class Labels:
    """Labels, one a file and a place in the mapping: a file name, or more of its path where names repeat."""

    def __init__(self, files: list[Path]) -> None:
        names = [path.name for path in files]
        common = os.path.commonpath([path.absolute().parent for path in files])
        self._of = {
            path: path.name if names.count(path.name) == 1 else path.absolute().relative_to(common).as_posix()
            for path in files
        }
        self._taken: set[Path] = set()

    def take(self, path: Path, place: str) -> str:
        """Return the label of a file as it is read for a place of the mapping; places after the first are named."""
        label = self._of[path] if path not in self._taken else f"{self._of[path]} ({place})"
        self._taken.add(path)
        return label
